import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { makeToken, revokeToken, tokens, type Scope, type Token } from "../account.ts";
import { day } from "./time.ts";

const DAY_S = 86_400;
const LASTS: [string, number][] = [
  ["7 days", 7 * DAY_S],
  ["30 days", 30 * DAY_S],
  ["90 days", 90 * DAY_S],
  ["a year", 365 * DAY_S],
  ["until revoked", 0],
];

/** What devices, bots and programs show instead of the password. */
export function Tokens() {
  const mine = useSignal<Token[] | null>(null);
  const secret = useSignal<{ label: string; token: string } | null>(null);
  const problem = useSignal<string | null>(null);
  const sure = useSignal("");

  async function list(): Promise<void> {
    const answer = await tokens();
    if (answer.ok) mine.value = answer.value.tokens;
    else problem.value = answer.problem;
  }
  useEffect(() => void list(), []);

  async function make(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const wish = new FormData(form);
    const scopes = (["read", "write"] as Scope[]).filter((scope) => wish.has(scope));
    const expires_in = Number(wish.get("lasts"));
    problem.value = scopes.length ? null : "A token that may neither read nor write is of no use.";
    if (problem.value) return;
    const label = String(wish.get("label")).trim();
    const answer = await makeToken({ label, scopes, ...(expires_in && { expires_in }) });
    if (!answer.ok) {
      problem.value = answer.problem;
      return;
    }
    secret.value = answer.value;
    form.reset();
    await list();
  }

  async function revoke(token: Token): Promise<void> {
    if (sure.value !== token.id) {
      sure.value = token.id;
      return;
    }
    const answer = await revokeToken(token.id);
    problem.value = answer.ok ? null : answer.problem;
    await list();
  }

  return (
    <section class="tokens" aria-labelledby="tokens-title">
      <h3 id="tokens-title">Tokens</h3>
      <p class="hint">For devices, bots and programs that speak as you, without your password.</p>
      {secret.value && <Secret label={secret.value.label} token={secret.value.token} close={() => (secret.value = null)} />}
      {mine.value?.length ? (
        <ul class="choices">
          {mine.value.map((token) => (
            <li key={token.id} data-testid="token">
              <span class="name">
                {token.label || "Without a label"}
                <small>
                  {token.scopes.join(", ")} · {token.expires ? `until ${day(token.expires)}` : "until revoked"}
                </small>
              </span>
              <button
                type="button"
                class={sure.value === token.id ? "danger small sure" : "danger small"}
                aria-label={sure.value === token.id ? `Really revoke ${token.label}` : `Revoke ${token.label}`}
                onBlur={() => (sure.value = "")}
                onClick={() => revoke(token)}
              >
                {sure.value === token.id ? "Really revoke" : "Revoke"}
              </button>
            </li>
          ))}
        </ul>
      ) : null}
      <details class="section" open={mine.value?.length === 0}>
        <summary>New token</summary>
        <form onSubmit={make}>
          <label for="token-label">What it is for</label>
          <input id="token-label" name="label" maxLength={100} required autocomplete="off" placeholder="kitchen display" />
          <div class="choose">
            <span>It may</span>
            <label class="check">
              <input type="checkbox" name="read" defaultChecked /> read
            </label>
            <label class="check">
              <input type="checkbox" name="write" defaultChecked /> write
            </label>
            <label for="token-lasts" class="lasts">
              It lasts
            </label>
            <select id="token-lasts" name="lasts">
              {LASTS.map(([said, seconds]) => (
                <option key={said} value={seconds} selected={seconds === 90 * DAY_S}>
                  {said}
                </option>
              ))}
            </select>
          </div>
          <button type="submit" data-testid="make-token">
            Make token
          </button>
        </form>
      </details>
      <p role="alert" class="problem" data-testid="tokens-problem">
        {problem}
      </p>
    </section>
  );
}

/** The secret of a new token: the server keeps only what proves it. */
function Secret({ label, token, close }: { label: string; token: string; close: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const copied = useSignal("");
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
    field.current?.scrollTo({ left: 0 });
  }, [token]);

  async function copy(): Promise<void> {
    field.current?.select();
    try {
      await navigator.clipboard.writeText(token);
      copied.value = "Copied.";
    } catch {
      // Without https there is no clipboard for pages.
      copied.value = document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy it.";
    }
  }

  return (
    <div class="secret">
      <label for="secret">
        The token {label ? `“${label}”` : ""}. <strong>It is shown this once; copy it now.</strong>
      </label>
      <div class="with-button">
        <input id="secret" data-testid="secret" ref={field} readOnly value={token} spellcheck={false} />
        <button type="button" class="small" onClick={copy}>
          Copy
        </button>
      </div>
      <p class="said">
        <span role="status">{copied}</span>
        <button type="button" class="link" onClick={close}>
          I have it
        </button>
      </p>
    </div>
  );
}
