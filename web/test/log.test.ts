import { beforeEach, describe, expect, test } from "vitest";
import { Log } from "../src/log.ts";
import type { DeltaFrame, Message, MessageFrame, RunFrame, Thread, Welcome } from "../src/wire.ts";

const lobby: Thread = { id: "lobby", title: "lobby", members: ["alice", "bob"], member_count: 2, head: 10, public: true, seen: 7 };

function welcome(threads: Thread[] = [lobby], epoch = "e1"): Welcome {
  return { type: "welcome", user: "alice", token: "t", session: "s", server: { name: "", version: "", time: "", epoch }, threads };
}

function message(seq: number, more: Partial<Message> = {}): Message {
  const base = { id: `${seq}-x`, thread: "lobby", seq, sender: "bob", destination: "lobby", type: "chat" as const };
  return { ...base, text: `text ${seq}`, timestamp: "2026-01-01T00:00:00.000Z", ...more };
}

function event(seq: number, more: Partial<Message> = {}): MessageFrame {
  return { type: "message", thread: "lobby", seq, message: message(seq, more) };
}

function delta(offset: number, text: string, attempt = 1): DeltaFrame {
  return { type: "run.delta", run: "r", thread: "lobby", assistant: "openai", attempt, offset, text };
}

function run(state: "queued" | "started" | "completed" | "failed", more: Partial<RunFrame> = {}): RunFrame {
  return { type: `run.${state}`, run: "r", thread: "lobby", assistant: "openai", attempt: 1, ...more };
}

const seqs = (log: Log): number[] => log.threads.get("lobby")!.messages.map((one) => one.seq);

let log: Log;
beforeEach(() => {
  log = new Log();
  log.welcome(welcome());
});

describe("messages", () => {
  test("doubles are dropped, by thread and seq", () => {
    expect(log.hear(event(8), "alice")).toBe(true);
    expect(log.hear(event(8), "alice")).toBe(false);

    expect(seqs(log)).toEqual([8]);
  });

  test("a history and the live feed end in one order", () => {
    log.hear(event(11), "alice");
    log.read("lobby", { type: "history", messages: [8, 9, 10, 11].map((seq) => message(seq)), more: true }, { newest: true });
    log.hear(event(12), "alice");
    log.read("lobby", { type: "history", messages: [5, 6, 7].map((seq) => message(seq)), more: false }, { newest: false });

    expect(seqs(log)).toEqual([5, 6, 7, 8, 9, 10, 11, 12]);
    expect(log.threads.get("lobby")!.earlier).toBe(false);
  });

  test("a newest page that begins after what is held says nothing about what is earlier", () => {
    for (let seq = 8; seq <= 60; seq++) log.hear(event(seq), "alice");
    log.read("lobby", { type: "history", messages: [59, 60].map((seq) => message(seq)), more: false }, { newest: true });

    expect(log.threads.get("lobby")!.earlier).toBe(true);
  });

  test("a deleted message replaces what it was", () => {
    log.hear(event(8), "alice");
    log.hear(event(8, { text: "", metadata: { deleted: true } }), "alice");

    expect(log.threads.get("lobby")!.find(8)!.text).toBe("");
  });

  test("a thread never announced is made from its first message", () => {
    log.hear({ ...event(1), thread: "new", message: message(1, { thread: "new" }) }, "alice");

    expect(log.threads.get("new")!.unread).toBe(1);
  });

  test("a long thread leaves memory from the oldest end", () => {
    for (let seq = 8; seq < 3008; seq++) log.hear(event(seq), "alice");

    const { messages, earlier } = log.threads.get("lobby")!;
    expect(messages.length).toBeLessThanOrEqual(2000);
    expect(messages.at(-1)!.seq).toBe(3007);
    expect(earlier).toBe(true);
  });
});

describe("unread", () => {
  test("is the head less what was seen", () => {
    expect(log.threads.get("lobby")!.unread).toBe(3);
    log.hear(event(11), "alice");
    expect(log.threads.get("lobby")!.unread).toBe(4);
    log.moveSeen("lobby", 11);
    log.moveSeen("lobby", 9);
    expect(log.threads.get("lobby")!.unread).toBe(0);
  });

  test("one's own message counts as seen when nothing before it was unseen", () => {
    log.moveSeen("lobby", 10);
    log.hear(event(11, { sender: "alice" }), "alice");
    log.hear(event(12), "alice");
    log.hear(event(13, { sender: "alice" }), "alice");

    expect(log.threads.get("lobby")!.unread).toBe(2);
  });
});

describe("resuming", () => {
  test("begins after what was seen, then follows the feed", () => {
    expect(log.resume()).toEqual({ epoch: "e1", threads: { lobby: 7 }, runs: {} });
    log.hear(event(8), "alice");
    expect(log.resume()!.threads).toEqual({ lobby: 8 });
  });

  test("the answer to a check does not move the place in the feed", () => {
    log.hear({ ...event(10), id: 3, stored: true }, "alice");

    expect(log.resume()!.threads).toEqual({ lobby: 7 });
    expect(seqs(log)).toEqual([10]);
  });

  test("keeps its place over another welcome", () => {
    log.hear(event(8), "alice");
    log.welcome(welcome([{ ...lobby, seen: 7, head: 20 }]));

    expect(log.resume()!.threads).toEqual({ lobby: 8 });
  });

  test("a reset throws the thread away; the feed goes on after the page read again", () => {
    log.hear(event(8), "alice");
    log.reset("lobby");
    expect(log.resume()!.threads).toEqual({});

    log.read("lobby", { type: "history", messages: [message(1), message(2)], more: false }, { newest: true });
    expect(seqs(log)).toEqual([1, 2]);
    expect(log.resume()!.threads).toEqual({ lobby: 2 });
  });

  test("threads that are no longer ours are forgotten", () => {
    log.welcome(welcome([]));

    expect(log.threads.size).toBe(0);
  });

  test("never names more threads than a frame may hold", () => {
    log.welcome(welcome(Array.from({ length: 300 }, (_, i) => ({ ...lobby, id: `t${i}` }))));

    expect(Object.keys(log.resume()!.threads).length).toBe(250);
  });
});

describe("runs", () => {
  const text = () => log.runs.get("r")!.text;

  test("pieces are appended at their offset in code points", () => {
    log.runs.hearState(run("started"));
    log.runs.hearDelta(delta(0, "a😀"));
    log.runs.hearDelta(delta(2, "b👍"));
    log.runs.hearDelta(delta(4, "c"));

    expect(text()).toBe("a😀b👍c");
    expect(log.resume()!.runs).toEqual({ r: [1, 5] });
  });

  test("of a piece partly known, the new part is taken", () => {
    log.runs.hearDelta(delta(0, "😀😁"));
    log.runs.hearDelta(delta(0, "😀😁"));
    log.runs.hearDelta(delta(1, "😁x"));

    expect(text()).toBe("😀😁x");
  });

  test("a late joiner's first piece carries everything so far", () => {
    log.runs.hearDelta(delta(0, "so far 🎉"));
    log.runs.hearDelta(delta(8, "!"));

    expect(text()).toBe("so far 🎉!");
  });

  test("a hole is never shown as text", () => {
    log.runs.hearDelta(delta(0, "ab"));
    log.runs.hearDelta(delta(5, "xy"));

    expect(text()).toBe("ab");
  });

  test("a higher attempt starts over, a lower one is ignored", () => {
    log.runs.hearDelta(delta(0, "first"));
    log.runs.hearDelta(delta(0, "second", 2));
    log.runs.hearDelta(delta(5, "late", 1));
    log.runs.hearState(run("queued", { attempt: 1 }));

    expect(text()).toBe("second");
    expect(log.runs.get("r")!.state).toBe("running");
  });

  test("run.reset throws away what there is", () => {
    log.runs.hearDelta(delta(0, "wrong"));
    log.runs.hearReset("r", 2);
    expect(text()).toBe("");

    log.runs.hearDelta(delta(0, "right", 2));
    expect(text()).toBe("right");
  });

  test("the message at the end replaces the stream, and late pieces change nothing", () => {
    log.runs.hearState(run("queued", { position: 2 }));
    log.runs.hearDelta(delta(0, "half"));
    expect(log.runs.open("lobby").length).toBe(1);

    log.hear(event(11, { sender: "openai", run: "r", text: "whole" }), "alice");
    log.runs.hearDelta(delta(4, " more"));
    log.runs.hearState(run("completed"));

    expect(log.runs.open("lobby")).toEqual([]);
    expect(log.threads.get("lobby")!.find(11)!.text).toBe("whole");
    expect(log.resume()!.runs).toEqual({});
  });

  test("a failure keeps its sentence", () => {
    log.runs.hearDelta(delta(0, "half"));
    log.runs.hearState(run("failed", { error: "The model went away." }));

    expect(log.runs.get("r")).toMatchObject({ state: "ended", error: "The model went away." });
  });
});
