"""Every error that Holdfast raises, split by who must act.

    HoldfastError
    ├── UsageError                 the caller's mistake: change the call
    │   ├── WorkflowError          a workflow, message or app is declared wrongly
    │   ├── KeyRefused             a business key is missing, empty, too long or not text
    │   ├── PayloadTooLarge        a message is over the size limit
    │   ├── Refused                what was asked for does not go with how things stand
    │   └── Undecodable            bytes that are no message
    │       └── UnknownType        a message type that this process does not know (yet)
    │           └── Unopened       encrypted bytes that this process has no key for (yet)
    ├── SetupError                 the operator's: a server, a setting or a library is not as it must be
    │   ├── SettingsError          a setting is missing or wrong
    │   ├── DurabilityUnavailable  the server cannot give the configured durability
    │   └── PartitionsMismatch     the namespace was created with another number of partitions
    ├── Unavailable                a server cannot be reached or did not answer: try again
    │   ├── PublishFailed          a command was not confirmed: it may or may not have been accepted
    │   │   └── Overloaded         nothing is taken at the moment: it was not accepted
    │   └── ReplyTimeout           no answer in time: the command may still be decided
    ├── NotDurable                 the barrier was not reached: nothing was acknowledged
    ├── Conflicted                 the bounded number of tries against other writers was used up
    ├── RecordsLost                a server lost what it had confirmed: look at it, and send it again
    ├── HistoryError               a stored log cannot be read by the code of today: nothing was changed
    └── DataDeleted                what was asked for was deleted on request: only that it was is still known

The first line of each docstring is the default message.
"""


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class UsageError(HoldfastError):
    """The call is wrong."""


class WorkflowError(UsageError):
    """A workflow, message or app is declared wrongly."""


class KeyRefused(UsageError):
    """A business key must be text of 1 to 512 bytes in UTF-8."""


class PayloadTooLarge(UsageError):
    """A message is over the size limit."""


class Refused(UsageError):
    """What was asked for does not go with how things stand."""


class Undecodable(UsageError):
    """These bytes are no message that can be read."""


class UnknownType(Undecodable):
    """This process does not know the type of the message."""


class Unopened(UnknownType):
    """These bytes are encrypted, and this process cannot open them."""


class SetupError(HoldfastError):
    """Something that Holdfast runs on is not as it must be."""


class SettingsError(SetupError):
    """A setting is missing or wrong."""


class DurabilityUnavailable(SetupError):
    """The server cannot give the configured durability."""


class PartitionsMismatch(SetupError):
    """The namespace was created with another number of partitions."""


class Unavailable(HoldfastError):
    """A server cannot be reached; try again."""


class PublishFailed(Unavailable):
    """The command was not confirmed: it may or may not have been accepted. Send it again with the same id."""


class Overloaded(PublishFailed):
    """Nothing is taken at the moment: the command was not accepted. Send it again later, with the same id."""


class ReplyTimeout(Unavailable):
    """No answer came in time; the command may still be decided. Ask again with the same id."""


class NotDurable(HoldfastError):
    """The durability barrier was not reached in time; nothing was acknowledged."""


class Conflicted(HoldfastError):
    """Other writers kept winning; the command was not decided here."""


class RecordsLost(HoldfastError):
    """A server lost records that it had confirmed: they are not in its logs any more."""


class HistoryError(HoldfastError):
    """A stored log cannot be read by the code of today; nothing was changed."""


class DataDeleted(HoldfastError):
    """The instance's data was deleted on request."""


class Ending(BaseException):
    """What runs is to end, whoever's code it is in just then; that code has not failed."""


def message_of(error: BaseException) -> str:
    """Return what an error says; user code may raise what raises when it is asked, and nothing may stop at that."""
    try:
        return str(error)
    except Exception as wrong:  # noqa: BLE001 - as above
        return f"its message cannot be told: {type(wrong).__name__}"
