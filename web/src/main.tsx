import { render } from "preact";
import { Chat } from "./chat.ts";
import type { Socket } from "./connection.ts";
import { onOtherTab } from "./keep.ts";
import { comeBack, learnRules, otherTab } from "./signing.ts";
import "./style/base.css";
import "./style/layout.css";
import "./style/messages.css";
import "./style/composer.css";
import "./style/account.css";
import { App } from "./ui/App.tsx";

/** Beside the page, whatever path it is served under. */
function openSocket(): Socket {
  const address = new URL("ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = address.search = "";
  return new WebSocket(address) as unknown as Socket;
}

const chat = new Chat(openSocket);
addEventListener("online", () => chat.connection.nudge());
addEventListener("offline", () => chat.connection.nudge());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") chat.connection.nudge();
});
setInterval(() => {
  const large = [...chat.log.threads.values()].some(({ about }) => about.member_count > 50);
  if (large && document.visibilityState === "visible") chat.refreshOnline();
}, 30_000);
onOtherTab((browser) => void otherTab(chat, browser));
void learnRules(chat);
void comeBack(chat);
render(<App chat={chat} />, document.getElementById("app")!);
