// Actions: a menu, a preview of the effect, a reason, the result, and a way back.
import { html, nothing, render } from "./vendor/lit-html.js";

const SHOWN = 50;

export class ActionDialog {
  #feed;
  #place;
  #dialog = null;
  #title = "";
  #last = null;

  constructor(feed, place) {
    this.#feed = feed;
    this.#place = place;
  }

  get isOpen() {
    return this.#dialog?.open ?? false;
  }

  actionsFor(table) {
    return this.#feed.actions.filter((action) => action.table === table);
  }

  // ``scope`` has the table, the keys of the targets, the filter and how many rows match it.
  menu(scope) {
    const actions = this.#feed.actions.filter((each) => each.table === scope.table);
    const others = this.#feed.actions.filter((each) => !each.targets && each.table !== scope.table);
    const item = (action) => html`<li><button ?disabled=${!action.allowed || (action.targets && !scope.keys.length && !scope.filter)} @click=${() => this.#choose(action, scope)}>
      <b>${action.title}</b><span class="muted">${action.allowed ? action.help : `needs the role ${action.role}`}</span></button></li>`;
    this.#show("Actions", html`
      <p class="muted">${actions.length ? describe(scope) : "There is no action for the rows of this pane."}</p>
      <ul class="menu">${actions.map(item)}</ul>
      ${others.length ? html`<h3>The broker</h3><ul class="menu">${others.map(item)}</ul>` : nothing}`);
  }

  #choose(action, scope) {
    const canFilter = action.targets && scope.filter && scope.matching > 0;
    const request = { action: action.name, arguments: {}, reason: "" };
    const state = { action, scope, request, byFilter: canFilter && !scope.keys.length, preview: null, problem: "", isBusy: false };
    this.#form(state);
    if (!action.arguments.some((each) => each.required)) this.#preview(state);
  }

  #targets({ action, scope, byFilter }) {
    if (!action.targets) return {};
    return byFilter ? { filter: scope.filter } : { targets: scope.keys };
  }

  #form(state) {
    const { action, scope, request, preview, problem, isBusy } = state;
    const changed = () => {
      state.preview = null;
      this.#form(state);
    };
    const set = (argument) => (event) => {
      const text = event.target.value;
      if (text === "") delete request.arguments[argument.name];
      else request.arguments[argument.name] = argument.kind === "text" ? text : Number(text);
      changed();
    };
    const choice = (value, text) => html`<label class="choice"><input type="radio" name="scope" .checked=${state.byFilter === value} @change=${() => { state.byFilter = value; changed(); }} />${text}</label>`;
    this.#show(action.title, html`<form class="act" @submit=${(event) => { event.preventDefault(); (preview ? this.#confirm(state) : this.#preview(state)); }}>
      <p class="muted">${action.help}</p>
      ${action.targets && scope.filter && scope.keys.length
        ? html`<fieldset><legend>Applies to</legend>${choice(false, names(scope.keys))}${choice(true, `all ${scope.matching.toLocaleString("en")} rows that match “${scope.filter}”`)}</fieldset>`
        : html`<p>${action.targets ? (state.byFilter ? `All ${scope.matching.toLocaleString("en")} rows that match “${scope.filter}”` : names(scope.keys)) : "The whole broker"}</p>`}
      ${action.arguments.map((argument) => html`<label>${argument.name.replaceAll("_", " ")}${argument.required ? "" : " (optional)"}
        <input name=${argument.name} type=${argument.kind === "text" ? "text" : "number"} step=${argument.kind === "number" ? "any" : "1"} ?required=${argument.required} @input=${set(argument)} /><small class="muted">${argument.help}</small></label>`)}
      <label>Reason, for the audit log
        <input name="reason" maxlength="200" autocomplete="off" @input=${(event) => { request.reason = event.target.value; }} ?required=${preview !== null} /></label>
      ${problem ? html`<p class="problem" role="alert">${problem}</p>` : nothing}
      ${preview ? html`<h3>This will happen</h3>${effects(preview.effects)}<p class="muted">${preview.undos.length ? "It can be undone." : ""}</p>` : nothing}
      <div class="buttons"><button type="button" @click=${() => this.close()}>Cancel</button>
      <button type="submit" class="primary" ?disabled=${isBusy}>${preview ? "Do it" : "Preview the effect"}</button></div>
    </form>`);
  }

  async #send(state, isPreview) {
    state.isBusy = true;
    state.problem = "";
    const request = { ...state.request, ...this.#targets(state), preview: isPreview };
    try {
      return await this.#feed.act(request);
    } catch (error) {
      state.problem = error.message;
      return null;
    } finally {
      state.isBusy = false;
    }
  }

  async #preview(state) {
    state.preview = await this.#send(state, true);
    if (this.isOpen) this.#form(state);
  }

  async #confirm(state) {
    const effect = await this.#send(state, false);
    if (effect) this.#result(state.action.title, effect, state.request.reason);
    else if (this.isOpen) this.#form(state);
  }

  // The result of the last action that can be undone.
  showLast() {
    if (this.#last) this.#result(...this.#last, true);
    else this.#show("Undo", html`<p>There is nothing to undo.</p>`);
  }

  #result(title, effect, reason, isAsked = false) {
    this.#last = effect.undos.length ? [title, effect, reason] : null;
    const again = async () => {
      const left = [...effect.undos];
      const undone = [];
      try {
        while (left.length) {
          const done = await this.#feed.act({ ...left[0], reason: `undo: ${reason}`.slice(0, 200), preview: false });
          undone.push(...done.effects);
          left.shift();
        }
        this.#result(`${title}: undone`, { effects: undone, undos: [] }, reason);
      } catch (error) {
        undone.push({ target: "", text: error.message, ok: false });
        this.#result(`${title}: not undone`, { effects: undone, undos: left }, reason);
      }
    };
    const close = (mark) => html`<button class=${mark} @click=${() => this.close()}>Close</button>`;
    this.#show(isAsked ? `Undo: ${title}` : title, html`<h3>This has happened</h3>${effects(effect.effects)}
      <div class="buttons">${isAsked ? html`${close("")}<button class="primary" @click=${again}>Undo</button>` : html`${effect.undos.length ? html`<button @click=${again}>Undo</button>` : nothing}${close("primary")}`}</div>`);
  }

  show(title, content) {
    this.#show(title, content);
  }

  #show(title, content) {
    render(html`<dialog aria-labelledby="dialog-title" @close=${() => render(nothing, this.#place)} @click=${(event) => { if (event.target === this.#dialog) this.close(); }} @keydown=${(event) => this.#step(event)}>
      <div class="dialog"><div class="detail-head"><h2 id="dialog-title">${title}</h2><button aria-label="Close" @click=${() => this.close()}>✕</button></div>${content}</div></dialog>`, this.#place);
    this.#dialog = this.#place.querySelector("dialog");
    const isNew = !this.#dialog.open || title !== this.#title;
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#title = title;
    const first = ".dialog .menu button:enabled, .dialog input:not([type=radio]), .dialog .primary";
    if (isNew) this.#dialog.querySelector(first)?.focus();
  }

  // The arrows move through a menu.
  #step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...this.#dialog.querySelectorAll(".menu button:enabled")];
    if (!by || !buttons.length) return;
    event.preventDefault();
    const at = buttons.indexOf(document.activeElement);
    buttons[(Math.max(at, -by) + by + buttons.length) % buttons.length].focus();
  }

  close() {
    this.#dialog?.close();
  }
}

function effects(list) {
  return html`<ul class="effects">${list.slice(0, SHOWN).map(
    (each) => html`<li class=${each.ok === false ? "bad" : ""}>${each.target ? html`<b>${each.target}</b> ` : nothing}${each.ok === false ? "✗ " : ""}${each.text}</li>`,
  )}${list.length > SHOWN ? html`<li class="muted">and ${(list.length - SHOWN).toLocaleString("en")} more</li>` : nothing}</ul>`;
}

function names(keys) {
  return keys.length > 3 ? `${keys.length} marked rows: ${keys.slice(0, 3).join(", ")} …` : keys.join(", ");
}

function describe({ keys, filter, matching }) {
  if (keys.length) return `For ${names(keys)}`;
  return filter ? `For all ${matching.toLocaleString("en")} rows that match “${filter}”` : "Choose a row first: move to it, or mark several.";
}
