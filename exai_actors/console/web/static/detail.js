// The panel of one row: its cells, and the broker's answers to the questions about it.
import { html, nothing } from "./vendor/lit-html.js";
import { duration } from "./cells.js";
import { pairs } from "./table.js";

const QUESTIONS = { requests: ["why", "request"], actors: ["actor"], tree: ["actor"] };
const AGAIN_MS = 1000;

export class Detail {
  #feed;
  #onChange;
  #of = "";
  #table = "";
  #cells;
  #last;
  #answers = {};
  #problems = {};
  #timer = 0;

  constructor(feed, onChange) {
    this.#feed = feed;
    this.#onChange = onChange;
  }

  // Show a row; an empty key closes the panel.
  show(table, of) {
    if (table === this.#table && of === this.#of) return;
    clearTimeout(this.#timer);
    this.#table = table;
    this.#of = of;
    this.#cells = this.#last = undefined;
    this.#answers = {};
    this.#problems = {};
    if (of) this.#ask();
  }

  #subject() {
    // The key of an actor's row has its incarnation; actors are asked about by path.
    return this.#table === "actors" ? this.#of.replace(/#\d+$/, "") : this.#of;
  }

  async #ask() {
    const of = this.#of;
    const questions = (QUESTIONS[this.#table] ?? []).filter((each) => this.#feed.asks(each));
    if (!document.hidden) {
      for (const question of questions) {
        try {
          const answer = await this.#feed.ask(question, this.#subject());
          if (of !== this.#of) return;
          this.#answers[question] = answer;
          delete this.#problems[question];
        } catch (error) {
          if (of !== this.#of) return;
          this.#problems[question] = error.message;
        }
      }
      if (questions.length) this.#onChange();
    }
    this.#timer = setTimeout(() => this.#ask(), AGAIN_MS);
  }

  template(columns, table, close, act) {
    if (!this.#of) return nothing;
    const cells = table.rows.get(this.#of);
    const shown = cells ?? this.#last;
    [this.#cells, this.#last] = [cells, shown];
    return html`<aside id="detail" aria-label="Detail" tabindex="-1">
      <div class="detail-head"><h2>${this.#of}</h2><span>${act ? html`<button class="plain-button" @click=${act}>Actions …</button>` : nothing}<button @click=${close} aria-label="Close the detail">✕</button></span></div>
      ${!cells && table.isLoaded ? html`<p class="stale">${this.#whyGone(shown)}</p>` : nothing}
      ${this.#why()}${this.#timeline()}${this.#actor()}
      ${shown && !this.#answers.actor ? html`<h3>Figures</h3><dl class="pairs">${pairs(columns, shown)}</dl>` : nothing}
    </aside>`;
  }

  #whyGone(shown) {
    const problem = Object.values(this.#problems)[0];
    const gone = problem ? `${problem[0].toUpperCase()}${problem.slice(1)}.` : "It is not among the rows in sight.";
    return shown ? `${gone} These are the last figures.` : gone;
  }

  #problem(question) {
    const isSaid = question === "request" && this.#problems.why;
    const problem = this.#cells && !isSaid && this.#problems[question];
    return problem ? html`<p class="muted">${problem}</p>` : nothing;
  }

  #why() {
    const why = this.#answers.why;
    if (!why) return this.#problem("why");
    const figures = Object.entries(why.figures ?? {});
    return html`<h3>Why is it waiting?</h3>
      <p class="why">${why.text ?? why.reason ?? why.state}</p>
      <dl class="pairs">
        ${why.reason ? html`<div><dt>Reason</dt><dd><code>${why.reason}</code></dd></div>` : nothing}
        ${isNumber(why.waited_s) ? html`<div><dt>Waited</dt><dd>${duration(why.waited_s)}</dd></div>` : nothing}
        ${isNumber(why.starts_in_s) ? html`<div><dt>Starts in about</dt><dd>${duration(why.starts_in_s)}</dd></div>` : nothing}
        ${figures.map(([name, value]) => html`<div><dt>${words(name)}</dt><dd>${plain(name, value)}</dd></div>`)}
      </dl>
      ${why.ahead?.length
        ? html`<h3>Ahead of it <small>${why.ahead.length}</small></h3><ol class="ahead">${why.ahead.slice(0, 20).map(
            (each) => html`<li><b>${each.session ?? each.request}</b> ${each.tenant ? html`<span class="muted">${each.tenant}</span>` : nothing} ${each.because ?? ""}</li>`,
          )}</ol>`
        : nothing}`;
  }

  #timeline() {
    const steps = this.#answers.request?.timeline;
    if (!steps) return this.#problem("request");
    const start = steps[0]?.at_s ?? 0;
    const isFar = (step) => step.event === "deadline";
    const end = Math.max(...steps.filter((step) => !isFar(step)).map((step) => step.at_s), start + 0.001);
    return html`<h3>Timeline</h3><ol class="timeline">${steps.map((step, at) => {
      const from = (100 * (step.at_s - start)) / (end - start);
      const next = steps[at + 1]?.at_s ?? step.at_s;
      const width = (100 * (next - step.at_s)) / (end - start);
      return html`<li>
        <span class="when">+${duration(step.at_s - start)}</span>
        <span class="where ${step.where}">${step.where}</span>
        <span class="event">${step.event}${step.detail ? html` <span class="muted">${step.detail}</span>` : nothing}</span>
        ${isFar(step) ? nothing : html`<span class="track" aria-hidden="true"><i class=${step.where} .style=${`margin-left: ${Math.min(from, 99)}%; width: max(2px, ${width}%)`}></i></span>`}
      </li>`;
    })}</ol>`;
  }

  #actor() {
    const actor = this.#answers.actor;
    if (!actor) return this.#problem("actor");
    const { children, errors, last_errors, ...rest } = actor;
    const failures = errors ?? last_errors ?? [];
    return html`${failures.length
        ? html`<h3>Last errors</h3><ul class="plain">${failures.map((each) => html`<li>${failure(each)}</li>`)}</ul>`
        : nothing}
      ${children?.length ? html`<h3>Children <small>${children.length}</small></h3><ul class="plain">${children.slice(0, 50).map((each) => html`<li>${plain("", each)}</li>`)}</ul>` : nothing}
      ${section("Actor", rest)}
      ${Object.entries(rest).filter(([, value]) => isGroup(value)).map(([name, value]) => section(words(name), value))}`;
  }
}

function isGroup(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

// The simple ones among the values, under a heading.
function section(title, values) {
  const simple = Object.entries(values).filter(([, value]) => title !== "Actor" || !isGroup(value));
  return html`<h3>${title}</h3><dl class="pairs">${simple.map(
    ([name, value]) => html`<div><dt>${words(name)}</dt><dd>${plain(name, value)}</dd></div>`,
  )}</dl>`;
}

function failure(each) {
  return isNumber(each.at_s_ago) ? `${duration(each.at_s_ago)} ago: ${each.error}, ${each.consequence}` : plain("", each);
}

function isNumber(value) {
  return typeof value === "number";
}

function words(name) {
  const text = name.replace(/_s$/, "").replaceAll("_", " ");
  return text ? text[0].toUpperCase() + text.slice(1) : name;
}

export function plain(name, value) {
  if (value === null || value === undefined) return "–";
  if (isNumber(value) && name.endsWith("_s")) return duration(value);
  if (Array.isArray(value)) return value.map((each) => plain("", each)).join(", ") || "–";
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([key, each]) => `${words(key)}: ${plain(key, each)}`)
      .join(", ");
  }
  return isNumber(value) ? value.toLocaleString("en") : String(value);
}
