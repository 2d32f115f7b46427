import { vi } from "vitest";

type Reply = { status?: number; body?: object };

interface Asked {
  what: string;
  body: Record<string, unknown>;
  authorization: string | null;
  credentials: string;
}

/** The server's answers over HTTP, by `METHOD path`; what was asked is kept. */
export class FakeAccounts {
  readonly asked: Asked[] = [];
  readonly replies = new Map<string, Reply>();

  constructor() {
    vi.stubGlobal("fetch", async (path: string, options: RequestInit) => {
      const headers = new Headers(options.headers);
      const what = `${options.method} ${path.replace(/\?.*/, "")}`;
      const body = options.body ? (JSON.parse(String(options.body)) as Record<string, unknown>) : {};
      this.asked.push({ what, body, authorization: headers.get("Authorization"), credentials: String(options.credentials) });
      const reply = this.replies.get(what);
      if (!reply) throw new TypeError("fetch failed");
      return new Response(reply.status === 204 ? null : JSON.stringify(reply.body ?? {}), { status: reply.status ?? 200 });
    });
  }

  on(what: string, body: object = {}, status = 200): void {
    this.replies.set(what, { body, status });
  }

  last(what: string): Asked {
    const found = this.asked.filter((one) => one.what === what).at(-1);
    if (!found) throw new Error(`${what} was not asked.`);
    return found;
  }

  count(what: string): number {
    return this.asked.filter((one) => one.what === what).length;
  }
}
