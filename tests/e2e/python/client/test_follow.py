"""Following runs: cuts at any byte, killed servers, gaps, ends."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import segue
from conftest import QUICK
from scripted import event, frame, reply, stream
from support import text_of, until

FAST = {"agent": "demo", "params": {"speed": 0}}
END = frame(3, "run.finished", message_id="m", status="finished")


def in_background(work):
    return ThreadPoolExecutor().submit(work)


def ended(client):
    """A demo run that has ended."""
    run = client.start("s", **FAST)
    assert client.finished(run["id"])["status"] == "finished"
    return run["id"]


def test_each_event_comes_once_over_cuts_at_any_byte(server, connect, cut, choose):
    drops = []
    run = connect(server.url).start("s", agent="demo", params={"speed": 60})["id"]
    follow = connect(cut(lambda: choose.randrange(6000))).follow(run, on_reconnect=drops.append)
    assert list(follow) == server.journal(run)
    assert len(drops) > 2
    assert all(isinstance(drop.error, segue.ConnectionLost) and drop.delay > 0 for drop in drops)
    assert follow.ended.status == "finished"


def test_three_followers_over_cuts_and_a_late_one_see_the_same(server, connect, cut, choose):
    client = connect(cut(lambda: 500 + choose.randrange(9000)))
    run = connect(server.url).start("s", agent="demo", params={"speed": 20})["id"]
    three = [in_background(lambda: list(client.follow(run))) for _ in range(3)]
    until("half of it was said", lambda: server.run(run)["last_seq"] > 120)
    late = list(client.follow(run))
    journal = server.journal(run)
    assert [seen.result() for seen in three] + [late] == [journal] * 4


def test_a_killed_server_is_a_drop_like_any_other(server, connect):
    client, drops = connect(server.url), []
    run = client.start("s", agent="demo", params={"speed": 4})["id"]
    seen = in_background(lambda: list(client.follow(run, on_reconnect=drops.append)))
    until("some was said", lambda: server.run(run)["last_seq"] > 20)
    server.kill()
    until("the drop was seen", lambda: len(drops) > 1)
    server.again()
    journal = server.journal(run)
    assert journal[-1]["type"] == "run.interrupted"
    assert seen.result() == journal


def test_one_begins_after_any_event_and_goes_on_elsewhere_with_the_cursor(server, connect):
    client = connect(server.url)
    run = ended(client)
    journal = server.journal(run)
    for after in (0, 1, 100, len(journal) - 1):
        assert list(client.follow(run, after=f"{run}:{after}")) == journal[after:]
    seen = []
    with client.follow(run) as first:
        assert first.cursor is None
        for said in first:
            seen.append(said)
            assert first.cursor == f"{run}:{said['seq']}"
            if said["seq"] == 50:
                break
    assert list(first) == [], "who left gets nothing more"
    assert seen + list(client.follow(run, after=first.cursor)) == journal


def test_one_begins_at_the_tail_the_last_events_or_the_message_so_far(server, connect):
    client = connect(server.url)
    run = ended(client)
    journal = server.journal(run)
    assert list(client.follow(run, from_="last:3")) == journal[-3:]
    assert list(client.follow(run, from_="last:9999")) == list(client.follow(run, from_="start")) == journal
    snapshot, *rest = client.follow(run, from_="snapshot")
    assert snapshot["type"] == "control.snapshot"
    assert [part["type"] for part in snapshot["message"]["parts"]].count("text") == 1
    assert rest == journal[snapshot["seq"]:]
    push = client.start("s", agent="push")["id"]
    tail = in_background(lambda: list(client.follow(push, from_="tail")))
    until("it is there", lambda: client.session("s")["clients"] > 0)
    client.append(push, [{"type": "text.delta", "part": "p", "text": "new"}, {"type": "run.finished"}])
    kinds = [said["type"] for said in tail.result()]
    assert kinds == ["text.start", "text.delta", "text.end", "run.finished"]


def test_who_has_it_all_gets_no_event_and_how_it_ended(server, connect):
    client = connect(server.url)
    run = ended(client)
    last = client.run(run)["last_seq"]
    follow = client.follow(run, after=f"{run}:{last}")
    assert list(follow) == []
    assert follow.ended == segue.Ended("finished", "stop", last)


def test_a_stop_by_another_client_ends_it_with_the_terminal(server, connect):
    client = connect(server.url)
    run = client.start("s", agent="demo", params={"speed": 1})["id"]
    follow = client.follow(run)
    seen = in_background(lambda: list(follow))
    until("some was said", lambda: server.run(run)["last_seq"] > 3)
    assert connect(server.url).stop(run, wait=20) == {"stopped": True, "status": "stopped"}
    assert seen.result() == server.journal(run)
    assert follow.ended == segue.Ended("stopped", "user", len(seen.result()))


def test_a_cursor_that_the_run_does_not_have_and_a_run_that_nobody_has_are_errors(server, connect):
    client = connect(server.url)
    run = ended(client)
    with pytest.raises(segue.CursorAhead) as ahead:
        list(client.follow(run, after=f"{run}:100000"))
    assert ahead.value.last_seq > 100
    nobody = client.follow("nobody")
    with pytest.raises(segue.NotFound):
        list(nobody)
    assert list(nobody) == [], "an error is the end"
    with pytest.raises(ValueError):
        client.follow(run, after="other:1")


def test_closing_ends_it_following_or_waiting_to_go_on(server, connect):
    client = connect(server.url, timing=segue.Timing(first_delay=3600, max_delay=3600))
    run = client.start("s", agent="push")["id"]
    drops, waits = [], threading.Event()
    follow = client.follow(run, on_reconnect=lambda drop: (drops.append(drop), waits.set()))
    assert next(follow)["type"] == "run.started"
    rest = in_background(lambda: list(follow))
    server.kill()
    assert waits.wait(60)
    follow.close()
    assert rest.result(60) == []
    assert drops[0].delay >= 3600


def test_early_ends_drains_repeats_and_passing_refusals_are_drops_with_waits_that_grow(scripted, connect):
    answers = [
        lambda request: stream(request, frame(1) + "id: r:2\ndata: half"),
        lambda request: stream(request, ": segue\nretry: 3\n\nid: r:1\n\n"),
        lambda request: reply(request, 503, '{"code":"retry"}'),
        lambda request: stream(request, frame(1)),
        lambda request: request.connection.close(),
        lambda request: stream(request, frame(3)),
        lambda request: stream(request, frame(1) + frame(2)),
        lambda request: stream(request, END),
    ]
    server, drops = scripted(lambda number, request: answers[number](request)), []
    follow = connect(server.url).follow("r", on_reconnect=drops.append)
    assert [said["seq"] for said in follow] == [1, 2, 3]
    asked = [request.headers["last-event-id"] for request in server.requests]
    assert asked == [None] + ["r:1"] * 6 + ["r:2"]
    # What brought no new event is a failure more in a row; the server's hint is the least.
    assert [drop.attempt for drop in drops] == [1, 2, 3, 4, 5, 6, 1]
    assert [drop.delay for drop in drops] == [0.001, 0.003, 0.004, 0.008, 0.008, 0.008, 0.003]


def test_a_gap_is_told_then_what_there_is_and_nothing_twice(scripted, connect):
    gap = 'event: control.gap\ndata: {"type":"control.gap","run_id":"r","why":"trimmed","from_seq":1}\n\n'
    snapshot = 'id: r:7\nevent: control.snapshot\ndata: {"type":"control.snapshot","seq":7,"message":{}}\n\n'
    end = frame(8, "run.stopped", status="stopped", reason="user", message_id="m")
    answers, drops = [frame(1), gap, gap + snapshot + frame(7), end], []
    server = scripted(lambda number, request: stream(request, answers[number]))
    seen = [said["type"] for said in connect(server.url).follow("r", on_reconnect=drops.append)]
    assert seen == ["text.delta", "control.gap", "control.gap", "control.snapshot", "run.stopped"]
    assert server.requests[3].headers["last-event-id"] == "r:7"
    assert [drop.attempt for drop in drops] == [1, 2, 1], "a gap alone is no news"


def test_a_silent_connection_is_lost(scripted, connect):
    over = threading.Event()

    def silent(request):
        request.wfile.flush()
        over.wait(60)

    def half(request):
        stream(request, frame(1))
        silent(request)

    answers = [half, silent, lambda request: stream(request, frame(2) + END)]
    server, drops = scripted(lambda number, request: answers[number](request)), []
    timing = segue.Timing(idle=0.05, first_delay=0.001, max_hint=0)
    seen = list(connect(server.url, timing=timing).follow("r", on_reconnect=drops.append))
    over.set()
    assert [said["seq"] for said in seen] == [1, 2, 3]
    assert [type(drop.error) for drop in drops] == [segue.ConnectionLost] * 2


def test_what_will_not_change_is_an_error_at_once_and_patience_can_have_an_end(scripted, connect):
    answers = {
        "/html": lambda request: reply(request, 200, "<html>", content_type="text/html"),
        "/gone": lambda request: reply(request, 410, '{"code":"cursor_trimmed","available_from":7}'),
        "/away": lambda request: reply(request, 502),
    }
    server = scripted(lambda _, request: answers[request.path[:5]](request))
    with pytest.raises(segue.ProtocolError) as html:
        list(connect(f"{server.url}/html/").follow("r"))
    assert not html.value.passing
    with pytest.raises(segue.CursorTrimmed) as gone:
        list(connect(f"{server.url}/gone").follow("r"))
    assert gone.value.available_from == 7
    assert len(server.requests) == 2
    timing = segue.Timing(first_delay=0.001, max_delay=0.008, give_up=0.1)
    with pytest.raises(segue.Problem) as away:
        list(connect(f"{server.url}/away", timing=timing).follow("r"))
    assert away.value.code == "http_502"
    assert len(server.requests) > 4


def test_heads_are_those_that_were_asked_for(scripted, connect):
    server = scripted(lambda _, request: stream(request, frame(1) + frame(2) + END))
    client = connect(server.url, timing=QUICK, token="secret", headers={"x-mine": "1"})
    assert next(client.follow("r", after="r:0")) == event(1)
    [request] = server.requests
    assert request.path == "/v1/runs/r/events?after=r%3A0"
    found = [request.headers[name] for name in ("authorization", "x-mine", "accept")]
    assert found == ["Bearer secret", "1", "text/event-stream"]


def test_a_run_that_outlives_a_killed_server_is_followed_through_it(server, connect):
    client = connect(server.url)
    run = client.start("s", agent="push", on_restart="await")["id"]
    client.append(run, {"type": "text.delta", "part": "p", "text": "before "})
    seen = []
    following = in_background(lambda: [seen.append(said) for said in client.follow(run)])
    until("it was seen", lambda: text_of(seen) == "before ")
    server.kill()
    server.again()
    client.append(run, [{"type": "text.delta", "part": "p", "text": "after"}, {"type": "run.finished"}])
    following.result()
    assert seen == server.journal(run)
    assert text_of(seen) == "before after"
