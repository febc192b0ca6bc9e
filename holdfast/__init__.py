"""Holdfast: durable actors on the RabbitMQ and Redis that you already run.

Everything that users need is here; what is not in `__all__` may change without notice.
"""

from holdfast.actors.async_client import AsyncClient, connect_async
from holdfast.actors.client import Client, connect
from holdfast.actors.projection_desk import ProjectionStatus
from holdfast.actors.schedules import ScheduleDesk, ScheduleLine, ScheduleTick
from holdfast.actors.supervisor import Supervisor
from holdfast.brokers.folder_archive import FolderArchive
from holdfast.brokers.redis_read_model import RedisStore
from holdfast.brokers.sql_read_model import SqlStore
from holdfast.runtime.app import App
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
    PartitionsMismatch,
    PayloadTooLarge,
    PublishFailed,
    ReplyTimeout,
    SettingsError,
    SetupError,
    Unavailable,
    Undecodable,
    UnknownType,
    UsageError,
    WorkflowError,
)
from holdfast.runtime.feed import ParkedKey
from holdfast.runtime.instance import RunState
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
from holdfast.runtime.record import Moved, Record
from holdfast.runtime.retention import Archived, Retention
from holdfast.runtime.retry import Retry
from holdfast.runtime.schedule import CatchUp, Overlap, Schedule
from holdfast.runtime.timers import PendingTimer
from holdfast.runtime.workflow import Workflow

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
    "DeadLetter",
    "Listed",
    "Moved",
    "Observation",
    "Page",
    "PendingTimer",
    "ScheduleDesk",
    "ScheduleLine",
    "ScheduleTick",
    "Record",
    "RunState",
    "Size",
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
    "PayloadTooLarge",
    "PublishFailed",
    "ReplyTimeout",
    "SettingsError",
    "SetupError",
    "Unavailable",
    "Undecodable",
    "UnknownType",
    "UsageError",
    "WorkflowError",
]
