// @vitest-environment jsdom
import { describe, expect, test } from "vitest";
import { GrowingMarkdown, renderBlocks } from "../src/markdown.ts";
import { sanitise } from "../src/sanitise.ts";

const html = (text: string): string => renderBlocks(text).join("");
function inPage(text: string): HTMLElement {
  const place = document.createElement("div");
  place.append(sanitise(html(text)));
  return place;
}

describe("markdown", () => {
  test("raw HTML is shown, not meant", () => {
    const place = inPage("<img src=x onerror=alert(1)>\n\nand <b>bold</b> <script>alert(1)</script>");

    expect(place.querySelector("img, b, script")).toBeNull();
    expect(place.textContent).toContain("<img src=x onerror=alert(1)>");
    expect(place.textContent).toContain("<b>bold</b>");
  });

  test("an image is a link and is not loaded", () => {
    const place = inPage("![a cat](https://example.org/cat.png)");

    expect(place.querySelector("img")).toBeNull();
    expect(place.querySelector("a")!.getAttribute("href")).toBe("https://example.org/cat.png");
    expect(place.textContent).toContain("a cat");
  });

  test.each(["javascript:alert(1)", "data:text/html,x", "JaVaScRiPt:alert(1)", "api/auth/logout", "//example.org"])(
    "a link to %s is only its text",
    (href) => {
      const place = inPage(`[click](${href})`);

      expect(place.querySelector("[href]")).toBeNull();
      expect(place.textContent).toContain("click");
    },
  );

  test("links open elsewhere and say nothing of us", () => {
    const link = inPage("https://example.org/?a=1&b=2").querySelector("a")!;

    expect(link.getAttribute("href")).toBe("https://example.org/?a=1&b=2");
    expect(link.getAttribute("rel")).toContain("noreferrer");
    expect(link.getAttribute("target")).toBe("_blank");
  });

  test("what gets past the renderer is taken out in the page", () => {
    const place = document.createElement("div");
    place.append(sanitise('<p style="color:red" onclick="x()" id="app" class="x">a<svg onload=x()></svg><input></p>'));

    expect(place.innerHTML).toBe("<p>a</p>");
  });

  test("code keeps its characters and says its language", () => {
    const pre = inPage("```py\nif a < b: pass\n```").querySelector("pre")!;

    expect(pre.textContent).toBe("if a < b: pass\n");
    expect(pre.getAttribute("data-language")).toBe("py");
  });
});

const ANSWER = [
  "# Title\n\nA paragraph with **bold** and 😀.\n\n",
  "- one\n- two\n\n- three after a blank\n\n",
  "```js\nconst a = `x`;\n\nnot closed by a blank line\n```\n\n",
  "| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n> twice\n\n",
  "1. first\n2. second\n   continued\n\nEnd of it\n===\n\nlast words <b>raw</b>\r\n\r\nwith other line ends\n\ttab",
].join("");

describe("a growing answer", () => {
  test.each([1, 3, 7, 50])("in pieces of %i is at the end what parsing it whole gives", (size) => {
    const growing = new GrowingMarkdown();
    let blocks: string[] = [];
    for (let end = size; end < ANSWER.length + size; end += size) blocks = growing.blocks(ANSWER.slice(0, end));

    expect(blocks.join("")).toBe(html(ANSWER));
  });

  test("closed blocks stay the same strings", () => {
    const growing = new GrowingMarkdown();
    const before = growing.blocks("first\n\nsecond\n\nthi");
    const after = growing.blocks("first\n\nsecond\n\nthird");

    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after[2]).toBe("<p>third</p>\n");
  });

  test("a new attempt starts over", () => {
    const growing = new GrowingMarkdown();
    growing.blocks("one\n\ntwo\n\nthree");

    expect(growing.blocks("other")).toEqual(["<p>other</p>\n"]);
  });

  test("a long answer costs about as much per piece as a short one", () => {
    const growing = new GrowingMarkdown();
    const paragraph = "Some words that make a line of prose.\n\n";
    let text = "";
    let parsed = 0;
    const slice = String.prototype.slice;
    for (let i = 0; i < 300; i++) {
      text += paragraph;
      const open = (growing as unknown as { openAt: number }).openAt;
      parsed = Math.max(parsed, slice.call(text, open).length);
      growing.blocks(text);
    }

    expect(parsed).toBeLessThan(4 * paragraph.length);
  });
});
