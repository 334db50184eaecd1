// Plain calls: what may be sent twice is, once is what comes of it; refusals have a type.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";

import { Client, ConnectionError, isProblem } from "segue-client";
import { resumable } from "segue-client/segue-resume.js";

import { Server, cutter, textOf, until } from "../support.mjs";
import { QUICK, all, scripted } from "./support.mjs";

const FAST = { agent: "demo", params: { speed: 0 } };

test("a start whose answer is lost is the same run when it is sent again", async (t) => {
  const server = await Server.start(t);
  let cuts = 0;
  const url = await cutter(t, server, () => (cuts++ < 3 ? 20 * cuts : Infinity));
  const run = await new Client(url, { timing: QUICK }).start("s", { agent: "push", metadata: { mine: 1 } });
  assert.equal(cuts, 4);
  const { data, next } = await new Client(server.url).runs({ session: "s" });
  assert.deepEqual([data, next], [[run], null]);
  assert.deepEqual(run.metadata, { mine: 1 });
});

test("a key, an id and a policy decide which run a start is", async (t) => {
  const client = new Client((await Server.start(t)).url);
  const key = { idempotencyKey: "k" };
  const first = await client.start("s", { agent: "push" }, key);
  assert.equal((await client.start("s", { agent: "push" }, key)).id, first.id);
  const different = client.start("s", { agent: "push", input: "other" }, key);
  await assert.rejects(different, (error) => isProblem(error, "different_start") && error.members.run_id === first.id);
  const busy = client.start("s", { agent: "push" });
  await assert.rejects(busy, (error) => isProblem(error, "session_busy") && error.members.run_id === first.id);
  const queued = await client.start("s", { ...FAST, run_id: "mine", policy: "queue" });
  assert.deepEqual([queued.id, queued.status], ["mine", "queued"]);
  const started = client.start("s", { ...FAST, run_id: "mine", policy: "queue", wait: "started" });
  assert.deepEqual(await client.stop(first.id, { run_id: "other" }), { stopped: false, status: "running" });
  assert.deepEqual(await client.stop(first.id, { run_id: first.id }), { stopped: true, status: "stopping" });
  await client.append(first.id, { type: "run.finished" });
  assert.notEqual((await started).status, "queued");
  assert.equal((await client.finished("mine")).status, "finished");
  await assert.rejects(client.start("s", { agent: "nobody" }), (error) => isProblem(error, "unknown_agent"));
  await assert.rejects(client.run("nobody"), (error) => isProblem(error, "not_found") && error.status === 404);
  await assert.rejects(client.run("a/b"), (error) => isProblem(error, "bad_id"));
});

test("lists are read page by page", async (t) => {
  const client = new Client((await Server.start(t)).url);
  for (let number = 0; number < 5; number += 1) await client.start(`s${number}`, { agent: "push", run_id: `r${number}` });
  const page = await client.runs({ limit: 2 });
  assert.equal(page.data.length, 2);
  assert.notEqual(page.next, null);
  const ids = (await all(client.allRuns({ limit: 2 }))).map(({ session_id }) => session_id);
  assert.deepEqual(ids, ["s4", "s3", "s2", "s1", "s0"]);
  assert.equal((await all(client.allSessions())).length, 5);
  assert.equal((await client.runs({ status: "finished" })).data.length, 0);
  const agents = (await client.agents()).data.map(({ name }) => name);
  assert.ok(agents.includes("demo") && agents.includes("push"));
});

test("sessions are made, changed, stopped and deleted", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const made = await client.createSession({ id: "mine", title: "A", metadata: { a: 1 } });
  assert.deepEqual([made.title, made.status, made.metadata], ["A", "idle", { a: 1 }]);
  await assert.rejects(client.createSession({ id: "mine" }), (error) => isProblem(error, "session_exists"));
  assert.equal((await client.updateSession("mine", { title: null })).title, null);
  const { id } = await client.start("mine", { agent: "push" });
  assert.deepEqual((await client.session("mine")).active_runs, [id]);
  assert.deepEqual(await client.stopSession("mine"), { stopped: true, status: "stopping" });
  await client.append(id, { type: "run.finished" });
  assert.deepEqual(await client.stopSession("mine", { wait: 20 }), { stopped: false, status: null });
  await assert.rejects(client.deleteSession("mine"), (error) => isProblem(error, "admin_only"));
  const token = (await readFile(path.join(server.data, "admin.token"), "utf8")).trim();
  await new Client(server.url, { token }).deleteSession("mine");
  await until("nobody sees it", () => client.session("mine").then(() => false, (error) => isProblem(error, "not_found")));
  await assert.rejects(new Client(server.url, { token: "wrong" }).runs(), (error) => isProblem(error, "bad_token"));
});

test("a stop may come before its run", async (t) => {
  const client = new Client((await Server.start(t)).url);
  assert.deepEqual(await client.stop("early"), { stopped: false, status: "pending" });
  assert.equal((await client.start("s", { agent: "demo", run_id: "early" })).status, "stopped");
});

test("a run is started and followed in one request, also over cuts", async (t) => {
  const server = await Server.start(t);
  let cuts = 0;
  const url = await cutter(t, server, () => [200, 2000, 3000, Infinity][cuts++] ?? Infinity);
  const follow = await new Client(url, { timing: QUICK }).startAndFollow("s", FAST);
  const seen = await all(follow);
  assert.deepEqual(seen, await server.journal(follow.run));
  assert.ok(cuts > 2);
  assert.equal((await new Client(server.url).runs()).data.length, 1);
});

test("a bound run ends with who started it", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const follow = await client.startAndFollow("s", { agent: "push", detached: false });
  assert.equal((await follow.next()).value.type, "run.started");
  await follow.return();
  // The producer's grace is over as soon as it has said its last words.
  await until("the stop was heard", async () =>
    (await client.append(follow.run, { type: "text.delta", part: "p", text: "x" })).stop_requested);
  await client.append(follow.run, { type: "run.finished" });
  const run = await client.finished(follow.run);
  assert.deepEqual([run.status, run.reason], ["stopped", "disconnected"]);
});

test("pages of events, with a wait and without", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const { id } = await client.start("s", FAST);
  await client.finished(id);
  const journal = await server.journal(id);
  const first = await client.events(id, { limit: 10 });
  assert.deepEqual([first.data, first.closed, first.next], [journal.slice(0, 10), false, `${id}:10`]);
  const rest = await client.events(id, { after: first.next });
  assert.deepEqual([rest.data, rest.closed, rest.next], [journal.slice(10), true, null]);
  const run = await client.start("t", { agent: "push" });
  const waited = client.events(run.id, { after: `${run.id}:1`, wait: 30 });
  await client.append(run.id, [{ type: "text.delta", part: "p", text: "x" }]);
  assert.equal((await waited).data[0].type, "text.start");
  assert.equal((await client.events(run.id, { from: "snapshot" })).snapshot.message.status, "streaming");
});

test("a server that is away is tried again, and not for ever", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url, { timing: QUICK });
  assert.equal(await client.ready(), true);
  await server.kill();
  assert.equal(await client.ready(), false);
  const agents = client.agents();
  await assert.rejects(new Client(server.url, { timing: { ...QUICK, retry: 60 } }).agents(), ConnectionError);
  await assert.rejects(client.createSession(), ConnectionError);
  await server.again();
  assert.ok((await agents).data.length > 1);
});

test("a call can be left, and is lost when it takes too long", async (t) => {
  const server = await scripted(t, () => {});
  const leave = new AbortController();
  const call = new Client(server.url).agents({ signal: leave.signal });
  leave.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  const timing = { ...QUICK, call: 20, retry: 0 };
  await assert.rejects(new Client(server.url, { timing }).agents(), /nothing came for 20 ms/);
});

test("an answer that is not Segue's is an error that says so", async (t) => {
  const server = await scripted(t, (_, __, response) => response.end("<html>"));
  await assert.rejects(new Client(server.url).agents(), /is this a Segue server/);
  await assert.rejects(new Client(server.url).startAndFollow("s"), /is this a Segue server/);
});

test("the package has the healing fetch, its licences and nothing that was not built", async (t) => {
  const server = await Server.start(t);
  const { id } = await new Client(server.url).start("s", FAST);
  const answer = await resumable()(`${server.url}/v1/runs/${id}/events?event=none`, { headers: { accept: "text/event-stream" } });
  const lines = (await answer.text()).split("\n").filter((line) => line.startsWith("data: "));
  assert.deepEqual(lines.map((line) => JSON.parse(line.slice(6))), await server.journal(id));
  assert.ok(textOf(await server.journal(id)).length > 100);
  const root = new URL("../../../", import.meta.url);
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    const [ours, packed] = [new URL(name, root), new URL(`../${name}`, import.meta.resolve("segue-client"))];
    assert.equal(await readFile(packed, "utf8"), await readFile(ours, "utf8"));
  }
});

test("messages are listed, made, replaced, found and deleted", async (t) => {
  const server = await Server.start(t);
  const client = new Client(server.url);
  const run = await client.start("s", { ...FAST, input: "What is a segue?" });
  await client.finished(run.id);
  const [asked, said] = await all(client.allMessages("s", { limit: 1 }));
  assert.deepEqual([asked.role, asked.parts[0].text], ["user", "What is a segue?"]);
  assert.deepEqual([said.id, said.status, said.run_id], [run.message_id, "complete", run.id]);
  assert.deepEqual(await client.message(said.id), said);
  const note = await client.createMessage("s", { id: "note", role: "system", content: "Xylophones are wooden." });
  assert.deepEqual([note.id, note.role, note.parts[0].text], ["note", "system", "Xylophones are wooden."]);
  await assert.rejects(client.createMessage("s", { id: "note", content: "x" }), (error) => isProblem(error, "message_exists"));
  const found = await client.search({ q: "xylo*", session: "s" });
  assert.deepEqual(found.data.map(({ message_id, role }) => [message_id, role]), [["note", "system"]]);
  const edited = await client.start("s", { ...FAST, input: "What is a coda?", replaces: asked.id });
  await client.finished(edited.id);
  const shown = await all(client.allMessages("s", { order: "desc" }));
  assert.deepEqual(shown.map(({ role }) => role), ["assistant", "user"]);
  assert.equal((await client.messages("s", { superseded: true, role: "user" })).data[0].superseded_by, shown[1].id);
  const token = (await readFile(path.join(server.data, "admin.token"), "utf8")).trim();
  await new Client(server.url, { token }).deleteMessage("note");
  await assert.rejects(client.message("note"), (error) => isProblem(error, "not_found"));
});
