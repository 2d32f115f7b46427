import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { answerState } from "../conversations.ts";
import { GrowingMarkdown, renderBlocks } from "../markdown.ts";
import { colourOf } from "../names.ts";
import { type Run, sentence } from "../runs.ts";
import { sanitise } from "../sanitise.ts";
import type { Message } from "../wire.ts";
import { memo } from "./memo.ts";
import { Moment } from "./MessageRow.tsx";

interface Props {
  chat: Chat;
  /** The answer while it is written; `version` rises as it grows. */
  run?: Run;
  version?: number;
  /** The answer when it has ended, and why it failed, if that was heard. */
  message?: Message;
  error?: string | null;
}

/**
 * An answer while it is written and after it ended: one component under one key, so that the blocks on the screen
 * stay where they are when the message replaces the stream.
 */
export const AnswerRow = memo(function AnswerRow({ chat, run, message, error }: Props) {
  const growing = useRef<GrowingMarkdown>(undefined);
  if (message) return ended(message, renderBlocks(message.text), error ?? sentence(message.metadata?.["error"]));
  growing.current ??= new GrowingMarkdown();
  return run ? writing(chat, run, growing.current.blocks(run.text)) : null;
});

function writing(chat: Chat, run: Run, blocks: string[]) {
  const stopping = chat.stopping.value.has(run.id);
  const turn = run.position ? ` (number ${run.position})` : "";
  const said = stopping ? "stopping…" : run.state === "queued" ? `waiting for its turn${turn}…` : "writing…";
  return answer({
    marks: { "data-testid": "answer", "data-run": run.id, "data-state": run.state, "data-thread": run.thread, "aria-busy": true },
    sender: run.assistant,
    about: null,
    blocks,
    below: (
      <div class="progress">
        <span class="pulse" aria-hidden="true">
          <i />
          <i />
          <i />
        </span>
        {said}
        <button type="button" class="small" data-testid="stop" disabled={stopping} onClick={() => chat.stopAnswer(run.id)}>
          Stop
        </button>
      </div>
    ),
  });
}

function ended(message: Message, blocks: string[], why: string | null) {
  const { seq, thread, sender, timestamp, metadata, run } = message;
  const state = answerState(message);
  return answer({
    marks: { "data-testid": "message", "data-run": run, "data-state": state, "data-thread": thread, "data-seq": seq },
    sender,
    about: (
      <>
        {metadata?.["model"] === "demo" && <span class="demo">demo model</span>}
        <Moment timestamp={timestamp} />
      </>
    ),
    blocks,
    below: (
      <>
        {metadata?.["deleted"] === true && <div class="end">This message was deleted.</div>}
        {state === "failed" && <div class="end failed">The answer failed{why ? `: ${why}` : "."}</div>}
        {state === "cancelled" && <div class="end">The answer was stopped.</div>}
        {metadata?.["truncated"] === true && <div class="end">The answer was cut here: it grew too long.</div>}
      </>
    ),
  });
}

interface Parts {
  marks: Record<string, unknown>;
  sender: string;
  about: ComponentChildren;
  blocks: string[];
  below: ComponentChildren;
}

/** What is the same in both: the elements that stay. */
function answer({ marks, sender, about, blocks, below }: Parts) {
  return (
    <li class="row other answer" {...marks}>
      <div class="bubble" aria-live={marks["aria-busy"] ? "off" : undefined}>
        <div class="meta">
          <span class={`sender colour-${colourOf(sender)}`}>{sender}</span>
          {about}
        </div>
        <div class="text markdown" data-testid="body">
          {blocks.map((html, i) => (
            <Block key={i} html={html} />
          ))}
        </div>
        {below}
      </div>
    </li>
  );
}

/** One block of markdown; put into the page anew only when its HTML changed. */
const Block = memo(function Block({ html }: { html: string }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => place.current?.replaceChildren(sanitise(html)), [html]);
  return <div class="block" ref={place} />;
});
