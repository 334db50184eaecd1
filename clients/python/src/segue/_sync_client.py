"""The calls of a server, with threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from . import _calls as calls
from ._course import OnReconnect
from ._errors import SegueError
from ._events import EventPage, ProducerEvent
from ._place import Place
from ._retry import Timing
from ._sync_io import Follow, Http, Inbox
from ._sync_producer import Producer
from ._types import (
    Agent, Appended, CreateMessage, CreateSession, Message, MessageFilter, Page, Run, RunFilter,
    SearchFilter, SearchHit, Session, StartRun, Stopped, UpdateSession,
)

T = TypeVar("T")


class Client:
    """A Segue server, such as `http://127.0.0.1:7878`.

    Calls that may be sent twice (all but `create_...`, `delete_...` and `append` without numbers) are
    tried again while the server is away. Threads may share it. Without an `http` of your own it asks
    no proxy.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timing: Timing = Timing(),
        http: httpx.Client | None = None,
    ) -> None:
        if http is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
            http = httpx.Client(limits=limits, trust_env=False)
        http.headers.update(calls.headers_of(token, headers))
        self._http = Http(http, base, timing)

    def close(self) -> None:
        """Closes its connections."""
        self._http.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(
        self, session: str, *, idempotency_key: str | None = None, **start: Unpack[StartRun]
    ) -> Run:
        """Starts a run in a session, which is made if it does not exist. It is durable when this is done."""
        return self._http.call(calls.start(session, idempotency_key, start))

    def start_and_follow(
        self,
        session: str,
        *,
        idempotency_key: str | None = None,
        detached: bool = True,
        on_reconnect: OnReconnect | None = None,
        **start: Unpack[StartRun],
    ) -> Follow:
        """Starts a run and follows it from its first event, in one request.

        With `detached=False` the run is bound to this connection: when it is lost or left, the server
        stops the run.
        """
        body = {**start, **({} if detached else {"detached": False})}
        call = calls.start_stream(session, idempotency_key, body)

        def attempt() -> Follow:
            response = self._http.open(call.request, self._http.timing.call)
            try:
                place = Place(calls.run_of_stream(response, body))
            except SegueError:
                response.close()
                raise
            return Follow(self._http, place, on_reconnect, response)

        return self._http.again(call.tries(self._http.timing), attempt)

    def follow(
        self,
        run: str,
        *,
        after: str | None = None,
        from_: str | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Follow:
        """Follows a run to its end: each event once and in order, whatever happens to connections.

        It begins after the cursor `after`, or at `from_`: `start`, `tail`, `last:N` or `snapshot`.
        """
        return Follow(self._http, Place(run, after, from_), on_reconnect)

    def finished(self, run: str) -> Run:
        """Waits for the end of a run, and gives it."""
        for _ in self.follow(run, from_="tail"):
            pass
        return self.run(run)

    def events(
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
        return self._http.call(calls.events(run, query, wait))

    def run(self, run: str) -> Run:
        """A run."""
        return self._http.call(calls.run(run))

    def runs(self, **filter: Unpack[RunFilter]) -> Page[Run]:
        """A page of the runs, newest first."""
        return self._http.call(calls.runs(filter))

    def all_runs(self, **filter: Unpack[RunFilter]) -> Iterator[Run]:
        """All runs that pass the filter, page by page."""
        return _all(lambda after: self._http.call(calls.runs(filter, after)))

    def stop(self, run: str, *, run_id: str | None = None, wait: int | None = None) -> Stopped:
        """Stops a run; waits so many seconds, at most 30, for its end. Idempotent."""
        return self._http.call(calls.stop(("runs", run), run_id, wait))

    def stop_session(
        self, session: str, *, run_id: str | None = None, wait: int | None = None
    ) -> Stopped:
        """Stops all runs that a session has by now. Idempotent."""
        return self._http.call(calls.stop(("sessions", session), run_id, wait))

    def create_session(self, **session: Unpack[CreateSession]) -> Session:
        """Makes a session. A start makes its own, so this is for titles and metadata."""
        return self._http.call(calls.create_session(session))

    def session(self, session: str) -> Session:
        """A session."""
        return self._http.call(calls.session(session))

    def sessions(self, *, after: str | None = None, limit: int | None = None) -> Page[Session]:
        """A page of the sessions, newest first."""
        return self._http.call(calls.sessions({"after": after, "limit": limit}))

    def all_sessions(self) -> Iterator[Session]:
        """All sessions, page by page."""
        return _all(lambda after: self.sessions(after=after))

    def update_session(self, session: str, **update: Unpack[UpdateSession]) -> Session:
        """Changes what a session is called."""
        return self._http.call(calls.update_session(session, update))

    def delete_session(self, session: str) -> None:
        """Deletes a session with all of its runs; needs the admin token."""
        self._http.call(calls.delete("sessions", session))

    def message(self, message: str) -> Message:
        """A message."""
        return self._http.call(calls.message(message))

    def messages(self, session: str, **filter: Unpack[MessageFilter]) -> Page[Message]:
        """A page of a session's messages, in the order of the session."""
        return self._http.call(calls.messages(session, filter))

    def all_messages(self, session: str, **filter: Unpack[MessageFilter]) -> Iterator[Message]:
        """All messages of a session that pass the filter, page by page."""
        return _all(lambda after: self._http.call(calls.messages(session, filter, after)))

    def create_message(self, session: str, **message: Unpack[CreateMessage]) -> Message:
        """Makes a message without a run, in a session that is made if it does not exist."""
        return self._http.call(calls.create_message(session, message))

    def delete_message(self, message: str) -> None:
        """Deletes a message; needs the admin token."""
        self._http.call(calls.delete("messages", message))

    def search(self, q: str, **filter: Unpack[SearchFilter]) -> Page[SearchHit]:
        """Messages that say this, a page of them, the newest first."""
        return self._http.call(calls.search(q, filter))

    def agents(self) -> Page[Agent]:
        """The agents that runs can be started from."""
        return self._http.call(calls.agents())

    def append(
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
        return self._http.call(calls.append(run, events, producer))

    def produce(
        self,
        run: str,
        *,
        id: str | None = None,
        epoch: int = 0,
        inbox: bool = True,
        on_reconnect: OnReconnect | None = None,
    ) -> Producer:
        """Produces the events of a push run, each journaled once.

        It holds the run's inbox, which tells of a stop and renews the lease, unless told not to.
        """
        return Producer(self._http, run, id, epoch, inbox, on_reconnect)

    def inbox(
        self, run: str, *, after: int = 0, on_reconnect: OnReconnect | None = None
    ) -> Inbox:
        """What the producer of a push run is asked to do, to the end of the run."""
        return Inbox(self._http, run, after, on_reconnect)

    def ready(self) -> bool:
        """Whether the server says that it takes new work. One that is not reached does not."""
        try:
            self._http.open(calls.ready().request, self._http.timing.call).close()
        except SegueError:
            return False
        return True


def _all(page: Callable[[str | None], Page[T]]) -> Iterator[T]:
    after: str | None = None
    while True:
        found = page(after)
        yield from found["data"]
        after = found["next"]
        if after is None:
            return
