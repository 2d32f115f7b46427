import type { Chat, Pending } from "../chat.ts";
import { PlainText } from "./PlainText.tsx";

/** What was written and is not acknowledged yet. */
export function PendingRow({ chat, pending }: { chat: Chat; pending: Pending }) {
  const { post, problem } = pending;
  const waiting = chat.phase.value.at === "connected" ? "sending…" : "waiting for the connection…";
  return (
    <li class={problem ? "row own pending failed" : "row own pending"} data-testid="pending">
      <div class="bubble">
        <div class="meta">
          <span class="sender">You</span>
        </div>
        <div class="text plain">
          <PlainText text={post.text} />
        </div>
        <div class="delivery" role={problem ? "alert" : undefined}>
          {problem ? `Not sent. ${problem}` : waiting}
          {problem && (
            <>
              <button type="button" class="small" onClick={() => chat.postAgain(pending)}>
                Try again
              </button>
              <button type="button" class="small" onClick={() => chat.discard(pending)}>
                Discard
              </button>
            </>
          )}
        </div>
      </div>
    </li>
  );
}
