"""Producing the events of a push run, each journaled once; with asyncio."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

from ._async_io import AsyncHttp, AsyncInbox, AsyncPieces
from ._calls import append_batch, finished
from ._course import OnReconnect
from ._decode import LineDecoder
from ._errors import Closed, ConnectionLost, SegueError
from ._events import ProducerEvent
from ._outbox import Batch, Journaled, Outbox
from ._retry import Retry


class AsyncProducer:
    """Sends the events of one run.

    What was not acknowledged goes out again with the same numbers, so that each event is journaled
    once. Tasks may send at the same time: what waits goes out together.
    """

    def __init__(
        self,
        http: AsyncHttp,
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
        self._sending = asyncio.Lock()
        self._left = asyncio.Event()
        self._stop = asyncio.Event()
        self._ended: BaseException | None = None
        """Why nothing is sent any more."""
        self._listening = asyncio.create_task(self._listen()) if inbox else None

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop: say the last words and end it, within ten seconds."""
        return self._stop.is_set()

    async def wait_for_stop(self) -> None:
        """Waits for somebody to ask the run to stop."""
        await self._stop.wait()

    @property
    def journaled(self) -> Journaled:
        """How far it is."""
        return self._outbox.journaled

    async def send(self, *events: ProducerEvent) -> Journaled:
        """Sends events; done when they are journaled.

        What was sent when this is cancelled stays, and goes out with the next call.
        """
        if self._ended is not None:
            raise self._ended
        for event in events:
            self._outbox.push(cast(Mapping[str, Any], event))
        end = self._outbox.end
        async with self._sending:
            while self._outbox.first < end:
                if self._ended is not None:
                    raise self._ended
                await self._exchange()
        return self._outbox.journaled

    async def finish(
        self, *, finish_reason: str | None = None, usage: dict[str, Any] | None = None
    ) -> Journaled:
        """Ends the run as finished, and closes."""
        return await self._last(finished(finish_reason, usage))

    async def fail(self, *, code: str, message: str) -> Journaled:
        """Ends the run as failed, and closes."""
        return await self._last({"type": "run.failed", "error": {"code": code, "message": message}})

    async def aclose(self) -> None:
        """Leaves the run as it is: its lease runs out, or another producer goes on. Idempotent."""
        self._end(Closed("the producer is closed"))
        if self._listening is not None:
            await asyncio.wait([self._listening])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _last(self, event: ProducerEvent) -> Journaled:
        journaled = await self.send(event)
        await self.aclose()
        return journaled

    async def _exchange(self) -> None:
        """One request, or the wait after one that was lost."""
        batch = self._outbox.batch()
        if batch is None:
            return
        try:
            await self._post(batch)
        except SegueError as error:
            await self._wait(self._delay_after(error))

    def _delay_after(self, error: SegueError) -> float:
        try:
            reconnecting = self._retry.fail(error)
        except SegueError as fatal:
            self._end(fatal)
            raise
        if self._on_reconnect is not None:
            self._on_reconnect(reconnecting)
        return reconnecting.delay

    async def _wait(self, delay: float) -> None:
        try:
            await asyncio.wait_for(self._left.wait(), delay)
        except TimeoutError:
            return

    async def _post(self, batch: Batch) -> None:
        request = append_batch(self.run, self.id, self.epoch, batch)
        lines = LineDecoder()
        response = await self._http.open(request, self._http.timing.call)
        async with AsyncPieces(response) as pieces:
            async for piece in pieces:
                for reply in lines.push(piece):
                    self._hear(reply, batch)
        if self._outbox.first < batch.end:
            raise ConnectionLost("the answer ended before it acknowledged all")

    def _hear(self, reply: Any, batch: Batch) -> None:
        before = self._outbox.first
        self._outbox.hear(reply, batch)
        if self._outbox.first > before:
            self._retry.succeed()
        if self._outbox.stop_requested:
            self._stop.set()

    async def _listen(self) -> None:
        try:
            async with AsyncInbox(self._http, self.run, 0, None) as inbox:
                async for item in inbox:
                    if item["type"] == "stop":
                        self._stop.set()
        except SegueError:
            # The acknowledgements still tell of a stop, and what is wrong with the run.
            return

    def _end(self, why: BaseException) -> None:
        if self._ended is None:
            self._ended = why
        self._left.set()
        if self._listening is not None:
            self._listening.cancel()
