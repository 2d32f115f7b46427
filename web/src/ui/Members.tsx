import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { members, type Member } from "../account.ts";
import type { Chat } from "../chat.ts";
import { isPrivate, LOBBY, titleOf } from "../conversations.ts";
import { addMember, leaveThread, removeMember, setRole } from "../groups.ts";
import { nameProblem, sameName } from "../names.ts";
import { manages, mayRemove } from "../roles.ts";
import type { Role, Thread } from "../wire.ts";
import { Dialog } from "./Dialog.tsx";
import { Face } from "./Face.tsx";

const ROLES: Role[] = ["owner", "member", "reader"];

/** Who is in a thread and what they may do there; owners change it here. */
export function Members({ chat, thread, close }: { chat: Chat; thread: Thread; close: () => void }) {
  void chat.ticker.of(thread.id).value;
  const problem = useSignal<string | null>(null);
  const listed = useSignal<readonly Member[] | null>(null);
  const more = useSignal(false);
  const self = chat.me.value ?? "";
  const reads = chat.roles.get(thread.id) === "reader";

  async function list(after = ""): Promise<void> {
    const answer = await members(thread.id, after, chat.identity.token);
    if (!answer.ok) {
      problem.value = answer.problem;
      return;
    }
    listed.value = after ? [...(listed.value ?? []), ...answer.value.members] : answer.value.members;
    more.value = answer.value.more;
  }
  // Every change of who is in it or what they may do comes with another description of the thread.
  useEffect(() => void list(), [thread]);

  async function add(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const name = String(new FormData(form).get("member")).trim();
    problem.value = nameProblem(name) ?? (await addMember(chat, thread.id, name));
    if (!problem.value) form.reset();
  }

  async function make(select: HTMLSelectElement, member: Member): Promise<void> {
    problem.value = await setRole(chat, thread.id, member.name, select.value as Role);
    if (problem.value) select.value = member.role;
  }

  return (
    <Dialog title={`Members of ${titleOf(thread, self)}`} close={close}>
      <ul class="choices" data-testid="members">
        {listed.value?.map((member) => (
          <li key={member.name} data-member={member.name}>
            <Face name={member.name} online={member.online} />
            <span class="name">
              {member.name}
              {sameName(member.name, self) && <small> you</small>}
            </span>
            {manages(chat, thread) && !sameName(member.name, self) ? (
              <select
                class="small"
                aria-label={`What ${member.name} may do`}
                value={member.role}
                onChange={(event) => make(event.currentTarget, member)}
              >
                {ROLES.map((role) => (
                  <option key={role}>{role}</option>
                ))}
              </select>
            ) : (
              <small class="role">{member.role}</small>
            )}
            {mayRemove(chat, thread) && !sameName(member.name, self) && (
              <button
                type="button"
                class="danger small"
                aria-label={`Remove ${member.name}`}
                onClick={async () => (problem.value = await removeMember(chat, thread.id, member.name))}
              >
                Remove
              </button>
            )}
          </li>
        ))}
      </ul>
      {more.value && (
        <button type="button" class="link" onClick={() => list(listed.value?.at(-1)?.name)}>
          Show more
        </button>
      )}
      {manages(chat, thread) && (
        <p class="hint">Owners decide who is here and what they may do, members write, readers only read.</p>
      )}
      {thread.id !== LOBBY && !isPrivate(thread) && (
        <form onSubmit={add} class="in-line">
          {!reads && (
            <>
              <input name="member" aria-label="Name to add" placeholder="Name" autocomplete="off" autocapitalize="off" />
              <button type="submit">Add</button>
            </>
          )}
          <button type="button" class="danger" onClick={() => (close(), leaveThread(chat, thread.id))}>
            Leave
          </button>
        </form>
      )}
      <p role="alert" class="problem">
        {problem}
      </p>
    </Dialog>
  );
}
