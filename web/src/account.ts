/**
 * What the page asks over HTTP: who one is, passwords, tokens, the members of a thread. Whoever signs in with a password
 * is known by a cookie that no script can read. The tokens in these answers are therefore left where they are.
 */
import type { Role } from "./wire.ts";

/** `status` is 0 when no answer came at all. */
export type Answer<T> = { ok: true; value: T } | { ok: false; status: number; problem: string };

export interface Me {
  user: string;
  registered: boolean;
  admin: boolean;
}

export type Scope = "read" | "write";

/** A token as it is listed. Times are RFC 3339. */
export interface Token {
  id: string;
  label: string;
  scopes: string[];
  created: string;
  expires: string | null;
}

export interface Member {
  name: string;
  role: Role;
  online: boolean;
}

const PATIENCE_MS = 15_000;

interface Asked {
  body?: object;
  token?: string | null;
  signsIn?: boolean;
}

/**
 * Guests say who they are by their token; without one, the browser's cookie does. What a guest asks leaves the cookie
 * alone, which may be somebody else's; only `signsIn` gets a new one.
 */
async function ask<T>(method: string, path: string, more: Asked = {}): Promise<Answer<T>> {
  const { body, token, signsIn } = more;
  const headers: Record<string, string> = {};
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers["Authorization"] = `Bearer ${token}`;
  try {
    const answer = await fetch(path, {
      method,
      headers,
      ...(body && { body: JSON.stringify(body) }),
      credentials: token && !signsIn ? "omit" : "same-origin",
      keepalive: true, // what was asked when the page goes away is still done
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const said = answer.status === 204 ? {} : ((await answer.json()) as { detail?: string; title?: string });
    if (answer.ok) return { ok: true, value: said as T };
    return { ok: false, status: answer.status, problem: said.detail || said.title || `The server answered ${answer.status}.` };
  } catch {
    return { ok: false, status: 0, problem: "The server did not answer. Try again in a moment." };
  }
}

/** What signing in takes here. */
export interface Rules {
  guests: boolean;
  registration: boolean;
}

export const rules = (): Promise<Answer<Rules>> => ask("GET", "api/auth");

export const whoAmI = (): Promise<Answer<Me>> => ask("GET", "api/me");

export const logIn = (user: string, password: string): Promise<Answer<{ user: string }>> =>
  ask("POST", "api/auth/login", { body: { user, password }, signsIn: true });

/** A guest who speaks under the name shows their token. */
export const register = (user: string, password: string, token?: string | null): Promise<Answer<{ user: string }>> =>
  ask("POST", "api/auth/register", { body: { user, password }, token: token ?? null, signsIn: true });

/** Makes what the browser has, or the guest's token, worthless. */
export const logOut = (token: string | null): Promise<Answer<object>> => ask("POST", "api/auth/logout", { token });

/** The sign-in lasts from now on as long as a new one. */
export const refresh = (): Promise<Answer<object>> => ask("POST", "api/auth/refresh");

export const changePassword = (old: string, fresh: string): Promise<Answer<object>> =>
  ask("POST", "api/auth/password", { body: { old, new: fresh }, signsIn: true });

export const tokens = (): Promise<Answer<{ tokens: Token[] }>> => ask("GET", "api/tokens");

/** `token` in the answer is the secret, told this once. `expires_in` in seconds; without it, the token is for good. */
export const makeToken = (wish: { label: string; scopes: Scope[]; expires_in?: number }): Promise<Answer<Token & { token: string }>> =>
  ask("POST", "api/tokens", { body: wish });

export const revokeToken = (id: string): Promise<Answer<object>> => ask("DELETE", `api/tokens/${encodeURIComponent(id)}`);

/** At most 200, in the order of joining, after the one called `after`. */
export function members(thread: string, after: string, token: string | null): Promise<Answer<{ members: Member[]; more: boolean }>> {
  const query = new URLSearchParams({ limit: "200", ...(after && { after }) });
  return ask("GET", `api/threads/${encodeURIComponent(thread)}/members?${query}`, { token });
}
