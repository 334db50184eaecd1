"""Plain calls: what may be sent twice is, once is what comes of it; refusals have a type."""

import asyncio
import importlib.metadata
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import segue
from conftest import QUICK
from scripted import reply
from support import until

FAST = {"agent": "demo", "params": {"speed": 0}}
ROOT = pathlib.Path(__file__).parents[4]


def admin(server):
    return (server.data / "admin.token").read_text().strip()


def test_a_start_whose_answer_is_lost_is_the_same_run_when_it_is_sent_again(server, connect, cut):
    limits = [20, 40, 60]
    run = connect(cut(lambda: limits.pop(0) if limits else None)).start("s", agent="push", metadata={"mine": 1})
    assert limits == []
    assert connect(server.url).runs(session="s") == {"data": [run], "next": None}
    assert run["metadata"] == {"mine": 1}


def test_a_key_an_id_and_a_policy_decide_which_run_a_start_is(server, connect):
    client = connect(server.url)
    first = client.start("s", agent="push", idempotency_key="k")["id"]
    assert client.start("s", agent="push", idempotency_key="k")["id"] == first
    with pytest.raises(segue.DifferentStart) as different:
        client.start("s", agent="push", input="other", idempotency_key="k")
    assert different.value.run_id == first
    with pytest.raises(segue.SessionBusy) as busy:
        client.start("s", agent="push")
    assert busy.value.run_id == first
    mine = {**FAST, "run_id": "mine", "policy": "queue"}
    queued = client.start("s", **mine)
    assert (queued["id"], queued["status"]) == ("mine", "queued")
    started = ThreadPoolExecutor().submit(lambda: client.start("s", wait="started", **mine))
    assert client.stop(first, run_id="other") == {"stopped": False, "status": "running"}
    assert client.stop(first, run_id=first) == {"stopped": True, "status": "stopping"}
    client.append(first, {"type": "run.finished"})
    assert started.result()["status"] != "queued"
    ended = client.finished("mine")
    assert ended["status"] == "finished"
    more = client.start("s", continue_="mine", **FAST)
    assert more["message_id"] == ended["message_id"]
    with pytest.raises(segue.BadRequest) as unknown:
        client.start("t", agent="nobody")
    assert unknown.value.code == "unknown_agent"
    with pytest.raises(segue.NotFound):
        client.run("nobody")
    with pytest.raises(segue.BadRequest):
        client.run("a/b")


def test_lists_are_read_page_by_page(server, connect):
    client = connect(server.url)
    for number in range(5):
        client.start(f"s{number}", agent="push", run_id=f"r{number}")
    page = client.runs(limit=2)
    assert len(page["data"]) == 2 and page["next"] is not None
    assert [run["session_id"] for run in client.all_runs(limit=2)] == ["s4", "s3", "s2", "s1", "s0"]
    assert len(list(client.all_sessions())) == len(client.sessions(limit=9)["data"]) == 5
    assert client.runs(status="finished")["data"] == []
    assert {"demo", "push"} <= {agent["name"] for agent in client.agents()["data"]}


def test_sessions_are_made_changed_stopped_and_deleted(server, connect):
    client = connect(server.url)
    made = client.create_session(id="mine", title="A", metadata={"a": 1})
    assert (made["title"], made["status"], made["metadata"]) == ("A", "idle", {"a": 1})
    with pytest.raises(segue.Conflict) as exists:
        client.create_session(id="mine")
    assert exists.value.code == "session_exists"
    assert client.update_session("mine", title=None)["title"] is None
    run = client.start("mine", agent="push")["id"]
    assert client.session("mine")["active_runs"] == [run]
    assert client.stop_session("mine") == {"stopped": True, "status": "stopping"}
    client.append(run, {"type": "run.finished"})
    assert client.stop_session("mine", wait=20) == {"stopped": False, "status": None}
    with pytest.raises(segue.Forbidden):
        client.delete_session("mine")
    assert connect(server.url, token=admin(server)).delete_session("mine") is None
    until("nobody sees it", lambda: [s for s in client.sessions()["data"] if s["id"] == "mine"] == [])
    with pytest.raises(segue.NotFound):
        client.session("mine")
    with pytest.raises(segue.Unauthorized):
        connect(server.url, token="wrong").runs()


def test_a_stop_may_come_before_its_run(server, connect):
    client = connect(server.url)
    assert client.stop("early") == {"stopped": False, "status": "pending"}
    assert client.start("s", agent="demo", run_id="early")["status"] == "stopped"


def test_a_run_is_started_and_followed_in_one_request_also_over_cuts(server, connect, cut):
    limits = [200, 2000, 3000]
    url = cut(lambda: limits.pop(0) if limits else None)
    follow = connect(url).start_and_follow("s", **FAST)
    assert list(follow) == server.journal(follow.run)
    assert limits == []
    assert len(connect(server.url).runs()["data"]) == 1


def test_a_bound_run_ends_with_who_started_it(server, connect):
    client = connect(server.url)
    with client.start_and_follow("s", agent="push", detached=False) as follow:
        assert next(follow)["type"] == "run.started"
    word = {"type": "text.delta", "part": "p", "text": "x"}
    # The producer's grace is over as soon as it has said its last words.
    until("the stop was heard", lambda: client.append(follow.run, word)["stop_requested"])
    client.append(follow.run, {"type": "run.finished"})
    run = client.finished(follow.run)
    assert (run["status"], run["reason"]) == ("stopped", "disconnected")


def test_pages_of_events_with_a_wait_and_without(server, connect):
    client = connect(server.url)
    run = client.start("s", **FAST)["id"]
    client.finished(run)
    journal = server.journal(run)
    first = client.events(run, limit=10)
    assert (first["data"], first["closed"], first["next"]) == (journal[:10], False, f"{run}:10")
    rest = client.events(run, after=first["next"])
    assert (rest["data"], rest["closed"], rest["next"]) == (journal[10:], True, None)
    push = client.start("t", agent="push")["id"]
    waited = ThreadPoolExecutor().submit(lambda: client.events(push, after=f"{push}:1", wait=30))
    client.append(push, [{"type": "text.delta", "part": "p", "text": "x"}])
    assert waited.result()["data"][0]["type"] == "text.start"
    assert client.events(push, from_="snapshot")["snapshot"]["message"]["status"] == "streaming"


def test_messages_are_listed_made_replaced_found_and_deleted(server, connect):
    client = connect(server.url)
    run = client.start("s", input="What is a segue?", **FAST)
    client.finished(run["id"])
    asked, said = client.all_messages("s", limit=1)
    assert (asked["role"], asked["parts"][0]["text"]) == ("user", "What is a segue?")
    assert (said["id"], said["status"], said["run_id"]) == (run["message_id"], "complete", run["id"])
    assert client.message(said["id"]) == said
    note = client.create_message("s", id="note", role="system", content="Xylophones are wooden.")
    assert (note["id"], note["role"], note["parts"][0]["text"]) == ("note", "system", "Xylophones are wooden.")
    with pytest.raises(segue.Conflict):
        client.create_message("s", id="note", content="x")
    found = [(hit["message_id"], hit["role"]) for hit in client.search("xylo*", session="s")["data"]]
    assert found == [("note", "system")]
    edited = client.start("s", input="What is a coda?", replaces=asked["id"], **FAST)
    client.finished(edited["id"])
    shown = list(client.all_messages("s", order="desc"))
    assert [message["role"] for message in shown] == ["assistant", "user"]
    [replaced, _] = client.messages("s", superseded=True, role="user")["data"]
    assert replaced["superseded_by"] == shown[1]["id"]
    connect(server.url, token=admin(server)).delete_message("note")
    with pytest.raises(segue.NotFound):
        client.message("note")


def test_a_server_that_is_away_is_tried_again_and_not_for_ever(server, connect):
    client = connect(server.url)
    assert client.ready() is True
    server.kill()
    assert client.ready() is False
    agents = ThreadPoolExecutor().submit(client.agents)
    with pytest.raises(segue.ConnectionLost):
        connect(server.url, timing=segue.Timing(first_delay=0.001, retry=0.06)).agents()
    with pytest.raises(segue.ConnectionLost):
        client.create_session()
    server.again()
    assert len(agents.result()["data"]) > 1


def test_a_call_is_lost_when_it_takes_too_long(scripted, connect):
    over = threading.Event()
    server = scripted(lambda _, request: over.wait(60))
    with pytest.raises(segue.ConnectionLost):
        connect(server.url, timing=segue.Timing(call=0.02, retry=0)).agents()
    over.set()


def test_an_answer_that_is_not_segues_is_an_error_that_says_so(scripted, connect):
    client = connect(scripted(lambda _, request: reply(request, 200, "<html>")).url)
    for call in (client.agents, lambda: client.start_and_follow("s")):
        with pytest.raises(segue.ProtocolError, match="is this a Segue server"):
            call()


def test_a_closed_client_says_so(server, connect):
    client = connect(server.url)
    follow = client.follow("r")
    client.close()
    for call in (client.agents, lambda: next(follow)):
        with pytest.raises(segue.Closed):
            call()


def test_one_may_bring_an_http_client_of_ones_own(server):
    with httpx.Client(headers={"x-mine": "1"}) as http:
        assert segue.Client(server.url, http=http).ready()
        assert "authorization" not in http.headers


def test_asyncio_follows_and_produces_many_at_once_and_can_be_cancelled(server):
    async def work():
        async with segue.AsyncClient(server.url, timing=QUICK) as client:
            run = (await client.start("s", agent="push"))["id"]
            follows = [asyncio.create_task(read(client, run)) for _ in range(5)]
            left = asyncio.create_task(read(client, run))
            async with client.produce(run) as producer:
                words = [producer.send({"type": "text.delta", "part": "p", "text": f"{n} "}) for n in range(200)]
                await asyncio.gather(*words)
                left.cancel()
                await asyncio.wait([left])
                assert left.cancelled()
                await producer.finish()
            return run, await asyncio.gather(*follows)

    async def read(client, run):
        async with client.follow(run) as follow:
            return [event async for event in follow]

    run, seen = asyncio.run(work())
    journal = server.journal(run)
    assert seen == [journal] * 5
    text = "".join(event.get("text", "") for event in journal)
    assert text == "".join(f"{n} " for n in range(200))


def test_the_package_is_what_it_says():
    about = importlib.metadata.metadata("segue")
    assert (about["version"], about["requires-python"]) == (segue.__version__, ">=3.11")
    assert importlib.metadata.requires("segue") == ["httpx>=0.27,<1"]
    installed = pathlib.Path(segue.__file__)
    assert ROOT not in installed.parents or "site-packages" in installed.parts
    assert (installed.parent / "py.typed").exists()
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        [packed] = [file for file in importlib.metadata.files("segue") if file.name == name]
        assert packed.locate().read_text() == (ROOT / name).read_text()
