import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { enter, MIN_PASSWORD, type Way } from "../signing.ts";
import { PasswordField } from "./PasswordField.tsx";

const GO: Record<Way, string> = { guest: "Enter", password: "Sign in", register: "Register and enter" };
const INSTEAD: Record<Way, string> = {
  guest: "Enter as a guest",
  password: "I have a password",
  register: "Register this name",
};
const WAYS: Way[] = ["guest", "password", "register"];

/** One form for all ways in. A guest needs a name only. */
export function SignIn({ chat }: { chat: Chat }) {
  const name = useSignal(chat.identity.name);
  const password = useSignal("");
  const nameField = useRef<HTMLInputElement>(null);
  const passwordField = useRef<HTMLInputElement>(null);
  const problem = chat.signInProblem.value;
  const way = chat.way.value;
  const withPassword = way !== "guest";
  const busy = chat.asking.value || chat.phase.value.at === "connecting";
  const { guests, registration } = chat.rules.value;
  const open = { guest: guests, password: true, register: registration };
  const others = WAYS.filter((one) => one !== way && open[one]);

  useEffect(() => nameField.current?.select(), []);
  useEffect(() => {
    const field = withPassword && name.value ? passwordField.current : nameField.current;
    field?.focus();
  }, [problem, way]);

  function submit(event: Event): void {
    event.preventDefault();
    if (!busy) void enter(chat, name.value.trim(), way, withPassword ? password.value : "");
  }

  function wrote(): void {
    chat.signInProblem.value = null;
  }

  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit} aria-busy={busy}>
        <img src="./favicon.svg" alt="" width="56" height="56" />
        <h1>Hubbub</h1>
        <p class="lead">People, AI assistants and devices in one live conversation.</p>
        <label for="name">Your name</label>
        <input
          id="name"
          name="username"
          data-testid="name"
          ref={nameField}
          value={name}
          maxLength={64}
          autocomplete="username"
          autocapitalize="off"
          spellcheck={false}
          autofocus
          aria-invalid={problem !== null && !withPassword}
          aria-describedby="sign-in-says"
          onInput={(event) => {
            name.value = event.currentTarget.value;
            wrote();
          }}
        />
        {withPassword && (
          <PasswordField
            key={way}
            id="password"
            label="Password"
            field={passwordField}
            fresh={way === "register"}
            invalid={problem !== null}
            says="sign-in-says"
            value={password.value}
            change={(value) => {
              password.value = value;
              wrote();
            }}
          />
        )}
        {way === "register" && (
          <p class="hint">At least {MIN_PASSWORD} characters. From then on nobody else can enter under this name.</p>
        )}
        <p id="sign-in-says" role="alert" class="problem" data-testid="sign-in-problem">
          {problem ?? (chat.phase.value.at === "waiting" ? "The server cannot be reached. Trying again…" : "")}
        </p>
        <button type="submit" class="primary" data-testid="enter" disabled={busy}>
          {busy ? "Connecting…" : GO[way]}
        </button>
        <p class="instead">
          {others.map((one) => (
            <button key={one} type="button" class="link" data-testid={`way-${one}`} onClick={() => ((chat.way.value = one), wrote())}>
              {INSTEAD[one]}
            </button>
          ))}
        </p>
      </form>
    </main>
  );
}
