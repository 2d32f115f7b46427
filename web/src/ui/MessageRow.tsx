import { type Look, measured } from "../conversations.ts";
import { colourOf } from "../names.ts";
import type { Message } from "../wire.ts";
import { memo } from "./memo.ts";
import { PlainText } from "./PlainText.tsx";
import { clockTime, wholeTime } from "./time.ts";

interface Props {
  message: Message;
  look: Look;
  delivery: string | undefined;
  /** The same sender spoke just before. */
  follows: boolean;
}

export const MessageRow = memo(function MessageRow({ message, look, delivery, follows }: Props) {
  const { seq, thread, sender, text, timestamp } = message;
  const marks = { "data-testid": "message", "data-seq": seq, "data-thread": thread };
  if (look === "notice") {
    return (
      <li class="row notice" {...marks}>
        <span data-testid="body">{text}</span> <Moment timestamp={timestamp} />
      </li>
    );
  }
  const value = measured(message);
  return (
    <li class={`row ${look}${follows ? " follows" : ""}`} {...marks}>
      <div class="bubble">
        <div class="meta">
          <span class={`sender ${look === "own" ? "" : `colour-${colourOf(sender)}`}`}>{look === "own" ? "You" : sender}</span>
          {message.type !== "chat" && <span class="kind">{message.type}</span>}
          <Moment timestamp={timestamp} />
        </div>
        <div class="text plain" data-testid="body">
          {message.metadata?.["deleted"] ? <em>This message was deleted.</em> : <PlainText text={text} />}
        </div>
        {value && <div class="value">{value}</div>}
        {delivery && (
          <div class="delivery" data-testid="delivery">
            {delivery}
          </div>
        )}
      </div>
    </li>
  );
});

export function Moment({ timestamp }: { timestamp: string }) {
  return (
    <time dateTime={timestamp} title={wholeTime(timestamp)}>
      {clockTime(timestamp)}
    </time>
  );
}
