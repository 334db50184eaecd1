"""The discipline of a cursor: each event once, in order, and no hole that was not told. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from ._decode import Frame
from ._errors import ProtocolError
from ._events import Followed


class Place:
    """Where a client stands in a run. Two numbers are all of its memory."""

    def __init__(self, run: str, after: str | None = None, from_: str | None = None) -> None:
        if after is not None and from_ is not None:
            raise ValueError("`after` and `from_` exclude each other")
        self.run = run
        self._from = None if from_ == "start" else from_
        self.position = 0
        """The last position that the client has, by its own events or by what the caller said."""
        # The highest seq that was given. It may be below the position: a caller's cursor can be
        # ahead of what the server has, and then a gap leads back.
        self._given = 0
        # Whose word the position is: nobody's ("begin"), the caller's, or the server's own.
        self._origin = "begin"
        # A gap was told: the next position may be any that was not given.
        self._gap = False
        if after is not None:
            seq = _seq_of(run, after)
            if seq is None:
                raise ValueError(f"{after!r} is no cursor of the run {run}")
            self.position, self._origin = seq, "caller"

    @property
    def cursor(self) -> str | None:
        """What to hand in as `after` to go on from here; None as long as there is no such place."""
        return None if self._origin == "begin" else f"{self.run}:{self.position}"

    def connect(self) -> tuple[dict[str, str], dict[str, str]]:
        """A new connection begins here: its query and headers.

        A cursor of the caller's that the run does not have is an error; one that was the server's own
        and is no longer there is a gap.
        """
        self._gap = False
        cursor = f"{self.run}:{self.position}"
        if self._origin == "server":
            return {}, {"last-event-id": cursor}
        if self._origin == "caller":
            return {"after": cursor}, {}
        return ({} if self._from is None else {"from": self._from}), {}

    def take(self, frame: Frame) -> Followed | None:
        """Takes the next frame: something to give on, or None. Raises what cannot follow."""
        seq = None if frame.id is None else self._seq_of(frame.id)
        if frame.data is None:
            if seq is not None:
                self._confirm(seq)
            return None
        said = _object_of(frame.data)
        kind = str(said["type"])
        if kind.startswith("control."):
            return self._control(kind, seq, said)
        if seq is None:
            raise ProtocolError(f"the event {kind} has no id")
        if seq <= self._given or (seq <= self.position and not self._loose):
            return None
        if seq != self.position + 1 and not self._loose:
            raise _hole(self.position, seq)
        if said.get("seq") != seq or said.get("run_id") != self.run:
            raise ProtocolError(f"the envelope of event {seq} names another position")
        self._move_to(seq)
        self._given = seq
        return cast(Followed, said)

    @property
    def _loose(self) -> bool:
        """Whether the server may name any position."""
        return self._gap or (self._origin == "begin" and self._from is not None)

    def _seq_of(self, text: str) -> int:
        seq = _seq_of(self.run, text)
        if seq is None:
            raise ProtocolError(f"{text!r} is no cursor of the run {self.run}")
        return seq

    def _confirm(self, seq: int) -> None:
        """A block that only says where the stream stands."""
        if seq > self.position and not self._loose:
            raise _hole(self.position, seq)
        if seq == self.position or (self._loose and seq >= self._given):
            self._move_to(seq)

    def _control(self, kind: str, seq: int | None, said: dict[str, Any]) -> Followed | None:
        if kind == "control.gap":
            self._gap = True
            return cast(Followed, said)
        is_snapshot = kind == "control.snapshot"
        if seq is None:
            if is_snapshot:
                raise ProtocolError("a snapshot has no id")
            return None
        # After a gap a snapshot stands for the run as it is, also where that is behind what the
        # client had: what it had beyond is not the run's any more.
        if not (is_snapshot and self._gap) and seq < self._given:
            return None
        self._move_to(seq)
        self._given = seq
        return cast(Followed, said) if is_snapshot else None

    def _move_to(self, seq: int) -> None:
        self.position, self._origin, self._gap = seq, "server", False


def _seq_of(run: str, text: str) -> int | None:
    digits = text.removeprefix(f"{run}:")
    return int(digits) if digits != text and re.fullmatch("[0-9]{1,19}", digits) else None


def _object_of(data: str) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except ValueError:
        raise ProtocolError("the data of a frame is no JSON") from None
    if isinstance(said, dict) and "type" in said:
        return said
    raise ProtocolError("the data of a frame is no event")


def _hole(after: int, seq: int) -> ProtocolError:
    return ProtocolError(f"after event {after} came {seq}")
