// Server-sent events, decoded by the WHATWG rules and bounded. Pure.

import { ProtocolError } from "./errors.js";

/** One block of the stream. */
export interface Frame {
  /** The id that this block sets; null if it sets none. */
  id: string | null;
  /** The event's name; "" if there is none. */
  event: string;
  /** The data; null for a block without any. */
  data: string | null;
}

/** What a decoder finds: a block, or how long to wait before a reconnect, in milliseconds. */
export type Signal = { frame: Frame } | { retry: number };

/** Room for an event of the greatest size that a server allows by default, and its envelope. */
const MAX_FRAME = 17 << 20;

/**
 * Turns bytes into signals. Lines end in LF, CR or CRLF; a leading byte order mark and one space
 * after a colon are dropped; data lines join with LF; an id with NUL is passed over; a block cut by
 * the end of the stream is none.
 */
export class SseDecoder {
  // Drops the byte order mark, and shows what is no UTF-8 as U+FFFD.
  readonly #text = new TextDecoder();
  readonly #max: number;
  /** The pieces of a line whose end has not come. */
  #line: string[] = [];
  #size = 0;
  /** The last line ended in CR: a LF that comes first belongs to it. */
  #afterCr = false;
  #id: string | null = null;
  #event = "";
  #data: string[] = [];

  /** A decoder at the beginning of a stream, of blocks of about `max` characters at most. */
  constructor(max = MAX_FRAME) {
    this.#max = max;
  }

  /** The signals that these bytes complete. Throws if a block is too large. */
  push(bytes: Uint8Array): Signal[] {
    const found: Signal[] = [];
    let text = this.#text.decode(bytes, { stream: true });
    if (text === "") return found;
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const ends = /\r\n|\n|\r/g;
    let start = 0;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this.#hold(text.slice(start, end.index));
      start = ends.lastIndex;
      const line = this.#line.join("");
      this.#line = [];
      this.#take(line, found);
    }
    this.#hold(text.slice(start));
    return found;
  }

  #hold(piece: string): void {
    if (piece === "") return;
    this.#size += piece.length;
    if (this.#size > this.#max) throw new ProtocolError(`a frame has more than ${this.#max} characters`);
    this.#line.push(piece);
  }

  #take(line: string, found: Signal[]): void {
    if (line === "") return this.#dispatch(found);
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) found.push({ retry: Number(value) });
  }

  #dispatch(found: Signal[]): void {
    const data = this.#data.length > 0 ? this.#data.join("\n") : null;
    const frame = { id: this.#id, event: this.#event, data };
    if (frame.id !== null || data !== null) found.push({ frame });
    [this.#id, this.#event, this.#data, this.#size] = [null, "", [], 0];
  }
}
