import { useSignal } from "@preact/signals";
import type { Chat } from "../chat.ts";
import { ordered, titleOf } from "../conversations.ts";
import type { ThreadLog } from "../log.ts";
import { sameName } from "../names.ts";
import { Face } from "./Face.tsx";
import { JoinThread, NewGroup } from "./GroupDialogs.tsx";

export function Sidebar({ chat, shown, close }: { chat: Chat; shown: boolean; close: () => void }) {
  void chat.ticker.any.value;
  const self = chat.me.value ?? "";
  const { groups, privates } = ordered(chat.log, self);
  const dialog = useSignal<"new" | "join" | null>(null);
  const place = chat.open.value;
  const unborn = place.startsWith("@") ? place.slice(1) : null;

  return (
    <nav
      id="sidebar"
      class={shown ? "sidebar shown" : "sidebar"}
      aria-label="Conversations and people"
      onKeyDown={(event) => event.key === "Escape" && close()}
    >
      <section>
        <div class="section-head">
          <h2>Threads</h2>
          <button type="button" class="quiet small" onClick={() => (dialog.value = "join")}>
            Join
          </button>
          <button type="button" class="quiet small" data-testid="new-group" onClick={() => (dialog.value = "new")}>
            New group
          </button>
        </div>
        <ul>
          {groups.map((thread) => (
            <ThreadItem key={thread.about.id} chat={chat} thread={thread} sign="#" />
          ))}
        </ul>
      </section>
      <section>
        <h2>Private</h2>
        <ul>
          {privates.map((thread) => (
            <ThreadItem key={thread.about.id} chat={chat} thread={thread} />
          ))}
          {unborn && (
            <li>
              <button type="button" class="item" aria-current="true">
                <Face name={unborn} online={isOnline(chat, unborn)} />
                <span class="name">{unborn}</span>
              </button>
            </li>
          )}
        </ul>
        {!privates.length && !unborn && <p class="hint">Choose someone below to talk in private.</p>}
      </section>
      <section>
        <h2>
          Online <span class="tally">{chat.online.value.length}</span>
        </h2>
        <ul data-testid="online">
          {chat.online.value.map((name) => (
            <li key={name}>
              {sameName(name, self) ? (
                <span class="item still">
                  <Face name={name} online />
                  <span class="name">{name}</span>
                  <span class="aside">you</span>
                </span>
              ) : (
                <button type="button" class="item" title={`Write to ${name}`} onClick={() => (close(), chat.openPrivate(name))}>
                  <Face name={name} online />
                  <span class="name">{name}</span>
                </button>
              )}
            </li>
          ))}
        </ul>
      </section>
      {dialog.value === "new" && <NewGroup chat={chat} close={() => (dialog.value = null)} />}
      {dialog.value === "join" && <JoinThread chat={chat} close={() => (dialog.value = null)} />}
    </nav>
  );
}

function ThreadItem({ chat, thread, sign }: { chat: Chat; thread: ThreadLog; sign?: string }) {
  const { id } = thread.about;
  const title = titleOf(thread.about, chat.me.value ?? "");
  const open = chat.open.value === id;
  const writing = chat.log.runs.open(id).length > 0;
  const unread = open && document.visibilityState === "visible" ? 0 : thread.unread;
  return (
    <li>
      <button
        type="button"
        class={unread ? "item unread" : "item"}
        data-testid="thread"
        data-thread={id}
        aria-current={open ? "true" : undefined}
        onClick={() => chat.openPlace(id)}
      >
        {sign ? <span class="face sign" aria-hidden="true">{sign}</span> : <Face name={title} online={isOnline(chat, title)} />}
        <span class="name">{title}</span>
        {writing && <span class="aside">writing…</span>}
        {unread > 0 && (
          <span class="badge" aria-label={`${unread} unread`}>
            {unread > 99 ? "99+" : unread}
          </span>
        )}
      </button>
    </li>
  );
}

function isOnline(chat: Chat, name: string): boolean {
  return chat.online.value.some((one) => sameName(one, name));
}
