import { Dialog } from "./Dialog.tsx";

const LINES: [string, string][] = [
  ["hello", "to the conversation that is open"],
  ["bob: hello", "in private to bob, who gets it later when away"],
  ["#lobby: hello", "to the thread called lobby"],
  ["@openai why?", "asks the assistant, here in the thread"],
  ["!check", "what came while you were away"],
  ["!who", "who is online"],
  ["!history bob", "opens what you and bob wrote"],
  ["a space first", "keeps a line like “Note: …” in the open conversation"],
];

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="What can be written" close={close}>
      <dl class="help">
        {LINES.map(([line, meaning]) => (
          <div key={line}>
            <dt>
              <code>{line}</code>
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> begins a new line.
      </p>
    </Dialog>
  );
}
