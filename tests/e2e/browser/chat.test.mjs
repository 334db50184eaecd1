// The chat page of examples/chat, built as its guide says: `useChat` with `resume` in Chromium.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { open } from "./chromium.mjs";
import { Server, until } from "../support.mjs";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const WORDS = Array.from({ length: 30 }, (_, index) => `word ${index} `);

/** Serves the example's page; gives its origin. */
async function pages(t) {
  const server = http.createServer(async (request, answer) => {
    const file = new URL(request.url, "http://x").pathname;
    const name = file === "/" ? "index.html" : file.slice(1);
    const text = await readFile(path.join(ROOT, "examples/chat", name)).catch(() => null);
    answer.writeHead(text ? 200 : 404, { "content-type": name.endsWith(".js") ? "text/javascript" : "text/html" });
    answer.end(text ?? "");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  t.after(() => server.closeAllConnections());
  return `http://127.0.0.1:${server.address().port}`;
}

/** The picture for the guide, where one is wanted: `SEGUE_SCREENSHOTS` is a folder below the root. */
async function picture(page, name) {
  const folder = process.env.SEGUE_SCREENSHOTS;
  if (!folder) return;
  await mkdir(path.join(ROOT, folder), { recursive: true });
  await page.setViewportSize({ width: 720, height: 420 });
  await page.screenshot({ path: path.join(ROOT, folder, `${name}.png`) });
}

const answersOf = async (page) =>
  (await page.locator("article.assistant").allInnerTexts()).map((text) => text.trim()).join("|");
const shows = (page, text) =>
  until(`the page shows ${text.length} characters`, async () => (await answersOf(page)) === text);
const isReady = (page) => page.waitForSelector('form[data-status="ready"]');
const delta = (text) => ({ type: "text.delta", part: "p", text });
const said = (words) => words.join("").trim();

/** Says something in the page; gives the run that answers. */
async function ask(server, page, text, count) {
  await page.fill("input", text);
  await page.keyboard.press("Enter");
  return until(`the chat has ${count} runs`, async () => {
    const { data } = await (await fetch(`${server.url}/v1/runs?session=c`)).json();
    return data.length === count && data[0].id;
  });
}

test("a reload, a second tab and a server that is killed lose and double nothing", async (t) => {
  const origin = await pages(t);
  const server = await Server.start(t, { SEGUE_ALLOWED_ORIGINS: origin });
  const url = `${origin}/?server=${encodeURIComponent(server.url)}&agent=push&chat=c`;
  const page = await open(t, url);
  const run = await ask(server, page, "Tell me a story.", 1);
  await server.append(run, WORDS.slice(0, 10).map(delta));
  await shows(page, said(WORDS.slice(0, 10)));
  await picture(page, "chat-in-mid-answer");

  await page.reload();
  await shows(page, said(WORDS.slice(0, 10)));
  assert.deepEqual(await page.locator("article.user").allInnerTexts(), ["Tell me a story."]);
  await server.append(run, WORDS.slice(10, 20).map(delta));
  const second = await open(t, url);
  for (const tab of [page, second]) await shows(tab, said(WORDS.slice(0, 20)));
  await picture(second, "chat-second-tab");
  await server.append(run, [...WORDS.slice(20).map(delta), { type: "run.finished", finish_reason: "stop" }]);
  for (const tab of [page, second]) {
    await shows(tab, said(WORDS));
    await isReady(tab);
  }

  const cut = await ask(server, page, "And another one.", 2);
  await server.append(cut, WORDS.slice(0, 5).map(delta));
  await shows(page, [said(WORDS), said(WORDS.slice(0, 5))].join("|"));
  await server.kill();
  await server.again();
  assert.equal((await server.run(cut)).status, "interrupted");
  // What was said stays, and that it broke off is told.
  await page.waitForSelector("[role=alert]");
  await shows(page, [said(WORDS), said(WORDS.slice(0, 5))].join("|"));
  await picture(page, "chat-after-a-kill");
  await page.reload();
  await shows(page, [said(WORDS), said(WORDS.slice(0, 5))].join("|"));
  assert.equal(await page.locator("article.user").count(), 2);
});

test("an answer is stopped and made again", async (t) => {
  const origin = await pages(t);
  const server = await Server.start(t, { SEGUE_ALLOWED_ORIGINS: origin });
  const url = `${origin}/?server=${encodeURIComponent(server.url)}&agent=push&chat=c`;
  const page = await open(t, url);
  const run = await ask(server, page, "hello", 1);
  await server.append(run, [delta("half")]);
  await shows(page, "half");
  await page.getByRole("button", { name: "Stop" }).click();
  await until("it is stopped", async () => (await server.run(run)).status !== "running");
  await page.getByRole("button", { name: "Again" }).click();
  const again = await until("a second run", async () => {
    const { data } = await (await fetch(`${server.url}/v1/runs?session=c`)).json();
    return data.length === 2 && data[0].id;
  });
  await server.append(again, [delta("whole"), { type: "run.finished" }]);
  await shows(page, "whole");
  await page.reload();
  await shows(page, "whole");
});
