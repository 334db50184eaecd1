// What can go wrong between a client and its server.

/** The stable codes of the server's refusals. */
export type ProblemCode =
  | "malformed" | "bad_id" | "bad_query" | "bad_header" | "bad_cursor" | "bad_event" | "forged_event"
  | "bad_source" | "bad_params" | "unknown_agent" | "bad_token" | "admin_only" | "bad_origin"
  | "stale_epoch" | "not_found" | "method_not_allowed" | "not_acceptable" | "session_exists"
  | "session_busy" | "run_exists" | "different_start" | "session_full" | "run_ended" | "run_limit"
  | "not_push" | "producer_gap" | "foreign_cursor" | "cursor_trimmed" | "event_too_large"
  | "body_too_large" | "bad_content_type" | "cursor_ahead" | "bad_host" | "internal" | "corrupt"
  | "message_exists" | "message_not_whole" | "run_active" | "bad_import" | "newer_import"
  | "backup_exists" | "bad_backup" | "shutting_down" | "unavailable" | "retry" | "disk_full";

/** What some refusals say beside their code. */
interface Members {
  bad_event: { index?: number };
  forged_event: { index?: number };
  session_busy: { run_id?: string };
  different_start: { run_id: string };
  stale_epoch: { producer_epoch: number };
  producer_gap: { expected: number; received: number };
  cursor_trimmed: { available_from?: number; snapshot: string };
  cursor_ahead: { last_seq: number };
}
/** The members of the problem document of a code. */
export type MembersOf<C extends ProblemCode> = C extends keyof Members
  ? Members[C]
  : Record<string, unknown>;

/** The statuses of what may be otherwise in a moment. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504, 507]);

/** Everything that this client throws, but for the reason of an abort. */
export abstract class SegueError extends Error {
  /** Whether the same request may succeed later. */
  abstract readonly passing: boolean;
}

/** The server refused, and says why: an RFC 9457 problem document. */
export class ProblemError extends SegueError {
  override readonly name = "ProblemError";
  readonly status: number;
  /** What went wrong, for a program. `http_<status>` for an answer that is not Segue's. */
  readonly code: ProblemCode | `http_${number}`;
  readonly title: string;
  /** What went wrong, for a person. */
  readonly detail: string | undefined;
  /** What else the document says, such as `run_id`. */
  readonly members: Record<string, unknown>;
  /** How long the server wants to be left alone, in milliseconds. */
  readonly retryAfter: number;

  constructor(status: number, document: Record<string, unknown>, retryAfter = 0) {
    const { type: _, title, status: __, detail, code, ...members } = document;
    const known = typeof code === "string" && code !== "" ? (code as ProblemCode) : undefined;
    const text = typeof title === "string" ? title : "refused";
    const why = typeof detail === "string" ? detail : undefined;
    super(`${why ?? text} (${known ?? `http_${status}`})`);
    this.status = status;
    this.code = known ?? `http_${status}`;
    this.title = text;
    this.detail = why;
    this.members = members;
    this.retryAfter = retryAfter;
  }

  /** Reads an answer other than success. A body that is no problem document makes one all the same. */
  static async from(response: Response): Promise<ProblemError> {
    const seconds = Number(response.headers.get("retry-after") ?? 0);
    const retryAfter = seconds > 0 ? seconds * 1000 : 0;
    return new ProblemError(response.status, documentOf(await response.text()), retryAfter);
  }

  get passing(): boolean {
    return PASSING.has(this.status) && this.code !== "corrupt";
  }
}

function documentOf(text: string): Record<string, unknown> {
  try {
    const document: unknown = JSON.parse(text);
    const isObject = typeof document === "object" && document !== null && !Array.isArray(document);
    return isObject ? (document as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Whether an error is a refusal with one of these codes; its `members` are then known. */
export function isProblem<C extends ProblemCode>(
  error: unknown,
  ...codes: [C, ...C[]]
): error is ProblemError & { readonly code: C; readonly members: MembersOf<C> } {
  return error instanceof ProblemError && (codes as string[]).includes(error.code);
}

/** The server was not reached, or the connection to it was lost. */
export class ConnectionError extends SegueError {
  override readonly name = "ConnectionError";
  readonly passing = true;
}

/** What came is not what the protocol allows. */
export class ProtocolError extends SegueError {
  override readonly name = "ProtocolError";
  readonly passing: boolean;

  constructor(message: string, passing = true) {
    super(message);
    this.passing = passing;
  }
}

/** The server does not take an event of a producer. The events before it are journaled. */
export class RefusedEventError extends SegueError {
  override readonly name = "RefusedEventError";
  readonly passing = false;
  /** Which event, counted from 0 over the producer's whole life. */
  readonly index: number;
  /** Why. */
  readonly problem: ProblemError;

  constructor(index: number, problem: ProblemError) {
    super(`event ${index}: ${problem.message}`, { cause: problem });
    this.index = index;
    this.problem = problem;
  }
}

/** The producer is closed: what was not journaled by then is not sent any more. */
export class ClosedError extends SegueError {
  override readonly name = "ClosedError";
  readonly passing = false;
}
