/** What is done with threads as such: make one, find one, go in and out, bring somebody. */
import type { Chat } from "./chat.ts";
import { LOBBY } from "./conversations.ts";
import type { Request, Thread } from "./wire.ts";

export function createThread(chat: Chat, title: string, members: string[], open: boolean): Promise<boolean> {
  return change(chat, { type: "thread.create", title, members, public: open }, true);
}

export function joinThread(chat: Chat, thread: string): Promise<boolean> {
  return change(chat, { type: "thread.join", thread }, true);
}

export function addMember(chat: Chat, thread: string, member: string): Promise<boolean> {
  return change(chat, { type: "thread.add", thread, member }, false);
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

/** Ask for something that is answered with the thread as it is then. */
async function change(chat: Chat, request: Request, open: boolean): Promise<boolean> {
  const reply = await chat.ask(request, (answer) => {
    if (answer.type !== "thread") return;
    chat.log.describe(answer.thread);
    chat.ticker.touch(answer.thread.id);
    if (open) chat.openPlace(answer.thread.id);
  });
  return reply !== null;
}
