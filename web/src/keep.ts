/** What this browser remembers: who one was, and posts that were not yet acknowledged when the page went away. */
import type { Post } from "./wire.ts";

export interface Identity {
  name: string;
  token: string | null;
}

const IDENTITY = "hubbub.identity";
const OUTBOX = "hubbub.outbox";

/** Who this tab was, else who this browser was last: two tabs may be two people. */
export function keptIdentity(): Identity | null {
  const kept = (read("sessionStorage", IDENTITY) ?? read("localStorage", IDENTITY)) as Partial<Identity> | null;
  if (typeof kept?.name !== "string") return null;
  return { name: kept.name, token: typeof kept.token === "string" ? kept.token : null };
}

export function keepIdentity(identity: Identity): void {
  write("sessionStorage", IDENTITY, identity);
  write("localStorage", IDENTITY, identity);
}

/** Posts belong to one writer and one tab; another's are not sent. */
export function keptOutbox(name: string): Post[] {
  const kept = read("sessionStorage", OUTBOX) as { name?: unknown; posts?: unknown } | null;
  if (kept?.name !== name || !Array.isArray(kept.posts)) return [];
  return kept.posts.filter((post): post is Post => typeof post?.key === "string" && typeof post.text === "string");
}

export function keepOutbox(name: string, posts: readonly Post[]): void {
  write("sessionStorage", OUTBOX, { name, posts });
}

// Storage may be full or forbidden; the page works without it, it only forgets.
function read(storage: "localStorage" | "sessionStorage", key: string): unknown {
  try {
    return JSON.parse(window[storage].getItem(key) ?? "null");
  } catch {
    return null;
  }
}

function write(storage: "localStorage" | "sessionStorage", key: string, value: unknown): void {
  try {
    window[storage].setItem(key, JSON.stringify(value));
  } catch {
    /* nothing to be done */
  }
}
