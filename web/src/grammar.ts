/**
 * What a line written in the composer means. It is the grammar of line mode, with one addition: what is neither
 * addressed nor a command goes to the thread that is open.
 */
import { nameProblem } from "./names.ts";

export type Line =
  | { kind: "post"; text: string }
  | { kind: "to"; name: string; text: string }
  | { kind: "thread"; thread: string; text: string }
  | { kind: "check" | "who" | "help" }
  | { kind: "history"; name: string };

// A space must follow the colon, so that 10:30 and https://… stay what they are.
const ADDRESSED = /^([^\s:#!@][^\s:]*):\s+(\S[\s\S]*)$/;
const THREAD = /^#([^:\n]{1,200}):\s+(\S[\s\S]*)$/;
const COMMAND = /^!(check|who|help)$/i;
const HISTORY = /^!history\s+(\S+)$/i;

/** The meaning of a line. A line that begins with a space is never addressed. */
export function readLine(line: string): Line | null {
  const text = line.trim();
  if (!text) return null;
  if (/^\s/.test(line)) return { kind: "post", text };
  const command = COMMAND.exec(text)?.[1];
  if (command) return { kind: command.toLowerCase() as "check" | "who" | "help" };
  const history = HISTORY.exec(text)?.[1];
  if (history) return { kind: "history", name: history };
  const thread = THREAD.exec(text);
  if (thread) return { kind: "thread", thread: thread[1]!.trim(), text: thread[2]! };
  const addressed = ADDRESSED.exec(text);
  if (addressed && nameProblem(addressed[1]!) === null) {
    return { kind: "to", name: addressed[1]!, text: addressed[2]! };
  }
  return { kind: "post", text };
}
