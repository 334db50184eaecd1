"""What can go wrong between a client and its server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_OWN = frozenset({"type", "title", "status", "detail", "code"})


class SegueError(Exception):
    """Everything that this client raises."""

    passing: bool = False
    """Whether the same request may succeed later."""


class ConnectionLost(SegueError):
    """The server was not reached, or the connection to it was lost."""

    passing = True


class ProtocolError(SegueError):
    """What came is not what the protocol allows."""

    def __init__(self, message: str, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class Closed(SegueError):
    """The client or the producer is closed."""


class Problem(SegueError):
    """The server refused, and says why: an RFC 9457 problem document. Codes have classes of their own."""

    codes: ClassVar[Mapping[str, type[Problem]]]
    """The class of each code that the server has."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float = 0) -> None:
        self.status = status
        self.code = str(document.get("code") or f"http_{status}")
        """What went wrong, for a program. `http_<status>` for an answer that is not Segue's."""
        self.title = str(document.get("title", "refused"))
        detail = document.get("detail")
        self.detail = detail if isinstance(detail, str) else None
        """What went wrong, for a person."""
        self.members = {name: value for name, value in document.items() if name not in _OWN}
        """What else the document says, such as `run_id`."""
        self.retry_after = retry_after
        """How long the server wants to be left alone, in seconds."""
        self.passing = status in _PASSING and self.code != "corrupt"
        super().__init__(f"{self.detail or self.title} ({self.code})")


class BadRequest(Problem):
    """400, 406, 413, 415: the request is not one that the server takes."""


class Unauthorized(Problem):
    """401: the token is not accepted."""


class Forbidden(Problem):
    """403, 421: another scope, origin or host is needed."""


class StaleEpoch(Problem):
    """A newer epoch of this producer was seen."""

    @property
    def producer_epoch(self) -> int:
        return int(self.members["producer_epoch"])


class NotFound(Problem):
    """404: no such path, session, run or message."""


class Conflict(Problem):
    """409: what is asked for does not go together with what is."""


class SessionBusy(Conflict):
    """The session has an active run, or too many that wait."""

    @property
    def run_id(self) -> str | None:
        """The oldest active run."""
        return self.members.get("run_id")


class RunExists(Conflict):
    """The run id was used before."""


class RunEnded(Conflict):
    """The run has ended."""


class NotPush(Conflict):
    """The run takes no events from outside."""


class ProducerGap(Conflict):
    """The producer's numbers leave a hole."""

    @property
    def expected(self) -> int:
        return int(self.members["expected"])

    @property
    def received(self) -> int:
        return int(self.members["received"])


class DifferentStart(Problem):
    """The key or the id of a start was used by another request."""

    @property
    def run_id(self) -> str | None:
        return self.members.get("run_id")


class CursorTrimmed(Problem):
    """What follows the cursor is gone."""

    @property
    def available_from(self) -> int | None:
        """The first event that there is; None where nothing is left."""
        return self.members.get("available_from")


class CursorAhead(Problem):
    """The cursor is beyond the last event."""

    @property
    def last_seq(self) -> int:
        return int(self.members["last_seq"])


class ServerFailed(Problem):
    """500: the server broke down over this request, or a stored record is damaged."""


class Unavailable(Problem):
    """503, 507: the server does not take this now."""


Problem.codes = {
    "malformed": BadRequest,
    "bad_id": BadRequest,
    "bad_query": BadRequest,
    "bad_header": BadRequest,
    "bad_cursor": BadRequest,
    "bad_event": BadRequest,
    "forged_event": BadRequest,
    "bad_import": BadRequest,
    "newer_import": BadRequest,
    "bad_source": BadRequest,
    "bad_params": BadRequest,
    "unknown_agent": BadRequest,
    "bad_token": Unauthorized,
    "admin_only": Forbidden,
    "bad_origin": Forbidden,
    "stale_epoch": StaleEpoch,
    "not_found": NotFound,
    "method_not_allowed": BadRequest,
    "not_acceptable": BadRequest,
    "session_exists": Conflict,
    "session_busy": SessionBusy,
    "run_exists": RunExists,
    "different_start": DifferentStart,
    "message_exists": Conflict,
    "message_not_whole": Conflict,
    "run_active": Conflict,
    "backup_exists": Conflict,
    "bad_backup": Conflict,
    "session_full": Conflict,
    "run_ended": RunEnded,
    "run_limit": Conflict,
    "not_push": NotPush,
    "producer_gap": ProducerGap,
    "foreign_cursor": Conflict,
    "cursor_trimmed": CursorTrimmed,
    "event_too_large": BadRequest,
    "body_too_large": BadRequest,
    "bad_content_type": BadRequest,
    "cursor_ahead": CursorAhead,
    "bad_host": Forbidden,
    "internal": ServerFailed,
    "corrupt": ServerFailed,
    "shutting_down": Unavailable,
    "unavailable": Unavailable,
    "retry": Unavailable,
    "disk_full": Unavailable,
}


class RefusedEvent(SegueError):
    """The server does not take an event of a producer. The events before it are journaled."""

    def __init__(self, index: int, problem: Problem) -> None:
        super().__init__(f"event {index}: {problem}")
        self.index = index
        """Which event, counted from 0 over the producer's whole life."""
        self.problem = problem
        """Why."""


def problem_of(status: int, document: Mapping[str, Any], retry_after: float = 0) -> Problem:
    """The problem of the class that its code has."""
    kind = Problem.codes.get(str(document.get("code")), Problem)
    return kind(status, document, retry_after)


def problem_from(status: int, body: bytes, retry_after: str | None) -> Problem:
    """Reads an answer other than success; a body that is no problem document makes one too."""
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
    return problem_of(status, document if isinstance(document, dict) else {}, seconds)
