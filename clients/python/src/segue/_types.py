"""The shapes of plain calls: what is sent, what is answered. Their names are those of the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

T = TypeVar("T")

JsonObject = dict[str, Any]

RunStatus = Literal[
    "queued", "running", "stopping", "finished", "stopped", "failed", "interrupted"
]
TerminalStatus = Literal["finished", "stopped", "failed", "interrupted"]
Role = Literal["user", "assistant", "system", "tool"]


class Limits(TypedDict, total=False):
    """Limits of a run; 0 means none."""

    wall_clock_s: int
    idle_s: int
    bytes: int
    events: int
    lease_s: int


class StartRun(TypedDict, total=False):
    """What a run is started from. Absent fields take the server's defaults."""

    agent: str
    """A configured agent; `push` and `demo` are built in."""
    source: Mapping[str, Any]
    """A source described here; needs the admin scope."""
    input: str | Sequence[Any]
    """A text, a list of parts or a list of messages."""
    params: Mapping[str, Any]
    """For the source; of a model they are fields of its request."""
    run_id: str
    """A name of your own, used once; the same start again is the same run."""
    policy: Literal["reject", "queue", "replace", "parallel"]
    """What happens when the session is busy; `reject` is the default."""
    limits: Limits
    wait: Literal["started"]
    """Holds the answer until the run is not queued any more."""
    on_restart: Literal["start", "await"]
    """What a restart of the server does: starts a queued run, or awaits a push run's producer."""
    replaces: str
    """A message that gives way, with those after it, to the first that this start makes."""
    continue_: str
    """A run of the session that has ended: what this one says is the end of its message."""
    metadata: Mapping[str, Any]


class Run(TypedDict):
    """A run, as the server shows it."""

    id: str
    session_id: str
    agent: str
    status: RunStatus
    reason: NotRequired[str]
    """Why it was stopped."""
    cause: NotRequired[str]
    """What cut it off."""
    error: NotRequired[JsonObject]
    """What went wrong."""
    message_id: str
    last_seq: int
    """The seq of its last event."""
    created_at: str
    started_at: NotRequired[str]
    ended_at: NotRequired[str]
    usage: NotRequired[JsonObject]
    metadata: JsonObject


class PageQuery(TypedDict, total=False):
    """Which page of a list."""

    after: str
    """Where `next` of the page before says."""
    limit: int
    """The most entries; 50 by default, at most 1000."""


class RunFilter(PageQuery, total=False):
    """Which runs, and which page of them."""

    status: RunStatus
    agent: str
    session: str
    since: str
    """Only those created at this time (RFC 3339) or later."""


class Page(TypedDict, Generic[T]):
    """One page of a list."""

    data: list[T]
    next: str | None
    """Where the next page begins; None after the last."""


class Session(TypedDict):
    """A session, as the server shows it."""

    id: str
    title: str | None
    status: Literal["idle", "busy"]
    active_runs: list[str]
    """The ids of its runs that have not ended."""
    clients: int
    """How many clients are attached to them."""
    metadata: JsonObject
    created_at: str
    updated_at: str


class CreateSession(TypedDict, total=False):
    """A session to be."""

    id: str
    title: str
    metadata: Mapping[str, Any]


class UpdateSession(TypedDict, total=False):
    """What of a session changes; None takes the title away, `metadata` is replaced whole."""

    title: str | None
    metadata: Mapping[str, Any]


class Message(TypedDict):
    """A message of a session: what its run has said up to now, or what somebody else said."""

    id: str
    session_id: NotRequired[str]
    run_id: NotRequired[str]
    role: Role
    status: Literal["streaming", "complete", "stopped", "failed", "interrupted"]
    version: int
    """Rises with every change; in a snapshot the seq of the last event in it."""
    parts: list[JsonObject]
    data: NotRequired[JsonObject]
    state: NotRequired[JsonObject]
    approvals: NotRequired[JsonObject]
    usage: NotRequired[JsonObject]
    metadata: JsonObject
    superseded_by: NotRequired[str]
    """The message that took its place."""
    is_summary: NotRequired[bool]
    """It tells in short what stands before it."""
    created_at: str
    updated_at: str


class CreateMessage(TypedDict, total=False):
    """A message to be, without a run."""

    id: str
    role: Role
    parts: Sequence[Any]
    content: Any
    tool_call_id: str
    metadata: Mapping[str, Any]
    is_summary: bool
    replaces: str
    """A message of the session that gives way to this one, with those after it."""


class MessageFilter(PageQuery, total=False):
    """Which messages of a session, and which page of them."""

    role: Role
    superseded: bool
    """Also those that others took the place of."""
    order: Literal["asc", "desc"]
    """The oldest first (the default) or the newest."""


class SearchFilter(PageQuery, total=False):
    """Where to search."""

    session: str
    role: Role
    superseded: bool


class SearchHit(TypedDict):
    """A message that was found."""

    message_id: str
    session_id: str | None
    run_id: NotRequired[str]
    role: Role
    snippet: str
    created_at: str


class Agent(TypedDict):
    """An agent that runs can be started from."""

    name: str
    kind: str
    default: bool
    """Whether a start that names none gets it."""


class Stopped(TypedDict):
    """The answer to a stop."""

    stopped: bool
    """Whether this stop was the one that was accepted."""
    status: RunStatus | Literal["pending"] | None
    """`pending` for a run that does not exist yet, None for a session without a run."""


class Appended(TypedDict):
    """The answer to an append."""

    first_seq: int
    last_seq: int
    duplicate: NotRequired[bool]
    """Whether an earlier request had appended it."""
    stop_requested: bool
    """Whether somebody asked the run to stop."""


class ControlItem(TypedDict):
    """What a producer is asked to do."""

    id: int
    type: Literal["stop"]
    reason: str
