"""What streams are about, and how one is healed. Pure: who drives it reads and waits."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast, get_args

import httpx

from ._calls import Request, is_of
from ._decode import Frame, RetryHint, SseDecoder
from ._errors import ProtocolError, SegueError
from ._events import Followed, Terminal, is_terminal
from ._place import Place
from ._retry import Reconnecting, Retry, Timing
from ._types import ControlItem, TerminalStatus

T = TypeVar("T")
OnReconnect = Callable[[Reconnecting], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, to one who followed it."""

    status: TerminalStatus
    reason: str | None
    """The stop's reason, the interruption's cause, the error's code or the finish reason."""
    last_seq: int
    """The seq of its terminal event."""


class Course(Protocol[T]):
    """What a stream is about."""

    def connect(self) -> Request:
        """Where the next connection begins."""

    def take(self, frame: Frame) -> T | None:
        """Takes a frame: something to give, or None. Raises what cannot follow."""

    def is_news(self, item: T) -> bool:
        """Whether something ends a row of failures."""

    def is_last(self, item: T) -> bool:
        """Whether something is the last."""

    def finish(self, headers: Mapping[str, str]) -> None:
        """There is nothing more: the answer 204."""


class RunCourse:
    """A run's events."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.ended: Ended | None = None

    def connect(self) -> Request:
        query, headers = self.place.connect()
        return Request("GET", ("v1", "runs", self.place.run, "events"), query, headers)

    def take(self, frame: Frame) -> Followed | None:
        return self.place.take(frame)

    def is_news(self, item: Followed) -> bool:
        return item["type"] != "control.gap"

    def is_last(self, item: Followed) -> bool:
        if not is_terminal(item):
            return False
        self.ended = Ended(item["status"], _reason_of(item), item["seq"])
        return True

    def finish(self, headers: Mapping[str, str]) -> None:
        status = headers.get("segue-run-status")
        if status not in get_args(TerminalStatus):
            raise ProtocolError("a 204 without the status of the run")
        last_seq = int(headers.get("segue-last-seq", self.place.position))
        reason = headers.get("segue-run-reason") or None
        self.ended = Ended(cast(TerminalStatus, status), reason, last_seq)


class InboxCourse:
    """What a producer is asked to do."""

    def __init__(self, run: str, after: int) -> None:
        self._run = run
        self._last = after

    def connect(self) -> Request:
        query = {"after": self._last} if self._last > 0 else {}
        return Request("GET", ("v1", "runs", self._run, "control"), query)

    def take(self, frame: Frame) -> ControlItem | None:
        if frame.id is None or frame.data is None:
            return None
        try:
            seq, item = int(frame.id), cast(ControlItem, json.loads(frame.data))
        except ValueError:
            raise ProtocolError("an item of an inbox cannot be read") from None
        if seq <= self._last:
            return None
        self._last = seq
        return item

    def is_news(self, item: ControlItem) -> bool:
        return True

    def is_last(self, item: ControlItem) -> bool:
        return False

    def finish(self, headers: Mapping[str, str]) -> None:
        pass


class Healing(Generic[T]):
    """What a stream has received and given, over any number of connections."""

    def __init__(self, course: Course[T], timing: Timing, on_reconnect: OnReconnect | None) -> None:
        self._course = course
        self._retry = Retry(timing, timing.give_up)
        self._on_reconnect = on_reconnect
        self._over = False
        self._begin()

    def is_over(self) -> bool:
        """Whether everything was given."""
        return self._over

    def request(self) -> Request:
        """What the next connection asks for."""
        asked = self._course.connect()
        headers = {**asked.headers, "accept": "text/event-stream"}
        return Request(asked.method, asked.path, asked.query, headers)

    def opened(self, response: httpx.Response) -> None:
        """The head of an answer that is a success."""
        if response.status_code == 204:
            self._course.finish(response.headers)
            self._over = True
        elif not is_of(response, "text/event-stream"):
            raise ProtocolError("the answer is no stream of events: is this a Segue server?", False)

    def feed(self, piece: bytes) -> None:
        """Takes more bytes."""
        self._received.extend(self._decoder.push(piece))

    def pop(self) -> T | None:
        """The next item of what was received."""
        while self._received:
            signal = self._received.popleft()
            if isinstance(signal, RetryHint):
                self._retry.hint(signal.seconds)
                continue
            item = self._course.take(signal)
            if item is None:
                continue
            if self._course.is_news(item):
                self._retry.succeed()
            self._over = self._course.is_last(item)
            return item
        return None

    def lost(self, error: SegueError) -> float:
        """How long to wait before the next connection. Raises what does not pass."""
        self._begin()
        reconnecting = self._retry.fail(error)
        if self._on_reconnect is not None:
            self._on_reconnect(reconnecting)
        return reconnecting.delay

    def _begin(self) -> None:
        self._decoder = SseDecoder()
        self._received: deque[Frame | RetryHint] = deque()


def _reason_of(event: Terminal) -> str | None:
    if event["type"] == "run.finished":
        return event.get("finish_reason")
    if event["type"] == "run.stopped":
        return event["reason"]
    if event["type"] == "run.failed":
        return event["error"].get("code")
    return event["cause"]
