"""A client of Segue: runs of agents that outlive their clients, followed without a gap.

`Client` is for threads, `AsyncClient` for asyncio; both have the same calls.
"""

from ._async_client import AsyncClient
from ._async_io import AsyncFollow, AsyncInbox
from ._async_producer import AsyncProducer
from ._course import Ended
from ._errors import (
    BadRequest, Closed, Conflict, ConnectionLost, CursorAhead, CursorTrimmed, DifferentStart,
    Forbidden, NotFound, NotPush, Problem, ProducerGap, ProtocolError, RefusedEvent, RunEnded,
    RunExists, SegueError, ServerFailed, SessionBusy, StaleEpoch, Unauthorized, Unavailable,
)
from ._events import EventPage, Followed, Gap, ProducerEvent, RunEvent, Snapshot, Terminal, is_terminal
from ._outbox import Journaled
from ._retry import Reconnecting, Timing
from ._sync_client import Client
from ._sync_io import Follow, Inbox
from ._sync_producer import Producer
from ._types import (
    Agent, Appended, ControlItem, CreateMessage, CreateSession, JsonObject, Limits, Message,
    MessageFilter, Page, Role, Run, RunFilter, RunStatus, SearchFilter, SearchHit, Session,
    StartRun, Stopped, TerminalStatus, UpdateSession,
)

__version__ = "0.1.0"

__all__ = [
    "Agent", "Appended", "AsyncClient", "AsyncFollow", "AsyncInbox", "AsyncProducer", "BadRequest",
    "Client", "Closed", "Conflict", "ConnectionLost", "ControlItem", "CreateMessage",
    "CreateSession", "CursorAhead", "CursorTrimmed", "DifferentStart", "Ended", "EventPage",
    "Follow", "Followed", "Forbidden", "Gap", "Inbox", "Journaled", "JsonObject", "Limits",
    "Message", "MessageFilter", "NotFound", "NotPush", "Page", "Problem", "Producer",
    "ProducerEvent", "ProducerGap", "ProtocolError", "Reconnecting", "RefusedEvent", "Role", "Run",
    "RunEnded", "RunEvent", "RunExists", "RunFilter", "RunStatus", "SearchFilter", "SearchHit",
    "SegueError", "ServerFailed", "Session", "SessionBusy", "Snapshot", "StaleEpoch", "StartRun",
    "Stopped", "Terminal", "TerminalStatus", "Timing", "Unauthorized", "Unavailable",
    "UpdateSession", "is_terminal",
]
