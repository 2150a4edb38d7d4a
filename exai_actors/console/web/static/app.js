// The web console: panes, keys, and the address that remembers filter, order and detail.
import { html, nothing, render } from "./vendor/lit-html.js";
import { ActionDialog } from "./actions.js";
import { duration, marked, rate, tone, written } from "./cells.js";
import { Detail } from "./detail.js";
import { Feed } from "./feed.js";
import { Plots } from "./plots.js";
import { ROW, WINDOW, heading, tableOf, titleOf, windowFor } from "./table.js";

const BASE = "/console";
const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const main = document.getElementById("main");
const figures = document.getElementById("figures");
const tools = document.getElementById("tools");
const logout = document.getElementById("logout");
const number = (value) => value.toLocaleString("en");

let panes = JSON.parse(meta("exai-panes"));
const state = { pane: panes[0], filter: "", sort: "", of: "", cursor: -1, cursorKey: "", marks: new Set(), top: 0, isFrozen: false, showsRates: false };
const feed = new Feed(meta("exai-pass"), changed);
const plots = new Plots();
const detail = new Detail(feed, schedule);
const dialog = new ActionDialog(feed, document.getElementById("dialogs"));
const version = document.querySelector(".note")?.textContent ?? "";
let isFirst = true;
let isScheduled = false;
let historyAsked = false;

// ---- the address

function readAddress() {
  const name = location.pathname.replace(/^\/console\/?/, "");
  const query = new URLSearchParams(location.search);
  state.pane = panes.find((pane) => pane.name === name) ?? panes[0];
  state.filter = query.get("filter") ?? "";
  state.sort = query.get("sort") ?? "";
  state.of = query.get("of") ?? "";
}

function address(changes = {}) {
  const { pane, filter, sort, of } = { ...state, ...changes };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ filter, sort, of })) if (value) query.set(name, value);
  const text = query.toString();
  return `${BASE}/${pane.name}${text ? `?${text}` : ""}`;
}

function go(changes, { replace = false } = {}) {
  const isOtherPane = changes.pane && changes.pane !== state.pane;
  if (isOtherPane) changes = { filter: "", sort: "", of: "", ...changes };
  Object.assign(state, changes);
  history[replace ? "replaceState" : "pushState"](null, "", address());
  entered(isOtherPane || "filter" in changes || "sort" in changes);
  if (isOtherPane) main.focus({ preventScroll: true });
}

function entered(isNew) {
  if (isNew) {
    Object.assign(state, { cursor: -1, cursorKey: "", top: 0 });
    state.marks.clear();
    const scroll = main.querySelector(".scroll.main");
    if (scroll) scroll.scrollTop = 0;
  }
  for (const link of document.querySelectorAll("#panes a")) {
    if (link.dataset.pane === state.pane.name) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  detail.show(table(), state.of);
  watch();
  schedule();
}

// ---- the feed

function table() {
  return state.pane.tables[0];
}

function watch() {
  if (!feed.greeting || state.isFrozen) return;
  const first = table();
  const isOverview = state.pane.name === "overview";
  const names = new Set([...state.pane.tables, "broker", "alarms"]);
  if (isOverview) names.add("providers");
  feed.watchOnly([...names]);
  for (const name of names) {
    if (!feed.has(name)) continue;
    if (name === first) {
      const skip = isOverview ? 0 : windowFor(state.top);
      feed.watch(name, { filter: state.filter, sort: state.sort, limit: WINDOW, skip });
    } else feed.watch(name, { limit: isOverview && name === "events" ? 12 : WINDOW });
  }
}

function changed(frame) {
  if (frame?.op === "hello_ack") greeted(frame);
  if (frame?.table === "broker") {
    const [cells] = feed.table("broker").rows.values();
    if (cells) plots.add(frame.time, Object.fromEntries(feed.columns("broker").map((column, at) => [column.name, cells[at]])));
  } else if (frame?.table === "providers" && feed.greeting && !feed.has("broker") && !state.filter) {
    plots.add(frame.time, sums());
  }
  if (frame?.table === table()) followCursor();
  schedule();
}

function sums() {
  const columns = feed.columns("providers");
  const result = {};
  for (const row of feed.table("providers").rows.values()) {
    columns.forEach(({ name, kind }, at) => {
      if (kind === "count" || kind === "total") result[name] = (result[name] ?? 0) + (row[at] ?? 0);
    });
  }
  return result;
}

function greeted({ broker, tables }) {
  if (version && broker.version && !version.includes(`exai ${broker.version} `)) {
    location.reload();
    return;
  }
  state.startedAt = Date.now() / 1000 - broker.uptime_s;
  const known = new Set(panes.flatMap((pane) => pane.tables));
  for (const name of Object.keys(tables)) {
    if (!known.has(name) && name !== "broker") {
      panes = [...panes, { name, title: titleOf(name), tables: [name] }];
    }
  }
  watch();
  if (!historyAsked && feed.asks("history")) {
    historyAsked = true;
    feed.ask("history").then((answer) => { plots.prefill(answer); schedule(); }, () => {});
  }
}

function followCursor() {
  const current = feed.table(table());
  const keys = [...current.rows.keys()];
  const at = keys.indexOf(state.cursorKey);
  if (at >= 0) state.cursor = current.skip + at;
  else if (state.cursor >= 0) {
    state.cursor = Math.min(state.cursor, current.matching - 1);
    state.cursorKey = keys[state.cursor - current.skip] ?? state.cursorKey;
  }
}

// ---- the picture

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
  });
}

const STATUS = { connecting: ["…", "connecting"], live: ["●", "live"], paused: ["‖", "paused"], silent: ["▲", "no news"], refused: ["■", "log in"], waiting: ["■", "no broker"] };

function statusText() {
  if (state.isFrozen) return ["‖", "frozen"];
  const [mark, text] = STATUS[feed.status];
  if (feed.status !== "waiting") return [mark, text];
  const seconds = Math.max(0, Math.ceil((feed.retryAt - Date.now()) / 1000));
  return [mark, `no broker, next try in ${seconds} s`];
}

function drawHeader() {
  const columns = feed.columns("broker");
  const [cells] = feed.table("broker").rows.values();
  if (cells) {
    const at = (name) => columns.findIndex((column) => column.name === name);
    const value = (name) => cells[at(name)];
    const key = [...feed.table("broker").rows.keys()][0];
    const per = (name) => rate(feed.table("broker").rate(key, at(name)));
    const items = [];
    const add = (name, title, text, mark = "") => at(name) >= 0 && items.push(html`<div class=${mark} title=${columns[at(name)].help}><dt>${title}</dt><dd>${text}</dd></div>`);
    const [health] = String(value("health")).split(":");
    const mark = healthTone(health);
    add("health", "Health", html`<span title=${value("health")}>${mark === "good" ? "●" : "▲"} ${health}</span>`, mark);
    const share = value("limit") ? value("in_flight") / value("limit") : 0;
    add("in_flight", "In flight", html`${number(value("in_flight") ?? 0)} <small>/ ${number(value("limit") ?? 0)}</small><meter min="0" max="1" aria-label="Share of the limit in flight" .value=${share}></meter>`);
    add("queued", "Queued", number(value("queued") ?? 0));
    add("requests", "Requests", per("requests"));
    add("refused", "Refused", per("refused"));
    add("restarts", "Restarts", number(value("restarts") ?? 0), value("restarts") ? "warn" : "");
    add("loop_lag_s", "Loop lag", written(value("loop_lag_s"), "seconds"), value("loop_lag_s") > 0.1 ? "warn" : "");
    add("alarms", "Alarms", number(value("alarms") ?? 0), value("alarms") ? "bad" : "");
    add("uptime_s", "Uptime", written(value("uptime_s"), "seconds"));
    render(html`<dl>${items}</dl>`, take(figures));
  }
  const [sign, text] = statusText();
  const kind = state.isFrozen ? "paused" : feed.status;
  const role = feed.greeting?.role;
  render(
    html`${role ? html`<span class="role muted" title="The role of this console">${role}</span>` : nothing}
      <button class="status ${kind}" role="status" title=${feed.reason || "Freeze or continue (p)"} @click=${pressStatus}><span aria-hidden="true">${sign}</span> ${text}</button>
      <button @click=${turnTheme} title="Theme" aria-label="Change between dark and light">◐</button>
      <button @click=${help} title="Keys and columns (?)" aria-label="Help">?</button>`,
    take(tools),
  );
  if (logout && !logout.isConnected) tools.after(logout);
}

function healthTone(health) {
  return health === "ok" ? "good" : "warn";
}

function pressStatus() {
  if (feed.status === "refused") location.reload();
  else if (feed.status === "waiting") feed.retry();
  else freeze();
}

// Empties an element of the page without scripts before the first rendering.
function take(element) {
  if (!element.dataset.taken) {
    element.dataset.taken = "yes";
    element.replaceChildren();
  }
  return element;
}

function view(isMain) {
  if (!isMain) return { startedAt: state.startedAt };
  const scroll = main.querySelector(".scroll.main");
  return {
    startedAt: state.startedAt,
    sort: state.sort,
    filter: state.filter,
    cursor: state.cursor,
    marks: dialog.actionsFor(actedOn()).some((action) => action.targets) ? state.marks : undefined,
    showsRates: state.showsRates,
    scrollTop: state.top,
    height: scroll?.clientHeight || innerHeight,
    depth: table() === "tree" ? depthOf : undefined,
    empty: EMPTY[table()],
    link: (key) => address({ of: key }),
    onOpen: (event, key) => {
      if (event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      go({ of: key });
    },
    onSort: (column) => go({ sort: nextSort(column) }),
    onCursor: (_, index, key) => { Object.assign(state, { cursor: index, cursorKey: key }); schedule(); },
    onMark: (event, key) => { event.stopPropagation(); mark(key); },
  };
}

const EMPTY = {
  alarms: "No alarm is raised.",
  dead_letters: "No message went to an actor that had ended.",
  events: "Nothing unusual has happened since the start.",
  requests: "No request is queued or running.",
  holds: "No service has asked for a pause.",
  gates: "No provider has a rate gate.",
  audit: "No action has been taken since the start.",
  traces: "No actor and no request has been traced.",
  usage: "No call has ended in the last 24 hours.",
  tenants: "No tenant has requests or a configured weight.",
  sessions: "No session is open.",
  connections: "No client is connected.",
};

function depthOf(cells) {
  const at = feed.columns("tree").findIndex((column) => column.name === "depth");
  return at < 0 ? 0 : cells[at];
}

function nextSort(column) {
  const descending = column.kind !== "text" && column.kind !== "flag";
  const [first, second] = descending ? [`-${column.name}`, column.name] : [column.name, `-${column.name}`];
  return state.sort === first ? second : state.sort === second ? "" : first;
}

function sortBeside(by) {
  const columns = feed.columns(table());
  if (!columns.length) return;
  const at = columns.findIndex((column) => column.name === state.sort.replace("-", ""));
  go({ sort: nextSort(columns[(Math.max(at, by < 0 ? 0 : -1) + by + columns.length) % columns.length]) });
}

function draw() {
  drawHeader();
  const first = feed.table(table());
  const isReady = first.isLoaded || first.problem;
  document.body.classList.toggle("stale", ["waiting", "refused", "silent"].includes(feed.status));
  if (isFirst && !isReady) return; // the page without scripts stays until there is something newer
  if (isFirst) {
    isFirst = false;
    take(main);
  }
  const title = state.pane.title;
  const alarms = feed.table("alarms").matching;
  document.title = `${alarms ? `(${alarms}) ` : ""}${title} · exai`;
  const hasDetail = Boolean(state.of);
  render(
    html`<div class="pane ${hasDetail ? "with-detail" : ""}">
      <div class="content"><h1>${title}</h1>${paneContent(first)}</div>
      ${detail.template(feed.columns(table()), first, () => go({ of: "" }), dialog.actionsFor(actedOn()).length ? act : null)}
    </div>`,
    main,
  );
  if (state.pane.name === "overview") plots.draw(main);
}

function paneContent(first) {
  const name = state.pane.name;
  if (name === "overview") return overview();
  const [, ...others] = state.pane.tables;
  return html`${name === "fairness" ? fairness(first) : nothing}${toolbar(first)}
    <div class="scroll main ${others.length ? "short" : ""}" tabindex="0" role="region" aria-label="${state.pane.title}, table" @scroll=${scrolled}>${tableOf(table(), feed.columns(table()), first, view(true))}</div>
    ${others.filter((each) => feed.has(each)).map((each) => section(each))}`;
}

function section(name) {
  const rows = feed.table(name);
  return html`<section aria-label=${titleOf(name)}>${heading(name, rows)}<div class="scroll" tabindex="0" role="region" aria-label="${titleOf(name)}, table">${tableOf(name, feed.columns(name), rows, { startedAt: state.startedAt, empty: EMPTY[name] })}</div></section>`;
}

function toolbar(first) {
  const hasTotals = feed.columns(table()).some((column) => column.kind === "total");
  const marks = state.marks.size;
  const hasActions = dialog.actionsFor(actedOn()).length;
  const count = first.matching === first.total ? number(first.total) : `${number(first.matching)} of ${number(first.total)}`;
  return html`<form class="bar" role="search" @submit=${(event) => event.preventDefault()}>
      <label for="filter" class="sr">Filter</label>
      <input id="filter" type="search" autocomplete="off" spellcheck="false" maxlength="200" placeholder="Filter: text, !text, column:text, column>=10  ( / )" .value=${state.filter} aria-invalid=${first.problem ? "true" : "false"} @input=${filtered} @keydown=${filterKey} />
      <span class="count">${first.isLoaded ? `${count} ${first.total === 1 ? "row" : "rows"}${isBehind(first) ? ", loading …" : ""}` : ""}</span>
      ${hasTotals ? html`<button type="button" aria-pressed=${state.showsRates} title="Show totals per second (v)" @click=${toggleRates}>per second</button>` : nothing}
      ${hasActions ? html`<button type="button" title="Actions (a)" @click=${act}>Actions${marks ? ` (${marks})` : ""} …</button>` : nothing}
    </form>
    ${first.problem ? html`<p class="problem" role="alert">${first.problem}</p>` : nothing}`;
}

// Whether the rows in sight have not come yet: the broker takes its time for long tables.
function isBehind({ skip, matching, rows }) {
  const top = Math.floor(state.top / ROW);
  return top < matching && (top < skip || top >= skip + Math.max(1, rows.size));
}

let filterTimer = 0;
function filtered(event) {
  const filter = event.target.value.trim();
  clearTimeout(filterTimer);
  filterTimer = setTimeout(() => go({ filter }, { replace: true }), 150);
}

function filterKey(event) {
  if (event.key === "Escape") {
    event.stopPropagation();
    if (event.target.value) go({ filter: "" }, { replace: true });
    event.target.blur();
  } else if (event.key === "Enter" || event.key === "ArrowDown") {
    event.preventDefault();
    main.querySelector(".scroll.main")?.focus();
    move(1);
  }
}

function scrolled(event) {
  state.top = event.target.scrollTop;
  watch();
  schedule();
}

function overview() {
  const providers = feed.table("providers");
  const columns = feed.columns("providers");
  const alarms = feed.table("alarms");
  return html`${alarms.matching
      ? html`<ul class="alarms" aria-label="Alarms">${[...alarms.rows.values()].map((cells) => alarm(cells))}</ul>`
      : nothing}
    ${plots.template()}
    <section aria-label="Providers">${heading("providers", providers)}
      <div class="cards">${[...providers.rows].map(([key, cells]) => card(key, columns, cells))}</div>
      ${providers.isLoaded && !providers.rows.size ? html`<p class="empty">No provider is configured.</p>` : nothing}
    </section>
    ${feed.has("events") ? section("events") : nothing}`;
}

function alarm(cells) {
  const columns = feed.columns("alarms");
  const cell = (name) => cells[columns.findIndex((column) => column.name === name)];
  const isCritical = cell("severity") === "critical";
  return html`<li class=${isCritical ? "bad" : "warn"}><b>${isCritical ? "■" : "▲"} ${cell("name")}</b> ${cell("subject")} ${cell("text")}</li>`;
}

function card(key, columns, cells) {
  const at = (name) => columns.findIndex((column) => column.name === name);
  const cell = (name) => cells[at(name)];
  const text = (name) => (at(name) < 0 ? "–" : marked(columns[at(name)], cell(name)) || "–");
  const share = cell("limit") ? (cell("in_flight") ?? 0) / cell("limit") : 0;
  const gate = cell("gate");
  const shown = [["queued", "Queued"], ["gate", "Gate"], ["wait_p50_s", "Wait p50"], ["wait_p99_s", "Wait p99"], ["held_s", "Held"], ["failed", "Failed"], ["service_p50_s", "Service p50"], ["service_p99_s", "Service p99"]]
    .filter(([name]) => at(name) >= 0 && (name !== "held_s" || cell(name)));
  const pane = panes.find((each) => each.name === "providers");
  return html`<article class="card provider ${tone(columns[at("state")], cell("state"))}">
    <h3><a href=${address({ pane, of: key, filter: "", sort: "" })} @click=${(event) => { if (!event.ctrlKey && !event.metaKey) { event.preventDefault(); go({ pane, of: key }); } }}>${key}</a>
      <span class="chip ${tone(columns[at("state")], cell("state"))}">${text("state")}</span></h3>
    <div class="use"><b>${number(cell("in_flight") ?? 0)}</b> of ${number(cell("limit") ?? 0)} in flight<meter min="0" max="1" aria-label="Share of the limit of ${key}" .value=${share}></meter></div>
    <dl>${shown.map(([name, title]) => html`<div class=${name === "gate" && gate >= 0.7 ? (gate >= 0.85 ? "bad" : "warn") : ""}><dt>${title}</dt><dd>${text(name)}</dd></div>`)}
      <div class=${cell("conserved") ? "good" : "bad"}><dt title=${columns[at("conserved")]?.help ?? ""}>Permits</dt><dd>${cell("conserved") ? "✓ add up" : "✗ do not add up"}</dd></div></dl>
  </article>`;
}

// The shares of the last minute, because those of a moment depend on which call has just ended.
const SHARES_S = 60;
let shares = [];

function noteShares() {
  const rows = feed.table("tenants").rows;
  if (feed.status !== "live" || state.isFrozen || !rows.size) return;
  shares = [...shares.slice(1 - SHARES_S), rows];
  if (state.pane.name === "fairness") schedule();
}

function fairness(rows) {
  const columns = feed.columns("tenants");
  const at = (name) => columns.findIndex((column) => column.name === name);
  const [received, entitled, weight, queued] = ["share_received", "share_entitled", "weight", "queued"].map(at);
  if (received < 0 || entitled < 0) return nothing;
  const mean = (key, column) => {
    const all = shares.map((each) => each.get(key)?.[column] ?? 0);
    return all.reduce((sum, each) => sum + each, 0) / (all.length || 1);
  };
  const all = [...rows.rows].map(([key, cells]) => ({ key, name: cells[0], got: mean(key, received), due: mean(key, entitled), waits: mean(key, queued), weight: cells[weight] }));
  // A tenant without waiting requests gets all that it asks for, which may be less than its share.
  const active = all.filter((each) => each.due > 0 && each.waits >= 0.5).map((each) => each.got / each.due);
  const sum = active.reduce((total, each) => total + each, 0);
  const squares = active.reduce((total, each) => total + each * each, 0);
  const jain = squares ? (sum * sum) / (active.length * squares) : null;
  const top = Math.max(0.0001, ...all.map((each) => Math.max(each.got, each.due)));
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  return html`<div class="fairness"><p>${active.length < 2
      ? html`<span class="muted">Fewer than two tenants have waiting requests: each gets all that it asks for.</span>`
      : html`Jain index <b class=${jain >= 0.9 ? "good" : "warn"}>${jain.toFixed(3)}</b> <span class="muted">over the ${active.length} tenants with waiting requests; 1 is perfectly fair.</span>`}
      <span class="muted">Means of the last ${shares.length} s. The line marks the share to which the weight entitles.</span></p>
    <ul>${all.slice(0, 40).map((each) => html`<li><span class="name">${each.name} <small class="muted">${each.weight === undefined ? "" : `weight ${each.weight}`}</small></span>
      <span class="track"><i .style=${`width: ${(100 * each.got) / top}%`}></i><u .style=${`left: ${(100 * each.due) / top}%`}></u></span>
      <span class="num">${percent(each.got)} <small class="muted">of ${percent(each.due)}</small></span></li>`)}</ul></div>`;
}

// ---- keys

function mark(key) {
  if (!state.marks.delete(key)) state.marks.add(key);
  schedule();
}

function move(by) {
  const rows = feed.table(table());
  const scroll = main.querySelector(".scroll.main");
  if (!scroll || !rows.matching) return; // the overview, or a page that is not drawn yet
  state.cursor = Math.max(0, Math.min(rows.matching - 1, state.cursor + by));
  state.cursorKey = [...rows.rows.keys()][state.cursor - rows.skip] ?? "";
  const [top, room] = [state.cursor * ROW, scroll.clientHeight - 2 * ROW];
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top > scroll.scrollTop + room) scroll.scrollTop = top - room;
  schedule();
}

function freeze() {
  state.isFrozen = !state.isFrozen;
  feed.pause(state.isFrozen || document.hidden);
  if (!state.isFrozen) watch();
  schedule();
}

function toggleRates() {
  state.showsRates = !state.showsRates;
  schedule();
}

function turnTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("exai-theme", root.dataset.theme);
  } catch {
    // The choice lasts as long as the page.
  }
  schedule();
}

// The table of the actions on the rows of a pane: the tree has actors too, by their paths.
function actedOn() {
  return table() === "tree" ? "actors" : table();
}

function act() {
  const rows = feed.table(table());
  const keys = state.marks.size ? [...state.marks] : state.of ? [state.of] : state.cursorKey ? [state.cursorKey] : [];
  const filter = actedOn() === table() ? state.filter : "";
  dialog.menu({ table: actedOn(), keys, filter, matching: rows.matching });
}

const KEYS = [
  ["1 … 9, 0", "the first ten panes", null],
  ["[ ]", "the pane before, the next one", null],
  [":", "jump to a pane by name", jump],
  ["/", "filter", () => document.getElementById("filter")?.focus()],
  ["j k ↓ ↑", "move to a row", null],
  ["g G", "the first row, the last one", null],
  ["Enter", "detail of the row; for a request also why it waits", openCurrent],
  ["Escape", "close the detail, then unmark all", null],
  ["Space", "mark the row", () => state.cursorKey && (mark(state.cursorKey), move(1))],
  ["w", "why it waits: the detail of the request", openCurrent],
  ["a", "actions for the marked rows or the current one", act],
  ["u", "undo the last action", () => dialog.showLast()],
  ["< >", "sort by the column before, the next one", null],
  ["r", "sort the other way round", () => state.sort && go({ sort: state.sort[0] === "-" ? state.sort.slice(1) : `-${state.sort}` })],
  ["v", "totals or their growth per second", toggleRates],
  ["p", "freeze, or continue", freeze],
  ["t", "dark or light", turnTheme],
  ["?", "this help", help],
];

function openCurrent() {
  if (state.cursorKey) go({ of: state.cursorKey });
}

function help() {
  const columns = state.pane.name === "overview" ? feed.columns("providers") : feed.columns(table());
  dialog.show("Help", html`<div class="help"><section><h3>Keys</h3><dl class="pairs">${KEYS.map(([key, text]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl></section>
    <section><h3>Columns</h3><dl class="pairs">${columns.map((column) => html`<div><dt>${column.title} <code>${column.name}</code></dt><dd>${column.help}</dd></div>`)}</dl></section></div>`);
}

function jump() {
  const list = (text) => panes.filter((pane) => pane.title.toLowerCase().includes(text.toLowerCase()));
  const to = (pane) => { dialog.close(); go({ pane }); };
  const show = (text) => dialog.show("Jump to a pane", html`<form @submit=${(event) => { event.preventDefault(); const [pane] = list(text); if (pane) to(pane); }}>
    <input type="text" aria-label="Name of the pane" autocomplete="off" @input=${(event) => show(event.target.value)} />
    <ul class="menu">${list(text).map((pane) => html`<li><button type="button" @click=${() => to(pane)}><b>${pane.title}</b></button></li>`)}</ul></form>`);
  show("");
}

function onKey(event) {
  const isTyping = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (isTyping || dialog.isOpen || event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  const isControl = event.target.matches("button, a, input");
  if (isControl && (key === "Enter" || key === " ")) return;
  const at = panes.indexOf(state.pane);
  const press = KEYS.find(([name, , run]) => run && (name === key || (name === "Space" && key === " ")));
  if (press) press[2]();
  else if (/^\d$/.test(key)) {
    const pane = panes[key === "0" ? 9 : Number(key) - 1];
    if (pane) go({ pane });
  } else if (key === "[" || key === "]") go({ pane: panes[(at + (key === "]" ? 1 : -1) + panes.length) % panes.length] });
  else if (key === "<" || key === ">") sortBeside(key === ">" ? 1 : -1);
  else if (key === "j" || key === "ArrowDown") move(1);
  else if (key === "k" || key === "ArrowUp") move(-1);
  else if (key === "PageDown") move(20);
  else if (key === "PageUp") move(-20);
  else if (key === "g" || key === "Home") move(-Infinity);
  else if (key === "G" || key === "End") move(Number.MAX_SAFE_INTEGER);
  else if (key === "Escape") {
    if (state.of) go({ of: "" });
    else {
      state.marks.clear();
      schedule();
    }
  } else return;
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
document.getElementById("panes").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ pane: panes.find((pane) => pane.name === link.dataset.pane) });
});
addEventListener("popstate", () => { readAddress(); entered(true); });
addEventListener("resize", schedule);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);

setInterval(noteShares, 1000);

readAddress();
detail.show(table(), state.of);
entered(false);
feed.connect();
