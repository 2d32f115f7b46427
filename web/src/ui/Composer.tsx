import { useEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { isPrivate, titleOf } from "../conversations.ts";
import { readLine } from "../grammar.ts";

const MOST_ROWS = 8;
const READER = "You are a reader here: you see what is written, but only members and owners write. An owner can change that.";

export function Composer({ chat }: { chat: Chat }) {
  void chat.ticker.any.value;
  const field = useRef<HTMLTextAreaElement>(null);
  const place = chat.open.value;
  const draft = chat.draft.value;
  const problem = chat.composerProblem.value;
  const focus = chat.focusWanted.value;
  const reads = chat.roles.get(place) === "reader";

  useEffect(() => {
    const box = field.current!;
    // On a phone the keyboard would cover the conversation that was just opened.
    if (focus || matchMedia("(pointer: fine)").matches) box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }, [place, focus]);

  function send(): void {
    if (!draft.trim()) return;
    void chat.submit(draft);
    field.current?.focus();
  }

  function pressed(event: KeyboardEvent): void {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  }

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <p class="composer-says" role={problem ? "alert" : undefined} data-testid="composer-says">
        {reads ? READER : problem ? <span class="problem">{problem}</span> : (destination(draft) ?? <Typing chat={chat} />)}
      </p>
      <div class="composer-row">
        <textarea
          ref={field}
          data-testid="composer"
          aria-label={`Message to ${placeTitle(chat)}`}
          placeholder={`Message to ${placeTitle(chat)}`}
          rows={Math.min(MOST_ROWS, draft.split("\n").length)}
          value={draft}
          disabled={reads}
          enterkeyhint="send"
          onKeyDown={pressed}
          onInput={(event) => {
            chat.setDraft(place, event.currentTarget.value);
            chat.composerProblem.value = null;
            if (event.currentTarget.value.trim()) chat.isTyping();
          }}
        />
        <button type="submit" class="primary send" data-testid="send" disabled={reads || !draft.trim()}>
          Send
        </button>
      </div>
    </form>
  );
}

/** Where a line goes that does not go to the open conversation: said before it is sent. */
function destination(draft: string) {
  const line = readLine(draft);
  if (line?.kind === "to") {
    return (
      <>
        In private to <strong>{line.name}</strong>. Begin with a space to keep it here.
      </>
    );
  }
  if (line?.kind === "thread") {
    return (
      <>
        To the thread <strong>{line.thread}</strong>
      </>
    );
  }
  return null;
}

function Typing({ chat }: { chat: Chat }) {
  const names = chat.typing.value.filter(({ thread }) => thread === chat.open.value).map(({ user }) => user);
  if (!names.length) return null;
  const said = names.length === 1 ? `${names[0]} is typing…` : names.length === 2 ? `${names.join(" and ")} are typing…` : "Several people are typing…";
  return <span data-testid="typing">{said}</span>;
}

function placeTitle(chat: Chat): string {
  const place = chat.open.value;
  const about = chat.log.threads.get(place)?.about;
  if (!about) return place.startsWith("@") ? place.slice(1) : `#${place}`;
  const title = titleOf(about, chat.me.value ?? "");
  return isPrivate(about) ? title : `#${title}`;
}
