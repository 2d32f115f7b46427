// Draws what /api/stats says, every few seconds. Values come from the server as numbers and route templates, and
// everything is put into the page as text.

const EVERY_MS = 5000;
const WIDTH = 336, HEIGHT = 118;
const LEFT = 44, RIGHT = 6, TOP = 6, BOTTOM = 16;
const NAMES = ["one", "two", "three"];

const CHARTS = [
  ["Requests a second", count, [["all", "requests_per_s"]]],
  ["Requests that failed (5xx), a minute", count, [["failed", "errors"]]],
  ["Time to an answer's beginning", time, quantilesOf("request_s")],
  ["First token, after a batch began", time, quantilesOf("first_piece_s")],
  ["From one token to the next", time, quantilesOf("piece_gap_s")],
  ["Wait in the queue", time, quantilesOf("waited_s")],
  ["Answers in the queue", count, [["at the end of the minute", "queued"]]],
  ["Answers written together", count, [["mean", "batch_size_mean"], ["p95", "batch_size_p95"]]],
  ["Answers a minute", count, [["ended", "runs_ended"], ["failed", "runs_failed"]]],
  ["Messages and deliveries a second", count, [["messages", "messages_per_s"], ["deliveries", "deliveries_per_s"]]],
  ["Commits, with their fsync", time, quantilesOf("commit_s")],
  ["Lateness of the event loop", time, quantilesOf("loop_lag_s")],
  ["Processor, of one core", percent, [["this process", "cpu"]]],
  ["Memory of this process", bytes, [["resident", "resident"]]],
  ["Disk with the data", bytes, [["free", "disk_free"]]],
];

function quantilesOf(name) {
  return ["p50", "p95", "p99"].map((share) => [share, `${name}_${share}`]);
}

// Numbers as people read them

function short(value) {
  if (value === 0) return "0";
  if (value >= 10000) return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
  return String(Number(value.toPrecision(value >= 100 ? Math.ceil(Math.log10(value + 1)) : 2)));
}
function count(value) {
  return short(value);
}
function time(value) {
  if (value === 0) return "0";
  if (value < 0.001) return `${short(value * 1e6)} µs`;
  if (value < 1) return `${short(value * 1000)} ms`;
  return value < 600 ? `${short(value)} s` : `${short(value / 60)} min`;
}
function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ${units[unit]}`;
}
function percent(value) {
  return `${short(value * 100)} %`;
}
function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}
function lasted(seconds) {
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

// Elements

function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}
function drawn(name, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}
const at = (id) => document.getElementById(id);

// Charts

/** A round number not below `value`, for the top of a chart. */
function ceiling(value, show) {
  if (value <= 0) return show === percent ? 0.1 : 1;
  const base = show === bytes ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 1;
  const power = 10 ** Math.floor(Math.log10(value / base));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((one) => one * power * base >= value * 0.999);
  return step * power * base;
}

/** Where values stand in a chart that begins at 0, and which of them are written beside it. */
function fromZero(values, show) {
  const top = ceiling(Math.max(...values), show);
  return [(value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM), [0, top / 2, top]];
}

/** The same for times, which lie decades apart: as far from 1 ms to 10 ms as from there to 100 ms. */
function byDecades(values) {
  const decade = (value) => Math.log10(Math.max(value, 1e-6));
  const low = Math.floor(decade(Math.min(...values)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(decade(Math.max(...values)) - 1e-9));
  const steps = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  return [(value) => TOP + ((high - decade(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM), steps];
}

class Chart {
  constructor([title, show, lines]) {
    this.show = show;
    this.lines = lines;
    this.legend = element("ul");
    this.place = element("div");
    this.values = lines.map((_, index) => {
      const value = element("b");
      this.legend.append(element("li", { class: NAMES[index] }, `${lines[index][0]} `, value));
      return value;
    });
    this.title = title;
    this.figure = element("figure", { class: "chart" }, element("figcaption", {}, title), this.legend, this.place);
    this.pointed = null;
    this.place.addEventListener("pointermove", (event) => this.point(event));
    this.place.addEventListener("pointerleave", () => this.point(null));
  }

  draw(series) {
    this.series = series;
    const columns = this.lines.map(([, name]) => series[name]);
    const known = columns.flat().filter((value) => value !== null);
    this.legend.hidden = known.length === 0;
    if (known.length === 0) {
      this.place.replaceChildren(element("div", { class: "empty" }, "Nothing yet."));
      return;
    }
    const [y, steps] = this.show === time ? byDecades(known) : fromZero(known, this.show);
    const many = series.at.length;
    this.x = (index) => LEFT + (many === 1 ? 1 : index / (many - 1)) * (WIDTH - LEFT - RIGHT);
    const parts = [];
    for (const step of steps) {
      const height = y(step);
      parts.push(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height }));
      parts.push(drawn("text", { x: LEFT - 5, y: height + 3.5, "text-anchor": "end" }, this.show(step)));
    }
    if (many > 1) parts.push(drawn("text", { x: LEFT, y: HEIGHT - 3 }, clock(series.at[0])));
    const last = many > 1 ? clock(series.at[many - 1]) : "this minute";
    parts.push(drawn("text", { x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, last));
    columns.forEach((column, line) => {
      let path = "";
      column.forEach((value, index) => {
        if (value === null) return;
        const before = index > 0 && column[index - 1] !== null;
        const after = index + 1 < many && column[index + 1] !== null;
        path += `${before ? "L" : "M"}${this.x(index).toFixed(1)} ${y(value).toFixed(1)}`;
        if (!before && !after) {
          parts.push(drawn("circle", { class: NAMES[line], cx: this.x(index), cy: y(value), r: 2.2 }));
        }
      });
      parts.push(drawn("path", { class: NAMES[line], d: path }));
    });
    this.mark = drawn("line", { class: "at", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    const said = this.lines.map(([name], line) => {
      const values = columns[line].filter((value) => value !== null);
      if (values.length === 0) return `${name}: nothing yet`;
      return `${name}: ${this.show(values[values.length - 1])} lately, ${this.show(Math.max(...values))} at most`;
    });
    const label = `${this.title}. ${said.join("; ")}.`;
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label };
    this.place.replaceChildren(drawn("svg", box, ...parts, this.mark));
    this.tell();
  }

  point(event) {
    const svg = this.place.querySelector("svg");
    this.pointed = null;
    if (event && svg) {
      const box = svg.getBoundingClientRect();
      const share = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
      const many = this.series.at.length;
      this.pointed = Math.min(many - 1, Math.max(0, Math.round(share * (many - 1))));
    }
    if (svg) this.tell();
  }

  /** The legend's values: of the minute pointed at, else the newest there are. */
  tell() {
    const many = this.series.at.length;
    const index = this.pointed === null ? null : Math.min(this.pointed, many - 1);
    this.lines.forEach(([, name], line) => {
      const column = this.series[name];
      const value = index === null ? column.findLast((one) => one !== null) : column[index];
      this.values[line].textContent = value === null || value === undefined ? "–" : this.show(value);
    });
    this.mark.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) {
      this.figure.querySelector("figcaption").textContent = this.title;
    } else {
      this.mark.setAttribute("x1", this.x(index));
      this.mark.setAttribute("x2", this.x(index));
      this.figure.querySelector("figcaption").textContent = `${this.title}, ${clock(this.series.at[index])}`;
    }
  }
}

// Tables

function table(id, heads, rows, empty) {
  const head = element("thead", {}, element("tr", {}, ...heads.map((one) => element("th", { scope: "col" }, one))));
  const body = element("tbody");
  for (const [first, ...cells] of rows) {
    const row = element("tr", {}, element("th", { scope: "row" }, first));
    for (const cell of cells) {
      row.append(element("td", cell.bad ? { class: "bad" } : {}, cell.text ?? cell));
    }
    body.append(row);
  }
  if (rows.length === 0) {
    body.append(element("tr", {}, element("td", { class: "empty", colspan: heads.length }, empty)));
  }
  const place = at(id);
  // Left alone while nothing has changed, so that somebody may select text in it.
  if (place.textContent !== head.textContent + body.textContent) place.replaceChildren(head, body);
}

const orDash = (show, value) => (value === null || value === undefined ? "–" : show(value));

function tables(stats) {
  const over = at("window").value;
  const shares = ["p50", "p90", "p95", "p99", "max"];
  table(
    "routes",
    ["route", "requests", "failed", ...shares],
    stats.requests[over].map((row) => [
      row.route,
      count(row.count),
      { text: count(row.errors), bad: row.errors > 0 },
      ...shares.map((share) => orDash(time, row[share])),
    ]),
    "No requests in this time.",
  );
  table(
    "slowest",
    ["route", "status", "took", "at"],
    stats.slowest.map((slow) => [
      slow.route,
      { text: String(slow.status), bad: slow.status >= 500 },
      time(slow.ms / 1000),
      new Date(slow.at).toLocaleTimeString(),
    ]),
    "No requests in the last hour.",
  );
  const runs = stats.runs[over];
  const engines = [...new Set(Object.keys(runs.ended).map((key) => key.split(" ")[0]))];
  const of = (counts, engine, name) => counts[`${engine} ${name}`] ?? 0;
  table(
    "runs",
    ["engine", "completed", "failed", "cancelled", "refused", "batches of (mean, p95)", "wait p95", "first token p50", "p95", "next token p50", "p95"],
    engines
      .filter((engine) => ["completed", "failed", "cancelled"].some((state) => of(runs.ended, engine, state)) || runs.refused[engine])
      .map((engine) => [
        engine,
        count(of(runs.ended, engine, "completed")),
        { text: count(of(runs.ended, engine, "failed")), bad: of(runs.ended, engine, "failed") > 0 },
        count(of(runs.ended, engine, "cancelled")),
        { text: count(runs.refused[engine] ?? 0), bad: (runs.refused[engine] ?? 0) > 0 },
        `${orDash(count, runs.batch_size[engine]?.mean)}, ${orDash(count, runs.batch_size[engine]?.p95)}`,
        orDash(time, runs.waited_s[engine]?.p95),
        orDash(time, runs.first_piece_s[engine]?.p50),
        orDash(time, runs.first_piece_s[engine]?.p95),
        orDash(time, runs.piece_gap_s[engine]?.p50),
        orDash(time, runs.piece_gap_s[engine]?.p95),
      ]),
    "No answers in this time.",
  );
}

// Now

function tiles(stats) {
  const sum = (name, fits = () => true) =>
    stats.now.filter((one) => one.name === name && fits(one.labels)).reduce((all, one) => all + one.value, 0);
  const machine = stats.process;
  const cpu = stats.series.cpu.findLast((one) => one !== null) ?? 0;
  const shown = [
    ["Connections", count(sum("connections")), `${count(sum("rooms_open"))} threads open`],
    ["Answers being written", count(sum("runs_open", (labels) => labels.state === "running")),
      `${count(sum("runs_open", (labels) => labels.state === "queued"))} in the queue`],
    ["Messages", count(stats.counts.messages), `${count(stats.counts.deliveries)} deliveries since the start`],
    ["Processor", percent(cpu), "of one core, this minute"],
    ["Memory", bytes(machine.resident), `${bytes(machine.memory_free)} free of ${bytes(machine.memory_total)}`],
    ["Disk", machine.disk_free === null ? "–" : `${bytes(machine.disk_free)} free`,
      machine.disk_total === null ? "" : `of ${bytes(machine.disk_total)}`],
    ["Open files", machine.files === null ? "–" : count(machine.files),
      machine.files_most === null ? "" : `of ${count(machine.files_most)} allowed`],
    ["Errors in the log", count(stats.log_entries.error ?? 0), `${count(stats.log_entries.warning ?? 0)} warnings`],
  ];
  at("now").replaceChildren(
    ...shown.map(([name, value, more]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, more)))),
  );
}

// Asking

const charts = CHARTS.map((one) => new Chart(one));
at("charts").append(...charts.map((chart) => chart.figure));
let stats = null;

function show() {
  at("all").hidden = false;
  at("about").textContent = `version ${stats.version}, up for ${lasted(stats.uptime_s)}`;
  tiles(stats);
  for (const chart of charts) chart.draw(stats.series);
  tables(stats);
}

function trouble(...said) {
  at("problem").replaceChildren(...said);
  at("problem").hidden = said.length === 0;
}

async function ask() {
  try {
    const answer = await fetch("api/stats", { headers: { accept: "application/json" }, cache: "no-store" });
    if (answer.status === 401) {
      trouble("Sign in first, on ", element("a", { href: "./" }, "the chat page"), "; then come back here.");
      at("status").textContent = "";
      return;
    }
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    stats = await answer.json();
    trouble();
    // Said once: a screen reader is not to hear of every refresh.
    const none = stats.requests.since_start.length === 0;
    const said = none ? "Nothing has been asked for yet." : "Refreshed every 5 seconds.";
    if (at("status").textContent !== said) at("status").textContent = said;
    show();
  } catch (failure) {
    const since = stats ? ` This is from ${new Date(stats.timestamp).toLocaleTimeString()}.` : "";
    const why = failure instanceof TypeError ? "The server does not answer." : failure.message;
    trouble(`${why}${since} Trying again …`);
    if (!stats) at("status").textContent = "";
  }
}

let wake = () => {};
document.addEventListener("visibilitychange", () => wake());

async function go() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, EVERY_MS);
    });
  }
}

at("window").addEventListener("change", () => stats && tables(stats));
go();
