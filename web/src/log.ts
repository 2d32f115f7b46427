/**
 * What this reader knows of every thread: its messages by number, how far it has heard, how far it has seen.
 * Stored and live messages, histories and repetitions after a reconnection all end in the same order, once each.
 */
import { Runs } from "./runs.ts";
import type { HistoryFrame, Message, MessageFrame, Resume, Thread, Welcome } from "./wire.ts";

/** Above this, the oldest half of a thread leaves memory; the history brings it back when asked. */
const MESSAGES_KEPT = 2000;

/** A frame's objects hold at most 256 keys; threads beyond this are read again after a reconnection. */
const RESUMED_THREADS = 250;

export class ThreadLog {
  /** Ascending by seq, each seq once. */
  readonly messages: Message[] = [];
  /** The last seq of the unbroken feed; undefined until the feed has begun. */
  heard: number | undefined;
  seen = 0;
  head = 0;
  /** Whether the newest page was read, so that what precedes is known to be there or not. */
  read = false;
  earlier = true;

  constructor(public about: Thread) {}

  get unread(): number {
    return Math.max(0, this.head - this.seen);
  }

  /** Put one message in its place. False when it was there already. */
  place(message: Message): boolean {
    this.head = Math.max(this.head, message.seq);
    const at = this.position(message.seq);
    const there = this.messages[at];
    if (there?.seq === message.seq) {
      // A deleted message keeps its number and comes again, empty.
      if (!message.metadata?.["deleted"] || there.metadata?.["deleted"]) return false;
      this.messages[at] = message;
      return true;
    }
    this.messages.splice(at, 0, message);
    if (message.seq === 1) this.earlier = false;
    if (this.messages.length > MESSAGES_KEPT && at === this.messages.length - 1) {
      this.messages.splice(0, MESSAGES_KEPT / 2);
      this.earlier = true;
    }
    return true;
  }

  find(seq: number): Message | undefined {
    const message = this.messages[this.position(seq)];
    return message?.seq === seq ? message : undefined;
  }

  forget(): void {
    this.messages.length = 0;
    this.heard = undefined;
    this.head = 0;
    this.read = false;
    this.earlier = true;
  }

  private position(seq: number): number {
    let low = 0;
    let high = this.messages.length;
    const last = this.messages[high - 1];
    if (!last || last.seq < seq) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.messages[middle]!.seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class Log {
  epoch: string | undefined;
  readonly threads = new Map<string, ThreadLog>();
  readonly runs = new Runs();

  /** What a `hello` tells the server it has, so that the feed continues there. */
  resume(): Resume | undefined {
    if (this.epoch === undefined) return undefined;
    const threads: Record<string, number> = {};
    for (const [id, log] of [...this.threads].filter(([, log]) => log.heard !== undefined)) {
      if (Object.keys(threads).length < RESUMED_THREADS) threads[id] = log.heard!;
      else log.forget();
    }
    return { epoch: this.epoch, threads, runs: this.runs.resume() };
  }

  welcome(frame: Welcome): void {
    this.epoch = frame.server.epoch;
    // Without a place of our own, the feed begins after what we have seen.
    for (const log of this.list(frame.threads)) log.heard ??= log.about.seen;
  }

  /** These are all the threads there are. */
  list(threads: readonly Thread[]): ThreadLog[] {
    const listed = new Set(threads.map((thread) => thread.id));
    for (const id of [...this.threads.keys()]) if (!listed.has(id)) this.drop(id);
    return threads.map((thread) => this.describe(thread));
  }

  /** Take what is said of a thread; make it known if it is new. */
  describe(thread: Thread): ThreadLog {
    let log = this.threads.get(thread.id);
    if (!log) {
      log = new ThreadLog(thread);
      this.threads.set(thread.id, log);
      // An event does not tell what we have seen; a thread that just came up is unread from its latest message on.
      log.seen = thread.seen ?? Math.max(0, thread.head - 1);
    }
    log.about = thread;
    log.head = Math.max(log.head, thread.head);
    if (thread.seen !== undefined) log.seen = Math.max(log.seen, thread.seen);
    if (log.head === 0) log.earlier = false;
    return log;
  }

  /** One message of the feed. False when it was known. Frames that answer a `check` are no part of the feed. */
  hear(frame: MessageFrame & { id?: number | string }, self: string): boolean {
    const { message } = frame;
    let log = this.threads.get(frame.thread);
    if (!log) {
      const members = [message.sender, message.destination];
      const about = { id: frame.thread, members, member_count: 2, head: 0, public: false, seen: message.seq - 1 };
      log = this.describe(about);
      log.earlier = message.seq > 1;
    }
    if (frame.id === undefined) log.heard = Math.max(log.heard ?? 0, frame.seq);
    if (message.run) this.runs.ended(message.run);
    return this.place(message, self);
  }

  /** A message known otherwise than from the feed, such as one's own by its ack. False when it was known. */
  place(message: Message, self: string): boolean {
    const log = this.threads.get(message.thread);
    if (!log) return false;
    // The server moves the cursor of a writer who had seen everything before.
    if (message.sender === self && log.seen === message.seq - 1) log.seen = message.seq;
    return log.place(message);
  }

  /** A page of history. `newest` when no place was named in the request. */
  read(thread: string, frame: HistoryFrame, page: { newest: boolean }): void {
    const log = this.threads.get(thread);
    if (!log) return;
    const first = log.messages[0]?.seq ?? Infinity;
    for (const message of frame.messages) {
      if (message.run) this.runs.ended(message.run);
      log.place(message);
    }
    const oldest = frame.messages[0]?.seq;
    if (oldest === undefined ? !page.newest || log.messages.length === 0 : oldest <= first) log.earlier = frame.more;
    if (page.newest) {
      log.read = true;
      // After a reset there is no feed to continue; it begins where this page ends.
      log.heard ??= log.head;
    }
  }

  moveSeen(thread: string, seq: number): void {
    const log = this.threads.get(thread);
    if (log) log.seen = Math.max(log.seen, seq);
  }

  /** The feed of this thread cannot be continued: nothing we hold of it counts. */
  reset(thread: string): void {
    this.threads.get(thread)?.forget();
    this.runs.forgetThread(thread);
  }

  drop(thread: string): void {
    this.threads.delete(thread);
    this.runs.forgetThread(thread);
  }
}
