/**
 * Who one is on this page: coming back, entering, registering a name, leaving.
 *
 * A guest has a name and, once welcomed, a token for it, kept by the tab. Whoever signs in with a password is known by
 * the browser's cookie; the page remembers the name only, and says it in the hello of its socket, which the cookie came
 * with: when the cookie is somebody else's, or worth nothing any more, the name is refused for want of a password.
 */
import * as account from "./account.ts";
import type { Chat } from "./chat.ts";
import { keepIdentity, keepIdentityOfTab, keepOutbox, type Identity } from "./keep.ts";
import { nameProblem, sameName } from "./names.ts";

/** With what one means to come in. */
export type Way = "guest" | "password" | "register";

export const MIN_PASSWORD = 8;

/** Two tabs that each take the other for signed in must not call one another back for ever. */
const COME_BACK_AGAIN_MS = 10_000;
let cameBack = -Infinity;

/** Go on as who one was before the page was loaded. */
export async function comeBack(chat: Chat): Promise<void> {
  const { identity } = chat;
  if (!identity.token && !identity.registered) return;
  chat.me.value = identity.name;
  if (!identity.registered) return chat.start();
  chat.phase.value = { at: "connecting" };
  const me = await account.whoAmI();
  if (me.ok && isWho(me.value, identity.name)) {
    chat.admin.value = me.value.admin;
    await account.refresh();
  } else if (me.ok || me.status === 401) {
    return ended(chat, me.ok ? noLonger(identity) : me.problem);
  }
  // Without an answer: the connection goes on trying, and finds out then.
  chat.start();
}

/** Come in from the sign-in form. */
export async function enter(chat: Chat, name: string, way: Way, password: string): Promise<void> {
  const problem = nameProblem(name) ?? (way === "guest" ? null : passwordProblem(password, way));
  chat.signInProblem.value = problem;
  if (problem) return;
  if (!sameName(name, chat.identity.name)) chat.forget();
  if (way === "guest") {
    chat.identity = { name, token: sameName(name, chat.identity.name) ? chat.identity.token : null, registered: false };
    return chat.start();
  }
  chat.asking.value = true;
  const answer = way === "register" ? await account.register(name, password) : await account.logIn(name, password);
  const me = answer.ok ? await account.whoAmI() : null;
  chat.asking.value = false;
  if (!answer.ok) {
    chat.signInProblem.value = answer.problem;
  } else if (me?.ok ? !isWho(me.value, answer.value.user) : me?.status === 401) {
    chat.signInProblem.value = "This browser did not keep the sign-in. Allow cookies for this server and try again.";
  } else {
    chat.admin.value = me?.ok ? me.value.admin : false;
    goOnRegistered(chat, answer.value.user);
  }
}

/** A guest makes their name their own. The sentence that says why not, or null. */
export async function registerName(chat: Chat, password: string): Promise<string | null> {
  const { name, token } = chat.identity;
  const problem = passwordProblem(password, "register");
  if (problem) return problem;
  return change(chat, () => account.register(name, password, token));
}

/** Everybody signed in with the old one is signed out. The sentence that says why not, or null. */
export async function changePassword(chat: Chat, old: string, fresh: string): Promise<string | null> {
  const problem = passwordProblem(fresh, "register");
  if (problem) return problem;
  return change(chat, () => account.changePassword(old, fresh));
}

/** Do what ends this connection's sign-in and begins another. */
async function change(chat: Chat, ask: () => Promise<account.Answer<object>>): Promise<string | null> {
  chat.changing = true;
  const answer = await ask();
  chat.changing = false;
  if (answer.ok) goOnRegistered(chat, chat.identity.name);
  else if (chat.phase.value.at === "stopped") await comeBack(chat); // it was done after all, or failed halfway
  return answer.ok ? null : answer.problem;
}

function goOnRegistered(chat: Chat, name: string): void {
  chat.identity = { name, token: null, registered: true };
  keepIdentity(chat.identity);
  chat.start();
}

/** The sentence that says why one is still signed in, or null. */
export async function signOut(chat: Chat): Promise<string | null> {
  const { name, token, registered } = chat.identity;
  chat.changing = true;
  const answer = registered || token ? await account.logOut(token) : null;
  chat.changing = false;
  if (registered && !answer?.ok && answer?.status !== 401) {
    // The page cannot take the cookie away by itself.
    return `You are still signed in. ${answer?.problem ?? ""}`;
  }
  startOver(chat, () => keepIdentity({ name, token: null, registered: false }));
  return null;
}

/** Be somebody else in this tab; whoever is signed in in this browser stays so in the others. */
export function leaveTab(chat: Chat): void {
  startOver(chat, () => keepIdentityOfTab({ name: "", token: null, registered: false }));
}

function startOver(chat: Chat, keep: () => void): void {
  chat.connection.stop();
  keepOutbox(chat.identity.name, []);
  keep();
  // A fresh page is the surest way to keep nothing of this person.
  chat.reload();
}

/** What this page came in with is worth nothing any more: back to the form. What was written stays. */
export function ended(chat: Chat, sentence: string): void {
  chat.connection.halt();
  chat.way.value = chat.identity.registered ? "password" : "guest";
  chat.identity = { name: chat.identity.name, token: null, registered: false };
  keepIdentity(chat.identity);
  chat.me.value = null;
  chat.signInProblem.value = sentence;
}

export function noLonger({ name }: Identity): string {
  return `You are no longer signed in as ${name} here; sign in again.`;
}

/** Learn what the form is to ask for. */
export async function learnRules(chat: Chat): Promise<void> {
  const answer = await account.rules();
  if (!answer.ok) return;
  chat.rules.value = answer.value;
  if (!answer.value.guests && chat.way.value === "guest") chat.way.value = "password";
}

/** Another tab signed in or out. The cookie is the browser's, so it concerns whoever is here by it. */
export async function otherTab(chat: Chat, browser: Identity | null): Promise<void> {
  const { identity } = chat;
  const same = browser?.registered === true && sameName(browser.name, identity.name);
  if (same && chat.me.value === null && Date.now() - cameBack > COME_BACK_AGAIN_MS) {
    cameBack = Date.now();
    chat.identity = { name: browser.name, token: null, registered: true };
    await comeBack(chat);
  } else if (identity.registered && !same && !chat.changing) {
    const me = await account.whoAmI();
    if (chat.identity !== identity) return;
    // The other tab may have lost a sign-in older than ours.
    if (me.ok && isWho(me.value, identity.name)) keepIdentity(identity);
    else if (me.ok || me.status === 401) ended(chat, noLonger(identity));
  }
}

function isWho(me: account.Me, name: string): boolean {
  return me.registered && sameName(me.user, name);
}

function passwordProblem(password: string, way: Way): string | null {
  if (!password) return "Give the password, too.";
  if (way === "register" && [...password].length < MIN_PASSWORD) return `A password has at least ${MIN_PASSWORD} characters.`;
  return null;
}
