import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { createThread, joinable, joinThread } from "../groups.ts";
import { nameProblem } from "../names.ts";
import type { Thread } from "../wire.ts";
import { Dialog } from "./Dialog.tsx";

export function NewGroup({ chat, close }: { chat: Chat; close: () => void }) {
  const problem = useSignal<string | null>(null);

  async function create(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const members = String(form.get("members")).split(/[\s,;]+/).filter(Boolean);
    const wrong = members.find((name) => nameProblem(name) !== null);
    problem.value = wrong ? `“${wrong}”: ${nameProblem(wrong)}` : null;
    if (!wrong && (await createThread(chat, String(form.get("title")).trim(), members, form.has("public")))) close();
  }

  return (
    <Dialog title="New group" close={close}>
      <form onSubmit={create}>
        <label for="group-title">Title</label>
        <input id="group-title" name="title" maxLength={200} required autofocus autocomplete="off" />
        <label for="group-members">Members</label>
        <input
          id="group-members"
          name="members"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          placeholder="alice, bob, openai"
        />
        <label class="check">
          <input type="checkbox" name="public" /> Anyone may find and join it
        </label>
        <button type="submit" class="primary" data-testid="create-group">
          Create
        </button>
        <p role="alert" class="problem">
          {problem}
        </p>
      </form>
    </Dialog>
  );
}

export function JoinThread({ chat, close }: { chat: Chat; close: () => void }) {
  const threads = useSignal<Thread[] | null>(null);
  useEffect(() => {
    void joinable(chat).then((found) => (threads.value = found));
  }, []);

  return (
    <Dialog title="Join a public thread" close={close}>
      {threads.value === null && <p class="hint">Looking…</p>}
      {threads.value?.length === 0 && <p class="hint">There is no public thread you are not in already.</p>}
      <ul class="choices">
        {threads.value?.map((thread) => (
          <li key={thread.id}>
            <span class="name">
              {thread.title || "Untitled"} <small>{thread.member_count} members</small>
            </span>
            <button type="button" onClick={async () => (await joinThread(chat, thread.id)) && close()}>
              Join
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
