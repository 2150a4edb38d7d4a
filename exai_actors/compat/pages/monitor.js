"use strict";

const EVERY_MS = 2000;
const GIVE_UP_MS = 5000;
// Busy is not ill: a provider whose permits are all in use is doing its work.
const OVERALL = {
  healthy: ["good", "healthy"],
  warning: ["busy", "requests are waiting"],
  degraded: ["bad", "a provider refuses requests"],
  critical: ["bad", "every provider refuses requests"],
  unknown: ["busy", "no provider"],
};
const PERMITS = {
  healthy: ["good", "has room"],
  high_utilization: ["good", "nearly all in use"],
  exhausted: ["busy", "all in use"],
};
const REFUSES = ["bad", "queue full, refuses"];

const url = `http://${location.hostname}:${document.body.dataset.healthPort}/health/semaphores`;
const element = (id) => document.getElementById(id);

function node(name, className, ...content) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...content);
  return made;
}

function gauge(permits, tone) {
  const filled = node("span", "");
  filled.style.width = `${Math.min(100, 100 * permits.utilization)}%`;
  const bar = node("div", "bar", filled);
  bar.setAttribute("aria-hidden", "true");
  return node(
    "div",
    `gauge ${tone}`,
    node("span", "value", String(permits.in_flight)),
    bar,
  );
}

function row(name, permits) {
  const [tone, state] = permits.refuses ? REFUSES : (PERMITS[permits.status] ?? ["", permits.status]);
  const title = node("th", "", name);
  title.scope = "row";
  const queued =
    permits.queue_limit === undefined
      ? String(permits.queued)
      : `${permits.queued} of ${permits.queue_limit}`;
  return node(
    "tr",
    "",
    title,
    node("td", "", gauge(permits, tone)),
    node("td", "number", String(permits.expected)),
    node("td", "number", String(permits.current)),
    node("td", "number", queued),
    node("td", tone, state),
  );
}

function show(report) {
  const rows = Object.entries(report.providers).map(([name, permits]) => row(name, permits));
  element("providers").replaceChildren(...rows);
  element("total").replaceChildren(...(rows.length > 1 ? [row("all", report.global)] : []));
  const [tone, state] = OVERALL[report.status] ?? ["", report.status];
  element("status").textContent = state;
  element("status").className = `status ${tone}`;
  element("asked").textContent = `as of ${new Date().toLocaleTimeString()}, every ${EVERY_MS / 1000} s`;
}

function showTrouble(why) {
  const trouble = element("trouble");
  trouble.hidden = why === null;
  trouble.textContent = why ?? "";
  document.querySelector("table").classList.toggle("stale", why !== null);
  if (why !== null) {
    element("status").textContent = "no answer";
    element("status").className = "status bad";
  }
}

async function ask() {
  try {
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) });
    // 503 carries the same numbers: it is how critical is said.
    if (!answer.ok && answer.status !== 503) {
      throw new Error(`it answered with status ${answer.status}`);
    }
    show(await answer.json());
    showTrouble(null);
  } catch (error) {
    showTrouble(`${url} cannot be read (${error.message}). Is the broker running?`);
  }
  setTimeout(ask, EVERY_MS);
}

element("source").href = url;
element("source").textContent = url;
ask();
