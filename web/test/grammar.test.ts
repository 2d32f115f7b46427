import { describe, expect, test } from "vitest";
import { readLine } from "../src/grammar.ts";
import { colourOf, nameProblem, sameName } from "../src/names.ts";

describe("a line of the composer", () => {
  test.each([
    ["bob: hello", { kind: "to", name: "bob", text: "hello" }],
    ["thermometer1: subscribe", { kind: "to", name: "thermometer1", text: "subscribe" }],
    ["Joe: two\nlines", { kind: "to", name: "Joe", text: "two\nlines" }],
    ["été: salut", { kind: "to", name: "été", text: "salut" }],
    ["#lobby: hello all", { kind: "thread", thread: "lobby", text: "hello all" }],
    ["#the big plan: go: now", { kind: "thread", thread: "the big plan", text: "go: now" }],
    ["!check", { kind: "check" }],
    ["!WHO ", { kind: "who" }],
    ["!help", { kind: "help" }],
    ["!history bob", { kind: "history", name: "bob" }],
  ])("%j is addressed or a command", (line, meaning) => {
    expect(readLine(line)).toEqual(meaning);
  });

  test.each([
    "hello",
    "see https://example.org/a: b",
    "https://example.org",
    "at 10:30 then",
    "10:30",
    "what I mean: this",
    "bob:",
    "#tag without colon",
    "!important",
    "@openai: hi",
    "...: hm",
  ])("%j goes to the open thread", (line) => {
    expect(readLine(line)).toEqual({ kind: "post", text: line });
  });

  test("a leading space keeps a line in the open thread", () => {
    expect(readLine(" Note: remember")).toEqual({ kind: "post", text: "Note: remember" });
  });

  test("nothing means nothing", () => {
    expect(readLine("  \n ")).toBeNull();
  });
});

describe("names", () => {
  test.each(["alice", "Ünal", "a.b-c_9", "李"])("%s is a name", (name) => {
    expect(nameProblem(name)).toBeNull();
  });

  test.each(["", "two words", "a:b", "..", "Exit", "x".repeat(65)])("%j is none", (name) => {
    expect(nameProblem(name)).not.toBeNull();
  });

  test("case does not count, for colours either", () => {
    expect(sameName("Alice", "aLICE")).toBe(true);
    expect(colourOf("Alice")).toBe(colourOf("alice"));
  });
});
