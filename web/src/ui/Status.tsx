import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Chat } from "../chat.ts";

/** Whether we are connected, and how much was heard. */
export function Status({ chat }: { chat: Chat }) {
  const phase = chat.phase.value;
  const now = useSignal(Date.now());
  useEffect(() => {
    if (phase.at !== "waiting") return;
    now.value = Date.now();
    const timer = setInterval(() => (now.value = Date.now()), 500);
    return () => clearInterval(timer);
  }, [phase]);

  const state =
    phase.at === "connected" ? "connected" : phase.at === "stopped" || !navigator.onLine ? "offline" : "connecting";
  const seconds = phase.at === "waiting" ? Math.max(1, Math.ceil((phase.until - now.value) / 1000)) : 0;
  const said =
    phase.at === "connected"
      ? "Connected"
      : phase.at === "waiting"
        ? `${state === "offline" ? "Offline, trying" : "Reconnecting"} in ${seconds} s`
        : phase.at === "connecting"
          ? "Connecting…"
          : "Offline";
  const count = chat.heardCount.value;

  return (
    <div class="status" data-testid="status" data-state={state}>
      <span class="lamp" aria-hidden="true" />
      <span role="status">{said}</span>
      {phase.at === "waiting" && (
        <button type="button" class="link" onClick={() => chat.connection.nudge()}>
          Try now
        </button>
      )}
      <span class="count" data-testid="count" title="Messages heard since this page was opened">
        {count} {count === 1 ? "message" : "messages"}
      </span>
    </div>
  );
}

export function Notes({ chat }: { chat: Chat }) {
  return (
    <div class="notes" role="status" aria-live="polite" data-testid="notes">
      {chat.notes.value.map(({ id, text, kind }) => (
        <p key={id} class={`note ${kind}`}>
          {text}
        </p>
      ))}
    </div>
  );
}
