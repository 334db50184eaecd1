"""Reading and waiting, with threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx

from ._calls import Call, Request, lost
from ._course import Course, Ended, Healing, InboxCourse, OnReconnect, RunCourse
from ._errors import Closed, ConnectionLost, SegueError, problem_from
from ._events import Followed
from ._place import Place
from ._retry import Retry, Timing
from ._types import ControlItem

T = TypeVar("T")


class Http:
    """A server to talk to."""

    def __init__(self, http: httpx.Client, base: str, timing: Timing) -> None:
        self.client = http
        self.base = base.rstrip("/")
        self.timing = timing
        self._never = threading.Event()

    def open(self, request: Request, limit: float) -> httpx.Response:
        """Sends it and gives the answer once its head is there. Raises what is no success."""
        if self.client.is_closed:
            raise Closed("the client is closed")
        try:
            response = self.client.send(request.build(self.client, self.base, limit), stream=True)
            if response.is_success:
                return response
            try:
                body = response.read()
            finally:
                response.close()
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise lost(error) from error
        raise problem_from(response.status_code, body, response.headers.get("retry-after"))

    def call(self, call: Call[T]) -> T:
        """Sends it, again as long as it fails in a way that passes, and gives its result."""

        def attempt() -> T:
            response = self.open(call.request, call.limit(self.timing))
            return call.result(body_of(response))

        return self.again(call.tries(self.timing), attempt)

    def again(self, tries: float, attempt: Callable[[], T]) -> T:
        """Does it as long as it fails in a way that passes, for so many seconds at most."""
        retry = Retry(self.timing, tries)
        while True:
            try:
                return attempt()
            except SegueError as error:
                self._never.wait(retry.fail(error).delay)


class Pieces:
    """The pieces of a body, which can be left at any time."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = response.iter_bytes()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise lost(error) from error

    def close(self) -> None:
        self._response.close()


def body_of(response: httpx.Response) -> bytes:
    """The whole body of an answer."""
    with closing(Pieces(response)) as pieces:
        return b"".join(pieces)


class HealedStream(Generic[T]):
    """Gives what comes over one connection after the other, until there is nothing more.

    An end of a body is none: it connects again, after a wait that grows. It raises the one error
    that makes it give up. It is an iterator for one thread; `close` may come from any.
    """

    def __init__(
        self,
        http: Http,
        course: Course[T],
        on_reconnect: OnReconnect | None,
        response: httpx.Response | None = None,
    ) -> None:
        self._http = http
        self._healing = Healing(course, http.timing, on_reconnect)
        self._left = threading.Event()
        self._pieces = None if response is None else Pieces(response)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while not (self._healing.is_over() or self._left.is_set()):
            try:
                item = self._step()
            except SegueError as error:
                self._leave_connection()
                self._left.wait(self._lost(error))
                continue
            if self._healing.is_over():
                self._leave_connection()
            if item is not None:
                return item
        self._leave_connection()
        raise StopIteration

    def close(self) -> None:
        """Leaves. The run does not notice."""
        self._left.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._leave_connection()

    def _step(self) -> T | None:
        item = self._healing.pop()
        if item is not None:
            return item
        if self._pieces is None:
            response = self._http.open(self._healing.request(), self._http.timing.idle)
            self._pieces = Pieces(response)
            self._healing.opened(response)
            return None
        piece = next(self._pieces, None)
        if piece is None:
            raise ConnectionLost("the stream ended before its last event")
        self._healing.feed(piece)
        return None

    def _lost(self, error: SegueError) -> float:
        try:
            return self._healing.lost(error)
        except BaseException:
            self.close()
            raise

    def _leave_connection(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None


class Follow(HealedStream[Followed]):
    """A run that is followed: each event once and in order, to the last one, over any number of cuts.

    Where the server no longer has what comes next it gives a `control.gap` and a `control.snapshot`.
    """

    def __init__(
        self,
        http: Http,
        place: Place,
        on_reconnect: OnReconnect | None,
        response: httpx.Response | None = None,
    ) -> None:
        course = RunCourse(place)
        super().__init__(http, course, on_reconnect, response)
        self._course = course

    @property
    def run(self) -> str:
        """The run's id."""
        return self._course.place.run

    @property
    def cursor(self) -> str | None:
        """What to hand in as `after` to go on behind what was given; None before there is any."""
        return self._course.place.cursor

    @property
    def ended(self) -> Ended | None:
        """How the run ended; None as long as its end was not given."""
        return self._course.ended


class Inbox(HealedStream[ControlItem]):
    """The inbox of a push run: each item once, to the end of the run. Holding it renews the lease."""

    def __init__(self, http: Http, run: str, after: int, on_reconnect: OnReconnect | None) -> None:
        super().__init__(http, InboxCourse(run, after), on_reconnect)
