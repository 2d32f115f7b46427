/**
 * The state of the page and what a person can do. What the server says changes it in hearing.ts; the components read
 * its signals. The log itself is plain data; the ticker tells when to look at it again.
 */
import { computed, signal } from "@preact/signals";
import { Connection, Refused, type Phase, type Socket } from "./connection.ts";
import { findThread, placeOf } from "./conversations.ts";
import { readLine } from "./grammar.ts";
import { Hearing } from "./hearing.ts";
import type { Rules } from "./account.ts";
import { keepOutbox, keptIdentity, keptOutbox, type Identity } from "./keep.ts";
import { Log } from "./log.ts";
import { Roles } from "./roles.ts";
import type { Way } from "./signing.ts";
import { Ticker } from "./ticker.ts";
import type { Frame, Post, Request, Role } from "./wire.ts";
import { MAX_TEXT_BYTES, utf8Length } from "./wire.ts";

export const DEVICE = "thermometer1";
export const ASSISTANT = "openai";
const NOTE_MS = 4000;
const SEEN_AFTER_MS = 500;
const TYPING_EVERY_MS = 3000;
const PAGE = 50;

export interface Note {
  id: number;
  text: string;
  kind: "info" | "error";
}

/** A post that is not in the log yet. `echoed` when its message came before its ack. */
export interface Pending {
  post: Post;
  /** Where it goes. */
  place: string;
  /** The composer's line it was, and where that stood; null for what a button said. */
  written: { line: string; place: string } | null;
  echoed: boolean;
  problem: string | null;
}

export class Chat {
  readonly log = new Log();
  readonly ticker = new Ticker();
  readonly me = signal<string | null>(null);
  readonly phase = signal<Phase>({ at: "stopped" });
  readonly signInProblem = signal<string | null>(null);
  readonly rules = signal<Rules>({ guests: true, registration: true });
  readonly way = signal<Way>("guest");
  /** The sign-in form waits for an answer. */
  readonly asking = signal(false);
  readonly admin = signal(false);
  readonly open = signal("lobby");
  readonly online = signal<readonly string[]>([]);
  readonly typing = signal<readonly { thread: string; user: string }[]>([]);
  readonly pending = signal<readonly Pending[]>([]);
  readonly notes = signal<readonly Note[]>([]);
  /** A problem with what is in the composer; stays until the text changes. */
  readonly composerProblem = signal<string | null>(null);
  readonly drafts = signal<ReadonlyMap<string, string>>(new Map());
  readonly heardCount = signal(0);
  readonly helpShown = signal(false);
  /** Rises when the composer should take the focus. */
  readonly focusWanted = signal(0);
  /** Answers the reader asked to stop. */
  readonly stopping = signal<ReadonlySet<string>>(new Set());
  /** What became of one's own messages, by `thread:seq`. */
  readonly deliveries = new Map<string, string>();
  /** Threads the last check brought something from. */
  readonly checked = new Set<string>();
  readonly draft = computed(() => this.drafts.value.get(this.open.value) ?? "");
  /** One's own role, by thread; of those that were opened. */
  readonly roles = new Map<string, Role>();
  readonly rolesOf = new Roles(this);
  readonly connection: Connection;
  identity: Identity = keptIdentity() ?? { name: "", token: null, registered: false };
  /** Something of one's own is under way that ends this sign-in. */
  changing = false;
  private notesMade = 0;
  private typingSent = 0;
  /** What was seen and is not told yet: seq by thread. */
  private readonly toTell = new Map<string, number>();
  private tellTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    openSocket: () => Socket,
    readonly reload: () => void = () => location.reload(),
  ) {
    this.connection = new Connection(openSocket, new Hearing(this));
  }

  /** Connect as whom `identity` names, with the posts that waited in this tab. */
  start(): void {
    for (const post of keptOutbox(this.identity.name)) {
      if (this.connection.outbox.some((one) => one.key === post.key)) continue;
      const place = post.thread ?? `@${post.to ?? ""}`;
      this.pending.value = [...this.pending.value, { post, place, written: null, echoed: false, problem: null }];
      this.connection.post(post);
    }
    this.connection.start();
  }

  /** Somebody else comes in on this page: nothing of who was here before is theirs. */
  forget(): void {
    this.connection.stop();
    this.log.list([]);
    this.log.epoch = undefined;
    this.roles.clear();
    this.deliveries.clear();
    this.pending.value = [];
    this.drafts.value = new Map();
    this.composerProblem.value = null;
    this.admin.value = false;
    this.open.value = "lobby";
  }

  ask(frame: Request, apply?: (reply: Frame) => void): Promise<Frame | null> {
    return this.connection.request(frame, apply).catch((refused: unknown) => {
      if (refused instanceof Refused) this.note(refused.message, "error");
      return null;
    });
  }

  /** Ask for something nobody misses when it fails. */
  mention(frame: Request, apply?: (reply: Frame) => void): void {
    this.connection.request(frame, apply).catch(() => {});
  }

  note(text: string, kind: Note["kind"] = "info"): void {
    const id = ++this.notesMade;
    this.notes.value = [...this.notes.value.slice(-3), { id, text, kind }];
    setTimeout(() => (this.notes.value = this.notes.value.filter((note) => note.id !== id)), NOTE_MS);
  }

  openPlace(place: string): void {
    this.open.value = place;
    this.composerProblem.value = null;
    this.readNewest(place);
  }

  openPrivate(name: string): void {
    this.openPlace(placeOf(this.log, name, this.me.value ?? ""));
    this.focusWanted.value++;
  }

  setDraft(place: string, text: string): void {
    this.drafts.value = new Map(this.drafts.value).set(place, text);
  }

  /** Do what the composer's line says. */
  async submit(line: string): Promise<void> {
    const meant = readLine(line);
    const place = this.open.value;
    this.composerProblem.value = null;
    if (!meant) return;
    if ("text" in meant && utf8Length(meant.text) > MAX_TEXT_BYTES) {
      this.composerProblem.value = `A message holds at most ${MAX_TEXT_BYTES / 1024} KiB; this one has ${Math.ceil(utf8Length(meant.text) / 1024)}.`;
      return;
    }
    let target = place;
    if (meant.kind === "to") target = placeOf(this.log, meant.name, this.me.value ?? "");
    if (meant.kind === "thread") {
      const found = findThread(this.log, meant.thread);
      if (!found) {
        this.composerProblem.value = `You are in no thread called “${meant.thread}”.`;
        return;
      }
      target = found;
    }
    this.setDraft(place, "");
    if (meant.kind === "post" || meant.kind === "to" || meant.kind === "thread") {
      if (target !== place) this.openPlace(target);
      this.post(target, meant.text, {}, { line, place });
    } else if (meant.kind === "history") this.openPrivate(meant.name);
    else if (meant.kind === "help") this.helpShown.value = true;
    else if (meant.kind === "check") await this.check();
    else this.note(`Online: ${this.online.value.join(", ") || "nobody"}`);
  }

  post(place: string, text: string, more: Partial<Post> = {}, written: Pending["written"] = null): void {
    const where = place.startsWith("@") ? { to: place.slice(1) } : { thread: place };
    const post: Post = { key: newKey(), ...where, text, ...more };
    this.pending.value = [...this.pending.value, { post, place, written, echoed: false, problem: null }];
    this.connection.post(post);
    this.rememberOutbox();
    this.typingSent = 0;
  }

  postAgain(failed: Pending): void {
    this.discard(failed);
    const { message_type } = failed.post;
    this.post(failed.place, failed.post.text, message_type ? { message_type } : {}, failed.written);
  }

  discard(failed: Pending): void {
    this.pending.value = this.pending.value.filter((one) => one.post.key !== failed.post.key);
  }

  /** Tell a device something, where its answer will be seen. */
  command(text: string): void {
    this.openPrivate(DEVICE);
    this.post(this.open.value, text, { message_type: "command" });
  }

  /** Fetch what is unseen and show it. On the server it counts as seen now; here, once it was looked at. */
  async check(): Promise<void> {
    this.checked.clear();
    const reply = await this.ask({ type: "check" });
    if (reply?.type !== "checked") return;
    const [first] = this.checked;
    if (first && !this.checked.has(this.open.value)) this.openPlace(first);
    this.note(reply.count ? `${reply.count} stored ${reply.count === 1 ? "message" : "messages"}.` : "No more messages.");
  }

  readNewest(place: string): void {
    const log = this.log.threads.get(place);
    if (!log || this.phase.value.at !== "connected") return;
    if (!log.read) void this.readPage(place, undefined);
    void this.rolesOf.learn(place);
  }

  readEarlier(place: string): Promise<void> {
    return this.readPage(place, this.log.threads.get(place)?.messages[0]?.seq);
  }

  /** The reader saw everything up to here. */
  displayed(thread: string, seq: number): void {
    if (seq <= (this.log.threads.get(thread)?.seen ?? seq)) return;
    this.toTell.set(thread, seq);
    this.tellTimer ??= setTimeout(() => this.tellSeen(), SEEN_AFTER_MS);
  }

  private tellSeen(): void {
    this.tellTimer = undefined;
    for (const [thread, seq] of this.toTell) {
      this.mention({ type: "seen", thread, seq }, () => {
        this.log.moveSeen(thread, seq);
        this.ticker.touch("");
      });
    }
    this.toTell.clear();
  }

  isTyping(): void {
    const now = Date.now();
    if (this.open.value.startsWith("@") || now - this.typingSent < TYPING_EVERY_MS) return;
    this.typingSent = now;
    this.mention({ type: "typing", thread: this.open.value });
  }

  async stopAnswer(run: string): Promise<void> {
    this.stopping.value = new Set(this.stopping.value).add(run);
    if (!(await this.ask({ type: "run.cancel", run }))) {
      this.stopping.value = new Set([...this.stopping.value].filter((one) => one !== run));
    }
  }

  /** Presence is told in threads of at most 50; whoever is in a larger one asks. */
  refreshOnline(): void {
    this.mention({ type: "who" }, (reply) => {
      if (reply.type === "who") this.online.value = sorted(reply.online);
    });
  }

  refreshThreads(): void {
    this.mention({ type: "thread.list" }, (reply) => {
      if (reply.type !== "threads") return;
      this.log.list(reply.threads);
      if (!this.open.value.startsWith("@") && !this.log.threads.has(this.open.value)) this.open.value = "lobby";
      this.readNewest(this.open.value);
      this.ticker.touch(this.open.value);
    });
  }

  rememberOutbox(): void {
    keepOutbox(this.identity.name, this.connection.outbox);
  }

  private async readPage(thread: string, before: number | undefined): Promise<void> {
    const place = before === undefined ? {} : { before };
    await this.ask({ type: "history", thread, limit: PAGE, ...place }, (reply) => {
      if (reply.type !== "history") return;
      this.log.read(thread, reply, { newest: before === undefined });
      this.ticker.touch(thread);
    });
  }
}

export function sorted(names: readonly string[]): string[] {
  return [...names].sort((a, b) => a.localeCompare(b));
}

/** Unguessable on plain http too, where crypto.randomUUID does not exist. */
function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
