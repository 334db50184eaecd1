"""Event streams (by the WHATWG rules, bounded) and lines, from bytes that are cut anywhere. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ._errors import ProtocolError

MAX_FRAME = 17 << 20
"""Room for an event of the greatest size that a server allows by default, and its envelope."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Frame:
    """One block of a stream."""

    id: str | None
    """The id that this block sets; None if it sets none."""
    event: str
    """The event's name; empty if there is none."""
    data: str | None
    """The data; None for a block without any."""


@dataclass(frozen=True, slots=True)
class RetryHint:
    """How long to wait before a reconnect, in seconds."""

    seconds: float


class SseDecoder:
    """Turns bytes into frames and hints. A block that is cut by the end of the stream is none."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max = max_frame
        self._line: list[bytes] = []
        """The pieces of a line whose end has not come."""
        self._size = 0
        self._after_cr = False
        """The last line ended in CR: a LF that comes first belongs to it."""
        self._at_start = True
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def push(self, piece: bytes) -> list[Frame | RetryHint]:
        """What these bytes complete. Raises if a block is too large."""
        found: list[Frame | RetryHint] = []
        if not piece:
            return found
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        start = 0
        for end in _LINE_END.finditer(piece):
            self._hold(piece[start : end.start()])
            start = end.end()
            line = b"".join(self._line)
            self._line.clear()
            self._take(line, found)
        self._hold(piece[start:])
        return found

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max:
            raise ProtocolError(f"a frame has more than {self._max} bytes")
        if piece:
            self._line.append(piece)

    def _take(self, line: bytes, found: list[Frame | RetryHint]) -> None:
        if self._at_start:
            line, self._at_start = line.removeprefix(_BOM), False
        if not line:
            return self._dispatch(found)
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            found.append(RetryHint(int(value) / 1000))

    def _dispatch(self, found: list[Frame | RetryHint]) -> None:
        data = "\n".join(self._data) if self._data else None
        if self._id is not None or data is not None:
            found.append(Frame(self._id, self._event, data))
        self._id, self._event, self._data, self._size = None, "", [], 0


class LineDecoder:
    """Turns bytes into the JSON values of whole lines; blank ones are passed over."""

    def __init__(self) -> None:
        self._line: list[bytes] = []

    def push(self, piece: bytes) -> list[Any]:
        """The values that these bytes complete. Raises at a line that is no JSON."""
        first, *more = piece.split(b"\n")
        self._line.append(first)
        values = []
        for rest in more:
            line = b"".join(self._line)
            self._line = [rest]
            if line.strip():
                values.append(_parse(line))
        return values


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise ProtocolError("a line is no JSON") from None
