"""Producing the events of a push run, each journaled once; with threads."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Self, cast

from ._calls import append_batch, finished
from ._course import OnReconnect
from ._decode import LineDecoder
from ._errors import Closed, ConnectionLost, SegueError
from ._events import ProducerEvent
from ._outbox import Batch, Journaled, Outbox
from ._retry import Retry
from ._sync_io import Http, Inbox, Pieces


class Producer:
    """Sends the events of one run.

    What was not acknowledged goes out again with the same numbers, so that each event is journaled
    once. Threads may send at the same time: what waits goes out together.
    """

    def __init__(
        self,
        http: Http,
        run: str,
        id: str | None,
        epoch: int,
        inbox: bool,
        on_reconnect: OnReconnect | None,
    ) -> None:
        self.run = run
        self.id = uuid.uuid4().hex if id is None else id
        """Its name: the scope of its numbers."""
        self.epoch = epoch
        """Its life: a higher one restarts the numbers and shuts the lower ones out."""
        self._http = http
        self._on_reconnect = on_reconnect
        self._retry = Retry(http.timing, http.timing.give_up)
        self._outbox = Outbox()
        self._entering = threading.Lock()
        self._sending = threading.Lock()
        self._left = threading.Event()
        self._stop = threading.Event()
        self._ended: BaseException | None = None
        """Why nothing is sent any more."""
        self._inbox = Inbox(http, run, 0, None) if inbox else None
        if self._inbox is not None:
            listening = threading.Thread(target=self._listen, args=(self._inbox,), daemon=True)
            listening.start()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop: say the last words and end it, within ten seconds."""
        return self._stop.is_set()

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Waits for somebody to ask the run to stop; False after `timeout` seconds without."""
        return self._stop.wait(timeout)

    @property
    def journaled(self) -> Journaled:
        """How far it is."""
        return self._outbox.journaled

    def send(self, *events: ProducerEvent) -> Journaled:
        """Sends events; done when they are journaled.

        What was sent when this is interrupted stays, and goes out with the next call.
        """
        with self._entering:
            if self._ended is not None:
                raise self._ended
            for event in events:
                self._outbox.push(cast(Mapping[str, Any], event))
            end = self._outbox.end
        with self._sending:
            while self._outbox.first < end:
                if self._ended is not None:
                    raise self._ended
                self._exchange()
        return self._outbox.journaled

    def finish(
        self, *, finish_reason: str | None = None, usage: dict[str, Any] | None = None
    ) -> Journaled:
        """Ends the run as finished, and closes."""
        return self._last(finished(finish_reason, usage))

    def fail(self, *, code: str, message: str) -> Journaled:
        """Ends the run as failed, and closes."""
        return self._last({"type": "run.failed", "error": {"code": code, "message": message}})

    def close(self) -> None:
        """Leaves the run as it is: its lease runs out, or another producer goes on. Idempotent."""
        self._end(Closed("the producer is closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _last(self, event: ProducerEvent) -> Journaled:
        journaled = self.send(event)
        self.close()
        return journaled

    def _exchange(self) -> None:
        """One request, or the wait after one that was lost."""
        with self._entering:
            batch = self._outbox.batch()
        if batch is None:
            return
        try:
            self._post(batch)
        except SegueError as error:
            try:
                reconnecting = self._retry.fail(error)
            except SegueError as fatal:
                self._end(fatal)
                raise
            if self._on_reconnect is not None:
                self._on_reconnect(reconnecting)
            self._left.wait(reconnecting.delay)

    def _post(self, batch: Batch) -> None:
        request = append_batch(self.run, self.id, self.epoch, batch)
        lines = LineDecoder()
        with closing(Pieces(self._http.open(request, self._http.timing.call))) as pieces:
            for piece in pieces:
                for reply in lines.push(piece):
                    self._hear(reply, batch)
        if self._outbox.first < batch.end:
            raise ConnectionLost("the answer ended before it acknowledged all")

    def _hear(self, reply: Any, batch: Batch) -> None:
        with self._entering:
            before = self._outbox.first
            self._outbox.hear(reply, batch)
            if self._outbox.first > before:
                self._retry.succeed()
        if self._outbox.stop_requested:
            self._stop.set()

    def _listen(self, inbox: Inbox) -> None:
        try:
            with inbox:
                for item in inbox:
                    if item["type"] == "stop":
                        self._stop.set()
        except SegueError:
            # The acknowledgements still tell of a stop, and what is wrong with the run.
            return

    def _end(self, why: BaseException) -> None:
        if self._ended is None:
            self._ended = why
        self._left.set()
        if self._inbox is not None:
            self._inbox.close()
