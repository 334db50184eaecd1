"""When to try again. Pure: nothing waits here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ._errors import Problem, SegueError


def _spread(delay: float) -> float:
    return delay * (1 + random.random() / 4)


@dataclass(frozen=True, slots=True)
class Timing:
    """The waits of a client, in seconds."""

    first_delay: float = 0.25
    """Before the first attempt after a loss."""
    max_delay: float = 10.0
    """The longest between two attempts, unless the server asks for more."""
    max_hint: float = 60.0
    """The longest that the server may ask for: 2 s by default, more when it is busy."""
    idle: float = 15.0
    """A stream without a byte for this long is lost. Heartbeats come every 5 s by default."""
    call: float = 60.0
    """The longest that a plain call waits for its answer."""
    retry: float = 30.0
    """How long a plain call that may be sent again is tried; 0 sends it once."""
    give_up: float = float("inf")
    """How long streams and producers try in a row before they give up."""
    jitter: Callable[[float], float] = field(default=_spread)
    """Turns the planned delay before an attempt into the one that is waited."""


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """A connection that was lost and is tried again; nothing is lost by it."""

    attempt: int
    """How many attempts in a row have failed."""
    delay: float
    """How long it waits before the next, in seconds."""
    error: SegueError


class Retry:
    """Attempts in a row: delays that double, and start over after a success."""

    def __init__(
        self, timing: Timing, give_up: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timing = timing
        self._give_up = give_up
        self._clock = clock
        self._hint = 0.0
        self._failing_since: float | None = None
        self.succeed()

    def succeed(self) -> None:
        """Something came."""
        self._next = self._timing.first_delay
        self._attempt = 0
        self._failing_since = None

    def hint(self, at_least: float) -> None:
        """The server's wish is the lower bound of every delay from now on."""
        self._hint = at_least

    def fail(self, error: SegueError) -> Reconnecting:
        """What to wait before the next attempt. Raises the error if there is none."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        timing = self._timing
        wish = max(self._hint, error.retry_after if isinstance(error, Problem) else 0)
        delay = timing.jitter(max(min(self._next, timing.max_delay), min(wish, timing.max_hint)))
        self._next = min(self._next * 2, timing.max_delay)
        self._attempt += 1
        if not error.passing or now + delay - self._failing_since > self._give_up:
            raise error
        return Reconnecting(self._attempt, delay, error)
