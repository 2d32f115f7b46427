/**
 * Markdown of answers, block by block. While an answer grows, only its last block can still change: the blocks before
 * it are parsed once and kept, so that a long answer costs no more per piece than a short one.
 *
 * Raw HTML is shown as text, images become links (an image's address could carry the conversation away), and what
 * comes out is sanitised again where it enters the page (sanitise.ts).
 */
import { Marked } from "marked";

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text: string): string => text.replace(/[&<>"']/g, (char) => escapes[char]!);

const SAFE_LINK = /^(https?:\/\/|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    link({ href, tokens }) {
      const text = this.parser.parseInline(tokens);
      return SAFE_LINK.test(href) ? `<a href="${escape(href)}">${text}</a>` : text;
    },
    image: ({ href, text }) => {
      const label = `image: ${escape(text || href)}`;
      return SAFE_LINK.test(href) ? `<a href="${escape(href)}">${label}</a>` : label;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    code({ text, lang }) {
      const language = lang?.match(/^[\w+#.-]{1,30}/)?.[0];
      const label = language ? ` data-language="${escape(language)}"` : "";
      return `<pre${label}><code>${escape(text)}\n</code></pre>\n`;
    },
  },
});

/** The HTML of each top-level block of a finished text. */
export function renderBlocks(text: string): string[] {
  const tokens = marked.lexer(text);
  return tokens.filter((token) => token.type !== "space" && token.type !== "def").map((token) => marked.parser([token]));
}

/** A text that only grows at its end. `blocks()` keeps the same strings for the blocks that can no longer change. */
export class GrowingMarkdown {
  private readonly closed: string[] = [];
  private openAt = 0;
  private text = "";

  /** The blocks of `text`. A text that does not continue the one before starts over. */
  blocks(text: string): string[] {
    if (!text.startsWith(this.text)) {
      this.closed.length = 0;
      this.openAt = 0;
    }
    this.text = text;
    const tokens = marked.lexer(text.slice(this.openAt));
    // Blank lines at the end still belong to the last block: a list goes on after them.
    let open = tokens.length - 1;
    while (open > 0 && tokens[open]!.type === "space") open--;
    for (const token of tokens.slice(0, Math.max(0, open))) {
      const length = token.raw.length;
      // The lexer tidies tabs and line ends; where its raw text is not ours, nothing is closed.
      if (text.slice(this.openAt, this.openAt + length) !== token.raw) break;
      this.openAt += length;
      if (token.type !== "space" && token.type !== "def") this.closed.push(marked.parser([token]));
    }
    return [...this.closed, ...renderBlocks(text.slice(this.openAt))];
  }
}

