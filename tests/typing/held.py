"""
What type checkers know of a workflow, its client and its tests, without any help.
"""

from datetime import datetime, timedelta
from typing import Never, assert_never, assert_type

import msgspec
from hypothesis import strategies as st

from holdfast import (
    Accept,
    Accepted,
    AlreadyCompleted,
    App,
    AsyncClient,
    Client,
    Command,
    DeadLetter,
    DeadLettered,
    Decision,
    Duplicate,
    Effect,
    Event,
    Outcome,
    Page,
    Record,
    Reject,
    Rejected,
    Settings,
    Workflow,
    accept,
    connect,
    connect_async,
    reject,
)
from holdfast.testing import Coverage, Scenario, check_workflow, given


class Open(Command, frozen=True):
    account: str


class Deposit(Command, frozen=True):
    account: str
    cents: int = 0


class Opened(Event, frozen=True):
    pass


class Deposited(Event, frozen=True):
    cents: int


class Notify(Effect, frozen=True):
    account: str


class Praise(Effect, frozen=True):
    pass


class Balance(msgspec.Struct, frozen=True):
    cents: int = 0


class Account(Workflow[Balance, Open | Deposit, Opened | Deposited, Notify | Praise]):
    type = "account"
    key = "account"

    def initial(self) -> Balance:
        return Balance()

    def evolve(self, state: Balance, event: Opened | Deposited) -> Balance:
        match event:
            case Opened():
                return state
            case Deposited(cents=cents):
                return Balance(state.cents + cents)
            case _:
                assert_never(event)

    def decide(
        self, now: datetime, state: Balance, command: Open | Deposit
    ) -> Decision[Opened | Deposited, Notify | Praise]:
        if isinstance(command, Open):
            return accept(Opened())
        if not command.cents:
            return reject("nothing to deposit", {"cents": 0})
        return (
            accept(Opened(), Deposited(command.cents))
            .effect(Notify(command.account), Praise())
            .timer(Deposit(command.account, 1), key="interest", after=timedelta(days=365))
            .cancel("reminder")
        )


class Tally(Workflow[int, Deposit, Deposited, Never]):
    """
    A workflow without effects says Never.
    """

    type = "tally"
    key = "account"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Deposited) -> int:
        return state + event.cents

    def decide(self, now: datetime, state: int, command: Deposit) -> Decision[Deposited, Never]:
        return accept(Deposited(command.cents))


def messages_know_their_fields() -> None:
    assert_type(Deposit("a", 5).cents, int)
    assert_type(Deposit("a").account, str)


def decisions_may_be_made_of_any_number(events: list[Opened | Deposited], effects: list[Notify]) -> None:
    assert_type(accept(*events), Accept[Opened | Deposited, Never])
    assert_type(accept(events[0], *events[1:]).effect(*effects), Accept[Opened | Deposited, Notify])


def decisions_know_what_is_in_them() -> None:
    assert_type(accept(Opened()), Accept[Opened, Never])
    assert_type(accept(Opened(), Deposited(1)), Accept[Opened | Deposited, Never])
    assert_type(accept(Opened(), Deposited(1), Opened()), Accept[Opened | Deposited, Never])
    assert_type(accept(Opened()).effect(Notify("a")), Accept[Opened, Notify])
    assert_type(accept(Opened()).effect(Notify("a"), Praise()), Accept[Opened, Notify | Praise])
    assert_type(accept(Opened()).effect(Notify("a")).effect(Praise()), Accept[Opened, Notify | Praise])
    assert_type(accept(Opened()).cancel("a").timer(Open("a"), after=timedelta(0)), Accept[Opened, Never])
    assert_type(reject("no"), Reject)


def an_app_takes_any_workflows() -> App:
    return App(workflows=[Account, Tally])


def a_client_returns_the_workflows_own_types(client: Client) -> None:
    assert_type(client.state(Account, "a"), Balance | None)
    assert_type(client.state(Tally, "a", at=3), int | None)
    assert_type(client.history(Account, 7), list[Record[Opened | Deposited]])
    assert_type(client.history(Tally, "a")[0].events, tuple[Deposited, ...])
    assert_type(client.wait(Account, "a", until=lambda state: state.cents > 5), Balance)
    assert_type(client.instances(Account), Page)
    assert_type(client.instances("account", run_state="running"), Page)
    assert_type(client.send(Open("a")), str)
    assert_type(client.send_many([Open("a"), Deposit("a")]), list[str])
    assert_type(client.execute(Open("a")), Outcome)
    assert_type(client.dead_letters.list(), list[DeadLetter])


async def so_does_the_asynchronous_one(client: AsyncClient) -> None:
    assert_type(await client.state(Account, "a"), Balance | None)
    assert_type(await client.history(Tally, "a"), list[Record[Deposited]])
    assert_type(await client.wait(Account, "a", until=lambda state: state.cents > 5), Balance)
    assert_type(await client.send(Open("a")), str)
    assert_type(await client.execute(Open("a")), Outcome)


async def connecting_gives_a_client(app: App) -> None:
    with connect(app, Settings()) as client:
        assert_type(client, Client)
    async with connect_async(app) as asynchronous:
        assert_type(asynchronous, AsyncClient)


def every_outcome_can_be_told_apart(outcome: Outcome) -> str:
    match outcome:
        case Accepted(seq=seq):
            return f"record {seq}"
        case Rejected(reason=reason):
            return reason
        case AlreadyCompleted(run_state=run_state):
            return run_state
        case Duplicate(first=Accepted(seq=seq)):
            return f"record {seq} before"
        case Duplicate(first=Rejected(reason=reason)):
            return f"{reason} before"
        case DeadLettered(error=error):
            return error
        case _:
            return ""


def scenarios_know_their_workflow() -> None:
    scenario = given(Account, Opened(), Deposited(5))
    assert_type(scenario, Scenario[Balance, Open | Deposit, Opened | Deposited, Notify | Praise])
    assert_type(scenario.state, Balance)
    assert_type(scenario.when(Open("a")).events, tuple[Opened | Deposited, ...])
    scenario.when(Deposit("a", 5)).then(Opened(), Deposited(5)).then_effects(Notify("a")).then_state(
        Balance(10)
    )
    assert_type(given(Tally).state, int)
    given(Tally).when(Deposit("a", 5)).then(Deposited(5)).then_effects().then_state(5)


def checks_take_any_workflow() -> None:
    assert_type(check_workflow(Account), Coverage)
    assert_type(check_workflow(Tally, types={int: st.just(5)}), Coverage)
