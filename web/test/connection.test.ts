import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Connection, type Listener, Refused, type Socket } from "../src/connection.ts";
import type { Post } from "../src/wire.ts";
import { FakeSocket } from "./fake-server.ts";

/** Accept the socket and greet whoever says hello. */
function welcome(): void {
  socket().onopen?.();
  socket().answer("hello", { type: "welcome", user: "alice" });
}

let sockets: FakeSocket[];
let listener: { [K in keyof Listener]: ReturnType<typeof vi.fn> };
let connection: Connection;
const socket = (): FakeSocket => sockets.at(-1)!;
const post = (key: string): Post => ({ key, thread: "lobby", text: key });

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  listener = {
    hello: vi.fn(() => ({ type: "hello", user: "alice" })),
    welcomed: vi.fn(() => true),
    refused: vi.fn(() => false),
    dismissed: vi.fn(),
    heard: vi.fn(),
    acked: vi.fn(),
    postRefused: vi.fn(),
    moved: vi.fn(),
  };
  const open = (): Socket => {
    sockets.push(new FakeSocket());
    return socket();
  };
  // The luck that waits longest.
  connection = new Connection(open, listener as unknown as Listener, () => 1);
});
afterEach(() => vi.useRealTimers());

describe("coming back", () => {
  test("waits half a second, then twice as long each time, up to fifteen", () => {
    connection.start();
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      socket().onclose!({ code: 1006 });
      const { phase } = connection;
      if (phase.at !== "waiting") throw new Error(phase.at);
      waits.push(phase.until - Date.now());
      vi.advanceTimersByTime(phase.until - Date.now());
    }

    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000]);
    expect(sockets.length).toBe(8);
  });

  test("does not wait when told that now is a good moment", () => {
    connection.start();
    socket().onclose!({ code: 1006 });
    connection.nudge();

    expect(connection.phase.at).toBe("connecting");
    expect(sockets.length).toBe(2);
  });

  test("waits as long as the server's bye asks, even when nudged", () => {
    connection.start();
    welcome();
    socket().say({ type: "bye", code: "shutdown", reason: "", resume: true, retry_after: 7 });
    connection.nudge();
    vi.advanceTimersByTime(6999);
    expect(sockets.length).toBe(1);

    vi.advanceTimersByTime(1);
    expect(sockets.length).toBe(2);
  });

  test("a socket that is welcomed and lost at once is not chased", () => {
    connection.start();
    for (let i = 0; i < 3; i++) {
      welcome();
      socket().onclose!({ code: 1006 });
      vi.advanceTimersByTime(500 * 2 ** i);
    }

    expect(sockets.length).toBe(4);
  });

  test("says the hello of that moment", () => {
    connection.start();
    welcome();
    listener.hello.mockReturnValue({ type: "hello", token: "t", resume: { epoch: "e", threads: { lobby: 9 }, runs: {} } });
    socket().onclose!({ code: 1006 });
    vi.advanceTimersByTime(500);
    socket().onopen!();

    expect(socket().last("hello")).toMatchObject({ token: "t", resume: { threads: { lobby: 9 } } });
  });

  test("broken framing ends the socket", () => {
    connection.start();
    welcome();
    socket().onmessage!({ data: new Uint8Array([0, 0, 0, 9]).buffer });

    expect(sockets[0]!.closed).toBe(true);
    expect(connection.phase.at).toBe("waiting");
  });
});

describe("a silent socket", () => {
  test("is pinged every twenty seconds and left when nothing comes", () => {
    connection.start();
    welcome();
    vi.advanceTimersByTime(20_000);
    socket().say({ type: "pong", id: socket().last("ping").id });
    vi.advanceTimersByTime(20_000);
    expect(connection.phase.at).toBe("connected");

    vi.advanceTimersByTime(10_000);
    expect(connection.phase.at).toBe("waiting");
  });

  test("that never opens is left too", () => {
    connection.start();
    vi.advanceTimersByTime(10_000);

    expect(connection.phase.at).toBe("waiting");
  });
});

describe("posts", () => {
  test("without an ack go out again, in order, under the same key", () => {
    connection.start();
    welcome();
    connection.post(post("a"));
    connection.post(post("b"));
    socket().say({ type: "ack", id: socket().last("message.send").id, thread: "lobby", seq: 2 });
    socket().onclose!({ code: 1006 });
    connection.post(post("c"));
    vi.advanceTimersByTime(500);
    welcome();

    const keys = socket().all("message.send").map((frame) => frame["key"]);
    expect(keys).toEqual(["a", "c"]);
    expect(listener.acked).toHaveBeenCalledOnce();
  });

  test("of unknown outcome are tried again until the key decides", () => {
    connection.start();
    welcome();
    connection.post(post("a"));
    socket().say({ type: "error", id: socket().last("message.send").id, code: "unavailable", retry_after: 2 });
    vi.advanceTimersByTime(2000);
    socket().say({ type: "ack", id: socket().last("message.send").id, thread: "lobby", seq: 1 });

    expect(listener.postRefused).not.toHaveBeenCalled();
    expect(listener.acked).toHaveBeenCalledOnce();
    expect(connection.outbox).toEqual([]);
  });

  test("that are refused are handed back", () => {
    connection.start();
    welcome();
    connection.post(post("a"));
    socket().say({ type: "error", id: socket().last("message.send").id, code: "rate_limited", retry_after: 1 });

    expect(listener.postRefused).toHaveBeenCalledWith(post("a"), expect.objectContaining({ code: "rate_limited" }));
    expect(connection.outbox).toEqual([]);
  });
});

describe("requests", () => {
  test("get the reply with their id; the messages of a check are heard", async () => {
    connection.start();
    welcome();
    const reply = connection.request({ type: "check" });
    const { id } = socket().last("check");
    socket().say({ type: "message", id, thread: "lobby", seq: 1, message: {} }, { type: "checked", id, count: 1 });

    expect(await reply).toMatchObject({ type: "checked", count: 1 });
    expect(listener.heard).toHaveBeenCalledOnce();
  });

  test("are refused when the socket is lost", async () => {
    connection.start();
    welcome();
    const reply = connection.request({ type: "who" });
    socket().onclose!({ code: 1006 });

    await expect(reply).rejects.toBeInstanceOf(Refused);
  });
});

describe("a hello that is refused", () => {
  const refuse = (code: string, more = {}): void => {
    socket().onopen!();
    socket().say({ type: "error", id: socket().last("hello").id, code, ...more });
  };

  test("stops everything", () => {
    connection.start();
    refuse("name_taken");
    vi.advanceTimersByTime(60_000);

    expect(connection.phase.at).toBe("stopped");
    expect(sockets.length).toBe(1);
  });

  test("is said again when the listener has another", () => {
    listener.refused.mockReturnValueOnce(true);
    connection.start();
    refuse("unauthorized");

    expect(sockets.length).toBe(2);
  });

  test("for a passing reason is said again later", () => {
    connection.start();
    refuse("rate_limited", { retry_after: 3 });
    vi.advanceTimersByTime(3000);

    expect(listener.refused).not.toHaveBeenCalled();
    expect(sockets.length).toBe(2);
  });
});

test("a sign-in that ends stops it for good; what was posted waits", () => {
  connection.start();
  welcome();
  connection.post(post("a"));
  socket().say({ type: "bye", code: "unauthorized", reason: "You were signed out.", resume: false, retry_after: 0 });
  vi.advanceTimersByTime(60_000);

  expect(listener.dismissed).toHaveBeenCalledWith(expect.objectContaining({ detail: "You were signed out." }));
  expect(sockets.length).toBe(1);
  expect(connection.outbox).toEqual([post("a")]);
});

test("a welcome for somebody else is not for us: nothing is sent", () => {
  listener.welcomed.mockReturnValue(false);
  connection.start();
  connection.post(post("a"));
  welcome();
  vi.advanceTimersByTime(60_000);

  expect(socket().all("message.send")).toEqual([]);
  expect(connection.phase.at).toBe("stopped");
  expect(sockets.length).toBe(1);
});

test("leaving says bye and does not come back", () => {
  connection.start();
  welcome();
  connection.stop();
  vi.advanceTimersByTime(60_000);

  expect(sockets[0]!.all("bye").length).toBe(1);
  expect(sockets.length).toBe(1);
});
