"""
Mistakes that a type checker finds before anything runs. Each is on a line of its own that says what kind it is.
"""

from datetime import datetime
from typing import Never

from holdfast import App, AsyncClient, Client, Decision, Workflow, accept, reject
from holdfast.testing import check_workflow, given
from tests.typing.held import Account, Balance, Deposit, Deposited, Notify, Open, Opened, Tally


class Wrong(Workflow[Balance, Open | Deposit, Opened, Never]):
    type = "wrong"
    key = "account"

    def initial(self) -> int:  # type: ignore[override]
        return 0

    def evolve(self, state: Balance, event: Deposited) -> Balance:  # type: ignore[override]
        return state

    def decide(self, now: datetime, state: Balance, command: Open | Deposit) -> Decision[Opened, Never]:
        if state.cents == 1:
            return accept(Deposited(5))  # type: ignore[arg-type]
        if state.cents == 2:
            return accept(Opened()).effect(Notify("a"))  # type: ignore[arg-type]
        if state.cents == 3:
            return None  # type: ignore[return-value]
        if state.cents == 4:
            return Opened()  # type: ignore[return-value]
        if state.cents == 5:
            return reject(5)  # type: ignore[arg-type]
        if state.balance:  # type: ignore[attr-defined]
            return accept()  # type: ignore[call-overload,no-any-return]
        return accept(Opened())


def messages() -> None:
    Deposit()  # type: ignore[call-arg]
    Deposit("a", "5")  # type: ignore[arg-type]
    Deposit("a", euros=5)  # type: ignore[call-arg]
    Deposit("a").cents = 5  # type: ignore[misc]


def apps() -> None:
    App([Account])  # type: ignore[call-arg]
    App(workflows=[Open])  # type: ignore[list-item]


def clients(client: Client) -> None:
    client.send(Opened())  # type: ignore[arg-type]
    client.send("open")  # type: ignore[arg-type]
    client.state(Balance, "a")  # type: ignore[arg-type]
    client.state(Account, None)  # type: ignore[arg-type]
    client.state(Account, "a").cents  # type: ignore[union-attr]  # noqa: B018 - the mistake
    client.wait(Account, "a", until=lambda state: state.euros > 5)  # type: ignore[attr-defined]
    client.wait(Tally, "a", until=lambda state: state.cents > 5)  # type: ignore[attr-defined]


async def asynchronous(client: AsyncClient) -> None:
    await client.send(Notify("a"))  # type: ignore[arg-type]
    (await client.wait(Tally, "a", until=bool)).cents  # type: ignore[attr-defined]  # noqa: B018 - the mistake


def scenarios() -> None:
    given(Balance)  # type: ignore[arg-type]
    given(Account).when(Opened())  # type: ignore[arg-type]
    given(Account).when(Open("a")).then(Open("a"))  # type: ignore[arg-type]
    given(Account).when(Open("a")).then_effects(Opened())  # type: ignore[arg-type]
    given(Account).when(Open("a")).then_state(5)  # type: ignore[arg-type]
    given(Tally).when(Deposit("a")).then_effects(Notify("a"))  # type: ignore[arg-type]
    check_workflow(Open)  # type: ignore[arg-type]
