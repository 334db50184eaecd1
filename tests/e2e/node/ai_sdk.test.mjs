// The AI SDK's own chat, in each of its live major versions, against the server. Only the base
// URL is the test's.

import assert from "node:assert/strict";
import test from "node:test";

import { resumable } from "../../../clients/typescript/segue-resume.js";
import { cutter, random, Server, textOf, until } from "../support.mjs";

const WORDS = Array.from({ length: 40 }, (_, index) => `word ${index}, é "quoted"\n`);
const TEXT = WORDS.join("");

/** What the chat is made of, without React: as `useChat` keeps it. */
class State {
  status = "ready";
  error = undefined;
  constructor(messages = []) {
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, message));
  snapshot = (value) => structuredClone(value);
}

/** The chat of one tab. */
function tab(sdk, url, id, messages = [], options = {}) {
  class Chat extends sdk.AbstractChat {}
  const transport = new sdk.DefaultChatTransport({
    api: `${url}/api/chat`,
    body: { agent: "push" },
    ...options,
  });
  return new Chat({ id, transport, state: new State(messages) });
}

const answerOf = (chat) => chat.messages.filter((message) => message.role === "assistant");
const partsOf = (chat, type) => answerOf(chat).flatMap((m) => m.parts.filter((p) => p.type === type));
const shown = (chat) => partsOf(chat, "text").map((part) => part.text).join("");

const runsOf = async (server, id) =>
  (await (await fetch(`${server.url}/v1/runs?session=${id}`)).json()).data;

/** The chat's newest run, once there are `count`. */
const runOf = (server, id, count = 1) =>
  until(`the chat has ${count} runs`, async () => {
    const runs = await runsOf(server, id);
    return runs.length === count && runs[0].id;
  });

const delta = (text) => ({ type: "text.delta", part: "p", text });
const say = (server, run, words) => server.append(run, words.map(delta));
const finish = (server, run) => server.append(run, [{ type: "run.finished", finish_reason: "stop" }]);

for (const name of ["ai5", "ai6", "ai7"]) {
  const sdk = await import(name);

  test(`${name}: an answer is the text, and one run`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS);
    await finish(server, run);
    await sent;
    assert.equal(chat.error, undefined);
    assert.equal(chat.status, "ready");
    assert.equal(shown(chat), TEXT);
    assert.equal(answerOf(chat).length, 1);
    assert.equal(answerOf(chat)[0].id, (await server.run(run)).message_id);
    const [started] = await server.journal(run);
    const { id } = chat.messages[0];
    const parts = [{ type: "text", text: "hello" }];
    assert.deepEqual(started.input, [{ role: "user", parts, metadata: { ai_sdk_id: id } }]);
  });

  test(`${name}: an answer is made again, and a question edited`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    let count = 0;
    const turn = async (asked, words) => {
      const run = await runOf(server, "c", ++count);
      await say(server, run, words);
      await finish(server, run);
      await asked;
      assert.equal(chat.error, undefined);
      return run;
    };
    await turn(chat.sendMessage({ text: "question" }), ["old"]);
    const second = await turn(chat.regenerate(), ["new"]);
    const third = await turn(chat.regenerate(), ["newest"]);
    assert.notEqual(second, third);
    await turn(chat.regenerate({ messageId: chat.messages[1].id }), ["named"]);
    const stored = async () =>
      (await (await fetch(`${server.url}/v1/sessions/c/messages`)).json()).data;
    const textsOf = (messages) => messages.map((m) => m.parts.map((part) => part.text ?? "").join(""));
    assert.deepEqual(textsOf(await stored()), ["question", "named"]);
    assert.deepEqual(textsOf(chat.messages), ["question", "named"]);
    await turn(chat.sendMessage({ text: "more" }), ["and more"]);
    const edited = { text: "edited", messageId: chat.messages[0].id };
    await turn(chat.sendMessage(edited), ["other"]);
    assert.deepEqual(textsOf(await stored()), ["edited", "other"]);
    assert.deepEqual(textsOf(chat.messages), ["edited", "other"]);
    assert.equal((await stored())[1].id, chat.messages[1].id);
  });

  test(`${name}: the answer goes on with what a tool of the client gave`, async (t) => {
    const server = await Server.start(t);
    const bodies = [];
    const noted = (url, init) => (bodies.push(init.body), fetch(url, init));
    const chat = tab(sdk, server.url, "c", [], { fetch: noted });
    const sent = chat.sendMessage({ text: "hello" });
    const first = await runOf(server, "c");
    await server.append(first, [
      delta("let me look"),
      { type: "tool_call.started", call_id: "t1", name: "where", executor: "client" },
      { type: "tool_call.input_end", call_id: "t1", input: { what: "cat" } },
    ]);
    await finish(server, first);
    await sent;
    const [asked] = partsOf(chat, "tool-where");
    assert.equal(asked.state, "input-available");
    const give = (chat.addToolOutput ?? chat.addToolResult).bind(chat);
    await give({ tool: "where", toolCallId: "t1", output: { place: "mat" } });
    const going = chat.sendMessage();
    const second = await runOf(server, "c", 2);
    await say(server, second, [" on the mat"]);
    await finish(server, second);
    await going;
    assert.equal(chat.error, undefined);
    assert.equal(answerOf(chat).length, 1);
    assert.equal(shown(chat), "let me look on the mat");
    assert.deepEqual(partsOf(chat, "tool-where")[0].output, { place: "mat" });
    const { continues, message_id } = await server.run(second);
    assert.deepEqual([continues, message_id], [first, answerOf(chat)[0].id]);
    const [started] = await server.journal(second);
    const result = { type: "tool_result", call_id: "t1", output: { place: "mat" } };
    assert.deepEqual(started.input, [{ role: "tool", parts: [result] }]);
    // The same request again, as after a cut before the answer's head, is the same run.
    const again = await send(server, JSON.parse(bodies.at(-1)));
    assert.match(again.headers.get("location"), new RegExp(`run=${second}$`));
    assert.equal((await runsOf(server, "c")).length, 2);
  });

  test(`${name}: reasoning, steps, tools and data arrive as parts`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await server.append(run, [
      { type: "step.started", step: "1" },
      { type: "reasoning.delta", part: "r", text: "hm" },
      { type: "tool_call.started", call_id: "c1", name: "look" },
      { type: "tool_call.input_delta", call_id: "c1", text: '{"q":1}' },
      { type: "tool_call.input_end", call_id: "c1" },
      { type: "tool_result", call_id: "c1", output: { found: 2 } },
      { type: "tool_call.started", call_id: "c2", name: "look" },
      { type: "tool_result", call_id: "c2", error: { message: "broken" } },
      { type: "step.finished", step: "1" },
      { type: "source", url: "https://example.org/", title: "E" },
      { type: "data", name: "weather", id: "w", value: { sun: true } },
      { type: "usage", input: 1, output: 2 },
      { type: "warning", code: "slow", message: "slow" },
      delta("done"),
    ]);
    await finish(server, run);
    await sent;
    assert.equal(chat.error, undefined);
    assert.deepEqual(partsOf(chat, "reasoning").map((part) => part.text), ["hm"]);
    const [whole, broken] = partsOf(chat, "tool-look");
    assert.deepEqual([whole.state, whole.input, whole.output], ["output-available", { q: 1 }, { found: 2 }]);
    assert.equal(broken.state, "output-error");
    assert.deepEqual(partsOf(chat, "data-weather").map((part) => part.data), [{ sun: true }]);
    assert.equal(partsOf(chat, "source-url").length, 1);
    assert.equal(shown(chat), "done");
  });

  test(`${name}: a reload and three tabs see the whole answer once`, async (t) => {
    const server = await Server.start(t);
    const first = tab(sdk, server.url, "c");
    const sent = first.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS.slice(0, 20));
    await until("the first tab shows something", () => shown(first).length > 0);
    // A page that was loaded again has the messages that it kept, half an answer among them.
    const kept = structuredClone(first.messages);
    const tabs = [tab(sdk, server.url, "c", kept), tab(sdk, server.url, "c", kept.slice(0, 1))];
    const resumed = tabs.map((chat) => chat.resumeStream());
    await until("they show something", () => tabs.every((chat) => shown(chat).length > 0));
    await say(server, run, WORDS.slice(20));
    await finish(server, run);
    await Promise.all([sent, ...resumed]);
    for (const chat of [first, ...tabs]) {
      assert.equal(chat.error, undefined);
      assert.equal(shown(chat), TEXT);
      assert.equal(answerOf(chat).length, 1);
    }
    assert.equal((await runsOf(server, "c")).length, 1);
  });

  test(`${name}: resets in mid-body lose nothing that a resume does not bring back`, async (t) => {
    const server = await Server.start(t);
    const below = random(7);
    const limits = [300, 300 + below(400), 900 + below(2000)];
    const url = await cutter(t, server, () => limits.shift() ?? Infinity);
    const chat = tab(sdk, url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS);
    await sent;
    let resets = 0;
    const end = finish(server, run);
    while (chat.status === "error") {
      resets += 1;
      await chat.resumeStream();
    }
    await end;
    assert.equal(resets, 3, "each cut was an error and no answer");
    assert.equal(shown(chat), TEXT);
    assert.equal(answerOf(chat).length, 1);
    assert.equal((await runsOf(server, "c")).length, 1);
  });

  test(`${name}: a stream that is old breaks off, and does not pass for the whole answer`, async (t) => {
    const server = await Server.start(t, { SEGUE_STREAM_AGE_S: "1", SEGUE_HEARTBEAT_S: "1" });
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS);
    await sent;
    assert.equal(chat.status, "error");
    await finish(server, run);
    await chat.resumeStream();
    assert.equal(chat.status, "ready");
    assert.equal(shown(chat), TEXT);
  });

  test(`${name}: with the fetch that heals no reset is seen`, async (t) => {
    const server = await Server.start(t);
    const limits = [700, 900, 1300];
    const url = await cutter(t, server, () => limits.shift() ?? Infinity);
    const chat = tab(sdk, url, "c", [], { fetch: resumable() });
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS);
    await finish(server, run);
    await sent;
    assert.equal(limits.length, 0, "every cut was made");
    assert.equal(chat.error, undefined);
    assert.equal(shown(chat), TEXT);
    assert.equal((await runsOf(server, "c")).length, 1);
  });

  test(`${name}: leaving stops nothing, a stop does`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, ["before "]);
    await until("it is shown", () => shown(chat) === "before ");
    await chat.stop();
    await sent;
    await say(server, run, ["after "]);
    const again = tab(sdk, server.url, "c", chat.messages);
    const resumed = again.resumeStream();
    await until("both are shown", () => shown(again) === "before after ");
    const stop = (body) => server.post("/api/chat/c/stop", body);
    assert.deepEqual(await (await stop({ activeStreamId: "stale" })).json(), { success: true });
    assert.equal((await server.run(run)).status, "running");
    assert.deepEqual(await (await stop({})).json(), { success: true });
    await finish(server, run);
    await resumed;
    assert.equal(again.status, "ready");
    assert.equal(shown(again), "before after ");
    assert.equal((await server.run(run)).status, "stopped");
    assert.equal((await stop({})).status, 200);
  });

  test(`${name}: an upstream's error is an error with the text before it`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    const error = { code: "upstream", message: "no answer from the model" };
    await server.append(run, [delta("half"), { type: "run.failed", error }]);
    await sent;
    assert.equal(chat.status, "error");
    assert.equal(chat.error.message, "no answer from the model");
    assert.equal(shown(chat), "half");
  });

  test(`${name}: two turns are two runs and two answers`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    for (const turn of [1, 2]) {
      const sent = chat.sendMessage({ text: `turn ${turn}` });
      const run = await runOf(server, "c", turn);
      await say(server, run, [`answer ${turn}. `]);
      await finish(server, run);
      await sent;
    }
    assert.equal(shown(chat), "answer 1. answer 2. ");
    assert.deepEqual(chat.messages.map((m) => m.role), ["user", "assistant", "user", "assistant"]);
  });

  test(`${name}: a run that ended while the page was away is there in full`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS.slice(0, 3));
    await until("something is shown", () => shown(chat).length > 0);
    await chat.stop();
    await sent;
    await say(server, run, WORDS.slice(3));
    await finish(server, run);
    for (const kept of [chat.messages, chat.messages.slice(0, 1)]) {
      const back = tab(sdk, server.url, "c", structuredClone(kept));
      await back.resumeStream();
      assert.equal(shown(back), TEXT);
      assert.equal(answerOf(back).length, 1);
    }
    const unknown = tab(sdk, server.url, "nobody");
    await unknown.resumeStream();
    assert.equal(unknown.status, "ready");
  });

  test(`${name}: a server that dies in mid-run keeps what was said, and says that it was cut`, async (t) => {
    const server = await Server.start(t);
    const chat = tab(sdk, server.url, "c");
    const sent = chat.sendMessage({ text: "hello" });
    const run = await runOf(server, "c");
    await say(server, run, WORDS);
    await until("it is shown", () => shown(chat) === TEXT);
    await server.kill();
    await sent;
    assert.equal(chat.status, "error");
    await server.again();
    await chat.resumeStream();
    assert.equal(chat.status, "error");
    assert.match(chat.error.message, /cut off: restart/);
    assert.equal(shown(chat), TEXT);
    assert.equal(textOf(await server.journal(run)), TEXT);
  });
}

const send = (server, body) => server.post("/api/chat", body);
const user = (id, text) => ({ id, role: "user", parts: [{ type: "text", text }] });

test("the same message again attaches, another is refused while one is answered", async (t) => {
  const server = await Server.start(t);
  const body = (message) => ({ id: "c", agent: "push", messages: [message], ofTheApp: 1 });
  const answers = [await send(server, body(user("m", "hi"))), await send(server, body(user("m", "hi")))];
  const run = await runOf(server, "c");
  const other = await send(server, body(user("n", "hi")));
  assert.equal(other.status, 409);
  assert.match(await other.text(), new RegExp(run));
  await finish(server, run);
  const [first, second] = await Promise.all(answers.map((answer) => answer.text()));
  assert.equal(first, second);
  assert.match(first, /"type":"finish","finishReason":"stop"/);
  assert.match(first, /data: \[DONE\]\nid: \S+\n\n$/);
  assert.equal(answers[0].headers.get("x-vercel-ai-ui-message-stream"), "v1");
});

test("at every frame's id the stream goes on exactly after it", async (t) => {
  const server = await Server.start(t);
  const started = await send(server, { id: "a/b c", agent: "push", message: user("m", "hi") });
  const location = started.headers.get("location");
  const run = location.match(/run=(\S+)$/)[1];
  await say(server, run, WORDS.slice(0, 5));
  await finish(server, run);
  const whole = await started.text();
  const frames = whole.split("\n\n").filter((frame) => frame.startsWith("data: "));
  for (const [index, frame] of frames.entries()) {
    const id = frame.match(/^id: (.*)$/m)[1];
    const answer = await fetch(server.url + location, { headers: { "last-event-id": id } });
    const rest = (await answer.text()).split("\n\n").filter((text) => text.startsWith("data: "));
    assert.deepEqual(rest, frames.slice(index + 1), id);
    assert.equal(answer.status, index + 1 < frames.length ? 200 : 204);
  }
});

test("what cannot be served is refused in words for the user", async (t) => {
  const server = await Server.start(t);
  const messages = [user("m", "hi")];
  for (const [body, status, words] of [
    [{ messages }, 400, /`id`/],
    [{ id: "c", messages: [] }, 400, /no message/],
    [{ id: "c", messages, model: "gpt-x" }, 400, /gpt-x/],
    [{ id: "c", messages: [{ id: "a", role: "assistant", parts: [] }] }, 404, /no such answer/],
    [{ id: "c", messages: [{ id: "a", role: "poet", parts: [] }] }, 400, /a user's/],
  ]) {
    const answer = await send(server, body);
    assert.equal(answer.status, status);
    assert.match(answer.headers.get("content-type"), /^text\/plain/);
    assert.match(await answer.text(), words);
  }
  assert.equal((await fetch(`${server.url}/api/chat/unknown/stream`)).status, 204);
});
