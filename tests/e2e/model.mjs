// A model's API (Chat Completions) whose answers the test says, word by word.

import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";

import { Server, until } from "./support.mjs";

/** One request to the model, and its answer in the making. */
class Answer {
  #response;
  /** The request's body. */
  asked;

  constructor(asked, response) {
    this.asked = asked;
    this.#response = response;
  }

  #chunk(delta, finish = null, more = {}) {
    if (!this.#response.headersSent) {
      this.#response.writeHead(200, { "content-type": "text/event-stream" });
    }
    const choices = [{ index: 0, delta, finish_reason: finish }];
    const chunk = { id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices, ...more };
    this.#response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  }

  /** Says each of these in a chunk of its own. */
  say(...words) {
    words.forEach((content) => this.#chunk({ content }));
  }

  /** Calls a function, its arguments in two pieces. */
  call(id, name, input) {
    const text = JSON.stringify(input);
    this.#chunk({ tool_calls: [{ index: 0, id, type: "function", function: { name, arguments: "" } }] });
    for (const piece of [text.slice(0, 3), text.slice(3)]) {
      this.#chunk({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
    }
  }

  /** Ends the answer. */
  finish(reason = "stop") {
    const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
    this.#chunk({}, reason);
    this.#response.write(`data: ${JSON.stringify({ id: "c", choices: [], usage })}\n\n`);
    this.#response.end("data: [DONE]\n\n");
  }

  /** Resets the connection, perhaps in the middle of the answer. */
  reset() {
    this.#response.socket.resetAndDestroy();
  }

  /** Refuses the request. */
  refuse(status, message) {
    this.#response.writeHead(status, { "content-type": "application/json" });
    this.#response.end(JSON.stringify({ error: { message, type: "x", code: "y" } }));
  }

  /** Whether who asked is gone. */
  get isLeft() {
    return this.#response.closed;
  }
}

/** The model behind the agent `gpt` of a server; `answers` are all that it was asked for. */
export class Model {
  answers = [];
  server;

  /** Starts both for the test `t`. */
  static async start(t, settings = {}) {
    const model = new Model();
    const api = http.createServer((request, response) => {
      let text = "";
      request.on("data", (bytes) => (text += bytes));
      request.on("end", () => model.answers.push(new Answer(JSON.parse(text), response)));
    });
    api.listen(0, "127.0.0.1");
    await once(api, "listening");
    const folder = await mkdtemp(path.join(tmpdir(), "segue-model-"));
    t.after(async () => {
      api.closeAllConnections();
      api.close();
      await rm(folder, { recursive: true, force: true });
    });
    const file = path.join(folder, "segue.toml");
    const base = `http://127.0.0.1:${api.address().port}`;
    const agent = `kind = "openai-chat"\nbase_url = "${base}"\nmodel = "m"\nretries = 0\n`;
    await writeFile(file, `default_agent = "gpt"\n[agents.gpt]\n${agent}`);
    model.server = await Server.start(t, { SEGUE_CONFIG: file, ...settings });
    return model;
  }

  /** The answer that is asked for once there are `count`. */
  answer(count = 1) {
    return until(`the model is asked ${count} times`, () => this.answers[count - 1]);
  }
}
