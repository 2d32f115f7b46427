// @vitest-environment jsdom
import { beforeEach, describe, expect, test } from "vitest";
import { Chat } from "../src/chat.ts";
import { lookOf } from "../src/conversations.ts";
import { comeBack, enter } from "../src/signing.ts";
import type { Message, Thread } from "../src/wire.ts";
import { FakeSocket } from "./fake-server.ts";

const lobby: Thread = { id: "lobby", title: "lobby", members: ["alice", "bob"], member_count: 2, head: 0, public: true, seen: 0 };

let server: FakeSocket;
let chat: Chat;

function welcome(threads: Thread[] = [lobby]): void {
  server.onopen?.();
  const about = { name: "hubbub", version: "0", time: "", epoch: "e1" };
  server.answer("hello", { type: "welcome", user: "alice", token: "token-1", session: "s", server: about, threads });
}

function message(thread: string, seq: number, sender: string, text: string, more: object = {}): object {
  const destination = thread === "lobby" ? "lobby" : "joe";
  const body = { id: `${seq}-x`, thread, seq, sender, destination, type: "chat", text, timestamp: "2026-01-01T00:00:00.000Z" };
  return { type: "message", thread, seq, message: { ...body, metadata: {}, reply_to: null, run: null, ...more } };
}

const ack = (thread: string, seq: number, delivery: "live" | "stored", offline: string[] = []): object => {
  const about = { message: `${seq}-x`, timestamp: "2026-01-01T00:00:00.000Z", offline_count: offline.length };
  return { type: "ack", thread, seq, delivery, offline, ...about };
};

const texts = (thread: string): string[] => (chat.log.threads.get(thread)?.messages ?? []).map((one) => one.text);
const shownPending = (): string[] => chat.pending.value.filter((one) => !one.echoed).map((one) => one.post.text);

beforeEach(async () => {
  localStorage.clear();
  sessionStorage.clear();
  chat = new Chat(() => (server = new FakeSocket()));
  await enter(chat, "alice", "guest", "");
});

describe("signing in", () => {
  test("keeps the name and its token for the next time", () => {
    welcome();

    expect(server.last("hello")).toMatchObject({ user: "alice" });
    expect(new Chat(() => server).identity).toEqual({ name: "alice", token: "token-1", registered: false });
  });

  test("says that a name is taken", () => {
    server.onopen?.();
    server.answer("hello", { type: "error", code: "name_taken", title: "", detail: "Username already taken." });

    expect(chat.me.value).toBeNull();
    expect(chat.signInProblem.value).toContain("Username already taken.");
  });

  test("asks for a password where the name needs one", () => {
    server.onopen?.();
    server.answer("hello", { type: "error", code: "unauthorized", detail: "Sign in." });

    expect(chat.way.value).toBe("password");
    expect(chat.signInProblem.value).toBe("Sign in.");
  });

  test("a token that grew old gives way to the name", () => {
    welcome();
    const later = new Chat(() => (server = new FakeSocket()));
    void comeBack(later);
    server.onopen?.();
    expect(server.last("hello")).toMatchObject({ token: "token-1" });
    server.answer("hello", { type: "error", code: "unauthorized", detail: "The token has expired." });
    server.onopen?.();

    expect(server.last("hello")).toMatchObject({ user: "alice" });
    expect(server.last("hello")["token"]).toBeUndefined();
  });
});

describe("posting", () => {
  test("a message stands once, whether its ack or its echo comes first", async () => {
    welcome();
    await chat.submit("one");
    expect(shownPending()).toEqual(["one"]);
    server.answer("message.send", ack("lobby", 1, "live"));
    server.say(message("lobby", 1, "alice", "one"));
    await chat.submit("two");
    server.say(message("lobby", 2, "alice", "two"));
    expect(shownPending()).toEqual([]);
    server.answer("message.send", ack("lobby", 2, "live"));

    expect(texts("lobby")).toEqual(["one", "two"]);
    expect(chat.pending.value).toEqual([]);
    expect(chat.deliveries.get("lobby:2")).toBe("✓");
    expect(chat.log.threads.get("lobby")!.unread).toBe(0);
  });

  test("to a name opens the private thread its ack names", async () => {
    welcome();
    await chat.submit("joe: hello!!");
    expect(server.last("message.send")).toMatchObject({ to: "joe", text: "hello!!" });
    expect(chat.open.value).toBe("@joe");
    server.answer("message.send", ack("p1", 1, "stored", ["joe"]));

    expect(chat.open.value).toBe("p1");
    expect(texts("p1")).toEqual(["hello!!"]);
    expect(chat.deliveries.get("p1:1")).toBe("User 'joe' is offline. Message saved.");
  });

  test("what is refused goes back to where it was written", async () => {
    welcome();
    chat.setDraft("lobby", "jo: hello");
    await chat.submit("jo: hello");
    expect(chat.draft.value).toBe("");
    server.answer("message.send", { type: "error", code: "not_found", detail: "Nobody is called 'jo'. Did you mean 'joe'?" });

    expect(chat.open.value).toBe("lobby");
    expect(chat.draft.value).toBe("jo: hello");
    expect(chat.composerProblem.value).toContain("Did you mean 'joe'?");
    expect(chat.pending.value).toEqual([]);
  });

  test("what was not acknowledged when the page went away goes out when it comes back", async () => {
    welcome();
    await chat.submit("do not lose me");
    const { key } = server.last("message.send") as unknown as { key: string };
    chat = new Chat(() => (server = new FakeSocket()));
    void comeBack(chat);
    welcome();

    expect(server.last("message.send")).toMatchObject({ key, text: "do not lose me" });
  });

  test("to a thread by its title, or to none of that title", async () => {
    welcome([lobby, { ...lobby, id: "g1", title: "The plan", public: false }]);
    await chat.submit("#the plan: go");
    expect(server.last("message.send")).toMatchObject({ thread: "g1", text: "go" });
    await chat.submit("#nowhere: go");

    expect(server.all("message.send").length).toBe(1);
    expect(chat.composerProblem.value).toContain("nowhere");
  });
});

describe("hearing", () => {
  test("a private message from someone being written to joins the open conversation", () => {
    welcome();
    chat.openPrivate("joe");
    server.say(message("p1", 1, "joe", "hi", { destination: "alice" }));

    expect(chat.open.value).toBe("p1");
  });

  test("who is there follows presence", () => {
    welcome();
    server.answer("who", { type: "who", online: ["bob", "alice"] });
    server.say({ type: "presence", user: "carol", online: true }, { type: "presence", user: "bob", online: false });

    expect(chat.online.value).toEqual(["alice", "carol"]);
  });

  test("a thread one was taken out of disappears", () => {
    welcome([lobby, { ...lobby, id: "g1", title: "The plan", public: false }]);
    chat.openPlace("g1");
    server.say({ type: "thread", thread: { ...lobby, id: "g1", title: "The plan", members: ["bob"], member_count: 1 } });

    expect(chat.log.threads.has("g1")).toBe(false);
    expect(chat.open.value).toBe("lobby");
  });

  test("a check opens where something was waiting", async () => {
    welcome([lobby, { ...lobby, id: "p1", title: "", members: ["alice", "joe"], public: false, head: 1 }]);
    const done = chat.check();
    const { id } = server.last("check");
    server.say({ ...message("p1", 1, "joe", "psst"), id, stored: true }, { type: "checked", id, count: 1 });
    await done;

    expect(chat.open.value).toBe("p1");
    expect(chat.notes.value.at(-1)!.text).toBe("1 stored message.");
  });

  test("after a reconnection the feed goes on where it was", () => {
    welcome();
    server.say(message("lobby", 1, "bob", "one"), { type: "bye", code: "shutdown", reason: "", resume: true, retry_after: 0 });
    chat.connection.nudge();
    server.onopen?.();

    expect(server.last("hello")).toMatchObject({ token: "token-1", resume: { epoch: "e1", threads: { lobby: 1 } } });
  });
});

describe("how messages look", () => {
  const look = (more: object, about?: Thread): string => {
    const { message: heard } = message("lobby", 1, "joe", "text", more) as { message: Message };
    return lookOf(heard, about, "alice");
  };
  const private_ = { ...lobby, title: "", public: false };

  test.each([
    [{}, lobby, "other"],
    [{ sender: "Alice" }, lobby, "own"],
    [{ type: "notification", metadata: { event: "joined", member: "joe" } }, lobby, "notice"],
    [{ type: "notification", metadata: { event: "range", temps: [21] } }, private_, "device"],
    [{ type: "subscription" }, private_, "device"],
    [{ type: "command", sender: "alice" }, private_, "own"],
  ])("%j in its thread", (more, about, expected) => {
    expect(look(more, about)).toBe(expected);
  });
});
