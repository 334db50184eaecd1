"""The calls of a server, as what is sent and what comes of it. Nothing is sent here."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

import httpx

from ._errors import ConnectionLost, ProtocolError
from ._events import EventPage, ProducerEvent, ProducerFinished
from ._outbox import Batch
from ._retry import Timing
from ._types import (
    Agent, Appended, CreateMessage, CreateSession, JsonObject, Message, MessageFilter, Page, Run, RunFilter,
    SearchFilter, SearchHit, Session, StartRun, Stopped, UpdateSession,
)

T = TypeVar("T")
_Body = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: _Body | None = None
    content: bytes | None = None
    wait: float | None = 0
    """How long it may be held beyond what a call may take, in seconds."""

    def build(self, http: httpx.Client | httpx.AsyncClient, base: str, limit: float) -> httpx.Request:
        """Its form for `http`; the head, and each piece of the body, may take `limit` seconds."""
        path = "/".join(quote(segment, safe="") for segment in self.path)
        query = {name: _text(value) for name, value in self.query.items() if value is not None}
        content, headers = self.content, {"accept": "application/json", **self.headers}
        if self.json is not None:
            content = json.dumps(self.json).encode()
            headers["content-type"] = "application/json"
        return http.build_request(
            self.method, f"{base}/{path}", params=query or None, headers=headers, content=content,
            timeout=httpx.Timeout(limit, pool=None),
        )


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request whose answer is JSON, or nothing."""

    request: Request
    again: bool = True
    """Whether it may be sent twice."""

    def tries(self, timing: Timing) -> float:
        """How long it is tried; a start that waits for its turn is sent anew as long as it waits."""
        if self.request.wait is None:
            return float("inf")
        return timing.retry if self.again else 0

    def limit(self, timing: Timing) -> float:
        """How long its answer may take."""
        return timing.call + (self.request.wait or 0)

    def result(self, body: bytes) -> T:
        """What its answer says."""
        try:
            return cast(T, json.loads(body) if body else None)
        except ValueError:
            raise ProtocolError("the answer is no JSON: is this a Segue server?", False) from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def lost(error: httpx.HTTPError | httpx.StreamError) -> ConnectionLost:
    """The error of `httpx` in our words."""
    why = str(error) or type(error).__name__
    return ConnectionLost(f"the connection to the server failed: {why}")


def is_of(response: httpx.Response, media_type: str) -> bool:
    """Whether an answer is of this media type, whatever its parameters."""
    essence: str = response.headers.get("content-type", "").partition(";")[0]
    return essence.strip().lower() == media_type


def _get(*path: str, query: Mapping[str, Any] | None = None) -> Request:
    return Request("GET", path, query or {})


def _behind(filter: Mapping[str, Any], after: str | None) -> Mapping[str, Any]:
    """The next page of a list."""
    return filter if after is None else {**filter, "after": after}


def start(session: str, key: str | None, body: Mapping[str, Any]) -> Call[Run]:
    body = {name.removesuffix("_"): value for name, value in body.items() if value is not None}
    headers = {"idempotency-key": key if key is not None else uuid.uuid4().hex}
    wait = None if "wait" in body else 0
    path = ("v1", "sessions", session, "runs")
    return Call(Request("POST", path, headers=headers, json=body, wait=wait))


def start_stream(session: str, key: str | None, body: Mapping[str, Any]) -> Call[Run]:
    request = start(session, key, body).request
    return Call(replace(request, headers={**request.headers, "accept": "text/event-stream"}))


def run_of_stream(response: httpx.Response, body: Mapping[str, Any]) -> str:
    """The run whose stream an answer is."""
    named = re.search("/v1/runs/([^/]+)/events", response.headers.get("location", ""))
    run = body.get("run_id") or (named and named[1])
    if isinstance(run, str) and is_of(response, "text/event-stream"):
        return run
    raise ProtocolError("the answer to the start is no stream: is this a Segue server?", False)


def run(run: str) -> Call[Run]:
    return Call(_get("v1", "runs", run))


def runs(filter: RunFilter, after: str | None = None) -> Call[Page[Run]]:
    return Call(_get("v1", "runs", query=_behind(filter, after)))


def events(run: str, query: Mapping[str, Any], wait: float | None) -> Call[EventPage]:
    request = _get("v1", "runs", run, "events", query={**query, "wait": wait})
    return Call(replace(request, wait=wait or 0))


def stop(path: tuple[str, ...], run_id: str | None, wait: int | None) -> Call[Stopped]:
    given = {"run_id": run_id, "wait": wait}
    body = {name: value for name, value in given.items() if value is not None}
    return Call(Request("POST", ("v1", *path, "stop"), json=body, wait=wait or 0))


def append(
    run: str, events: ProducerEvent | Sequence[ProducerEvent], producer: tuple[str, int, int] | None
) -> Call[Appended]:
    headers = {} if producer is None else _producer_headers(*producer)
    request = Request("POST", ("v1", "runs", run, "events"), headers=headers, json=events)
    return Call(request, again=producer is not None)


def append_batch(run: str, id: str, epoch: int, batch: Batch) -> Request:
    headers = {
        "content-type": "application/x-ndjson",
        "prefer": "ack=final",
        **_producer_headers(id, epoch, batch.first),
    }
    return Request("POST", ("v1", "runs", run, "events"), headers=headers, content=batch.body)


def finished(finish_reason: str | None, usage: JsonObject | None) -> ProducerFinished:
    """The event that ends a producer's run."""
    event: ProducerFinished = {"type": "run.finished"}
    if finish_reason is not None:
        event["finish_reason"] = finish_reason
    if usage is not None:
        event["usage"] = usage
    return event


def _producer_headers(id: str, epoch: int, seq: int) -> dict[str, str]:
    return {"producer-id": id, "producer-epoch": str(epoch), "producer-seq": str(seq)}


def create_session(body: CreateSession) -> Call[Session]:
    return Call(Request("POST", ("v1", "sessions"), json=body), again=False)


def session(session: str) -> Call[Session]:
    return Call(_get("v1", "sessions", session))


def sessions(query: Mapping[str, Any]) -> Call[Page[Session]]:
    return Call(_get("v1", "sessions", query=query))


def update_session(session: str, body: UpdateSession) -> Call[Session]:
    return Call(Request("PATCH", ("v1", "sessions", session), json=body))


def delete(*path: str) -> Call[None]:
    return Call(Request("DELETE", ("v1", *path)), again=False)


def create_message(session: str, body: CreateMessage) -> Call[Message]:
    request = Request("POST", ("v1", "sessions", session, "messages"), json=body)
    return Call(request, again=False)


def message(message: str) -> Call[Message]:
    return Call(_get("v1", "messages", message))


def messages(session: str, filter: MessageFilter, after: str | None = None) -> Call[Page[Message]]:
    query = _behind(filter, after)
    return Call(_get("v1", "sessions", session, "messages", query=query))


def search(q: str, filter: SearchFilter) -> Call[Page[SearchHit]]:
    return Call(_get("v1", "search", query={"q": q, **filter}))


def agents() -> Call[Page[Agent]]:
    return Call(_get("v1", "agents"))


def ready() -> Call[None]:
    return Call(_get("readyz"), again=False)


def headers_of(token: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    """What each request has."""
    return {**(headers or {}), **({} if token is None else {"authorization": f"Bearer {token}"})}
