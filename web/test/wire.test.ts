import { describe, expect, test } from "vitest";
import { BrokenFraming, decodeFrames, encodeFrame } from "../src/wire.ts";
import { countCodePoints, skipCodePoints } from "../src/codepoints.ts";

function joined(...parts: Uint8Array[]): ArrayBuffer {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all.buffer;
}

describe("length-prefixed frames", () => {
  test("the length is four bytes, big-endian, of the UTF-8", () => {
    const bytes = encodeFrame({ type: "é" });

    expect([...bytes.slice(0, 4)]).toEqual([0, 0, 0, 13]);
    expect(bytes.length).toBe(17);
  });

  test("several frames in one message come out in order", () => {
    const data = joined(encodeFrame({ type: "ok", id: 1 }), encodeFrame({ type: "typing", thread: "t", user: "😀" }));

    expect(decodeFrames(data)).toEqual([
      { type: "ok", id: 1 },
      { type: "typing", thread: "t", user: "😀" },
    ]);
  });

  test("an empty message holds no frames", () => {
    expect(decodeFrames(new ArrayBuffer(0))).toEqual([]);
  });

  test.each([
    ["a length cut short", new Uint8Array([0, 0, 0])],
    ["a body cut short", new Uint8Array([0, 0, 0, 9, 123])],
    ["no JSON", new Uint8Array([0, 0, 0, 1, 123])],
    ["no object", new Uint8Array([0, 0, 0, 1, 49])],
    ["no UTF-8", new Uint8Array([0, 0, 0, 2, 34, 255])],
  ])("%s is broken framing", (_, bytes) => {
    expect(() => decodeFrames(bytes.buffer)).toThrow(BrokenFraming);
  });

  test("a frame above 1 MiB is not even made", () => {
    expect(() => encodeFrame({ type: "x", text: "a".repeat(1 << 20) })).toThrow(RangeError);
  });
});

describe("code points", () => {
  test("a surrogate pair counts once", () => {
    expect(countCodePoints("a😀é👩‍💻")).toBe(6);
  });

  test("skipping never lands inside a pair", () => {
    expect(skipCodePoints("😀😁a", 1)).toBe("😁a");
    expect(skipCodePoints("😀😁a", 0)).toBe("😀😁a");
    expect(skipCodePoints("😀😁a", 9)).toBe("");
  });
});
