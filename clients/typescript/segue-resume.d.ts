/** How a stream is healed. */
export interface ResumeOptions {
  /** Called at each drop, before the stream goes on; `error` is null after a clean end. */
  onDrop?: (drop: { lastEventId: string | null; error: unknown }) => void;
}

/**
 * Wraps a `fetch`: an event stream with a `Location` that breaks off goes on there with
 * `Last-Event-ID`, and its reader sees each event once. Other answers are passed on untouched.
 */
export function resumable(inner?: typeof fetch, options?: ResumeOptions): typeof fetch;
