/**
 * One lasting conversation with the server over many sockets. It says hello, tells what was heard so far, and comes
 * back after every loss; what was posted but not acknowledged goes out again under the same key, so that it counts once.
 *
 *   connecting ──welcome──▶ connected ──loss──▶ waiting ──time, network, or a reader coming back──▶ connecting
 *   a refused hello, a sign-in that ended, halt() or stop() lead to stopped
 */
import { decodeFrames, encodeFrame } from "./wire.ts";
import type { Ack, ByeFrame, ErrorFrame, Frame, Post, Request, Welcome } from "./wire.ts";

export type Phase =
  | { at: "connecting" }
  | { at: "connected" }
  | { at: "waiting"; until: number }
  | { at: "stopped" };

/** The part of a WebSocket that is used, so that tests can be the server. */
export interface Socket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

export interface Listener {
  /** The hello for the next socket: who we are and what we have. */
  hello(): Extract<Request, { type: "hello" }>;
  /** False: that is not who we are; nothing is sent. */
  welcomed(welcome: Welcome): boolean;
  /** The hello was refused. True: say the (changed) hello again; false: stop. */
  refused(error: ErrorFrame): boolean;
  /** What we came in with is worth nothing any more; the connection has stopped. */
  dismissed(error: ErrorFrame): void;
  heard(frame: Frame): void;
  acked(post: Post, ack: Ack): void;
  postRefused(post: Post, error: ErrorFrame): void;
  moved(phase: Phase): void;
}

/** A reply that says no. */
export class Refused extends Error {
  constructor(readonly error: ErrorFrame) {
    super(error.detail || error.title || error.code);
  }
}

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const PING_EVERY_MS = 20_000;
const SILENCE_MS = 10_000;
/** The outcome is unknown or the server is going: the same key decides later. */
const TRY_AGAIN = new Set(["unavailable", "shutdown", "slow"]);
const GONE: ErrorFrame = { type: "error", code: "unavailable", detail: "The connection was lost before the answer came." };

type Timer = ReturnType<typeof setTimeout>;
interface Waiting {
  resolve(frame: Frame): void;
  reject(error: Refused): void;
}

export class Connection {
  phase: Phase = { at: "stopped" };
  /** Posts without an acknowledgement, oldest first. */
  readonly outbox: Post[] = [];
  private socket: Socket | undefined;
  private requests = new Map<number, Waiting>();
  private lastId = 0;
  private failures = 0;
  private earliestReturn = 0;
  private retry: Timer | undefined;
  private pinging: Timer | undefined;
  private deadline: Timer | undefined;

  constructor(
    private readonly open: () => Socket,
    private readonly listener: Listener,
    private readonly random: () => number = Math.random,
  ) {}

  start(): void {
    this.failures = 0;
    this.connect();
  }

  /** Leave for good. Posts that were not acknowledged are given up. */
  stop(): void {
    if (this.phase.at === "connected") this.write({ type: "bye" });
    this.outbox.length = 0;
    this.halt();
  }

  /** Hang up until `start` is called. Posts that were not acknowledged wait. */
  halt(): void {
    this.hangUp(1000);
    this.move({ at: "stopped" });
  }

  /** Something suggests that now is a good moment: the network is back, the reader looks at the page. */
  nudge(): void {
    if (this.phase.at === "waiting" && Date.now() >= this.earliestReturn) this.connect();
    else if (this.phase.at === "connected") this.ping();
  }

  /**
   * Ask once, on this socket. Rejects with Refused when the server says no or the socket is lost. What the reply
   * changes belongs in `apply`, which is called before the next frame is heard; a promise would tell of it later.
   */
  request(frame: Request, apply: (reply: Frame) => void = () => {}): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (this.phase.at !== "connected") return reject(new Refused(GONE));
      this.ask(frame, { resolve: (reply) => (apply(reply), resolve(reply)), reject });
    });
  }

  /** Send a message however many sockets it takes; `acked` or `postRefused` is called once, or neither after stop(). */
  post(post: Post): void {
    this.outbox.push(post);
    if (this.phase.at === "connected") this.send(post);
  }

  private connect(): void {
    this.hangUp();
    this.move({ at: "connecting" });
    const socket = this.open();
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.greet();
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = () => this.lost();
    this.expect(SILENCE_MS);
  }

  private greet(): void {
    this.ask(this.listener.hello(), {
      resolve: (frame) => {
        if (frame.type === "welcome") this.welcomed(frame);
      },
      reject: ({ error }) => this.refused(error),
    });
  }

  private welcomed(welcome: Welcome): void {
    this.earliestReturn = 0;
    if (!this.listener.welcomed(welcome)) return this.halt();
    this.move({ at: "connected" });
    this.keepPinging();
    for (const post of [...this.outbox]) this.send(post);
  }

  private refused(error: ErrorFrame): void {
    if (error === GONE) return;
    if (TRY_AGAIN.has(error.code) || error.retry_after != null) {
      this.postpone(error.retry_after);
      this.lost();
    } else if (this.listener.refused(error)) {
      this.connect();
    } else {
      this.halt();
    }
  }

  private receive(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return;
    let frames: Frame[];
    try {
      frames = decodeFrames(data);
    } catch {
      this.lost();
      return;
    }
    clearTimeout(this.deadline);
    const socket = this.socket;
    for (const frame of frames) if (this.socket === socket) this.take(frame);
  }

  private take(frame: Frame): void {
    if (frame.type === "bye") return this.dismissed(frame);
    const waiting = typeof frame.id === "number" ? this.requests.get(frame.id) : undefined;
    // A `check` is answered by messages before its `checked`.
    if (!waiting || frame.type === "message") return this.listener.heard(frame);
    this.requests.delete(frame.id as number);
    if (frame.type === "error") waiting.reject(new Refused(frame));
    else waiting.resolve(frame);
  }

  private dismissed(bye: ByeFrame): void {
    this.postpone(bye.retry_after);
    const error: ErrorFrame = { type: "error", code: bye.code ?? "", detail: bye.reason ?? "" };
    if (bye.code !== "unauthorized" && bye.code !== "name_taken") return this.lost();
    this.halt();
    this.listener.dismissed(error);
  }

  private send(post: Post): void {
    this.ask(
      { type: "message.send", ...post },
      {
        resolve: (frame) => {
          this.settle(post);
          if (frame.type === "ack") this.listener.acked(post, frame);
        },
        reject: ({ error }) => {
          if (error === GONE) return;
          if (TRY_AGAIN.has(error.code)) {
            setTimeout(() => this.sendAgain(post), Math.max(this.delay(), (error.retry_after ?? 0) * 1000));
            return;
          }
          this.settle(post);
          this.listener.postRefused(post, error);
        },
      },
    );
  }

  private sendAgain(post: Post): void {
    if (this.phase.at === "connected" && this.outbox.includes(post)) this.send(post);
  }

  private settle(post: Post): void {
    const at = this.outbox.indexOf(post);
    if (at >= 0) this.outbox.splice(at, 1);
  }

  private ask(frame: Request, waiting: Waiting): void {
    const id = ++this.lastId;
    this.requests.set(id, waiting);
    this.write({ ...frame, id });
  }

  private write(frame: object): void {
    this.socket?.send(encodeFrame(frame));
  }

  private keepPinging(): void {
    clearInterval(this.pinging);
    this.pinging = setInterval(() => {
      // Only a socket that lasts is a success; one that is welcomed and lost at once must not be chased.
      this.failures = 0;
      this.ping();
    }, PING_EVERY_MS);
  }

  private ping(): void {
    this.ask({ type: "ping" }, { resolve: () => {}, reject: () => {} });
    this.expect(SILENCE_MS);
  }

  /** If nothing at all arrives within this time, the socket is dead, whatever it says. */
  private expect(ms: number): void {
    clearTimeout(this.deadline);
    this.deadline = setTimeout(() => this.lost(), ms);
  }

  private postpone(seconds: number | null | undefined): void {
    this.earliestReturn = Date.now() + Math.max(0, seconds ?? 0) * 1000;
  }

  private lost(): void {
    this.hangUp();
    const wait = Math.max(this.delay(), this.earliestReturn - Date.now());
    this.failures++;
    this.move({ at: "waiting", until: Date.now() + wait });
    this.retry = setTimeout(() => this.connect(), wait);
  }

  /** Full jitter: anything up to a limit that doubles, so that a thousand pages do not come back at once. */
  private delay(): number {
    return this.random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.failures);
  }

  private hangUp(code?: number): void {
    clearTimeout(this.retry);
    clearTimeout(this.deadline);
    clearInterval(this.pinging);
    const socket = this.socket;
    this.socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
    const unanswered = [...this.requests.values()];
    this.requests.clear();
    for (const waiting of unanswered) waiting.reject(new Refused(GONE));
  }

  private move(phase: Phase): void {
    this.phase = phase;
    this.listener.moved(phase);
  }
}
