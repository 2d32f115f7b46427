import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat.ts";
import { changePassword, leaveTab, MIN_PASSWORD, registerName, signOut } from "../signing.ts";
import { Dialog } from "./Dialog.tsx";
import { PasswordField } from "./PasswordField.tsx";
import { Tokens } from "./Tokens.tsx";

/** Who one is here, and what can be done about it. */
export function Account({ chat, close }: { chat: Chat; close: () => void }) {
  const { registered } = chat.identity;
  const leaving = useSignal(false);
  const problem = useSignal<string | null>(null);

  async function leave(): Promise<void> {
    leaving.value = true;
    problem.value = await signOut(chat);
    leaving.value = false;
  }

  return (
    <Dialog title={chat.me.value ?? "Account"} close={close}>
      <p class="hint" data-testid="account-kind">
        {registered
          ? chat.admin.value
            ? "Registered, and an admin of this server."
            : "Registered: nobody enters under this name without its password."
          : "A guest: the name is yours while you are connected. Register it to keep it."}
      </p>
      {registered ? (
        <>
          <Tokens />
          <Section title="Change password">
            <ChangePassword chat={chat} />
          </Section>
        </>
      ) : (
        <Register chat={chat} />
      )}
      <div class="dialog-end">
        {registered && (
          <button
            type="button"
            class="link"
            data-testid="leave-tab"
            title="You stay signed in in this browser's other tabs"
            onClick={() => leaveTab(chat)}
          >
            Use another name in this tab
          </button>
        )}
        <button type="button" class="danger" data-testid="sign-out" disabled={leaving.value} onClick={leave}>
          Sign out
        </button>
      </div>
      <p role="alert" class="problem">
        {problem}
      </p>
    </Dialog>
  );
}

function Section({ title, children }: { title: string; children: preact.ComponentChildren }) {
  return (
    <details class="section">
      <summary>{title}</summary>
      {children}
    </details>
  );
}

function ChangePassword({ chat }: { chat: Chat }) {
  const old = useSignal("");
  const fresh = useSignal("");
  return (
    <PasswordForm
      id="password-says"
      go="Change password"
      done="Changed. Whoever was signed in with the old one has to sign in again."
      ask={() => changePassword(chat, old.value, fresh.value)}
      clear={() => (old.value = fresh.value = "")}
    >
      {/* So that a password manager knows whose it is. */}
      <input type="text" class="unseen" autocomplete="username" value={chat.me.value ?? ""} readOnly tabIndex={-1} aria-hidden="true" />
      <PasswordField id="old-password" label="Old password" value={old.value} change={(value) => (old.value = value)} says="password-says" />
      <PasswordField id="new-password" label="New password" fresh value={fresh.value} change={(value) => (fresh.value = value)} says="password-says" />
    </PasswordForm>
  );
}

function Register({ chat }: { chat: Chat }) {
  const password = useSignal("");
  return (
    <PasswordForm id="register-says" go="Register this name" done="" ask={() => registerName(chat, password.value)} clear={() => {}}>
      <input type="text" class="unseen" autocomplete="username" value={chat.me.value ?? ""} readOnly tabIndex={-1} aria-hidden="true" />
      <PasswordField id="new-password" label="Password" fresh value={password.value} change={(value) => (password.value = value)} says="register-says" />
      <p class="hint">At least {MIN_PASSWORD} characters. From then on, this name needs it.</p>
    </PasswordForm>
  );
}

interface FormProps {
  id: string;
  go: string;
  done: string;
  ask: () => Promise<string | null>;
  clear: () => void;
  children: preact.ComponentChildren;
}

/** A form whose answer is a sentence: what is wrong, or that it was done. */
function PasswordForm({ id, go, done, ask, clear, children }: FormProps) {
  const problem = useSignal<string | null>(null);
  const said = useSignal("");
  const busy = useSignal(false);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (problem.value) form.current?.querySelector<HTMLInputElement>("input:not(.unseen)")?.focus();
  }, [problem.value]);

  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    busy.value = true;
    problem.value = null;
    said.value = "";
    problem.value = await ask();
    busy.value = false;
    if (problem.value !== null) return;
    clear();
    said.value = done;
  }

  return (
    <form ref={form} onSubmit={submit} aria-busy={busy.value}>
      {children}
      <p id={id} role="alert" class="problem" data-testid={id}>
        {problem}
      </p>
      <p role="status" class="done">
        {said}
      </p>
      <button type="submit" class="primary" disabled={busy.value}>
        {go}
      </button>
    </form>
  );
}
