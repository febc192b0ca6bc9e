"""Holdfast: durable actors on the RabbitMQ and Redis that you already run.

Everything that users need is here; what is not in `__all__` may change without notice.

What talks to servers is imported when it is first asked for: neither a test of a workflow nor each worker process that
starts needs a client, and they start sooner without.
"""

import importlib
import typing

from holdfast.runtime.app import App
from holdfast.runtime.cipher import KeyRing, Wrapped
from holdfast.runtime.config import Durability, Settings
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.decision import Accept, Decision, Reject, Timer, accept, reject
from holdfast.runtime.effect import EffectContext, EffectFailed, EffectTimeout, Permanent
from holdfast.runtime.errors import (
    Conflicted,
    DataDeleted,
    DurabilityUnavailable,
    HistoryError,
    HoldfastError,
    KeyRefused,
    NotDurable,
    Overloaded,
    PartitionsMismatch,
    PayloadTooLarge,
    PublishFailed,
    RecordsLost,
    Refused,
    ReplyTimeout,
    SettingsError,
    SetupError,
    Unavailable,
    Undecodable,
    UnknownType,
    Unopened,
    UsageError,
    WorkflowError,
)
from holdfast.runtime.feed import ParkedKey
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import InstanceTrace, NodeKind, NodeStatus, TraceNode, TraceWait
from holdfast.runtime.limit import Limit, Rate
from holdfast.runtime.message import Command, Effect, Event
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import (
    Accepted,
    AlreadyCompleted,
    DeadLettered,
    Duplicate,
    Outcome,
    Parked,
    Rejected,
)
from holdfast.runtime.ports import Listed, Page, Size
from holdfast.runtime.projection import CheckpointStore, Projection, ProjectionContext, on
from holdfast.runtime.record import Asked, AskedTimer, Moved, Record
from holdfast.runtime.retention import Archived, Retention
from holdfast.runtime.retry import Retry
from holdfast.runtime.schedule import CatchUp, Overlap, Schedule
from holdfast.runtime.timers import PendingTimer
from holdfast.runtime.workflow import Workflow

if typing.TYPE_CHECKING:
    from holdfast.actors.async_client import AsyncClient, connect_async
    from holdfast.actors.client import Client, connect
    from holdfast.actors.projection_desk import ProjectionStatus
    from holdfast.actors.schedules import ScheduleDesk, ScheduleLine, ScheduleTick
    from holdfast.actors.supervisor import Supervisor
    from holdfast.brokers.folder_archive import FolderArchive
    from holdfast.brokers.redis_read_model import RedisStore
    from holdfast.brokers.sql_read_model import SqlStore

#: Where the names are that are imported when they are first asked for.
_LATER = {
    "AsyncClient": "actors.async_client",
    "connect_async": "actors.async_client",
    "Client": "actors.client",
    "connect": "actors.client",
    "ProjectionStatus": "actors.projection_desk",
    "ScheduleDesk": "actors.schedules",
    "ScheduleLine": "actors.schedules",
    "ScheduleTick": "actors.schedules",
    "Supervisor": "actors.supervisor",
    "FolderArchive": "brokers.folder_archive",
    "RedisStore": "brokers.redis_read_model",
    "SqlStore": "brokers.sql_read_model",
}

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - grouped by use, not by letter
    # Writing a workflow
    "App",
    "Command",
    "Effect",
    "Event",
    "Workflow",
    "Accept",
    "Decision",
    "Reject",
    "Timer",
    "Schedule",
    "CatchUp",
    "Overlap",
    "accept",
    "reject",
    "Archived",
    "FolderArchive",
    "Retention",
    # Running effects
    "EffectContext",
    "EffectFailed",
    "EffectTimeout",
    "Limit",
    "Permanent",
    "Rate",
    "Retry",
    # Building read models
    "CheckpointStore",
    "ParkedKey",
    "Projection",
    "ProjectionContext",
    "ProjectionStatus",
    "RedisStore",
    "SqlStore",
    "on",
    # Sending commands
    "AsyncClient",
    "Client",
    "connect",
    "connect_async",
    "Accepted",
    "AlreadyCompleted",
    "DeadLettered",
    "Duplicate",
    "Outcome",
    "Parked",
    "Rejected",
    # Reading instances
    "Asked",
    "AskedTimer",
    "DeadLetter",
    "InstanceTrace",
    "Listed",
    "Moved",
    "NodeKind",
    "NodeStatus",
    "Observation",
    "Page",
    "PendingTimer",
    "ScheduleDesk",
    "ScheduleLine",
    "ScheduleTick",
    "Record",
    "RunState",
    "Size",
    "TraceNode",
    "TraceWait",
    # Keeping keys
    "KeyRing",
    "Wrapped",
    # Running workers
    "Durability",
    "Settings",
    "Supervisor",
    # Errors
    "Conflicted",
    "DataDeleted",
    "DurabilityUnavailable",
    "HistoryError",
    "HoldfastError",
    "KeyRefused",
    "NotDurable",
    "PartitionsMismatch",
    "Overloaded",
    "PayloadTooLarge",
    "PublishFailed",
    "RecordsLost",
    "Refused",
    "ReplyTimeout",
    "SettingsError",
    "SetupError",
    "Unavailable",
    "Undecodable",
    "UnknownType",
    "Unopened",
    "UsageError",
    "WorkflowError",
]


def __getattr__(name: str) -> typing.Any:
    """Import what is asked for the first time."""
    place = _LATER.get(name)
    if place is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(importlib.import_module(f"{__name__}.{place}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Name what is here, also what is imported only when it is asked for."""
    return sorted({*globals(), *_LATER})
