// Every kind of thing that an agent does, as items of a response that the official client checks.

import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

import { Server } from "../support.mjs";

/** An item without what only the client's stream adds. */
const bare = (item) => JSON.parse(JSON.stringify(item, (name, value) => (name.startsWith("parsed") ? undefined : value)));

test("items of every kind pass the client's own checks", async (t) => {
  const server = await Server.start(t);
  const client = new OpenAI({ baseURL: `${server.url}/openai/v1`, apiKey: "unused" });
  const tools = [{ type: "function", name: "own", parameters: {} }];
  const { id } = await client.responses.create({ model: "push", input: "x", background: true, tools });
  await server.append(id.replace(/^resp_/, ""), [
    { type: "source", url: "https://early.example/" },
    { type: "reasoning.delta", part: "r", text: "hm" },
    { type: "reasoning.end", part: "r", signature: { id: "rs_1" } },
    { type: "text.delta", part: "p", text: "one " },
    { type: "text.delta", part: "q", text: "beside it " },
    { type: "text.delta", part: "p", text: "goes on " },
    { type: "source", url: "https://late.example/", title: "L" },
    { type: "tool_call.started", call_id: "c", name: "find", executor: "server" },
    { type: "tool_call.input_delta", call_id: "c", text: '{"q":1}' },
    { type: "tool_call.input_end", call_id: "c" },
    { type: "approval.requested", approval_id: "a", call_id: "c", prompt: "?", options: ["allow", "deny"] },
    { type: "tool_result", call_id: "c", output: { n: 2 } },
    { type: "tool_call.started", call_id: "d", name: "find" },
    { type: "tool_result", call_id: "d", error: { code: "x", message: "broken" } },
    { type: "file", media_type: "image/png", url: "data:image/png;base64,AA==" },
    { type: "tool_call.started", call_id: "e", name: "own" },
    { type: "tool_call.input_end", call_id: "e", input: { z: [3] } },
    { type: "tool_call.started", call_id: "f", name: "own" },
    { type: "tool_call.input_delta", call_id: "f", text: "{" },
    { type: "run.finished" },
  ]);
  const final = await client.responses.stream({ response_id: id }).finalResponse();
  assert.equal(final.status, "completed");
  assert.deepEqual(final.output.map((item) => [item.type, item.status]), [
    ["reasoning", "completed"],
    ["message", "completed"],
    ["message", "completed"],
    ["mcp_call", "completed"],
    ["mcp_approval_request", undefined],
    ["mcp_call", "failed"],
    ["image_generation_call", "completed"],
    ["function_call", "completed"],
    ["function_call", "incomplete"],
  ]);
  const kept = await client.responses.retrieve(id);
  assert.equal(kept.output_text, "one goes on beside it ");
  assert.deepEqual(final.output.map(bare), kept.output.map(bare));
  // What was given out can be given back as it is.
  const input = [{ role: "user", content: "x" }, ...final.output.slice(0, 4), { role: "user", content: "y" }];
  await client.responses.create({ model: "push", input, background: true });
});
