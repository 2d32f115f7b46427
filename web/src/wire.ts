/**
 * The frames the page and the server exchange, and how they travel: a binary WebSocket message holds one or more
 * length-prefixed frames (4 bytes, unsigned, big-endian, then that many bytes of UTF-8 JSON).
 */

export const MAX_FRAME_BYTES = 1 << 20;
export const MAX_TEXT_BYTES = 64 * 1024;

export interface Thread {
  id: string;
  title?: string | null;
  members: string[];
  member_count: number;
  head: number;
  public: boolean;
  /** Only in `welcome` and in replies to one's own requests. */
  seen?: number;
}

/** What a member may do in a thread: owners all, members read and write, readers read. */
export type Role = "owner" | "member" | "reader";

export type MessageType = "chat" | "command" | "notification" | "subscription";

export interface Message {
  id: string;
  thread: string;
  seq: number;
  sender: string;
  destination: string;
  type: MessageType;
  text: string;
  timestamp: string;
  metadata?: Record<string, unknown> | null;
  reply_to?: string | null;
  run?: string | null;
}

export interface Resume {
  epoch: string;
  threads: Record<string, number>;
  runs: Record<string, [attempt: number, offset: number]>;
}

/** What a writer hands over; `key` makes sending it again harmless. */
export interface Post {
  key: string;
  thread?: string;
  to?: string;
  text: string;
  message_type?: MessageType;
  metadata?: Record<string, unknown>;
  reply_to?: string;
}

export type RunState = "queued" | "started" | "completed" | "failed" | "cancelled";

export type Request =
  | { type: "hello"; user?: string; token?: string; client?: string; resume?: Resume }
  | ({ type: "message.send" } & Post)
  | { type: "thread.create"; title?: string; members?: string[]; public?: boolean }
  | { type: "thread.join" | "thread.leave"; thread: string }
  | { type: "thread.add" | "thread.remove"; thread: string; member: string }
  | { type: "thread.role"; thread: string; member: string; role: Role }
  | { type: "thread.list"; public?: boolean }
  | { type: "history"; thread: string; before?: number; after?: number; limit?: number }
  | { type: "check" | "who" | "ping" | "bye" }
  | { type: "seen"; thread: string; seq: number }
  | { type: "typing"; thread: string }
  | { type: "run.cancel"; run: string };

export interface Welcome {
  type: "welcome";
  user: string;
  token?: string | null;
  session: string;
  server: { name: string; version: string; time: string; epoch: string };
  threads: Thread[];
  limits?: Record<string, unknown>;
}

export interface Ack {
  type: "ack";
  thread: string;
  seq: number;
  message: string;
  timestamp: string;
  delivery: "live" | "stored";
  offline?: string[];
  offline_count?: number;
}

export interface ErrorFrame {
  type: "error";
  code: string;
  title?: string;
  detail?: string;
  retry_after?: number | null;
}

export interface MessageFrame {
  type: "message";
  thread: string;
  seq: number;
  message: Message;
  stored?: boolean;
}

export interface RunFrame {
  type: `run.${RunState}`;
  run: string;
  thread: string;
  assistant: string;
  attempt: number;
  position?: number | null;
  message?: string | null;
  seq?: number | null;
  error?: unknown;
}

export interface DeltaFrame {
  type: "run.delta";
  run: string;
  thread: string;
  assistant: string;
  attempt: number;
  /** Unicode code points of the answer before this piece. */
  offset: number;
  text: string;
}

export interface HistoryFrame {
  type: "history";
  messages: Message[];
  more: boolean;
}

export interface ByeFrame {
  type: "bye";
  code?: string;
  reason?: string;
  resume?: boolean;
  retry_after?: number | null;
}

type Body =
  | Welcome
  | Ack
  | ErrorFrame
  | MessageFrame
  | RunFrame
  | DeltaFrame
  | HistoryFrame
  | ByeFrame
  | { type: "thread"; thread: Thread }
  | { type: "threads"; threads: Thread[] }
  | { type: "checked"; count: number }
  | { type: "who"; online: string[] }
  | { type: "presence"; user: string; online: boolean }
  | { type: "typing"; thread: string; user: string }
  | { type: "run.reset"; run: string; attempt: number }
  | { type: "reset"; thread: string; reason?: string }
  | { type: "run"; run: unknown }
  | { type: "ok" | "pong" };

/** Any frame from the server. */
export type Frame = Body & { id?: number | string };

/** The bytes are not length-prefixed frames: the connection cannot be trusted any further. */
export class BrokenFraming extends Error {}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function utf8Length(text: string): number {
  return encoder.encode(text).length;
}

export function encodeFrame(frame: object): Uint8Array<ArrayBuffer> {
  const body = encoder.encode(JSON.stringify(frame));
  if (body.length > MAX_FRAME_BYTES) {
    throw new RangeError(`A frame holds at most ${MAX_FRAME_BYTES} bytes, this one has ${body.length}.`);
  }
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, false);
  bytes.set(body, 4);
  return bytes;
}

/** Every frame of one binary message, in order. Raises BrokenFraming. */
export function decodeFrames(data: ArrayBuffer): Frame[] {
  const view = new DataView(data);
  const frames: Frame[] = [];
  let at = 0;
  while (at < data.byteLength) {
    if (data.byteLength - at < 4) throw new BrokenFraming("A length of 4 bytes was expected, the message ended.");
    const length = view.getUint32(at, false);
    at += 4;
    if (length > data.byteLength - at) {
      throw new BrokenFraming(`A frame of ${length} bytes was announced, ${data.byteLength - at} are left.`);
    }
    frames.push(parseFrame(new Uint8Array(data, at, length)));
    at += length;
  }
  return frames;
}

function parseFrame(bytes: Uint8Array): Frame {
  let frame: unknown;
  try {
    frame = JSON.parse(decoder.decode(bytes));
  } catch (cause) {
    throw new BrokenFraming("A frame is not UTF-8 JSON.", { cause });
  }
  if (typeof frame !== "object" || frame === null || typeof (frame as { type?: unknown }).type !== "string") {
    throw new BrokenFraming("A frame is a JSON object with a type.");
  }
  return frame as Frame;
}
