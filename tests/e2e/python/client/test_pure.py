"""What needs no server: decoders, the discipline of a cursor, the outbox, delays, codes."""

import json
import pathlib
import re

import pytest
import segue
from scripted import event
from segue._decode import Frame, LineDecoder, RetryHint, SseDecoder
from segue._errors import problem_from, problem_of
from segue._outbox import Outbox
from segue._place import Place
from segue._retry import Retry

ROOT = pathlib.Path(__file__).parents[4]


def feed(decoder, text, cuts=()):
    borders = [0, *cuts, len(text)]
    pieces = [text[begin:end] for begin, end in zip(borders, borders[1:])]
    return [found for piece in pieces for found in decoder.push(piece)]


def check(make, text, expected):
    """What a decoder finds is the same however the bytes are cut: once anywhere, and everywhere."""
    text = text.encode() if isinstance(text, str) else text
    assert feed(make(), text) == expected
    for cut in range(len(text) + 1):
        assert feed(make(), text, [cut]) == expected, f"{text!r} cut at {cut}"
    assert feed(make(), text, range(len(text))) == expected, f"{text!r} in single bytes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (": segue\nretry: 2000\n\nid: r:1\nevent: a\ndata: {}\n\n", [RetryHint(2), Frame("r:1", "a", "{}")]),
        ("data: a\ndata:b\ndata:  c\n\n", [Frame(None, "", "a\nb\n c")]),
        ("id: 1\r\ndata: x\r\n\r\nid: 2\rdata: y\r\rdata: z\n\n",
         [Frame("1", "", "x"), Frame("2", "", "y"), Frame(None, "", "z")]),
        ("\ufeffdata: \u00e4\u20ac\U0001f3b5\n\n", [Frame(None, "", "\u00e4\u20ac\U0001f3b5")]),
        ("id: 7\n\nid\n\ndata\n\n", [Frame("7", "", None), Frame("", "", None), Frame(None, "", "")]),
        ("id: a\0b\nretry: 1x\nfield: y\nevent: e\ndata: x\n\n", [Frame(None, "e", "x")]),
        (": hb\n\n: hb\n\nevent: only\n\n", []),
        (b"data: \xff\n\n", [Frame(None, "", "\ufffd")]),
        ("data: whole\n\ndata: cut off", [Frame(None, "", "whole")]),
    ],
)
def test_event_streams_are_read_by_the_rules_wherever_they_are_cut(text, expected):
    check(SseDecoder, text, expected)


def test_a_frame_has_an_end():
    decoder = SseDecoder(100)
    assert len(feed(decoder, b"data: 0123456789\n\n" * 50)) == 50
    with pytest.raises(segue.ProtocolError):
        feed(decoder, b"data: " + b"x" * 100)


def test_lines_are_read_wherever_they_are_cut():
    check(LineDecoder, '{"a":1}\n\n  \n{"b":"\u00e4\U0001f3b5"}\r\n3\n', [{"a": 1}, {"b": "\u00e4\U0001f3b5"}, 3])
    check(LineDecoder, '{"a":1}\n{"cut', [{"a": 1}])
    with pytest.raises(segue.ProtocolError):
        LineDecoder().push(b"{\n")


def test_delays_double_to_the_longest_start_over_and_are_no_shorter_than_the_server_asks_for():
    now = 0.0
    retry = Retry(segue.Timing(jitter=lambda delay: delay), 100, lambda: now)
    lost = segue.ConnectionLost("cut")
    delays = [retry.fail(lost).delay for _ in range(7)]
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 10]
    retry.succeed()
    retry.hint(0.8)
    assert [retry.fail(lost).delay for _ in range(3)] == [0.8, 0.8, 1]
    assert retry.fail(problem_of(503, {"code": "retry"}, 5)).delay == 5
    retry.hint(3600)
    assert retry.fail(lost).delay == 60
    now = 41.0
    with pytest.raises(segue.ConnectionLost):
        retry.fail(lost)
    with pytest.raises(segue.NotFound):
        Retry(segue.Timing(), 100).fail(problem_of(404, {"code": "not_found"}))


def control(kind, seq=None, /, **fields):
    return Frame(None if seq is None else f"r:{seq}", "", json.dumps({"type": kind, **fields}))


def snapshot(seq):
    return control("control.snapshot", seq, seq=seq)


def said(seq):
    return Frame(f"r:{seq}", "text.delta", json.dumps(event(seq)))


def only_id(seq):
    return Frame(f"r:{seq}", "", None)


GAP = control("control.gap")


def step(place, frame):
    """What a place gives for a frame: a seq, a word, or None."""
    try:
        item = place.take(frame)
    except segue.ProtocolError:
        return "broken"
    if item is None:
        return None
    words = {"control.gap": "gap", "control.snapshot": f"s{item.get('seq')}"}
    return words.get(item["type"], item.get("seq"))


def follows(place, *frames):
    assert [step(place, frame) for frame, _ in frames] == [expected for _, expected in frames]
    return place


def test_each_event_is_given_once_and_in_order_and_no_hole_is_passed_over():
    place = follows(Place("r", "r:4"), (only_id(4), None), (said(4), None), (said(5), 5), (said(5), None),
                    (said(7), "broken"), (said(6), 6))
    assert place.connect() == ({}, {"last-event-id": "r:6"})
    follows(Place("r"), (said(2), "broken"), (only_id(1), "broken"), (said(1), 1))


def test_a_gap_that_was_told_may_be_passed_over_once_and_gives_nothing_twice():
    follows(Place("r", "r:4"), (said(5), 5), (GAP, "gap"), (said(4), None), (said(9), 9), (said(11), "broken"))
    follows(Place("r", "r:100"), (GAP, "gap"), (snapshot(7), "s7"), (said(8), 8), (said(8), None))
    follows(Place("r", "r:4"), (said(5), 5), (GAP, "gap"), (snapshot(2), "s2"), (said(3), 3))
    place = follows(Place("r", "r:4"), (GAP, "gap"))
    place.connect()
    assert step(place, said(9)) == "broken", "a gap of an earlier connection is over"


def test_where_one_begins_and_what_the_next_connection_asks_for():
    def asks(place, *frames):
        return follows(place, *frames).connect()

    assert asks(Place("r")) == asks(Place("r", from_="start")) == ({}, {})
    assert asks(Place("r", "r:4")) == ({"after": "r:4"}, {})
    assert asks(Place("r", from_="last:3")) == ({"from": "last:3"}, {})
    assert asks(Place("r", from_="tail"), (only_id(9), None)) == ({}, {"last-event-id": "r:9"})
    last = asks(Place("r", from_="last:3"), (said(7), 7), (said(9), "broken"))
    assert last == ({}, {"last-event-id": "r:7"})
    begun = asks(Place("r", from_="snapshot"), (snapshot(5), "s5"), (said(6), 6))
    assert begun == ({}, {"last-event-id": "r:6"})
    for begin in ({"after": "other:3"}, {"after": "r:x"}, {"after": "r"}, {"after": "r:1", "from_": "tail"}):
        with pytest.raises(ValueError):
            Place("r", **begin)


def test_what_is_not_of_this_run_is_refused_and_moves_nothing():
    json_of = said(5).data
    lying = Frame("r:5", "", json.dumps(event(6)))
    for bad in (Frame("other:5", "", json_of), Frame(None, "", json_of), lying, Frame("r:5", "", "{"), Frame(None, "", "{}")):
        follows(Place("r", "r:4"), (bad, "broken"), (said(5), 5))
    follows(Place("r", "r:4"), (control("control.news"), None), (control("control.later", 7), None), (said(8), 8))


def test_whatever_comes_what_is_given_rises_by_one_unless_a_gap_was_told(choose):
    for _ in range(300):
        place, last, told = Place("r", "r:2"), 2, False
        for _ in range(40):
            seq = choose.randrange(12)
            given = step(place, choose.choice([GAP, only_id(seq), snapshot(seq), said(seq), said(seq)]))
            if given == "gap":
                told = True
            elif isinstance(given, int):
                assert given == last + 1 or told, f"{given} after {last}"
                last, told = given, False
            elif given not in (None, "broken"):
                last, told = seq, False


def test_every_line_arrives_once_and_in_order_wherever_cuts_and_acknowledgements_fall(choose):
    for _ in range(200):
        outbox, got = Outbox(), []
        for _ in range(60):
            if choose.random() < 0.5:
                outbox.push({"n": outbox.end})
            batch = outbox.batch(choose.randint(1, 40))
            if batch is None:
                continue
            # The server takes as much as arrives, and knows what it has; its answer may be lost.
            lines = batch.body.splitlines()
            assert len(lines) == batch.end - batch.first
            for index, line in enumerate(lines[: choose.randint(0, len(lines))]):
                if batch.first + index == len(got):
                    got.append(json.loads(line)["n"])
            if choose.random() < 0.5 and got:
                outbox.hear({"acked_seq": len(got) - 1, "last_seq": len(got)}, batch)
        assert got == list(range(len(got)))
        assert outbox.first <= len(got) <= outbox.end


def test_every_code_of_the_wire_has_a_class_and_statuses_that_pass_are_told_from_those_that_stay():
    wire = (ROOT / "docs/wire.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3}) \|", wire[wire.index("## Codes"):], re.M)
    assert sorted(code for code, _ in rows) == sorted(segue.Problem.codes)
    for code, status in rows:
        error = problem_of(int(status), {"code": code, "detail": "why", "run_id": "r"})
        assert type(error) is segue.Problem.codes[code]
        assert error.passing == (int(status) >= 500 and code != "corrupt"), code
        assert (str(error), error.members) == (f"why ({code})", {"run_id": "r"})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'"x"', b"{}", b"\xff"])
def test_an_answer_that_is_no_problem_document_still_makes_a_problem(body):
    error = problem_from(502, body, "3")
    assert (error.code, error.passing, error.retry_after) == ("http_502", True, 3)


def test_problems_say_what_their_documents_say():
    busy = problem_of(409, {"code": "session_busy", "run_id": "r9"})
    assert isinstance(busy, segue.SessionBusy) and isinstance(busy, segue.Conflict) and busy.run_id == "r9"
    gap = problem_of(409, {"code": "producer_gap", "expected": 3, "received": 9})
    assert isinstance(gap, segue.ProducerGap) and (gap.expected, gap.received) == (3, 9)


def test_terminals_are_told_from_other_events():
    kinds = ["run.finished", "run.stopped", "run.failed", "run.interrupted", "run.started", "text.delta"]
    assert [segue.is_terminal(event(1, kind)) for kind in kinds] == [True] * 4 + [False] * 2
