"""Producing: each event journaled once, whatever happens to requests, answers and the server."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import segue
from scripted import reply, stream
from support import text_of, until


def delta(number):
    return {"type": "text.delta", "part": "p", "text": f"{number} "}


def numbers(count):
    return "".join(f"{number} " for number in range(count))


def start(server, **more):
    return server.start(agent="push", policy="parallel", **more)


def check(server, run, count, last="run.finished"):
    """The journal has these numbers, each once and in order, and nothing after its terminal."""
    journal = server.journal(run)
    assert text_of(journal) == numbers(count)
    assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    assert journal[-1]["type"] == last


def test_each_event_is_journaled_once_over_cut_requests_and_answers(server, connect, cut, choose):
    client = connect(cut(lambda: 50 + choose.randrange(1200), lambda: 200 + choose.randrange(4000)))
    run, drops = start(server), []
    producer = client.produce(run, on_reconnect=drops.append)
    number = 0
    while number < 600:
        count = choose.randint(1, 25)
        producer.send(*[delta(more) for more in range(number, min(600, number + count))])
        number += count
    journaled = producer.finish(usage={"output": 600})
    assert journaled == segue.Journaled(601, server.run(run)["last_seq"])
    check(server, run, 600)
    assert len(drops) > 1


def test_a_producer_goes_on_over_a_killed_server_and_so_does_who_follows_it(server, connect):
    client, drops = connect(server.url), []
    run = start(server, on_restart="await")
    work = ThreadPoolExecutor()
    seen = work.submit(lambda: list(client.follow(run)))
    producer = client.produce(run, on_reconnect=drops.append)
    for number in range(100):
        producer.send(delta(number))
    server.kill()
    sent = work.submit(producer.send, *[delta(number) for number in range(100, 200)])
    until("something was lost", lambda: drops)
    server.again()
    assert sent.result().events == 200
    producer.finish()
    check(server, run, 200)
    assert seen.result() == server.journal(run)


def test_what_waits_for_the_same_request_goes_out_together_and_in_order(scripted, connect):
    counts, entered = [], threading.Event()

    def answer(number, request):
        if number == 0:
            assert entered.wait(60)
        counts.append(len(request.body.split()))
        acked = int(request.headers["producer-seq"]) + counts[-1] - 1
        body = {"first_seq": 1, "last_seq": 9, "stop_requested": False, "acked_seq": acked}
        reply(request, 200, json.dumps(body) + "\n")

    server = scripted(answer)
    producer = connect(server.url).produce("r", id="me", epoch=3, inbox=False)
    work = ThreadPoolExecutor(40)
    first = work.submit(producer.send, {"type": "log", "text": "0"})
    until("the first is asked", lambda: server.requests)
    rest = [work.submit(producer.send, {"type": "log", "text": "x"}) for _ in range(30)]
    end = getattr(producer, "_inner", producer)._outbox
    until("the rest waits", lambda: end.end == 31)
    entered.set()
    assert first.result().events >= 1
    assert max(sent.result().events for sent in rest) == 31
    assert counts == [1, 30]
    heads = [(r.headers["producer-id"], r.headers["producer-epoch"], r.headers["producer-seq"]) for r in server.requests]
    assert heads == [("me", "3", "0"), ("me", "3", "1")]
    assert server.requests[0].headers["prefer"] == "ack=final"


def test_an_answer_without_its_acknowledgement_is_a_loss_with_waits_that_grow(scripted, connect):
    ack = '{"first_seq":1,"last_seq":1,"stop_requested":false,"acked_seq":0}\n'
    answers, drops = ["", "\n", ack[:-1], ack], []
    server = scripted(lambda number, request: reply(request, 200, answers[number]))
    producer = connect(server.url).produce("r", inbox=False, on_reconnect=drops.append)
    assert producer.send(delta(0)) == segue.Journaled(1, 1)
    assert [drop.delay for drop in drops] == [0.001, 0.002, 0.004]
    assert [request.headers["producer-seq"] for request in server.requests] == ["0"] * 4


def test_a_stop_by_another_client_is_heard_and_last_words_are_taken(server, connect):
    run = start(server)
    with connect(server.url).produce(run) as producer:
        producer.send(delta(0))
        assert producer.stop_requested is False
        # Accepted now; the end waits for the producer.
        assert connect(server.url).stop(run)["stopped"] is True
        producer.wait_for_stop()
        assert producer.stop_requested is True
        producer.send(delta(1))
        producer.finish()
    check(server, run, 2, "run.stopped")


def test_without_an_inbox_an_acknowledgement_tells_of_the_stop(server, connect):
    run = start(server)
    producer = connect(server.url).produce(run, inbox=False)
    producer.send(delta(0))
    connect(server.url).stop(run)
    assert producer.stop_requested is False
    producer.send(delta(1))
    assert producer.stop_requested is True
    producer.fail(code="gave_up", message="no more")
    last = server.journal(run)[-1]
    assert (last["type"], last["source_outcome"]["status"]) == ("run.stopped", "failed")


def test_an_inbox_gives_each_item_once_to_the_end_of_the_run(server, connect, cut):
    run = start(server)
    inboxes = [connect(server.url).inbox(run), connect(cut(lambda: 350)).inbox(run)]
    firsts = [ThreadPoolExecutor().submit(next, inbox) for inbox in inboxes]
    connect(server.url).stop(run)
    for first in firsts:
        assert (first.result()["type"], first.result()["reason"]) == ("stop", "user")
    connect(server.url).append(run, {"type": "run.finished"})
    assert [list(inbox) for inbox in inboxes] == [[], []]


def test_an_item_that_comes_again_is_passed_over(scripted, connect):
    item = 'id: 1\nevent: stop\ndata: {"id":1,"type":"stop","reason":"user"}\n\n'
    answers = [lambda r: stream(r, item), lambda r: stream(r, item + item), lambda r: reply(r, 204)]
    server = scripted(lambda number, request: answers[number](request))
    assert len(list(connect(server.url).inbox("r"))) == 1
    places = [request.path.partition("?")[2] for request in server.requests]
    assert places == ["", "after=1", "after=1"]


def test_a_quiet_producer_keeps_the_lease_by_its_inbox(server, connect):
    client, limits = connect(server.url), {"lease_s": 2}
    kept = start(server, limits=limits)
    producer = client.produce(kept)
    producer.send(delta(0))
    for _ in range(2):
        # It begins later, so that it would end later if nobody kept the other.
        assert client.finished(start(server, limits=limits))["cause"] == "lease_lost"
    producer.send(delta(1))
    producer.finish()
    check(server, kept, 2)


def test_an_event_that_the_server_does_not_take_is_named_and_those_before_it_stay(server, connect):
    run = start(server)
    producer = connect(server.url).produce(run)
    producer.send(delta(0))
    with pytest.raises(segue.RefusedEvent) as refused:
        producer.send(delta(1), delta(2), {"type": "Bad Type"}, delta(3))
    assert (refused.value.index, refused.value.problem.code) == (3, "bad_event")
    with pytest.raises(segue.RefusedEvent):
        producer.finish()
    assert producer.journaled.events == 3
    assert text_of(server.journal(run)) == numbers(3)


def test_refusals_of_the_run_of_the_producers_epoch_and_after_its_end_are_told(server, connect):
    client, run = connect(server.url), start(server)
    old, young = (client.produce(run, id="p", epoch=epoch) for epoch in (0, 1))
    old.send(delta(0))
    young.send(delta(1))
    with pytest.raises(segue.StaleEpoch) as stale:
        old.send(delta(2))
    assert stale.value.producer_epoch == 1
    young.finish()
    with pytest.raises(segue.Closed):
        young.send(delta(2))
    with pytest.raises(segue.RunEnded):
        client.produce(run).send(delta(2))
    with pytest.raises(segue.NotFound):
        client.produce("nobody").send(delta(2))
    check(server, run, 2)


def test_a_producer_that_begins_anew_under_its_name_repeats_nothing(server, connect):
    client, run = connect(server.url), start(server)
    with client.produce(run, id="p") as first:
        for number in range(30):
            first.send(delta(number))
    first.close()
    with client.produce(run, id="p") as second:
        second.send(*[delta(number) for number in range(40)])
        second.finish()
    check(server, run, 40)


def test_closing_ends_what_waits(scripted, connect):
    server = scripted(lambda _, request: reply(request, 503, '{"code":"retry"}', retry_after="50"))
    timing, drops = segue.Timing(), []
    producer = connect(server.url, timing=timing).produce("r", on_reconnect=drops.append)
    sent = ThreadPoolExecutor().submit(producer.send, delta(0))
    until("it waits", lambda: drops)
    assert drops[0].delay >= 50
    producer.close()
    with pytest.raises(segue.Closed):
        sent.result(60)


def test_one_batch_is_atomic_and_with_numbers_it_is_safe_to_send_again(server, connect, cut):
    client, run = connect(server.url), start(server)
    first = client.append(run, [delta(0), delta(1)], producer=("p", 0, 0))
    assert first == {"first_seq": 2, "last_seq": 4, "stop_requested": False}
    again = client.append(run, [delta(0), delta(1)], producer=("p", 0, 0))
    assert again == {**first, "duplicate": True}
    with pytest.raises(segue.BadRequest) as bad:
        client.append(run, [delta(2), {"type": "Bad"}])
    assert bad.value.members == {"index": 1}
    with pytest.raises(segue.ProducerGap) as gap:
        client.append(run, delta(2), producer=("p", 0, 9))
    assert (gap.value.expected, gap.value.received) == (1, 9)
    with pytest.raises(segue.ConnectionLost):
        connect(cut(lambda: 60)).append(run, delta(2))
    assert text_of(server.journal(run)) == numbers(3), "sent once, its answer was cut"
