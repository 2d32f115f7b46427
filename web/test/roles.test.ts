// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Chat } from "../src/chat.ts";
import { manages, mayRemove } from "../src/roles.ts";
import { enter } from "../src/signing.ts";
import type { Thread } from "../src/wire.ts";
import { FakeAccounts } from "./fake-accounts.ts";
import { FakeSocket } from "./fake-server.ts";

const lobby: Thread = { id: "lobby", title: "lobby", members: ["alice"], member_count: 1, head: 0, public: true, seen: 0 };
const plan: Thread = { id: "g1", title: "The plan", members: ["bob", "alice"], member_count: 2, head: 0, public: false, seen: 0 };
const MEMBERS = "GET api/threads/g1/members";

let server: FakeSocket;
let http: FakeAccounts;
let chat: Chat;

const roles = (mine: string): object => ({ members: [{ name: "bob", role: "owner" }, { name: "alice", role: mine }], more: false });

beforeEach(async () => {
  vi.useFakeTimers();
  localStorage.clear();
  sessionStorage.clear();
  http = new FakeAccounts();
  http.on(MEMBERS, roles("member"));
  chat = new Chat(() => (server = new FakeSocket()));
  await enter(chat, "alice", "guest", "");
  server.onopen?.();
  const about = { name: "hubbub", version: "0", time: "", epoch: "e1" };
  server.answer("hello", { type: "welcome", user: "alice", token: "t", session: "s", server: about, threads: [lobby, plan] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function open(): Promise<void> {
  chat.openPlace("g1");
  await vi.advanceTimersByTimeAsync(0);
}

describe("one's own role", () => {
  test("is asked for once, when the thread is opened, in a guest's own name", async () => {
    await open();
    chat.openPlace("lobby");
    await open();

    expect(chat.roles.get("g1")).toBe("member");
    expect(http.count(MEMBERS)).toBe(1);
    expect(http.asked.find(({ what }) => what === MEMBERS)!.authorization).toBe("Bearer t");
  });

  test("is asked for again when a notice says that it changed", async () => {
    await open();
    http.on(MEMBERS, roles("reader"));
    const body = { id: "m1", thread: "g1", seq: 1, sender: "bob", destination: "g1", type: "notification", text: "", timestamp: "" };
    const metadata = { event: "role", member: "Alice", role: "reader" };
    server.say({ type: "message", thread: "g1", seq: 1, message: { ...body, metadata, reply_to: null, run: null } });
    await vi.advanceTimersByTimeAsync(200);

    expect(chat.roles.get("g1")).toBe("reader");
  });

  test("is asked for again, once, when the thread changed", async () => {
    await open();
    http.on(MEMBERS, roles("owner"));
    for (let i = 0; i < 5; i++) server.say({ type: "thread", thread: plan });
    await vi.advanceTimersByTimeAsync(200);

    expect(chat.roles.get("g1")).toBe("owner");
    expect(http.count(MEMBERS)).toBe(2);
  });

  test("is not asked for at every change of a large thread", async () => {
    await open();
    server.say({ type: "thread", thread: { ...plan, member_count: 51 } });
    await vi.advanceTimersByTimeAsync(200);

    expect(http.count(MEMBERS)).toBe(1);
  });
});

test("owners manage a thread; the lobby's admin removes nobody", async () => {
  http.on(MEMBERS, roles("owner"));
  await open();
  expect([manages(chat, plan), mayRemove(chat, plan)]).toEqual([true, true]);
  expect(manages(chat, lobby)).toBe(false);
  chat.admin.value = true;

  expect([manages(chat, lobby), mayRemove(chat, lobby)]).toEqual([true, false]);
});
