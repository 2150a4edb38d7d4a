// Tables: rows of a watched table in a window that follows the scrollbar.
import { html, nothing } from "./vendor/lit-html.js";
import { NUMBERS, marked, rate, tone, written } from "./cells.js";

export const ROW = 26;
export const WINDOW = 200;
const STEP = 50;
const MARGIN = 12;

export function titleOf(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

// The part of a table that must be there for a scroll position.
export function windowFor(scrollTop) {
  const first = Math.max(0, Math.floor(scrollTop / ROW) - STEP);
  return Math.floor(first / STEP) * STEP;
}

function count(table) {
  const number = (value) => value.toLocaleString("en");
  return table.matching === table.total
    ? `${number(table.total)} ${table.total === 1 ? "row" : "rows"}`
    : `${number(table.matching)} of ${number(table.total)} rows`;
}

export function heading(name, table, extra = nothing) {
  return html`<h2>${titleOf(name)} <small>${table.isLoaded ? count(table) : ""}</small>${extra}</h2>`;
}

function cellText(column, cell, table, key, index, view) {
  if (column.kind === "total" && view.showsRates) return rate(table.rate(key, index));
  if (column.name === "at_s" && view.startedAt && typeof cell === "number") {
    return new Date(1000 * (view.startedAt + cell)).toLocaleTimeString("en-GB");
  }
  // The Swedish way of writing an instant is that of ISO, without the T.
  if (column.name === "at" && cell) return new Date(cell).toLocaleString("sv-SE");
  return marked(column, cell);
}

function cellOf(column, cell, table, key, index, view) {
  const text = cellText(column, cell, table, key, index, view);
  const isNumber = NUMBERS.has(column.kind);
  const isZero = isNumber && (cell === 0 || cell === null) ? " zero" : "";
  const classes = `${index === 0 ? "name " : ""}${isNumber ? "num " : ""}${tone(column, cell)}${isZero}`;
  if (column.kind === "share" && typeof cell === "number") {
    const width = `width: ${Math.round(100 * Math.min(1, Math.max(0, cell)))}%`;
    return html`<td class="${classes} share"><i .style=${width}></i><span>${text}</span></td>`;
  }
  const depth = index === 0 && view.depth !== undefined ? view.depth(table.rows.get(key)) : 0;
  const content =
    index === 0 && view.onOpen
      ? html`<a href=${view.link(key)} tabindex="-1" @click=${(event) => view.onOpen(event, key)}>${text || "–"}</a>`
      : text;
  return html`<td class=${classes} title=${text.length > 24 ? text : nothing}>${
    depth ? html`<span class="depth" .style=${`width: ${1.1 * depth}em`}></span>` : nothing
  }${content}</td>`;
}

function headOf(column, index, view) {
  const numeric = NUMBERS.has(column.kind);
  const sorted = view.sort === column.name ? "ascending" : view.sort === `-${column.name}` ? "descending" : nothing;
  const arrow = sorted === "ascending" ? " ▲" : sorted === "descending" ? " ▼" : "";
  const content = view.onSort
    ? html`<button @click=${() => view.onSort(column)}>${column.title}${arrow}</button>`
    : column.title;
  return html`<th scope="col" class="${index === 0 ? "name " : ""}${numeric ? "num" : ""}" aria-sort=${sorted} title=${column.help}>${content}</th>`;
}

function rowOf(name, columns, table, key, cells, index, view) {
  const isCurrent = view.cursor === index;
  const isMarked = view.marks?.has(key) ?? false;
  return html`<tr aria-rowindex=${index + 2} class="${isCurrent ? "current" : ""} ${isMarked ? "marked" : ""}" @click=${(event) => view.onCursor?.(event, index, key)}>${
    view.marks
      ? html`<td class="mark"><input type="checkbox" tabindex="-1" aria-label="Mark ${key}" .checked=${isMarked} @click=${(event) => view.onMark(event, key)} /></td>`
      : nothing
  }${columns.map((column, at) => cellOf(column, cells[at], table, key, at, view))}</tr>`;
}

function spacer(rows, width) {
  return rows > 0
    ? html`<tr class="spacer" aria-hidden="true" .style=${`height: ${rows * ROW}px`}><td colspan=${width}></td></tr>`
    : nothing;
}

function emptyText(table, view) {
  if (!table.isLoaded) return "Loading …";
  if (view.filter) return "No row matches the filter.";
  return view.empty ?? "Nothing here at present.";
}

// A table. With ``view.scrollTop`` only the rows in sight are in the document.
export function tableOf(name, columns, table, view) {
  const width = columns.length + (view.marks ? 1 : 0);
  const keys = [...table.rows.keys()];
  let first = 0;
  let end = keys.length;
  if (view.scrollTop !== undefined) {
    const top = Math.floor(view.scrollTop / ROW);
    first = Math.max(0, top - MARGIN - table.skip);
    end = Math.min(keys.length, Math.max(first, top + Math.ceil(view.height / ROW) + MARGIN - table.skip));
    first = Math.min(first, end);
  }
  const rows = keys
    .slice(first, end)
    .map((key, at) =>
      rowOf(name, columns, table, key, table.rows.get(key), table.skip + first + at, view),
    );
  const below = view.scrollTop === undefined ? 0 : table.matching - table.skip - end;
  return html`<table aria-rowcount=${table.matching + 1}>
    <caption class="sr">${titleOf(name)}</caption>
    <thead><tr>${view.marks ? html`<th scope="col" class="mark"><span class="sr">Marked</span></th>` : nothing}${columns.map((column, at) => headOf(column, at, view))}</tr></thead>
    <tbody>${spacer(table.skip + first, width)}${rows}${spacer(below, width)}${
      rows.length ? nothing : html`<tr><td class="empty" colspan=${width}>${emptyText(table, view)}</td></tr>`
    }</tbody>
  </table>`;
}

export function pairs(columns, cells) {
  return columns.map(
    (column, at) =>
      html`<div><dt title=${column.help}>${column.title}</dt><dd class=${tone(column, cells[at])}>${marked(column, cells[at]) || "–"}</dd></div>`,
  );
}

export { written };
