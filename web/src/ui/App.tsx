import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { Account } from "./Account.tsx";
import { Composer } from "./Composer.tsx";
import { Face } from "./Face.tsx";
import { Help } from "./Help.tsx";
import { MessageList } from "./MessageList.tsx";
import { Sidebar } from "./Sidebar.tsx";
import { SignIn } from "./SignIn.tsx";
import { Notes, Status } from "./Status.tsx";
import { ThreadHeader } from "./ThreadHeader.tsx";

export function App({ chat }: { chat: Chat }) {
  if (chat.me.value === null) return <SignIn chat={chat} />;
  return <Room chat={chat} />;
}

function Room({ chat }: { chat: Chat }) {
  const drawer = useSignal(false);
  const account = useSignal(false);
  const place = chat.open.value;
  void chat.ticker.any.value;
  const unread = [...chat.log.threads.values()].reduce((sum, thread) => sum + thread.unread, 0);

  useEffect(() => {
    document.title = unread ? `(${unread}) Hubbub` : "Hubbub";
  }, [unread]);
  useEffect(() => {
    drawer.value = false;
  }, [place]);
  useEffect(() => {
    if (drawer.value) document.querySelector<HTMLElement>("#sidebar .item")?.focus();
  }, [drawer.value]);

  return (
    <div class="room">
      <header class="topbar">
        <button
          type="button"
          class="icon only-narrow"
          aria-label="Conversations"
          aria-expanded={drawer.value}
          aria-controls="sidebar"
          onClick={() => (drawer.value = !drawer.value)}
        >
          ☰{unread > 0 && <span class="dot" />}
        </button>
        <h1 class="brand">Hubbub</h1>
        <Status chat={chat} />
        <button
          type="button"
          class="quiet who-am-i"
          data-testid="account"
          aria-haspopup="dialog"
          aria-label={`Account of ${chat.me.value}`}
          onClick={() => (account.value = true)}
        >
          <Face name={chat.me.value ?? ""} online={false} />
          <span class="name">{chat.me.value}</span>
        </button>
      </header>
      {drawer.value && <div class="scrim" onClick={() => (drawer.value = false)} />}
      <Sidebar chat={chat} shown={drawer.value} close={() => (drawer.value = false)} />
      <main class="conversation">
        <ThreadHeader key={place} chat={chat} place={place} />
        <MessageList key={`list ${place}`} chat={chat} place={place} />
        <Composer chat={chat} />
      </main>
      <Notes chat={chat} />
      {account.value && <Account key={String(chat.identity.registered)} chat={chat} close={() => (account.value = false)} />}
      {chat.helpShown.value && <Help close={() => (chat.helpShown.value = false)} />}
    </div>
  );
}
