/** How threads are told apart and called. The conversation that is open is a thread's id, or `@name` before it has one. */
import type { Log, ThreadLog } from "./log.ts";
import { sameName } from "./names.ts";
import type { Message, Thread } from "./wire.ts";

export const LOBBY = "lobby";

/** A private thread has two members, no title, and cannot be joined. */
export function isPrivate(thread: Thread): boolean {
  return !thread.public && !thread.title && thread.member_count === 2;
}

export function otherMember(thread: Thread, self: string): string {
  return thread.members.find((name) => !sameName(name, self)) ?? self;
}

export function titleOf(thread: Thread, self: string): string {
  if (isPrivate(thread)) return otherMember(thread, self);
  if (thread.title) return thread.title;
  if (thread.id === LOBBY) return "lobby";
  const others = thread.members.filter((name) => !sameName(name, self));
  return others.length ? others.slice(0, 4).join(", ") : "Untitled group";
}

/** The open conversation's place for a name: its private thread if there is one. */
export function placeOf(log: Log, name: string, self: string): string {
  for (const { about } of log.threads.values()) {
    if (isPrivate(about) && sameName(otherMember(about, self), name)) return about.id;
  }
  return `@${name}`;
}

/** A thread by its title or id, as written after `#`. */
export function findThread(log: Log, written: string): string | null {
  if (log.threads.has(written)) return written;
  for (const { about } of log.threads.values()) {
    if (about.title && sameName(about.title, written)) return about.id;
  }
  return null;
}

/** Lobby first, then groups by title, then private threads by name. */
export function ordered(log: Log, self: string): { groups: ThreadLog[]; privates: ThreadLog[] } {
  const byTitle = (a: ThreadLog, b: ThreadLog): number =>
    Number(b.about.id === LOBBY) - Number(a.about.id === LOBBY) ||
    titleOf(a.about, self).localeCompare(titleOf(b.about, self));
  const all = [...log.threads.values()];
  return {
    groups: all.filter(({ about }) => !isPrivate(about)).sort(byTitle),
    privates: all.filter(({ about }) => isPrivate(about)).sort(byTitle),
  };
}

export type Look = "own" | "other" | "notice" | "device";

/** Joins and leaves are notices; what devices and their readers say to each other has a look of its own. */
export function lookOf(message: Message, thread: Thread | undefined, self: string): Look {
  const aboutMember = message.metadata?.["member"] !== undefined;
  if (message.type === "notification" && (aboutMember || (thread && !isPrivate(thread)))) return "notice";
  if (sameName(message.sender, self)) return "own";
  return message.type === "chat" ? "other" : "device";
}

/** The values a device sent along, as short text; null when there are none, or the text says them already. */
export function measured(message: Message): string | null {
  const { temperature, temps, unit } = message.metadata ?? {};
  const first = Array.isArray(temps) ? temps[0] : temperature;
  if (message.text.includes(String(first))) return null;
  const of = typeof unit === "string" ? ` °${unit}` : "";
  if (typeof temperature === "number") return `${temperature}${of}`;
  if (Array.isArray(temps) && temps.length) return `${temps.filter((one) => typeof one === "number").join(" · ")}${of}`;
  return null;
}

/** The answer's end, if this message is an answer. */
export function answerState(message: Message): "completed" | "failed" | "cancelled" | null {
  const state = message.metadata?.["state"];
  if (state === "failed" || state === "cancelled") return state;
  return message.run ? "completed" : null;
}
