import { useSignal } from "@preact/signals";
import { ASSISTANT, DEVICE, type Chat } from "../chat.ts";
import { isPrivate, otherMember, titleOf } from "../conversations.ts";
import { sameName } from "../names.ts";
import { Members } from "./Members.tsx";

export function ThreadHeader({ chat, place }: { chat: Chat; place: string }) {
  void chat.ticker.of(place).value;
  const members = useSignal(false);
  const thread = chat.log.threads.get(place)?.about;
  const self = chat.me.value ?? "";
  const private_ = !thread || isPrivate(thread);
  const other = thread ? otherMember(thread, self) : place.slice(1);
  const title = thread ? titleOf(thread, self) : other;
  const online = chat.online.value.some((name) => sameName(name, other));

  function askAssistant(): void {
    if (private_) return chat.openPrivate(ASSISTANT);
    const draft = chat.draft.value;
    if (!draft.startsWith(`@${ASSISTANT} `)) chat.setDraft(place, `@${ASSISTANT} ${draft}`);
    chat.focusWanted.value++;
  }

  return (
    <div class="thread-head">
      <div class="thread-title">
        <h2>{private_ ? title : `# ${title}`}</h2>
        {private_ ? (
          <small>{online ? "online" : "offline"}</small>
        ) : (
          <button type="button" class="link" data-testid="members-open" onClick={() => (members.value = true)}>
            {thread!.member_count} {thread!.member_count === 1 ? "member" : "members"}
          </button>
        )}
      </div>
      <div class="commands" role="toolbar" aria-label="Commands">
        <button type="button" onClick={() => chat.check()}>Check stored messages</button>
        <button type="button" onClick={() => chat.command("subscribe")} title={`Ask ${DEVICE} for its readings`}>
          Subscribe to thermometer
        </button>
        <button type="button" onClick={() => chat.command("unsubscribe")}>Unsubscribe</button>
        <button type="button" onClick={() => chat.command("range")} title={`Ask ${DEVICE} for a range of readings`}>
          Range
        </button>
        <button type="button" onClick={askAssistant}>Ask {ASSISTANT}</button>
        <button type="button" aria-label="Help" onClick={() => (chat.helpShown.value = true)}>?</button>
      </div>
      {members.value && thread && <Members chat={chat} thread={thread} close={() => (members.value = false)} />}
    </div>
  );
}
