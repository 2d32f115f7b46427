/** What is done with threads as such: make one, find one, go in and out, bring somebody. */
import type { Chat } from "./chat.ts";
import { Refused } from "./connection.ts";
import { LOBBY } from "./conversations.ts";
import type { Frame, Request, Role, Thread } from "./wire.ts";

export function createThread(chat: Chat, title: string, members: string[], open: boolean): Promise<boolean> {
  return enter(chat, { type: "thread.create", title, members, public: open });
}

export function joinThread(chat: Chat, thread: string): Promise<boolean> {
  return enter(chat, { type: "thread.join", thread });
}

/** What the dialog of a thread's members asks: the sentence that says why not, or null. */
export type Changed = Promise<string | null>;

export function addMember(chat: Chat, thread: string, member: string): Changed {
  return tell(chat, { type: "thread.add", thread, member });
}

export function removeMember(chat: Chat, thread: string, member: string): Changed {
  return tell(chat, { type: "thread.remove", thread, member });
}

export function setRole(chat: Chat, thread: string, member: string, role: Role): Changed {
  return tell(chat, { type: "thread.role", thread, member, role });
}

export async function leaveThread(chat: Chat, thread: string): Promise<void> {
  await chat.ask({ type: "thread.leave", thread }, () => {
    chat.log.drop(thread);
    chat.openPlace(LOBBY);
    chat.ticker.touch(thread);
  });
}

/** Public threads one is not in. */
export async function joinable(chat: Chat): Promise<Thread[]> {
  const reply = await chat.ask({ type: "thread.list", public: true });
  return reply?.type === "threads" ? reply.threads.filter((thread) => !chat.log.threads.has(thread.id)) : [];
}

/** Ask for a thread and open it. */
async function enter(chat: Chat, request: Request): Promise<boolean> {
  const reply = await chat.ask(request, (answer) => {
    if (describe(chat, answer)) chat.openPlace(answer.thread.id);
  });
  return reply !== null;
}

async function tell(chat: Chat, request: Request): Changed {
  try {
    await chat.connection.request(request, (answer) => void describe(chat, answer));
    return null;
  } catch (refused) {
    if (refused instanceof Refused) return refused.message;
    throw refused;
  }
}

function describe(chat: Chat, answer: Frame): answer is Extract<Frame, { type: "thread" }> {
  if (answer.type !== "thread") return false;
  chat.log.describe(answer.thread);
  chat.ticker.touch(answer.thread.id);
  return true;
}
