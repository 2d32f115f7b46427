import { useSignal } from "@preact/signals";
import type { ComponentChild } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { lookOf } from "../conversations.ts";
import { nameKey, sameName } from "../names.ts";
import type { Message } from "../wire.ts";
import { AnswerRow } from "./AnswerRow.tsx";
import { MessageRow } from "./MessageRow.tsx";
import { PendingRow } from "./PendingRow.tsx";
import { dayOf, dayTitle } from "./time.ts";

/** Rows in the page at once; more come when the reader asks for what is earlier. */
const SHOWN = 200;
const STEP = 50;
const NEAR_BOTTOM_PX = 48;
const FOLLOWS_MS = 5 * 60_000;

export function MessageList({ chat, place }: { chat: Chat; place: string }) {
  const version = chat.ticker.of(place).value;
  const self = chat.me.value ?? "";
  const log = chat.log.threads.get(place);
  const shown = useSignal(SHOWN);
  const loading = useSignal(false);
  const away = useSignal(false);
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLOListElement>(null);
  const at = useRef({ bottom: true, top: 0, first: 0, height: 0, last: 0, seen: -1 }).current;
  // The mark stands where the reader had stopped when the thread was opened, if there was more.
  if (log && at.seen < 0) at.seen = log.unread ? log.seen : Infinity;

  const messages = log ? log.messages.slice(-shown.value) : [];
  const hidden = (log?.messages.length ?? 0) - messages.length;
  const last = log?.messages.at(-1)?.seq ?? 0;
  if (at.bottom) at.last = last;

  function toBottom(): void {
    const box = scroller.current;
    if (box) box.scrollTop = box.scrollHeight;
  }

  function markSeen(): void {
    const newest = chat.log.threads.get(place)?.messages.at(-1);
    if (at.bottom && newest && document.visibilityState === "visible") chat.displayed(place, newest.seq);
  }

  function scrolled(): void {
    const box = scroller.current;
    if (!box) return;
    // Only a reader moves up. Content that grew since our own scrolling also makes the bottom distant.
    if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_BOTTOM_PX) at.bottom = true;
    else if (box.scrollTop < at.top) at.bottom = false;
    at.top = box.scrollTop;
    if (away.value === at.bottom) away.value = !at.bottom;
    if (at.bottom) markSeen();
  }

  async function earlier(): Promise<void> {
    shown.value += STEP;
    if (hidden >= STEP || !log?.earlier) return;
    loading.value = true;
    await chat.readEarlier(place);
    loading.value = false;
  }

  // What is put in above must not move what is being read.
  useLayoutEffect(() => {
    const box = scroller.current!;
    const first = messages[0]?.seq ?? 0;
    if (!at.bottom && first < at.first) box.scrollTop += box.scrollHeight - at.height;
    at.first = first;
    at.height = box.scrollHeight;
    markSeen();
  });

  // Whatever grows or shrinks (a block, the keyboard), a reader at the bottom stays there.
  useEffect(() => {
    const observer = new ResizeObserver(() => at.bottom && toBottom());
    observer.observe(scroller.current!);
    observer.observe(content.current!);
    document.addEventListener("visibilitychange", markSeen);
    return () => {
      observer.disconnect();
      document.removeEventListener("visibilitychange", markSeen);
    };
  }, []);

  const fresh = log ? log.messages.filter((message) => message.seq > at.last).length : 0;
  const runs = chat.log.runs.open(place);
  const pending = chat.pending.value.filter((one) => one.place === place && !one.echoed);
  const nothing = !messages.length && !runs.length && !pending.length;

  return (
    <div class="list-frame">
      <div class="list" ref={scroller} onScroll={scrolled} tabIndex={0} role="log" aria-live="polite" aria-relevant="additions" aria-label="Messages">
        {(hidden > 0 || (log?.earlier && log.read)) && (
          <button type="button" class="earlier" data-testid="earlier" disabled={loading.value} onClick={earlier}>
            {loading.value ? "Loading…" : "Load earlier messages"}
          </button>
        )}
        {nothing && (log?.read || !log) && <p class="empty">Nothing was written here yet.</p>}
        <ol ref={content}>
          {[
            ...rows(chat, messages, self, at.seen),
            ...runs.map((run) => <AnswerRow key={`run ${run.id}`} chat={chat} run={run} version={version} />),
            ...pending.map((one) => <PendingRow key={one.post.key} chat={chat} pending={one} />),
          ]}
        </ol>
      </div>
      {away.value && (
        <button type="button" class={fresh ? "pill fresh" : "pill"} data-testid="to-bottom" onClick={toBottom}>
          {fresh ? `${fresh} new ${fresh === 1 ? "message" : "messages"} ↓` : "To the newest ↓"}
        </button>
      )}
    </div>
  );
}

/** The messages with the marks between them: where a day begins, and where the reader had stopped. */
function rows(chat: Chat, messages: readonly Message[], self: string, seen: number): ComponentChild[] {
  const rows: ComponentChild[] = [];
  let before: Message | undefined;
  let marked = false;
  for (const message of messages) {
    if (!before || dayOf(before.timestamp) !== dayOf(message.timestamp)) {
      rows.push(
        <li key={`day ${dayOf(message.timestamp)}`} class="day">
          <span>{dayTitle(message.timestamp)}</span>
        </li>,
      );
    }
    if (!marked && seen > 0 && message.seq > seen && before && !sameName(message.sender, self)) {
      rows.push(
        <li key="new" class="day new">
          <span>New</span>
        </li>,
      );
    }
    marked ||= message.seq > seen;
    rows.push(row(chat, message, self, before));
    before = message;
  }
  return rows;
}

function row(chat: Chat, message: Message, self: string, before: Message | undefined): ComponentChild {
  const { seq, thread, run } = message;
  if (run) {
    return <AnswerRow key={`run ${run}`} chat={chat} message={message} error={chat.log.runs.get(run)?.error ?? null} />;
  }
  return (
    <MessageRow
      key={seq}
      message={message}
      look={lookOf(message, chat.log.threads.get(thread)?.about, self)}
      delivery={chat.deliveries.get(`${thread}:${seq}`)}
      follows={before !== undefined && follows(message, before)}
    />
  );
}

function follows(message: Message, before: Message): boolean {
  return (
    nameKey(message.sender) === nameKey(before.sender) &&
    message.type === before.type &&
    Date.parse(message.timestamp) - Date.parse(before.timestamp) < FOLLOWS_MS &&
    dayOf(message.timestamp) === dayOf(before.timestamp)
  );
}
