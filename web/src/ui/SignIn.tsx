import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";

export function SignIn({ chat }: { chat: Chat }) {
  const name = useSignal(chat.identity.name);
  const password = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  const problem = chat.signInProblem.value;
  const wantsPassword = chat.passwordWanted.value;
  const { at } = chat.phase.value;

  useEffect(() => field.current?.select(), []);
  useEffect(() => {
    if (problem) field.current?.focus();
  }, [problem]);

  function submit(event: Event): void {
    event.preventDefault();
    void chat.signIn(name.value.trim(), wantsPassword ? password.value : "");
  }

  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit} aria-busy={at === "connecting"}>
        <img src="./favicon.svg" alt="" width="56" height="56" />
        <h1>Hubbub</h1>
        <p class="lead">People, AI assistants and devices in one live conversation.</p>
        <label for="name">Your name</label>
        <input
          id="name"
          name="username"
          data-testid="name"
          ref={field}
          value={name}
          maxLength={64}
          autocomplete="username"
          autocapitalize="off"
          spellcheck={false}
          autofocus
          aria-invalid={problem !== null}
          aria-describedby="sign-in-says"
          onInput={(event) => {
            name.value = event.currentTarget.value;
            chat.signInProblem.value = null;
          }}
        />
        {wantsPassword && (
          <>
            <label for="password">Password</label>
            <input
              id="password"
              name="password"
              data-testid="password"
              type="password"
              autocomplete="current-password"
              value={password}
              onInput={(event) => (password.value = event.currentTarget.value)}
            />
          </>
        )}
        <button type="submit" class="primary" data-testid="enter" disabled={at === "connecting"}>
          {at === "connecting" ? "Connecting…" : "Enter"}
        </button>
        <p id="sign-in-says" role="alert" class="problem" data-testid="sign-in-problem">
          {problem ?? (at === "waiting" ? "The server cannot be reached. Trying again…" : "")}
        </p>
      </form>
    </main>
  );
}
