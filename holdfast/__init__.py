"""Holdfast: durable actors on the RabbitMQ and Redis that you already run.

Everything that users need is here; what is not in `__all__` may change without notice.
"""

from holdfast.actors.async_client import AsyncClient, connect_async
from holdfast.actors.client import Client, connect
from holdfast.actors.supervisor import Supervisor
from holdfast.brokers.folder_archive import FolderArchive
from holdfast.runtime.app import App
from holdfast.runtime.config import Durability, Settings
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.decision import Accept, Decision, Reject, Timer, accept, reject
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
from holdfast.runtime.instance import RunState
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
from holdfast.runtime.record import Moved, Record
from holdfast.runtime.retention import Archived, Retention
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
    "accept",
    "reject",
    "Archived",
    "FolderArchive",
    "Retention",
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
