// The page at `/` in Chromium: a run is shown whole, over reloads, tabs and a killed server.

import assert from "node:assert/strict";
import test from "node:test";

import { open } from "./chromium.mjs";
import { Server, textOf } from "../support.mjs";

async function startDemo(page, speed) {
  await page.selectOption("#speed", speed);
  await page.click("#start");
  await page.waitForFunction(() => document.querySelector("#run").textContent !== "");
  return page.textContent("#run");
}

/** Waits until so many events are shown. */
const shows = (page, events) =>
  page.waitForFunction((n) => Number(document.querySelector("#seq").textContent) >= n, events);

const ends = (page, status) =>
  page.waitForSelector(`#status[data-status="${status}"]`, { timeout: 60_000 });

/** What is left of a text when its marks are gone, to compare Markdown with what it became. */
const letters = (text) =>
  text.replaceAll(/^```.*$/gm, "").replaceAll(/\]\([^)]*\)/g, "]").replaceAll(/[^\p{L}]/gu, "");

/** The page shows all events of the run, and each part of its text once. */
async function showsWhole(page, journal) {
  assert.equal(await page.textContent("#seq"), String(journal.length));
  const reasoning = journal.filter((event) => event.type === "reasoning.delta");
  const thoughts = await page.locator("details.reasoning .text").allTextContents();
  assert.equal(thoughts.join(""), reasoning.map((event) => event.text).join(""));
  const said = await page.locator("#view > .text").allTextContents();
  assert.equal(letters(said.join("")), letters(textOf(journal)));
}

test("a run is shown whole and is found again by its address", async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url);
  const run = await startDemo(page, "4");
  await shows(page, 30);
  await page.reload();
  assert.ok(page.url().endsWith(`#${run}`), page.url());
  await shows(page, 60);
  await ends(page, "finished");
  const journal = await server.journal(run);
  assert.equal(journal.at(-1).type, "run.finished");
  await showsWhole(page, journal);
});

test("i15 the page rides over a killed server and shows the whole text once", async (t) => {
  const server = await Server.start(t);
  const page = await open(t, server.url);
  const run = await startDemo(page, "4");
  await page.waitForFunction(() => document.querySelector("#view > .text")?.textContent.length > 40);
  await server.kill();
  await page.waitForFunction(() => document.querySelector("#link").textContent === "reconnecting");
  await server.again();
  await ends(page, "interrupted");
  const journal = await server.journal(run);
  assert.equal(journal.at(-1).cause, "restart");
  await showsWhole(page, journal);
  await page.reload();
  await ends(page, "interrupted");
  await showsWhole(page, journal);
});

test("g01 two tabs show the same, also when the second comes late", async (t) => {
  const server = await Server.start(t);
  const first = await open(t, server.url);
  const run = await startDemo(first, "4");
  await shows(first, 40);
  const second = await open(t, first.url());
  await Promise.all([ends(first, "finished"), ends(second, "finished")]);
  const journal = await server.journal(run);
  await showsWhole(first, journal);
  await showsWhole(second, journal);
  assert.equal(await second.innerText("#view"), await first.innerText("#view"));
});

test("g05 a stop in one tab ends the other as stopped", async (t) => {
  const server = await Server.start(t);
  const first = await open(t, server.url);
  await startDemo(first, "1");
  await shows(first, 5);
  const second = await open(t, first.url());
  await shows(second, 5);
  await second.click("#stop");
  await Promise.all([ends(first, "stopped"), ends(second, "stopped")]);
  assert.match(await first.innerText(".ending"), /stopped: user/);
});
