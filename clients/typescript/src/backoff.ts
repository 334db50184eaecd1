// When to try again. Pure.

/** The waits between attempts, in milliseconds. */
export interface Delays {
  first: number;
  max: number;
  /** The longest that the server may ask for. */
  maxHint: number;
  /** Spreads the attempts of many clients: turns a planned delay into the one that is waited. */
  jitter: (delay: number) => number;
}

/** Delays that double from the first to the longest, and start over after a success. */
export class Backoff {
  readonly #delays: Delays;
  #next: number;
  #hint = 0;
  /** How many attempts in a row have failed. */
  attempt = 0;

  constructor(delays: Delays) {
    this.#delays = delays;
    this.#next = delays.first;
  }

  /** The delay before the next attempt, which is one more in a row; the server may ask for more. */
  fail(atLeast = 0): number {
    const hint = Math.min(Math.max(this.#hint, atLeast), this.#delays.maxHint);
    const delay = Math.max(Math.min(this.#next, this.#delays.max), hint);
    this.#next = Math.min(this.#next * 2, this.#delays.max);
    this.attempt += 1;
    return this.#delays.jitter(delay);
  }

  /** Starts over, because something came. */
  succeed(): void {
    this.#next = this.#delays.first;
    this.attempt = 0;
  }

  /** Takes the server's wish as the lower bound of every delay from now on. */
  hint(atLeast: number): void {
    this.#hint = atLeast;
  }
}
