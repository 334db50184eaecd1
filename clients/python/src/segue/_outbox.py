"""Events on their way: numbered, sent, and kept until they are journaled. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._errors import problem_of, Problem, ProtocolError, RefusedEvent

BATCH_BYTES = 1 << 20
"""About the most bytes of one request."""

_EVENT_FAULTS = frozenset({"bad_event", "forged_event", "event_too_large", "malformed"})
"""The codes of a line that is at fault itself."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive lines, as they go out in one request."""

    first: int
    """The `Producer-Seq` of the first."""
    end: int
    """The number after the last."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Journaled:
    """How far a producer is."""

    events: int
    """How many of its events are journaled, in all."""
    last_seq: int
    """The run's position that they have reached."""


class Outbox:
    """Numbered lines. The number of a line never changes, however often it is sent."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self.first = 0
        """The number of the first line that is not acknowledged; so many are."""
        self.last_seq = 0
        self.stop_requested = False

    @property
    def end(self) -> int:
        """The number that the next line gets."""
        return self.first + len(self._lines)

    @property
    def journaled(self) -> Journaled:
        return Journaled(self.first, self.last_seq)

    def push(self, event: Mapping[str, Any]) -> None:
        # ASCII: a lone surrogate is then the server's to refuse, by its line.
        self._lines.append(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def batch(self, max_bytes: int = BATCH_BYTES) -> Batch | None:
        """The first lines that are kept, up to about so many bytes but at least one; None if none is."""
        lines: list[bytes] = []
        size = 0
        for line in self._lines:
            size += len(line)
            if lines and size > max_bytes:
                break
            lines.append(line)
        if not lines:
            return None
        return Batch(self.first, self.first + len(lines), b"".join(lines))

    def hear(self, reply: Any, batch: Batch) -> None:
        """Takes a line of the answer. Raises what the server refuses.

        A server that knows lines of an earlier life of this producer may acknowledge more than was
        sent: those go out all the same.
        """
        if not isinstance(reply, dict):
            raise ProtocolError("an acknowledgement is no object")
        if "error" in reply:
            raise self._refusal(reply, batch)
        acked = reply.get("acked_seq")
        if acked is not None:
            for _ in range(min(acked + 1, batch.end) - self.first):
                self._lines.popleft()
                self.first += 1
        self.last_seq = max(self.last_seq, reply.get("last_seq", 0))
        self.stop_requested = self.stop_requested or bool(reply.get("stop_requested"))

    def _refusal(self, reply: dict[str, Any], batch: Batch) -> Problem | RefusedEvent:
        error = reply["error"]
        problem = problem_of(int(error.get("status", 0)), error)
        if problem.code not in _EVENT_FAULTS:
            return problem
        return RefusedEvent(batch.first + int(reply.get("line", 1)) - 1, problem)
