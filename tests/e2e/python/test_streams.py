"""The server under httpx-sse, which leaves reconnecting to its caller."""

import json
import random

import httpx
import pytest
from httpx_sse import connect_sse

from support import text_of


def frames(server, run, after=None, at_most=None):
    """The frames of one connection that have data: (id, event)."""
    headers = {"last-event-id": after} if after else {}
    got = []
    with connect_sse(server.http, "GET", f"/v1/runs/{run}/events", headers=headers) as source:
        if source.response.status_code == 204:
            return got
        for sse in source.iter_sse():
            if sse.data:
                got.append((sse.id, json.loads(sse.data)))
            if at_most is not None and len(got) >= at_most:
                break
    return got


def test_f05_a_connection_goes_on_after_the_id_it_names(server):
    run = server.start(agent="demo", params={"speed": 0})
    server.wait_for_end(run)
    journal = server.journal(run)
    after = frames(server, run, f"{run}:12")
    assert [event for _, event in after] == journal[12:]
    assert frames(server, run, f"{run}:{len(journal)}") == []


def test_f13_leaving_and_coming_back_anywhere_gives_the_journal(server):
    seed = random.randrange(2**32)
    print("seed", seed)
    choose = random.Random(seed)
    run = server.start(agent="demo", params={"speed": 20})
    seen, after = [], None
    while not (seen and seen[-1]["type"] == "run.finished"):
        got = frames(server, run, after, at_most=choose.randint(1, 40))
        seen += [event for _, event in got]
        after = got[-1][0]
    assert seen == server.journal(run)
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))


def test_i04_what_was_acknowledged_outlives_a_kill(server):
    run = server.start(agent="push")
    acknowledged = 0
    for number in range(50):
        event = {"type": "data", "name": "n", "value": number}
        answer = server.http.post(f"/v1/runs/{run}/events", json=event)
        acknowledged = answer.json()["last_seq"]
    before = server.journal(run)
    server.kill()
    server.again()
    after = server.journal(run)
    assert len(before) == acknowledged
    assert after[:acknowledged] == before
    assert [event["type"] for event in after[acknowledged:]] == ["run.interrupted"]


def lines(count, then=None):
    for number in range(count):
        event = {"type": "text.delta", "part": "p", "text": f"{number} "}
        yield json.dumps(event).encode() + b"\n"
    if then:
        raise then
    yield b'{"type":"run.finished"}\n'


def test_a_body_that_breaks_off_is_sent_again_and_counts_once(server):
    run = server.start(agent="push")
    headers = {
        "content-type": "application/x-ndjson",
        "prefer": "ack=final",
        "producer-id": "p",
        "producer-epoch": "0",
        "producer-seq": "0",
    }
    url = f"/v1/runs/{run}/events"
    with pytest.raises(OSError):
        server.http.post(url, headers=headers, content=lines(150, then=OSError("cut")))
    answer = server.http.post(url, headers=headers, content=lines(200))
    assert answer.status_code == 200, answer.text
    journal = server.journal(run)
    assert text_of(journal) == "".join(f"{number} " for number in range(200))
    assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    assert journal[-1]["type"] == "run.finished"


def test_a_producer_hears_that_it_shall_stop(server):
    run = server.start(agent="push")
    with connect_sse(server.http, "GET", f"/v1/runs/{run}/control") as inbox:
        server.http.post(f"/v1/runs/{run}/stop", json={})
        item = next(sse for sse in inbox.iter_sse() if sse.data)
    assert (item.event, json.loads(item.data)["reason"]) == ("stop", "user")
    event = {"type": "text.delta", "part": "p", "text": "last words"}
    answer = server.http.post(f"/v1/runs/{run}/events", json=event)
    assert answer.json()["stop_requested"] is True
    end = {"type": "run.finished"}
    assert server.http.post(f"/v1/runs/{run}/events", json=end).status_code == 200
    journal = server.journal(run)
    assert text_of(journal) == "last words"
    assert journal[-1]["type"] == "run.stopped"
    assert server.run(run)["status"] == "stopped"


def test_g03_a_client_that_breaks_away_takes_nothing_from_the_others(server):
    run = server.start(agent="demo", params={"speed": 20})
    with httpx.Client(base_url=server.url) as other:
        with other.stream("GET", f"/v1/runs/{run}/events") as answer:
            next(answer.iter_bytes())
    seen = [event for _, event in frames(server, run)]
    assert seen == server.journal(run)
    assert server.run(run)["status"] == "finished"
