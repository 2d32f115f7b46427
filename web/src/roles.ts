/** What one may do in a thread: asked when it is opened, and again when something says that it may have changed. */
import * as account from "./account.ts";
import type { Chat } from "./chat.ts";
import { isPrivate, LOBBY } from "./conversations.ts";
import { sameName } from "./names.ts";
import type { Message, Thread } from "./wire.ts";

const SETTLE_MS = 100;
/** Threads above this are not asked about at every change of their members; the server tells less of those, too. */
const LARGE = 50;
const PAGES = 25;

export class Roles {
  private readonly stale = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly chat: Chat) {}

  /** After a reconnection anything may have changed. */
  doubtAll(): void {
    for (const thread of this.chat.roles.keys()) this.stale.add(thread);
  }

  /** The thread changed. */
  threadChanged(thread: Thread): void {
    if (thread.member_count <= LARGE) this.doubt(thread.id);
  }

  /** A notice in a thread; those about roles say whose. */
  noticed({ type, thread, metadata }: Message): void {
    if (type !== "notification" || metadata?.["event"] !== "role") return;
    if (sameName(String(metadata["member"]), this.chat.me.value ?? "")) this.doubt(thread);
  }

  /** Find out, unless it is known. */
  async learn(place: string): Promise<void> {
    const { chat, stale } = this;
    const about = chat.log.threads.get(place)?.about;
    if (!about || isPrivate(about) || (chat.roles.has(place) && !stale.has(place))) return;
    stale.delete(place);
    const self = chat.me.value ?? "";
    let after = "";
    for (let page = 0; page < PAGES; page++) {
      const answer = await account.members(place, after, chat.identity.token);
      if (!answer.ok) return void stale.add(place); // the server still decides
      const mine = answer.value.members.find(({ name }) => sameName(name, self));
      if (mine) {
        chat.roles.set(place, mine.role);
        return chat.ticker.touch(place);
      }
      after = answer.value.members.at(-1)?.name ?? "";
      if (!answer.value.more || !after) return;
    }
  }

  private doubt(thread: string): void {
    this.stale.add(thread);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.learn(this.chat.open.value), SETTLE_MS);
  }
}

/** May one say who else may do what? */
export function manages(chat: Chat, thread: Thread): boolean {
  if (isPrivate(thread)) return false;
  return chat.roles.get(thread.id) === "owner" || (chat.admin.value && thread.public);
}

/** The lobby is everybody's. */
export function mayRemove(chat: Chat, thread: Thread): boolean {
  return thread.id !== LOBBY && manages(chat, thread);
}
