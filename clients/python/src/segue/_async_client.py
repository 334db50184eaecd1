"""The calls of a server, with asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from . import _calls as calls
from ._course import OnReconnect
from ._errors import SegueError
from ._events import EventPage, ProducerEvent
from ._place import Place
from ._retry import Timing
from ._async_io import AsyncFollow, AsyncHttp, AsyncInbox
from ._async_producer import AsyncProducer
from ._types import (
    Agent, Appended, CreateMessage, CreateSession, Message, MessageFilter, Page, Run, RunFilter,
    SearchFilter, SearchHit, Session, StartRun, Stopped, UpdateSession,
)

T = TypeVar("T")


class AsyncClient:
    """A Segue server, such as `http://127.0.0.1:7878`.

    Calls that may be sent twice (all but `create_...`, `delete_...` and `append` without numbers) are
    tried again while the server is away. Tasks of one loop may share it. Without an `http` of your own it asks
    no proxy.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timing: Timing = Timing(),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        if http is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            http = httpx.AsyncClient(limits=limits, trust_env=False)
        http.headers.update(calls.headers_of(token, headers))
        self._http = AsyncHttp(http, base, timing)

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(
        self, session: str, *, idempotency_key: str | None = None, **start: Unpack[StartRun]
    ) -> Run:
        """Starts a run in a session, which is made if it does not exist. It is durable when this is done."""
        return await self._http.call(calls.start(session, idempotency_key, start))

    async def start_and_follow(
        self,
        session: str,
        *,
        idempotency_key: str | None = None,
        detached: bool = True,
        on_reconnect: OnReconnect | None = None,
        **start: Unpack[StartRun],
    ) -> AsyncFollow:
        """Starts a run and follows it from its first event, in one request.

        With `detached=False` the run is bound to this connection: when it is lost or left, the server
        stops the run.
        """
        body = {**start, **({} if detached else {"detached": False})}
        call = calls.start_stream(session, idempotency_key, body)

        async def attempt() -> AsyncFollow:
            response = await self._http.open(call.request, self._http.timing.call)
            try:
                place = Place(calls.run_of_stream(response, body))
            except SegueError:
                await response.aclose()
                raise
            return AsyncFollow(self._http, place, on_reconnect, response)

        return await self._http.again(call.tries(self._http.timing), attempt)

    def follow(
        self,
        run: str,
        *,
        after: str | None = None,
        from_: str | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncFollow:
        """Follows a run to its end: each event once and in order, whatever happens to connections.

        It begins after the cursor `after`, or at `from_`: `start`, `tail`, `last:N` or `snapshot`.
        """
        return AsyncFollow(self._http, Place(run, after, from_), on_reconnect)

    async def finished(self, run: str) -> Run:
        """Waits for the end of a run, and gives it."""
        async for _ in self.follow(run, from_="tail"):
            pass
        return await self.run(run)

    async def events(
        self,
        run: str,
        *,
        after: str | None = None,
        from_: str | None = None,
        limit: int | None = None,
        wait: int | None = None,
    ) -> EventPage:
        """One page of a run's events, without following it; waits so many seconds for something."""
        query = {"after": after, "from": from_, "limit": limit}
        return await self._http.call(calls.events(run, query, wait))

    async def run(self, run: str) -> Run:
        """A run."""
        return await self._http.call(calls.run(run))

    async def runs(self, **filter: Unpack[RunFilter]) -> Page[Run]:
        """A page of the runs, newest first."""
        return await self._http.call(calls.runs(filter))

    def all_runs(self, **filter: Unpack[RunFilter]) -> AsyncIterator[Run]:
        """All runs that pass the filter, page by page."""
        return _all(lambda after: self._http.call(calls.runs(filter, after)))

    async def stop(self, run: str, *, run_id: str | None = None, wait: int | None = None) -> Stopped:
        """Stops a run; waits so many seconds, at most 30, for its end. Idempotent."""
        return await self._http.call(calls.stop(("runs", run), run_id, wait))

    async def stop_session(
        self, session: str, *, run_id: str | None = None, wait: int | None = None
    ) -> Stopped:
        """Stops all runs that a session has by now. Idempotent."""
        return await self._http.call(calls.stop(("sessions", session), run_id, wait))

    async def create_session(self, **session: Unpack[CreateSession]) -> Session:
        """Makes a session. A start makes its own, so this is for titles and metadata."""
        return await self._http.call(calls.create_session(session))

    async def session(self, session: str) -> Session:
        """A session."""
        return await self._http.call(calls.session(session))

    async def sessions(self, *, after: str | None = None, limit: int | None = None) -> Page[Session]:
        """A page of the sessions, newest first."""
        return await self._http.call(calls.sessions({"after": after, "limit": limit}))

    def all_sessions(self) -> AsyncIterator[Session]:
        """All sessions, page by page."""
        return _all(lambda after: self.sessions(after=after))

    async def update_session(self, session: str, **update: Unpack[UpdateSession]) -> Session:
        """Changes what a session is called."""
        return await self._http.call(calls.update_session(session, update))

    async def delete_session(self, session: str) -> None:
        """Deletes a session with all of its runs; needs the admin token."""
        await self._http.call(calls.delete("sessions", session))

    async def message(self, message: str) -> Message:
        """A message."""
        return await self._http.call(calls.message(message))

    async def messages(self, session: str, **filter: Unpack[MessageFilter]) -> Page[Message]:
        """A page of a session's messages, in the order of the session."""
        return await self._http.call(calls.messages(session, filter))

    def all_messages(self, session: str, **filter: Unpack[MessageFilter]) -> AsyncIterator[Message]:
        """All messages of a session that pass the filter, page by page."""
        return _all(lambda after: self._http.call(calls.messages(session, filter, after)))

    async def create_message(self, session: str, **message: Unpack[CreateMessage]) -> Message:
        """Makes a message without a run, in a session that is made if it does not exist."""
        return await self._http.call(calls.create_message(session, message))

    async def delete_message(self, message: str) -> None:
        """Deletes a message; needs the admin token."""
        await self._http.call(calls.delete("messages", message))

    async def search(self, q: str, **filter: Unpack[SearchFilter]) -> Page[SearchHit]:
        """Messages that say this, a page of them, the newest first."""
        return await self._http.call(calls.search(q, filter))

    async def agents(self) -> Page[Agent]:
        """The agents that runs can be started from."""
        return await self._http.call(calls.agents())

    async def append(
        self,
        run: str,
        events: ProducerEvent | Sequence[ProducerEvent],
        *,
        producer: tuple[str, int, int] | None = None,
    ) -> Appended:
        """Appends events to a push run as one atomic batch.

        With a producer's numbers (id, epoch, seq) a second request of the same seq is answered as the
        first was, and appends nothing. A `Producer` numbers by itself.
        """
        return await self._http.call(calls.append(run, events, producer))

    def produce(
        self,
        run: str,
        *,
        id: str | None = None,
        epoch: int = 0,
        inbox: bool = True,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncProducer:
        """Produces the events of a push run, each journaled once.

        Call it in the loop that it works in. It holds the run's inbox, which tells of a stop and renews the lease, unless told not to.
        """
        return AsyncProducer(self._http, run, id, epoch, inbox, on_reconnect)

    def inbox(
        self, run: str, *, after: int = 0, on_reconnect: OnReconnect | None = None
    ) -> AsyncInbox:
        """What the producer of a push run is asked to do, to the end of the run."""
        return AsyncInbox(self._http, run, after, on_reconnect)

    async def ready(self) -> bool:
        """Whether the server says that it takes new work. One that is not reached does not."""
        try:
            response = await self._http.open(calls.ready().request, self._http.timing.call)
            await response.aclose()
        except SegueError:
            return False
        return True


async def _all(page: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    after: str | None = None
    while True:
        found = await page(after)
        for item in found["data"]:
            yield item
        after = found["next"]
        if after is None:
            return
