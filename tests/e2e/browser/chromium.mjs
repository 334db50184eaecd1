// A Chromium for the tests of one file.

import assert from "node:assert/strict";
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { after, before } from "node:test";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser;
before(async () => {
  const folders = process.env.PATH.split(path.delimiter);
  const executablePath = folders.map((folder) => path.join(folder, "chromium")).find(isExecutable);
  browser = await chromium.launch({ executablePath, args: FLAGS, headless: true });
});
after(() => browser?.close());

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A tab of the test `t` at `url`; any error of its script fails the test. */
export async function open(t, url) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error));
  t.after(() => assert.deepEqual(errors, []));
  await page.goto(url);
  return page;
}
