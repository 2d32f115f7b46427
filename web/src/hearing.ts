/** What each frame of the server changes. */
import { type Chat, sorted } from "./chat.ts";
import type { Listener, Phase } from "./connection.ts";
import { placeOf } from "./conversations.ts";
import { keepIdentity } from "./keep.ts";
import { sameName } from "./names.ts";
import { sentence } from "./runs.ts";
import { ended, noLonger } from "./signing.ts";
import type { Ack, ErrorFrame, Frame, Message, MessageFrame, Post, Request, Thread, Welcome } from "./wire.ts";

const TYPING_MS = 5000;
const RELIST_MS = 100;

export class Hearing implements Listener {
  private relist: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Chat) {}

  hello(): Extract<Request, { type: "hello" }> {
    const { identity, log } = this.chat;
    // Who signed in with a password says the name only: the socket was opened with the browser's cookie.
    const who = identity.token ? { token: identity.token } : { user: identity.name };
    const resume = log.resume();
    return { type: "hello", client: "web", ...who, ...(resume && { resume }) };
  }

  welcomed(welcome: Welcome): boolean {
    const { chat } = this;
    const { identity } = chat;
    if (identity.registered && !sameName(welcome.user, identity.name)) {
      ended(chat, noLonger(identity));
      return false;
    }
    if (identity.registered) {
      chat.identity = { name: welcome.user, token: null, registered: true };
    } else {
      chat.identity = { name: welcome.user, token: welcome.token ?? identity.token, registered: false };
    }
    keepIdentity(chat.identity);
    chat.signInProblem.value = null;
    chat.me.value = welcome.user;
    chat.log.welcome(welcome);
    if (!chat.open.value.startsWith("@") && !chat.log.threads.has(chat.open.value)) chat.open.value = "lobby";
    chat.rolesOf.doubtAll();
    chat.ticker.touch(chat.open.value);
    return true;
  }

  moved(phase: Phase): void {
    this.chat.phase.value = phase;
    if (phase.at !== "connected") return;
    this.chat.readNewest(this.chat.open.value);
    this.chat.refreshOnline();
  }

  refused(error: ErrorFrame): boolean {
    const { chat } = this;
    // A token may have grown old; a guest's name may still be free.
    if (error.code === "unauthorized" && chat.identity.token) {
      chat.identity = { ...chat.identity, token: null };
      return true;
    }
    if (chat.identity.registered) {
      ended(chat, said(error));
      return false;
    }
    chat.me.value = null;
    if (error.code === "unauthorized") chat.way.value = "password";
    chat.signInProblem.value = error.code === "name_taken" ? `${said(error)} Choose another name.` : said(error);
    return false;
  }

  dismissed(error: ErrorFrame): void {
    // When one's own doing ends the sign-in, that goes on with the next one.
    if (!this.chat.changing) ended(this.chat, said(error));
  }

  acked(post: Post, ack: Ack): void {
    const { chat } = this;
    const pending = chat.pending.value.find((one) => one.post.key === post.key);
    chat.pending.value = chat.pending.value.filter((one) => one !== pending);
    chat.rememberOutbox();
    const delivery = deliveryOf(post, ack);
    chat.deliveries.set(`${ack.thread}:${ack.seq}`, delivery);
    this.knowThread(ack.thread, post.to);
    chat.log.place(ackedMessage(post, ack, chat.me.value ?? ""), chat.me.value ?? "");
    if (pending && chat.open.value === pending.place && pending.place !== ack.thread) {
      moveDraft(chat, pending.place, ack.thread);
      chat.openPlace(ack.thread);
    }
    // In the open conversation it stands under the message.
    if (ack.delivery === "stored" && chat.open.value !== ack.thread) chat.note(delivery);
    chat.ticker.touch(ack.thread);
  }

  postRefused(post: Post, error: ErrorFrame): void {
    const { chat } = this;
    const pending = chat.pending.value.find((one) => one.post.key === post.key);
    chat.rememberOutbox();
    if (!pending) return;
    // Nothing written is lost: it goes back to the composer, or, when something new stands there, stays to be sent again.
    const { written } = pending;
    if (written && !chat.drafts.value.get(written.place)) {
      chat.discard(pending);
      chat.setDraft(written.place, written.line);
      if (chat.open.value === pending.place) chat.openPlace(written.place);
      if (chat.open.value === written.place) chat.composerProblem.value = said(error);
      else chat.note(said(error), "error");
    } else {
      chat.pending.value = chat.pending.value.map((one) => (one === pending ? { ...one, problem: said(error) } : one));
    }
  }

  heard(frame: Frame): void {
    const { chat } = this;
    switch (frame.type) {
      case "message":
        return this.message(frame);
      case "run.queued":
      case "run.started":
      case "run.completed":
      case "run.failed":
      case "run.cancelled":
        chat.log.runs.hearState(frame);
        return chat.ticker.touch(frame.thread);
      case "run.delta":
        chat.log.runs.hearDelta(frame);
        return chat.ticker.touch(frame.thread);
      case "run.reset": {
        const run = chat.log.runs.hearReset(frame.run, frame.attempt);
        return run && chat.ticker.touch(run.thread);
      }
      case "thread":
        return this.thread(frame.thread);
      case "presence":
        return this.presence(frame.user, frame.online);
      case "typing":
        return this.typing(frame.thread, frame.user);
      case "reset":
        chat.log.reset(frame.thread);
        chat.ticker.touch(frame.thread);
        return this.relistSoon(); // it may be gone altogether
      case "error":
        return chat.note(said(frame), "error");
    }
  }

  private message(frame: MessageFrame & { id?: number | string }): void {
    const { chat } = this;
    const { message } = frame;
    const self = chat.me.value ?? "";
    if (sameName(message.sender, self)) this.echo(message);
    else this.notTyping(frame.thread, message.sender);
    if (!chat.log.threads.has(frame.thread)) this.relistSoon();
    if (frame.id !== undefined) chat.checked.add(frame.thread);
    const fresh = chat.log.hear(frame, self);
    chat.rolesOf.noticed(message);
    // One's own was put in its place by its ack already.
    if (fresh || sameName(message.sender, self)) chat.heardCount.value++;
    if (!fresh) return chat.ticker.touch(frame.thread);
    const private_ = `@${message.sender}`;
    if (chat.open.value.toLowerCase() === private_.toLowerCase() && placeOf(chat.log, message.sender, self) === frame.thread) {
      moveDraft(chat, chat.open.value, frame.thread);
      chat.openPlace(frame.thread);
    }
    chat.ticker.touch(frame.thread);
  }

  /** Ask what our threads are; once for all that makes us wonder. */
  private relistSoon(): void {
    clearTimeout(this.relist);
    this.relist = setTimeout(() => this.chat.refreshThreads(), RELIST_MS);
  }

  /** One's own message may come before its ack; then the waiting copy is not shown beside it. */
  private echo(message: Message): void {
    const { chat } = this;
    const waiting = chat.pending.value.find(
      ({ post, echoed, problem }) =>
        !echoed && !problem && post.text === message.text &&
        (post.thread === message.thread || (post.to !== undefined && sameName(post.to, message.destination))),
    );
    if (waiting) chat.pending.value = chat.pending.value.map((one) => (one === waiting ? { ...one, echoed: true } : one));
  }

  private thread(thread: Thread): void {
    const { chat } = this;
    const self = chat.me.value ?? "";
    const gone = thread.members.length === thread.member_count && !thread.members.some((name) => sameName(name, self));
    if (gone && chat.log.threads.has(thread.id)) {
      chat.log.drop(thread.id);
      if (chat.open.value === thread.id) chat.openPlace("lobby");
    } else if (!gone) {
      chat.log.describe(thread);
      chat.rolesOf.threadChanged(thread);
      const place = chat.open.value;
      if (place.startsWith("@") && placeOf(chat.log, place.slice(1), self) === thread.id) {
        moveDraft(chat, place, thread.id);
        chat.openPlace(thread.id);
      }
    }
    chat.ticker.touch(thread.id);
  }

  /** The private thread an ack names may be news. */
  private knowThread(id: string, to: string | undefined): void {
    const { log, me } = this.chat;
    if (log.threads.has(id) || to === undefined) return;
    log.describe({ id, title: "", members: [me.value ?? "", to], member_count: 2, head: 0, public: false, seen: 0 });
  }

  private presence(user: string, online: boolean): void {
    const others = this.chat.online.value.filter((name) => !sameName(name, user));
    this.chat.online.value = sorted(online ? [...others, user] : others);
    if (!online) this.notTyping(null, user);
  }

  private typing(thread: string, user: string): void {
    const { chat } = this;
    if (sameName(user, chat.me.value ?? "")) return;
    const entry = { thread, user };
    this.notTyping(thread, user);
    chat.typing.value = [...chat.typing.value, entry];
    setTimeout(() => (chat.typing.value = chat.typing.value.filter((one) => one !== entry)), TYPING_MS);
  }

  private notTyping(thread: string | null, user: string): void {
    const { typing } = this.chat;
    const left = typing.value.filter((one) => !((thread ?? one.thread) === one.thread && sameName(one.user, user)));
    if (left.length !== typing.value.length) typing.value = left;
  }
}

function moveDraft(chat: Chat, from: string, to: string): void {
  const text = chat.drafts.value.get(from);
  if (text && !chat.drafts.value.get(to)) chat.setDraft(to, text);
  chat.setDraft(from, "");
}

function said(error: ErrorFrame): string {
  const text = sentence(error) ?? error.code.replaceAll("_", " ");
  return error.retry_after ? `${text} Try again in ${Math.ceil(error.retry_after)} s.` : text;
}

/** In the words of line mode where they fit. */
function deliveryOf(post: Post, ack: Ack): string {
  if (ack.delivery === "live") return "✓";
  const [name, ...more] = ack.offline ?? [];
  if (name && !more.length && (ack.offline_count ?? 1) <= 1) return `User '${name}' is offline. Message saved.`;
  if (post.to) return `User '${post.to}' is offline. Message saved.`;
  return "Nobody else is online. Message saved.";
}

function ackedMessage(post: Post, ack: Ack, sender: string): Message {
  return {
    id: ack.message,
    thread: ack.thread,
    seq: ack.seq,
    sender,
    destination: post.to ?? ack.thread,
    type: post.message_type ?? "chat",
    text: post.text,
    timestamp: ack.timestamp,
    metadata: post.metadata ?? {},
    reply_to: post.reply_to ?? null,
    run: null,
  };
}
