// The official OpenAI client against the server, with a model behind it. Only the base URL is the
// test's.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import OpenAI from "openai";

import { resumable } from "../../../clients/typescript/segue-resume.js";
import { Model } from "../model.mjs";
import { cutter, random, textOf, until } from "../support.mjs";

const WORDS = Array.from({ length: 40 }, (_, index) => `word ${index}, é "quoted"\n`);
const TEXT = WORDS.join("");

const clientOf = (url, options = {}) =>
  new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: "unused", ...options });

/** A model that is asked, its server, and a client of that. */
async function begin(t, settings) {
  const model = await Model.start(t, settings);
  return { model, server: model.server, client: clientOf(model.server.url) };
}

const ASK = { model: "gpt", input: "hello" };
const LIVE = { ...ASK, stream: true, background: true };
const CHAT = { model: "gpt", messages: [{ role: "user", content: "hello" }] };

const runOf = (id) => id.replace(/^(resp_|chatcmpl-)/, "");
const said = (events) =>
  events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join("");
/** The text of a response; `output_text` is not on every one that the client gives. */
const textIn = (response) =>
  response.output.flatMap((item) => item.content ?? []).map((part) => part.text).join("");
const chatText = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");

/** Reads a stream into `seen`; gives the error that it ends with. */
async function read(stream, seen) {
  try {
    for await (const event of stream) seen.push(event);
  } catch (error) {
    return error;
  }
}

/** Checks that a response's events are all there, once and in order. */
function dense(events) {
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
}

test("a response is the model's text, at once and as a stream", async (t) => {
  const { model, client } = await begin(t);
  const whole = client.responses.create({ ...ASK, instructions: "be brief", temperature: 0.5 });
  const first = await model.answer();
  first.say(...WORDS);
  first.finish();
  const response = await whole;
  assert.equal(response.status, "completed");
  assert.equal(response.output_text, TEXT);
  assert.equal(response.usage.total_tokens, 7);
  assert.equal(first.asked.temperature, 0.5);
  assert.deepEqual(first.asked.messages.map((m) => m.role), ["system", "user"]);

  const stream = client.responses.stream(ASK);
  const events = [];
  const reading = read(stream, events);
  const second = await model.answer(2);
  second.say(...WORDS);
  second.finish();
  assert.equal(await reading, undefined);
  dense(events);
  assert.equal(said(events), TEXT);
  assert.equal((await stream.finalResponse()).output_text, TEXT);
  assert.equal(model.answers.length, 2);
});

for (const seed of [1, 2, 3]) {
  test(`a client that is cut anywhere goes on after the last event, seed ${seed}`, async (t) => {
    const { model, server } = await begin(t);
    const below = random(seed);
    const limits = [2500 + below(2000), 600 + below(2000), 900 + below(4000)];
    const client = clientOf(await cutter(t, server, () => limits.shift() ?? Infinity));
    const stream = await client.responses.create(LIVE);
    const answer = await model.answer();
    answer.say(...WORDS);
    const events = [];
    let error = await read(stream, events);
    let returns = 0;
    const { id } = events[0].response;
    answer.finish();
    while (error) {
      returns += 1;
      const starting_after = events.at(-1).sequence_number;
      const again = await client.responses.retrieve(id, { stream: true, starting_after });
      error = await read(again, events);
    }
    assert.equal(returns, 3, "each cut was an error and no end");
    dense(events);
    assert.equal(said(events), TEXT);
    assert.equal(events.at(-1).type, "response.completed");
    assert.equal(textOf(await server.journal(runOf(id))), TEXT);
    assert.equal(model.answers.length, 1);
  });
}

test("a stream by its id is the whole response to whoever follows it", async (t) => {
  const { model, client } = await begin(t);
  const stream = await client.responses.create(LIVE);
  const answer = await model.answer();
  answer.say(...WORDS.slice(0, 20));
  const all = [];
  const reading = read(stream, all);
  await until("half is there", () => said(all).includes(WORDS[19]));
  const response_id = all[0].response.id;
  const starting_after = all.at(-1).sequence_number;
  const other = client.responses.stream({ response_id, starting_after });
  const rest = [];
  const following = read(other, rest);
  answer.say(...WORDS.slice(20));
  answer.finish();
  assert.deepEqual(await Promise.all([reading, following]), [undefined, undefined]);
  dense(all);
  assert.deepEqual(rest.map((e) => e.sequence_number), all.slice(starting_after + 1).map((e) => e.sequence_number));
  assert.equal((await other.finalResponse()).output_text, TEXT);
  // Later it is the same, and after its last event there is nothing.
  const replay = [];
  await read(await client.responses.retrieve(response_id, { stream: true }), replay);
  assert.deepEqual(replay, all);
  const none = [];
  const last = { stream: true, starting_after: all.at(-1).sequence_number };
  assert.equal(await read(await client.responses.retrieve(response_id, last), none), undefined);
  assert.deepEqual(none, []);
  assert.equal(model.answers.length, 1);
});

test("with the fetch that heals no reset is seen", async (t) => {
  const { model, server } = await begin(t);
  const limits = [];
  const healing = async () => {
    limits.push(3000, 900, 1300);
    const url = await cutter(t, server, () => limits.shift() ?? Infinity);
    return clientOf(url, { fetch: resumable() });
  };
  const stream = (await healing()).responses.stream(ASK);
  const answer = await model.answer();
  answer.say(...WORDS);
  answer.finish();
  assert.equal((await stream.finalResponse()).output_text, TEXT);
  assert.deepEqual(limits, [], "every cut was made");
  const chat = await (await healing()).chat.completions.create({ ...CHAT, stream: true });
  const second = await model.answer(2);
  second.say(...WORDS);
  second.finish();
  const chunks = [];
  assert.equal(await read(chat, chunks), undefined);
  assert.deepEqual(limits, []);
  assert.equal(chatText(chunks), TEXT);
  assert.equal(model.answers.length, 2);
});

for (const count of [0, 1, 17, 40]) {
  test(`an upstream that breaks off after ${count} chunks leaves what it said, and no whole answer`, async (t) => {
    const { model, client } = await begin(t);
    const kept = WORDS.slice(0, count).join("");
    const [events, chunks] = [[], []];
    const reading = read(client.responses.stream(ASK), events);
    const answer = await model.answer();
    answer.say(...WORDS.slice(0, count));
    // What was not read when it is reset is lost on the way.
    await until("it is shown", () => said(events) === kept);
    answer.reset();
    assert.equal(await reading, undefined);
    assert.equal(said(events), kept);
    const last = events.at(-1).response;
    assert.ok(["incomplete", "failed"].includes(last.status), last.status);
    assert.ok(count === 0 || last.status === "incomplete", last.status);
    assert.equal((await client.responses.retrieve(last.id)).output_text, kept);

    const chatting = read(await client.chat.completions.create({ ...CHAT, stream: true }), chunks);
    const second = await model.answer(2);
    second.say(...WORDS.slice(0, count));
    await until("it is shown", () => chatText(chunks) === kept);
    second.reset();
    assert.ok((await chatting) instanceof OpenAI.APIError);
    assert.equal(chatText(chunks), kept);
    assert.equal(model.answers.length, 2);
  });
}

test("leaving stops nothing, a cancellation closes the upstream", async (t) => {
  const { model, client } = await begin(t);
  const stream = await client.responses.create(LIVE);
  const answer = await model.answer();
  answer.say("before ");
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (said(events) === "before ") break;
  }
  answer.say("after ");
  const { id } = events[0].response;
  const shown = async () => (await client.responses.retrieve(id)).output_text === "before after ";
  await until("both were said", shown);
  assert.equal(answer.isLeft, false);
  const cancelled = await client.responses.cancel(id);
  assert.deepEqual([cancelled.status, textIn(cancelled)], ["cancelled", "before after "]);
  await until("the upstream is closed", () => answer.isLeft);
  const starting_after = events.at(-1).sequence_number;
  const rest = await client.responses.retrieve(id, { stream: true, starting_after });
  assert.equal(await read(rest, events), undefined);
  dense(events);
  assert.equal(events.at(-1).type, "response.incomplete");
  assert.equal((await client.responses.cancel(id)).status, "cancelled");
});

test("an upstream's error is a failed response, and of a chat an error", async (t) => {
  const { model, client } = await begin(t);
  const response = client.responses.create(ASK);
  (await model.answer()).refuse(401, "bad key");
  const failed = await response;
  assert.deepEqual([failed.status, failed.error.code], ["failed", "server_error"]);
  assert.match(failed.error.message, /bad key/);
  const chat = client.chat.completions.create(CHAT);
  (await model.answer(2)).refuse(500, "broken");
  await assert.rejects(chat, (error) => {
    assert.ok(error instanceof OpenAI.InternalServerError);
    assert.deepEqual([error.status, error.code], [502, "upstream_failed"]);
    return true;
  });
  assert.equal(model.answers.length, 2, "a failure is not asked again by itself");
});

test("a response goes on from the one before, and from an older one another way", async (t) => {
  const { model, client } = await begin(t);
  const turns = [];
  const ask = async (input, previous_response_id, words, instructions) => {
    const response = client.responses.create({ model: "gpt", input, previous_response_id, instructions });
    const answer = await model.answer(turns.length + 1);
    turns.push(answer.asked.messages.map((m) => `${m.role}: ${m.content}`));
    answer.say(words);
    answer.finish();
    return (await response).id;
  };
  const one = await ask("q1", undefined, "a1", "be brief");
  const two = await ask("q2", one, "a2", "be long");
  await ask("q3", two, "a3");
  const fork = await ask("q4", one, "a4");
  await ask("q5", fork, "a5");
  assert.deepEqual(turns.map((turn) => turn.filter((m) => !m.startsWith("system")).join(" ")), [
    "user: q1",
    "user: q1 assistant: a1 user: q2",
    "user: q1 assistant: a1 user: q2 assistant: a2 user: q3",
    "user: q1 assistant: a1 user: q4",
    "user: q1 assistant: a1 user: q4 assistant: a4 user: q5",
  ]);
  const instructions = turns.map((turn) => turn.filter((m) => m.startsWith("system")));
  assert.deepEqual(instructions, [["system: be brief"], ["system: be long"], [], [], []]);
  const items = await client.responses.inputItems.list(two);
  assert.deepEqual(items.data.map((item) => item.content[0].text), ["q2"]);
});

test("the client's functions are called, in responses and in chats", async (t) => {
  const { model, client } = await begin(t);
  const parameters = { type: "object", properties: { city: { type: "string" } } };
  const tools = [{ type: "function", name: "weather", parameters, strict: false }];
  const stream = client.responses.stream({ ...ASK, tools });
  const first = await model.answer();
  assert.equal(first.asked.tools[0].function.name, "weather");
  first.call("call_1", "weather", { city: "Bonn" });
  first.finish("tool_calls");
  const called = await stream.finalResponse();
  const [item] = called.output;
  assert.deepEqual([item.type, item.call_id, JSON.parse(item.arguments)], ["function_call", "call_1", { city: "Bonn" }]);
  const output = [{ type: "function_call_output", call_id: "call_1", output: "sun" }];
  const next = client.responses.create({ model: "gpt", input: output, previous_response_id: called.id, tools });
  const second = await model.answer(2);
  assert.deepEqual(second.asked.messages.map((m) => m.role), ["user", "assistant", "tool"]);
  assert.equal(second.asked.messages[2].content, "sun");
  second.say("it is sunny");
  second.finish();
  assert.equal((await next).output_text, "it is sunny");

  const asked = [];
  const weather = { name: "weather", parameters, parse: JSON.parse, function: ({ city }) => asked.push(city) && "rain" };
  const runner = client.chat.completions.runTools({ ...CHAT, stream: true, tools: [{ type: "function", function: weather }] });
  const third = await model.answer(3);
  third.call("call_2", "weather", { city: "Kiel" });
  third.finish("tool_calls");
  const fourth = await model.answer(4);
  assert.deepEqual(fourth.asked.messages.map((m) => m.role), ["user", "assistant", "tool"]);
  fourth.say("it rains");
  fourth.finish();
  assert.equal(await runner.finalContent(), "it rains");
  assert.deepEqual(asked, ["Kiel"]);
  assert.equal(model.answers.length, 4);
});

test("a server that dies in mid-run keeps what was said, under the same numbers", async (t) => {
  const { model, server, client } = await begin(t);
  const stream = await client.responses.create(LIVE);
  const answer = await model.answer();
  answer.say(...WORDS.slice(0, 25));
  const events = [];
  const reading = read(stream, events);
  await until("it is shown", () => said(events).includes(WORDS[24]));
  await server.kill();
  assert.ok(await reading, "it is an error and no end");
  await server.again();
  const { id } = events[0].response;
  const replay = [];
  assert.equal(await read(await client.responses.retrieve(id, { stream: true }), replay), undefined);
  dense(replay);
  assert.deepEqual(replay.slice(0, events.length), events);
  const starting_after = events.at(-1).sequence_number;
  assert.equal(await read(await client.responses.retrieve(id, { stream: true, starting_after }), events), undefined);
  assert.deepEqual(events, replay);
  assert.equal(said(events), WORDS.slice(0, 25).join(""));
  const response = await client.responses.retrieve(id);
  assert.deepEqual([response.status, response.incomplete_details.reason], ["incomplete", "interrupted: restart"]);
  assert.equal(model.answers.length, 1);
});

test("a chat is the model's text, at once and as a stream, with what it cost", async (t) => {
  const { model, client } = await begin(t);
  const whole = client.chat.completions.create({ ...CHAT, seed: 7 });
  const first = await model.answer();
  assert.equal(first.asked.seed, 7);
  first.say(...WORDS);
  first.finish();
  const chat = await whole;
  assert.equal(chat.choices[0].message.content, TEXT);
  assert.deepEqual([chat.choices[0].finish_reason, chat.usage.total_tokens], ["stop", 7]);

  const options = { stream_options: { include_usage: true } };
  const stream = client.chat.completions.stream({ ...CHAT, ...options });
  const second = await model.answer(2);
  second.say(...WORDS);
  second.finish("length");
  const completion = await stream.finalChatCompletion();
  assert.equal(completion.choices[0].message.content, TEXT);
  assert.deepEqual([completion.choices[0].finish_reason, completion.usage.total_tokens], ["length", 7]);
  assert.equal(model.answers.length, 2);
});

test("a chat that ends early is an error and never a whole answer", async (t) => {
  const { model, server, client } = await begin(t, { SEGUE_STREAM_AGE_S: "1", SEGUE_HEARTBEAT_S: "1" });
  const old = await client.chat.completions.create({ ...CHAT, stream: true });
  (await model.answer()).say("half");
  const chunks = [];
  assert.ok(await read(old, chunks), "an old stream breaks off");
  assert.equal(chatText(chunks), "half");
  const cut = clientOf(await cutter(t, server, () => 900));
  const stream = await cut.chat.completions.create({ ...CHAT, stream: true });
  const second = await model.answer(2);
  second.say(...WORDS);
  second.finish();
  assert.ok(await read(stream, []));
  assert.equal(model.answers.length, 2);
});

test("a connection that breaks before the head is asked again, and is one run", async (t) => {
  const { model, server } = await begin(t);
  const limits = [1, 1];
  const client = clientOf(await cutter(t, server, () => limits.shift() ?? Infinity));
  const response = client.responses.create(LIVE);
  const answer = await model.answer();
  answer.say("once");
  answer.finish();
  const events = [];
  assert.equal(await read(await response, events), undefined);
  assert.equal(limits.length, 0);
  assert.equal(said(events), "once");
  assert.equal(model.answers.length, 1);
});

test("models are the agents, and what cannot be is refused as the client knows it", async (t) => {
  const { client } = await begin(t);
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.deepEqual(models, ["demo", "gpt", "push"]);
  assert.equal((await client.models.retrieve("gpt")).owned_by, "openai-chat");
  const refused = (call, type, words) =>
    assert.rejects(call, (error) => {
      assert.ok(error instanceof type, String(error));
      assert.match(error.message, words);
      return true;
    });
  await refused(client.models.retrieve("gpt-x"), OpenAI.NotFoundError, /gpt-x/);
  await refused(client.responses.create({ ...ASK, model: "gpt-x" }), OpenAI.NotFoundError, /gpt-x/);
  await refused(client.responses.retrieve("resp_nobody"), OpenAI.NotFoundError, /resp_nobody/);
  const after = { ...ASK, previous_response_id: "resp_nobody" };
  await refused(client.responses.create(after), OpenAI.BadRequestError, /resp_nobody/);
  await refused(client.chat.completions.create({ ...CHAT, n: 2 }), OpenAI.BadRequestError, /`n`/);
  const tools = [{ type: "web_search" }];
  await refused(client.responses.create({ ...ASK, tools }), OpenAI.BadRequestError, /web_search/);
});

test("a response is deleted with the admin's token", async (t) => {
  const { model, server, client } = await begin(t);
  const response = client.responses.create(ASK);
  (await model.answer()).finish();
  const { id } = await response;
  await assert.rejects(client.responses.delete(id), OpenAI.PermissionDeniedError);
  await clientOf(server.url, { apiKey: await server.token() }).responses.delete(id);
  await assert.rejects(client.responses.retrieve(id), OpenAI.NotFoundError);
});

/** Runs a script of the guide against `base`; gives what it shows. */
async function guide(name, base) {
  const text = await readFile(new URL("../../../docs/clients.md", import.meta.url), "utf8");
  const [, script] = text.match(new RegExp(`\`\`\`js ${name}\\n(.*?)\`\`\``, "s"));
  const AsyncFunction = (async () => {}).constructor;
  const body = script.replace(/^import .*\n/gm, "");
  let shown = "";
  const show = (more) => (shown += more);
  await new AsyncFunction("OpenAI", "resumable", "base", "show", body)(OpenAI, resumable, base, show);
  return shown;
}

for (const [name, first] of [["openai", 3000], ["openai-chat", 1500]]) {
  test(`the guide's ${name} shows the text over cuts`, async (t) => {
    const { model, server } = await begin(t);
    const limits = [first, 1000, 1700];
    const shown = guide(name, await cutter(t, server, () => limits.shift() ?? Infinity));
    const answer = await model.answer();
    answer.say(...WORDS);
    answer.finish();
    assert.equal(await shown, TEXT);
    assert.deepEqual(limits, []);
    assert.equal(model.answers.length, 1);
  });
}
