"""What the types say, for mypy: each `type: ignore` is a line that it has to refuse, for this reason."""

import segue
from segue import Followed, ProducerEvent, Run


def show(event: Followed) -> str:
    """Comparing the type tells the fields."""
    if event["type"] == "text.delta" or event["type"] == "reasoning.delta":
        return event["text"]
    if event["type"] == "tool_call.started":
        return event["name"] + event["call_id"]
    if event["type"] == "run.interrupted":
        reason: int = event["cause"]  # type: ignore[assignment]
        return str(reason)
    if event["type"] == "control.gap":
        return f"{event['why']} from {event['from_seq']}"
    if event["type"] == "control.snapshot":
        return ",".join(str(part["type"]) for part in event["message"]["parts"])
    return f"{event['seq']} {event['at']}"


def produce(producer: segue.Producer) -> None:
    """Only what a producer may say is taken."""
    event: ProducerEvent = {"type": "data", "name": "progress", "value": {"percent": 5}}
    producer.send(event, {"type": "text.delta", "part": "p", "text": "x"})
    producer.send({"type": "run.stopped", "reason": "user"})  # type: ignore[arg-type]
    journaled: int = producer.journaled.events
    assert journaled > 0


def calls(client: segue.Client) -> Run | None:
    """Calls know what they take and give."""
    client.start("s", policy="wait")  # type: ignore[arg-type]
    client.start("s", detached=False)  # type: ignore[call-arg]
    page = client.runs(status="running", limit=3)
    follow = client.follow("r", from_=f"last:{len(page['data'])}")
    for event in follow:
        if segue.is_terminal(event):
            return client.run(event["message_id"] + event["status"])
    reason: str | None = follow.ended.reason if follow.ended is not None else None
    return None if reason is None else page["data"][0]


async def async_calls(client: segue.AsyncClient) -> list[Run]:
    """The same with asyncio."""
    client.start("s")  # type: ignore[unused-coroutine]
    async with client.follow("r") as follow:
        shown = [show(event) async for event in follow]
    runs = [run async for run in client.all_runs(agent=shown[0])]
    return runs


def refusal(error: segue.SegueError) -> int | None:
    """A refusal's class says what else it has."""
    if isinstance(error, segue.CursorAhead):
        return error.last_seq
    return error.expected if isinstance(error, segue.ProducerGap) else None
