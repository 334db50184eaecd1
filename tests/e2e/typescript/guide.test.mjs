// The guide as it is written: taken by the strict compiler, and run.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import test from "node:test";
import { fileURLToPath } from "node:url";

import * as segue from "segue-client";

import { Server, textOf } from "../support.mjs";

const FILES = ["../../../clients/typescript/README.md", "../../../docs/clients.md"];
const TSC = new URL("../../../clients/typescript/node_modules/typescript/bin/tsc", import.meta.url);
/** A folder that finds the installed package and is no part of the repository. */
const SCRATCH = new URL("./node_modules/.guide/", import.meta.url);

/** The blocks of code of a file, by their names. */
async function blocks(file) {
  const text = await readFile(new URL(file, import.meta.url), "utf8");
  return [...text.matchAll(/```ts ([a-z]+)\n(.*?)```/gs)].map(([, name, code]) => [name, code]);
}

function compile(...files) {
  const options = ["--noEmit", "--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes"];
  const modules = ["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
  const run = [fileURLToPath(TSC), ...options, ...modules, "--skipLibCheck", "false", ...files.map(fileURLToPath)];
  const done = spawnSync(process.execPath, run, { encoding: "utf8" });
  assert.equal(done.status, 0, done.stdout + done.stderr);
}

test("the types say what they should", () => compile(new URL("./usage.ts", import.meta.url)));

for (const file of FILES) {
  test(`the code of ${file} is taken by the strict compiler`, async () => {
    const found = await blocks(file);
    assert.ok(found.length > 0);
    await mkdir(SCRATCH, { recursive: true });
    const target = new URL(`${file.split("/").at(-1)}.ts`, SCRATCH);
    const code = found.map(([, code]) => code).join("\n");
    const imports = code.match(/^import .*$/gm).join("\n");
    await writeFile(target, `${imports}\n${code.replace(/^import .*$/gm, "")}`);
    compile(target);
  });
}

/** Runs the blocks of a file one after the other; gives what they log. */
async function run(file, server) {
  const found = await blocks(file);
  const written = found.map(([, code]) => code).join("\n").replace(/^import .*$/gm, "");
  const code = written
    .replaceAll("http://127.0.0.1:7878", server.url)
    .replaceAll('agent: "demo"', 'agent: "demo", params: { speed: 0 }');
  const names = Object.keys(segue);
  const AsyncFunction = (async () => {}).constructor;
  const logged = [];
  const log = { log: (...words) => logged.push(words) };
  await new AsyncFunction("console", ...names, code)(log, ...names.map((name) => segue[name]));
  return logged;
}

for (const file of FILES) {
  test(`the code of ${file} does what it says`, async (t) => {
    const server = await Server.start(t);
    const logged = await run(file, server);
    const { data } = await (await fetch(`${server.url}/v1/runs`)).json();
    const [asked] = data.filter(({ session_id }) => session_id === "my-session").slice(-1);
    const [pushed] = data.filter(({ session_id }) => session_id === "other-session");
    const journal = await server.journal(asked.id);
    assert.ok(logged.map(([text]) => text).join("").startsWith(textOf(journal)));
    assert.equal(textOf(await server.journal(pushed.id)), "Hello, world");
    assert.equal(pushed.status, "finished");
  });
}
