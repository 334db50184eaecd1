"""What a run says, by `type`: comparing it with a literal tells a type checker the fields.

An event of a type that is not here comes as well, with the envelope's fields and its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, TypeGuard

from ._types import JsonObject, Message


class _Envelope(TypedDict):
    seq: int
    """Its place in the run: 1, 2, 3 and so on."""
    at: str
    """When it was journaled (RFC 3339, milliseconds)."""
    run_id: str


class _StepStarted(TypedDict):
    type: Literal["step.started"]
    step: str | int


class _StepFinished(TypedDict):
    type: Literal["step.finished"]
    step: str | int
    finish_reason: NotRequired[str]


class _PartStart(TypedDict):
    type: Literal["text.start", "reasoning.start"]
    part: str


class _PartDelta(TypedDict):
    type: Literal["text.delta", "reasoning.delta"]
    part: str
    text: str


class _PartEnd(TypedDict):
    type: Literal["text.end", "reasoning.end"]
    part: str
    signature: NotRequired[str]


class _ToolCallStarted(TypedDict):
    type: Literal["tool_call.started"]
    call_id: str
    name: str
    executor: NotRequired[Literal["provider", "server", "client"]]


class _ToolCallInputDelta(TypedDict):
    type: Literal["tool_call.input_delta"]
    call_id: str
    text: str


class _ToolCallInputEnd(TypedDict):
    type: Literal["tool_call.input_end"]
    call_id: str
    input: NotRequired[Any]
    raw: NotRequired[str]
    error: NotRequired[Any]


class _ToolResult(TypedDict):
    type: Literal["tool_result"]
    call_id: str
    output: NotRequired[Any]
    error: NotRequired[Any]
    uncertain: NotRequired[bool]
    """The call may have had its effect: the run ended before its result came."""
    preliminary: NotRequired[bool]
    """Another result of the call follows and takes its place."""


class _ApprovalRequested(TypedDict):
    type: Literal["approval.requested"]
    approval_id: str
    call_id: NotRequired[str]
    prompt: NotRequired[str]
    options: NotRequired[list[Any]]
    schema: NotRequired[Any]
    expires_at: NotRequired[str]


class _File(TypedDict):
    type: Literal["file"]
    media_type: str
    url: NotRequired[str]


class _Source(TypedDict):
    type: Literal["source"]
    url: NotRequired[str]
    title: NotRequired[str]


class _Usage(TypedDict):
    type: Literal["usage"]
    input: NotRequired[int]
    output: NotRequired[int]
    reasoning: NotRequired[int]
    cached: NotRequired[int]
    cost: NotRequired[Any]
    cumulative: NotRequired[bool]


class _Data(TypedDict):
    type: Literal["data"]
    name: str
    value: NotRequired[Any]


class _State(TypedDict):
    type: Literal["state"]
    name: NotRequired[str]
    snapshot: NotRequired[Any]
    patch: NotRequired[Any]


class _Metadata(TypedDict):
    type: Literal["metadata"]
    metadata: JsonObject


class _Log(TypedDict):
    type: Literal["log"]
    text: NotRequired[str]


class _Discard(TypedDict):
    type: Literal["discard"]
    step: str | int


class _Warning(TypedDict):
    type: Literal["warning"]
    message: NotRequired[str]
    code: NotRequired[str]


class ProducerFinished(TypedDict):
    type: Literal["run.finished"]
    finish_reason: NotRequired[str]
    usage: NotRequired[JsonObject]


class ProducerFailed(TypedDict):
    type: Literal["run.failed"]
    error: Mapping[str, Any]


class StepStarted(_Envelope, _StepStarted): ...
class StepFinished(_Envelope, _StepFinished): ...
class PartStart(_Envelope, _PartStart): ...
class PartDelta(_Envelope, _PartDelta): ...
class PartEnd(_Envelope, _PartEnd): ...
class ToolCallStarted(_Envelope, _ToolCallStarted): ...
class ToolCallInputDelta(_Envelope, _ToolCallInputDelta): ...
class ToolCallInputEnd(_Envelope, _ToolCallInputEnd): ...
class ToolResult(_Envelope, _ToolResult): ...
class ApprovalRequested(_Envelope, _ApprovalRequested): ...
class File(_Envelope, _File): ...
class Source(_Envelope, _Source): ...
class Usage(_Envelope, _Usage): ...
class Data(_Envelope, _Data): ...
class State(_Envelope, _State): ...
class Metadata(_Envelope, _Metadata): ...
class Log(_Envelope, _Log): ...
class Discard(_Envelope, _Discard): ...
class Warned(_Envelope, _Warning): ...


class RunQueued(_Envelope):
    type: Literal["run.queued"]
    session_id: str
    message_id: str
    agent: str
    input: Any
    turn: int


class RunStarted(_Envelope):
    type: Literal["run.started"]
    session_id: str
    message_id: str
    agent: str
    input: Any


class RunResource(_Envelope):
    type: Literal["run.resource"]
    resource: Any


class RunStopping(_Envelope):
    type: Literal["run.stopping"]
    reason: str
    by: NotRequired[Any]


class ApprovalResolved(_Envelope):
    type: Literal["approval.resolved"]
    approval_id: str
    decision: Any
    by: NotRequired[Any]


class InputReceived(_Envelope):
    type: Literal["input.received"]
    parts: NotRequired[list[Any]]


class RunFinished(_Envelope):
    type: Literal["run.finished"]
    message_id: str
    status: Literal["finished"]
    finish_reason: NotRequired[str]
    usage: NotRequired[JsonObject]


class RunStopped(_Envelope):
    type: Literal["run.stopped"]
    message_id: str
    status: Literal["stopped"]
    reason: str
    by: NotRequired[Any]
    source_outcome: NotRequired[JsonObject]


class RunFailed(_Envelope):
    type: Literal["run.failed"]
    message_id: str
    status: Literal["failed"]
    error: JsonObject


class RunInterrupted(_Envelope):
    type: Literal["run.interrupted"]
    message_id: str
    status: Literal["interrupted"]
    cause: str


class Unreadable(_Envelope):
    """A stored record that the server cannot read."""

    type: Literal["unreadable"]


Terminal = RunFinished | RunStopped | RunFailed | RunInterrupted
"""The last event of a run."""

RunEvent = (
    RunQueued | RunStarted | RunResource | RunStopping | StepStarted | StepFinished | PartStart
    | PartDelta | PartEnd | ToolCallStarted | ToolCallInputDelta | ToolCallInputEnd | ToolResult
    | ApprovalRequested | ApprovalResolved | InputReceived | File | Source | Usage | Data | State
    | Metadata | Log | Discard | Warned | Unreadable | Terminal
)
"""An event of a run."""

ProducerEvent = (
    _StepStarted | _StepFinished | _PartStart | _PartDelta | _PartEnd | _ToolCallStarted
    | _ToolCallInputDelta | _ToolCallInputEnd | _ToolResult | _ApprovalRequested | _File | _Source
    | _Usage | _Data | _State | _Metadata | _Log | _Discard | _Warning | ProducerFinished
    | ProducerFailed
)
"""An event of a producer: without its envelope, which the server writes. Other types are kept too."""


class Gap(TypedDict):
    """Events that cannot be given one by one; a snapshot of what there is comes next."""

    type: Literal["control.gap"]
    run_id: str
    why: str
    detail: NotRequired[str]
    from_seq: int
    """The first event that there is."""


class Snapshot(TypedDict):
    """A run's message so far, for all events up to `seq`. Forget what you had of the run."""

    type: Literal["control.snapshot"]
    run_id: str
    seq: int
    from_seq: int
    format: int
    steps: list[str]
    message: Message
    skipped: NotRequired[int]
    work: NotRequired[int]
    truncated: NotRequired[int]
    omitted: NotRequired[int]
    link: NotRequired[str]


Followed = RunEvent | Gap | Snapshot
"""What one who follows a run gets."""


class EventPage(TypedDict):
    """A page of a run's events."""

    gap: NotRequired[Gap]
    snapshot: NotRequired[Snapshot]
    data: list[RunEvent]
    next: str | None
    """What to hand in as `after` for the next page; None once everything was given."""
    closed: bool
    """The run has ended, and this page reaches its end."""
    status: str


_TERMINAL = frozenset({"run.finished", "run.stopped", "run.failed", "run.interrupted"})


def is_terminal(event: Followed) -> TypeGuard[Terminal]:
    """Whether an event is the last of its run."""
    return event["type"] in _TERMINAL
