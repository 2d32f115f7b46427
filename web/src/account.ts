/** Signing in with a password, and out: the two things a page asks over HTTP. */

export type LogIn = { token: string } | { problem: string };

export async function logIn(user: string, password: string): Promise<LogIn> {
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await fetch("api/auth/login", { method: "POST", headers, body: JSON.stringify({ user, password }) });
    const body = (await answer.json()) as { access_token?: string; detail?: string; title?: string };
    if (answer.ok && body.access_token) return { token: body.access_token };
    return { problem: body.detail || body.title || "The name and the password do not belong together." };
  } catch {
    return { problem: "The server did not answer. Try again in a moment." };
  }
}

/** Best effort: the page forgets the token in any case. */
export function logOut(token: string): void {
  const headers = { Authorization: `Bearer ${token}` };
  fetch("api/auth/logout", { method: "POST", headers, keepalive: true }).catch(() => {});
}
