// NDJSON: one JSON value a line. Pure.

import { ProtocolError } from "./errors.js";

/** Turns bytes into the values of whole lines; blank ones are passed over. */
export class LineDecoder {
  readonly #text = new TextDecoder();
  /** The pieces of a line whose end has not come. */
  #line: string[] = [];

  /** The values that these bytes complete. Throws at a line that is no JSON. */
  push(bytes: Uint8Array): unknown[] {
    const [first = "", ...more] = this.#text.decode(bytes, { stream: true }).split("\n");
    if (first !== "") this.#line.push(first);
    const values: unknown[] = [];
    for (const next of more) {
      const line = this.#line.join("");
      this.#line = next === "" ? [] : [next];
      if (line.trim() !== "") values.push(parse(line));
    }
    return values;
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    throw new ProtocolError("a line is no JSON");
  }
}
