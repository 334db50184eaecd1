// Events on their way: numbered, sent, and kept until they are journaled. Pure.

/** Consecutive lines, as they go out in one request. */
export interface Batch {
  /** The `Producer-Seq` of the first. */
  first: number;
  /** The number after the last. */
  end: number;
  body: string;
}

/** Numbered lines. The number of a line never changes, however often it is sent. */
export class Outbox {
  #lines: string[] = [];
  #first = 0;

  /** The number of the first line that is not acknowledged; so many are. */
  get first(): number {
    return this.#first;
  }

  /** The number that the next line gets. */
  get end(): number {
    return this.#first + this.#lines.length;
  }

  push(line: string): void {
    this.#lines.push(line);
  }

  /** The first lines that are kept, up to about `max` characters but at least one; null if there is none. */
  batch(max: number): Batch | null {
    let size = 0;
    let count = 0;
    for (const line of this.#lines) {
      size += line.length + 1;
      if (count > 0 && size > max) break;
      count += 1;
    }
    if (count === 0) return null;
    const body = `${this.#lines.slice(0, count).join("\n")}\n`;
    return { first: this.#first, end: this.#first + count, body };
  }

  /**
   * Drops the lines up to number `acked`, of those that are in `batch`. A server that knows lines of an
   * earlier life of this producer may acknowledge more than was sent: those go out all the same.
   */
  acked(acked: number, batch: Batch): void {
    const count = Math.min(acked + 1, batch.end) - this.#first;
    if (count <= 0) return;
    this.#lines.splice(0, count);
    this.#first += count;
  }
}
