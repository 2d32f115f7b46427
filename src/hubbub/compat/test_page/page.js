// The page at /test: what a program does with /chat and /generate, to look at.

const find = (id) => document.getElementById(id);
const log = find("log");
const tasks = find("tasks");

/** The events of an answer, each [name, data], as they come. Throws the sentence of a refusal. */
async function* events(address, fields, signal) {
  const response = await fetch(address, { method: "POST", body: new URLSearchParams(fields), signal });
  if (!response.ok) {
    const refused = await response.json().catch(() => ({}));
    throw new Error(refused.detail ?? `The server answered ${response.status}.`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}

const sentence = (error) => (error instanceof TypeError ? "The server cannot be reached." : error.message);

// Chat

/** Puts something that was said at the end of the log; its words can be added to. */
function say(role, text) {
  find("log").querySelector(".hint")?.remove();
  const said = document.createElement("div");
  said.className = `said ${role}`;
  const who = document.createElement("p");
  who.className = "who";
  who.textContent = role === "user" ? "You" : "openai";
  const words = document.createElement("p");
  words.className = "words";
  words.textContent = text;
  said.append(who, words);
  log.append(said);
  log.scrollTop = log.scrollHeight;
  return { said, words };
}

function wrong(text) {
  const line = document.createElement("p");
  line.className = "wrong";
  line.textContent = text;
  log.append(line);
  log.scrollTop = log.scrollHeight;
}

function busy(is, text = "") {
  find("send").disabled = find("new").disabled = is;
  find("open").querySelector("button").disabled = is;
  find("chat-state").textContent = text;
  log.setAttribute("aria-busy", String(is));
}

find("chat").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (find("send").disabled) return;
  const message = find("message").value;
  const fields = { message, conversation_id: find("conversation").value.trim() };
  busy(true, "Asking …");
  say("user", message);
  find("message").value = "";
  const { said, words } = say("assistant", "");
  said.classList.add("writing");
  let over = false;
  try {
    for await (const [name, data] of events("chat", fields)) {
      if (name === "connected") {
        find("conversation").value = data.conversation_id;
        find("chat-state").textContent = "Being written …";
      } else if (data.type === "partial_response") {
        words.textContent += data.content;
      } else if (data.type === "reset") {
        words.textContent = "";
      } else if (data.type === "complete") {
        words.textContent = data.content;
      } else if (name === "error") {
        wrong(data.error);
      }
      over ||= name === "completed" || name === "error";
      log.scrollTop = log.scrollHeight;
    }
    if (!over) wrong("The connection was lost; the conversation has the answer once it is written.");
  } catch (error) {
    wrong(sentence(error));
  }
  said.classList.remove("writing");
  if (!words.textContent) said.remove();
  busy(false);
  find("message").focus();
});

find("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("chat").requestSubmit();
  }
});

find("open").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = find("conversation").value.trim();
  if (!id) return;
  try {
    const response = await fetch(`conversations/${encodeURIComponent(id)}/history?limit=100`);
    const found = await response.json();
    if (!response.ok) throw new Error(found.detail);
    log.replaceChildren();
    for (const message of found.messages) say(message.role, message.content);
  } catch (error) {
    wrong(sentence(error));
  }
});

find("new").addEventListener("click", () => {
  find("conversation").value = "";
  log.replaceChildren();
  find("message").focus();
});

// Generate

async function generate(context) {
  const item = find("a-task").content.cloneNode(true).firstElementChild;
  const part = (name) => item.querySelector(name);
  const leaving = new AbortController();
  const show = (kind, state) => {
    item.className = kind;
    part(".state").textContent = state;
  };
  const over = (kind, state) => {
    show(kind, state);
    part(".stop").hidden = true;
  };
  show("waiting", "Asking …");
  part(".stop").addEventListener("click", () => leaving.abort());
  tasks.prepend(item);
  find("no-tasks").hidden = true;
  try {
    for await (const [name, data] of events("generate", { context }, leaving.signal)) {
      if (name === "task") {
        part(".id").textContent = data.id;
        show("waiting", `Place ${data.position} in the queue`);
      } else if (name === "token") {
        show("writing", "Being written");
        part(".text").textContent += data.text;
        part(".text").scrollTop = part(".text").scrollHeight;
      } else if (name === "reset") {
        part(".text").textContent = "";
      } else if (name === "done") {
        over("done", "Done");
      } else if (name === "error") {
        over("failed", data.error);
      }
    }
    if (!part(".stop").hidden) over("failed", "The connection was lost.");
  } catch (error) {
    if (leaving.signal.aborted) over("stopped", "Stopped");
    else over("failed", sentence(error));
  }
}

find("generate").addEventListener("submit", (event) => {
  event.preventDefault();
  for (let count = Number(find("count").value); count > 0; count -= 1) generate(find("context").value);
});

find("clear").addEventListener("click", () => {
  for (const item of tasks.querySelectorAll(".done, .failed, .stopped")) item.remove();
  find("no-tasks").hidden = tasks.children.length > 0;
});
