// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Chat } from "../src/chat.ts";
import { changePassword, comeBack, enter, leaveTab, learnRules, otherTab, registerName, signOut } from "../src/signing.ts";
import type { Thread } from "../src/wire.ts";
import { FakeAccounts } from "./fake-accounts.ts";
import { FakeSocket } from "./fake-server.ts";

const lobby: Thread = { id: "lobby", title: "lobby", members: ["alice"], member_count: 1, head: 0, public: true, seen: 0 };
const PASSWORD = "correct horse";
const SECRET = "eyJ-secret";

let sockets: FakeSocket[];
let http: FakeAccounts;
let reloads: number;

const socket = (): FakeSocket => sockets.at(-1)!;
const page = (): Chat =>
  new Chat(
    () => (sockets.push(new FakeSocket()), socket()),
    () => reloads++,
  );

function welcome(user = "alice"): void {
  socket().onopen?.();
  const server = { name: "hubbub", version: "0", time: "", epoch: "e1" };
  socket().answer("hello", { type: "welcome", user, token: SECRET, session: "s", server, threads: [lobby] });
}

function bye(reason: string): void {
  socket().say({ type: "bye", code: "unauthorized", reason, resume: false, retry_after: 0 });
}

async function signedIn(): Promise<Chat> {
  http.on("POST api/auth/login", { user: "alice", access_token: SECRET });
  http.on("GET api/me", { user: "alice", registered: true, admin: false });
  http.on("POST api/auth/refresh", { user: "alice", access_token: SECRET });
  const chat = page();
  await enter(chat, "alice", "password", PASSWORD);
  welcome();
  return chat;
}

async function asGuest(name = "alice"): Promise<Chat> {
  const chat = page();
  await enter(chat, name, "guest", "");
  welcome(name);
  return chat;
}

const remembered = (): string => JSON.stringify({ ...localStorage }) + JSON.stringify({ ...sessionStorage });

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
  sockets = [];
  reloads = 0;
  http = new FakeAccounts();
});
afterEach(() => vi.unstubAllGlobals());

describe("with a password", () => {
  test("the socket says the name and no token, and nothing that signs in is kept where script can read it", async () => {
    const chat = await signedIn();

    const { user, token } = socket().last("hello") as { user?: string; token?: string };
    expect([user, token]).toEqual(["alice", undefined]);
    expect(chat.me.value).toBe("alice");
    expect(remembered()).not.toContain(SECRET);
    expect(JSON.stringify(chat.identity)).not.toContain(SECRET);
  });

  test("the server's sentence stands in the form when it is wrong", async () => {
    http.on("POST api/auth/login", { detail: "The name or the password is wrong." }, 401);
    const chat = page();
    await enter(chat, "alice", "password", "nonsense");

    expect(chat.signInProblem.value).toBe("The name or the password is wrong.");
    expect(sockets).toEqual([]);
  });

  test("a browser that keeps no cookie is told so", async () => {
    http.on("POST api/auth/login", { user: "alice" });
    http.on("GET api/me", { user: "visitor", registered: false, admin: false });
    const chat = page();
    await enter(chat, "alice", "password", PASSWORD);

    expect(chat.signInProblem.value).toContain("cookies");
    expect(sockets).toEqual([]);
  });

  test("a name is registered from the form, but not with a short password", async () => {
    http.on("POST api/auth/register", { user: "alice" }, 201);
    http.on("GET api/me", { user: "alice", registered: true, admin: false });
    const chat = page();
    await enter(chat, "alice", "register", "short");
    expect(chat.signInProblem.value).toContain("8 characters");
    expect(http.asked).toEqual([]);
    await enter(chat, "alice", "register", PASSWORD);
    welcome();

    expect(chat.me.value).toBe("alice");
  });
});

describe("coming back", () => {
  test("asks nothing for a guest", async () => {
    await asGuest();
    await comeBack(page());

    expect(socket().sent).toEqual([]);
    expect(http.asked.filter(({ what }) => what.includes("auth") || what.endsWith("me"))).toEqual([]);
  });

  test("asks who one is, and for a longer sign-in, once", async () => {
    await signedIn();
    http.asked.length = 0;
    const chat = page();
    await comeBack(chat);
    welcome();

    expect(http.asked.slice(0, 2).map(({ what }) => what)).toEqual(["GET api/me", "POST api/auth/refresh"]);
    expect(http.count("POST api/auth/refresh")).toBe(1);
    expect(chat.me.value).toBe("alice");
  });

  test.each([
    [401, { detail: "The token has expired; sign in again." }, "The token has expired; sign in again."],
    [200, { user: "visitor", registered: false }, "You are no longer signed in as alice here; sign in again."],
    [200, { user: "bob", registered: true }, "You are no longer signed in as alice here; sign in again."],
  ])("to a sign-in that has ended (%i) leads to the form", async (status, body, sentence) => {
    await signedIn();
    const before = sockets.length;
    http.on("GET api/me", body, status);
    const chat = page();
    await comeBack(chat);

    expect(chat.me.value).toBeNull();
    expect(chat.way.value).toBe("password");
    expect(chat.signInProblem.value).toBe(sentence);
    expect(sockets.length).toBe(before);
  });

  test("while the server is away goes on trying", async () => {
    await signedIn();
    http.replies.clear();
    const chat = page();
    await comeBack(chat);

    expect(chat.me.value).toBe("alice");
    expect(chat.phase.value.at).toBe("connecting");
  });
});

describe("a sign-in that ends", () => {
  test("leads to the form with that sentence; what was written is there again after signing in", async () => {
    const chat = await signedIn();
    await chat.submit("#lobby: not acknowledged");
    chat.setDraft("lobby", "half a thought");
    const before = sockets.length;
    bye("You were signed out; sign in again.");

    expect(chat.me.value).toBeNull();
    expect(chat.way.value).toBe("password");
    expect(chat.signInProblem.value).toBe("You were signed out; sign in again.");
    expect(sockets.length).toBe(before);
    await enter(chat, "alice", "password", PASSWORD);
    welcome();

    expect(chat.drafts.value.get("lobby")).toBe("half a thought");
    expect(socket().last("message.send")).toMatchObject({ text: "not acknowledged" });
  });

  test("leaves nothing for whoever comes in next", async () => {
    const chat = await signedIn();
    await chat.submit("#lobby: mine");
    chat.setDraft("lobby", "for nobody else");
    bye("You were signed out; sign in again.");
    await enter(chat, "bob", "guest", "");
    welcome("bob");

    expect([...chat.drafts.value.values()].join("")).toBe("");
    expect(chat.pending.value).toEqual([]);
    expect(socket().all("message.send")).toEqual([]);
  });

  test("is noticed when the cookie is somebody else's by now", async () => {
    const chat = await signedIn();
    await chat.submit("#lobby: as alice");
    socket().onclose?.({ code: 1006 });
    chat.connection.nudge();
    welcome("bob");

    expect(chat.me.value).toBeNull();
    expect(socket().all("message.send")).toEqual([]);
  });

  test("is asked about, not believed, when another tab says so", async () => {
    const chat = await signedIn();
    await otherTab(chat, { name: "alice", token: null, registered: false });
    expect(chat.me.value).toBe("alice");
    http.on("GET api/me", { detail: "You were signed out; sign in again." }, 401);
    await otherTab(chat, { name: "alice", token: null, registered: false });

    expect(chat.me.value).toBeNull();
  });

  test("goes on by itself when another tab signs in again", async () => {
    const chat = await signedIn();
    bye("You were signed out; sign in again.");
    await otherTab(chat, { name: "alice", token: null, registered: true });
    welcome();

    expect(chat.me.value).toBe("alice");
  });
});

describe("what ends this sign-in and begins another", () => {
  test("a guest registers the name with their token and goes on by the cookie", async () => {
    const chat = await asGuest();
    http.on("POST api/auth/register", { user: "alice", access_token: "other" }, 201);
    const done = registerName(chat, PASSWORD);
    bye("You were signed out; sign in again.");
    expect(chat.me.value).toBe("alice");
    expect(await done).toBeNull();
    welcome();

    expect(http.last("POST api/auth/register")).toMatchObject({ authorization: `Bearer ${SECRET}`, credentials: "same-origin" });
    expect(chat.identity).toEqual({ name: "alice", token: null, registered: true });
    expect(socket().last("hello")["token"]).toBeUndefined();
    expect(remembered()).not.toContain(SECRET);
  });

  test("a changed password; and one that was not changed", async () => {
    const chat = await signedIn();
    http.on("POST api/auth/password", { detail: "The name or the password is wrong." }, 401);
    expect(await changePassword(chat, "nonsense", PASSWORD)).toBe("The name or the password is wrong.");
    expect(chat.phase.value.at).toBe("connected");
    http.on("POST api/auth/password", { user: "alice" });
    const done = changePassword(chat, PASSWORD, "another horse");
    bye("You were signed out; sign in again.");
    expect(await done).toBeNull();
    welcome();

    expect(http.last("POST api/auth/password").body).toEqual({ old: PASSWORD, new: "another horse" });
    expect(chat.phase.value.at).toBe("connected");
  });
});

describe("leaving", () => {
  test("takes the cookie away, and a guest's leaves it alone", async () => {
    http.on("POST api/auth/logout", {}, 204);
    await signOut(await signedIn());
    expect(http.last("POST api/auth/logout")).toMatchObject({ authorization: null, credentials: "same-origin" });
    await signOut(await asGuest("bob"));

    expect(http.last("POST api/auth/logout")).toMatchObject({ authorization: `Bearer ${SECRET}`, credentials: "omit" });
    expect(reloads).toBe(2);
  });

  test("is not pretended when the server does not answer", async () => {
    const chat = await signedIn();
    http.replies.delete("POST api/auth/logout");

    expect(await signOut(chat)).toContain("You are still signed in.");
    expect(reloads).toBe(0);
    expect(page().identity.registered).toBe(true);
  });

  test("one tab to somebody else leaves the browser signed in", async () => {
    leaveTab(await signedIn());
    expect(page().identity.registered).toBe(false);
    const bob = page();
    await enter(bob, "bob", "guest", "");
    welcome("bob");
    expect(page().identity.name).toBe("bob");
    sessionStorage.clear();

    expect(page().identity).toMatchObject({ name: "alice", registered: true });
  });
});

test("where guests are off, the form asks for a password at once", async () => {
  http.on("GET api/auth", { guests: false, registration: true });
  const chat = page();
  await learnRules(chat);

  expect([chat.way.value, chat.rules.value.guests]).toEqual(["password", false]);
});

test("what the server does not say is taken for open", async () => {
  const chat = page();
  await learnRules(chat);

  expect([chat.way.value, chat.rules.value]).toEqual(["guest", { guests: true, registration: true }]);
});
