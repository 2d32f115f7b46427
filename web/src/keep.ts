/** What this browser remembers: who one was, and posts that were not yet acknowledged when the page went away. */
import { sameName } from "./names.ts";
import type { Post } from "./wire.ts";

export interface Identity {
  name: string;
  /** A guest's, which proves that the name is still theirs. */
  token: string | null;
  /** Signed in with a password: the browser's cookie proves the name, and no script can read it. */
  registered: boolean;
}

const IDENTITY = "hubbub.identity";
const OUTBOX = "hubbub.outbox";

/** Who this tab was, else who this browser was last: two tabs may be two people. */
export function keptIdentity(): Identity | null {
  return asIdentity(read("sessionStorage", IDENTITY)) ?? browserIdentity();
}

/** Whoever signed in with a password speaks for the browser; a guest of another name speaks for one tab. */
export function keepIdentity(identity: Identity): void {
  keepIdentityOfTab(identity);
  const browser = browserIdentity();
  if (!identity.registered && browser?.registered && !sameName(browser.name, identity.name)) return;
  // With the time, so that other tabs hear of it when somebody signs in again.
  write("localStorage", IDENTITY, identity.registered ? { ...identity, at: Date.now() } : identity);
}

export function keepIdentityOfTab(identity: Identity): void {
  write("sessionStorage", IDENTITY, identity);
}

/** Tell of every change another tab makes to who this browser is. */
export function onOtherTab(changed: (identity: Identity | null) => void): void {
  addEventListener("storage", (event) => {
    if (event.key === IDENTITY) changed(browserIdentity());
  });
}

function browserIdentity(): Identity | null {
  return asIdentity(read("localStorage", IDENTITY));
}

function asIdentity(kept: unknown): Identity | null {
  const { name, token, registered } = (kept ?? {}) as Partial<Identity>;
  if (typeof name !== "string") return null;
  return { name, token: typeof token === "string" && !registered ? token : null, registered: registered === true };
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
