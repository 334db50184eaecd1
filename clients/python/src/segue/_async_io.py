"""Reading and waiting, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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


class AsyncHttp:
    """A server to talk to."""

    def __init__(self, http: httpx.AsyncClient, base: str, timing: Timing) -> None:
        self.client = http
        self.base = base.rstrip("/")
        self.timing = timing

    async def open(self, request: Request, limit: float) -> httpx.Response:
        """Sends it and gives the answer once its head is there. Raises what is no success."""
        if self.client.is_closed:
            raise Closed("the client is closed")
        try:
            built = request.build(self.client, self.base, limit)
            response = await self.client.send(built, stream=True)
            if response.is_success:
                return response
            try:
                body = await response.aread()
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise lost(error) from error
        raise problem_from(response.status_code, body, response.headers.get("retry-after"))

    async def call(self, call: Call[T]) -> T:
        """Sends it, again as long as it fails in a way that passes, and gives its result."""

        async def attempt() -> T:
            response = await self.open(call.request, call.limit(self.timing))
            async with AsyncPieces(response) as pieces:
                return call.result(b"".join([piece async for piece in pieces]))

        return await self.again(call.tries(self.timing), attempt)

    async def again(self, tries: float, attempt: Callable[[], Awaitable[T]]) -> T:
        """Does it as long as it fails in a way that passes, for so many seconds at most."""
        retry = Retry(self.timing, tries)
        while True:
            try:
                return await attempt()
            except SegueError as error:
                delay = retry.fail(error).delay
            await asyncio.sleep(delay)


class AsyncPieces:
    """The pieces of a body, which can be left at any time."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = response.aiter_bytes()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise lost(error) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._response.aclose()


class AsyncHealedStream(Generic[T]):
    """Gives what comes over one connection after the other, until there is nothing more.

    An end of a body is none: it connects again, after a wait that grows. It raises the one error
    that makes it give up. It is an iterator for one task; `async with` closes it.
    """

    def __init__(
        self,
        http: AsyncHttp,
        course: Course[T],
        on_reconnect: OnReconnect | None,
        response: httpx.Response | None = None,
    ) -> None:
        self._http = http
        self._healing = Healing(course, http.timing, on_reconnect)
        self._left = asyncio.Event()
        self._kept: T | None = None
        """The last item, as long as a cancellation may keep it from being given."""
        self._pieces = None if response is None else AsyncPieces(response)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not (self._healing.is_over() or self._left.is_set()):
            try:
                item = await self._step()
            except SegueError as error:
                await self._leave_connection()
                await self._wait(self._lost(error))
                continue
            if self._healing.is_over():
                self._kept = item
            elif item is not None:
                return item
        await self._leave_connection()
        item, self._kept = self._kept, None
        if item is None:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Leaves. The run does not notice."""
        self._left.set()
        await self._leave_connection()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _step(self) -> T | None:
        item = self._healing.pop()
        if item is not None:
            return item
        if self._pieces is None:
            response = await self._http.open(self._healing.request(), self._http.timing.idle)
            self._pieces = AsyncPieces(response)
            self._healing.opened(response)
            return None
        piece = await anext(self._pieces, None)
        if piece is None:
            raise ConnectionLost("the stream ended before its last event")
        self._healing.feed(piece)
        return None

    def _lost(self, error: SegueError) -> float:
        try:
            return self._healing.lost(error)
        except BaseException:
            self._left.set()
            raise

    async def _wait(self, delay: float) -> None:
        try:
            await asyncio.wait_for(self._left.wait(), delay)
        except TimeoutError:
            return

    async def _leave_connection(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            await pieces.aclose()


class AsyncFollow(AsyncHealedStream[Followed]):
    """A run that is followed: each event once and in order, to the last one, over any number of cuts.

    Where the server no longer has what comes next it gives a `control.gap` and a `control.snapshot`.
    """

    def __init__(
        self,
        http: AsyncHttp,
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


class AsyncInbox(AsyncHealedStream[ControlItem]):
    """The inbox of a push run: each item once, to the end of the run. Holding it renews the lease."""

    def __init__(
        self, http: AsyncHttp, run: str, after: int, on_reconnect: OnReconnect | None
    ) -> None:
        super().__init__(http, InboxCourse(run, after), on_reconnect)
