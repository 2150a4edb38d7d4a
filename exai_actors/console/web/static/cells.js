// Writes cells for people; exai_actors/core/observe/written.py and console/web/cells.py do the same in Python.
export const NUMBERS = new Set(["count", "total", "seconds", "share", "bytes"]);

const BYTES = ["B", "KiB", "MiB", "GiB"];
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

export function duration(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.9995) {
    const ms = 1000 * seconds;
    if (Math.abs(ms) < 0.0995) return `${(1000 * ms).toFixed(0)} µs`;
    return `${ms.toFixed(Math.abs(ms) >= 9.95 ? 0 : 1)} ms`;
  }
  if (size < 99.95 && Number.isInteger(seconds)) return `${seconds} s`;
  if (size < 99.95) return `${seconds.toFixed(size >= 9.995 ? 1 : 2)} s`;
  const sign = seconds < 0 ? "-" : "";
  const total = Math.round(size);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (total >= 86400) return `${sign}${Math.floor(total / 86400)} d ${two((total % 86400) / 3600)} h`;
  if (total >= 3600) return `${sign}${Math.floor(total / 3600)} h ${two((total % 3600) / 60)} m`;
  return `${sign}${Math.floor(total / 60)} m ${two(total % 60)} s`;
}

export function size(count) {
  let value = count;
  for (const unit of BYTES) {
    if (Math.abs(value) < 1024) {
      return `${value.toFixed(unit === "B" || Math.abs(value) >= 10 ? 0 : 1)} ${unit}`;
    }
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

function share(part) {
  const size = Math.abs(part);
  return `${(100 * part).toFixed(size === 0 || size >= 0.1 ? 0 : size >= 0.01 ? 1 : 2)} %`;
}

export function written(cell, kind) {
  if (cell === null || cell === undefined) return "";
  if (typeof cell === "boolean") return cell ? "yes" : "no";
  if (typeof cell === "string") return cell;
  if (kind === "seconds") return duration(cell);
  if (kind === "share") return share(cell);
  if (kind === "bytes") return size(cell);
  return Number.isInteger(cell) ? whole.format(cell) : precise.format(cell);
}

export function rate(value) {
  if (value === null) return "–";
  return `${value >= 99.5 || value === 0 ? whole.format(value) : value.toPrecision(2)}/s`;
}

const GOOD = /^(ok|serving|ready|running|up|released|done)$/i;
const BAD = /(fail|critical|open$|closed|down|dead|broken|gave up|unreachable|poison|violat)/i;
const WARN = /(warn|hold|held|degraded|drain|pause|suspend|backoff|half.open|restart|full|slow|stopp|quarantin|refus|raised)/i;
const OVER = /(ended|cleared)$/;
const STATES = new Set(["state", "health", "severity", "circuit", "phase", "event", "why"]);

// How a cell is marked: "good", "warn", "bad" or nothing. Its text always says the same.
export function tone(column, cell) {
  if (column.kind === "share" && typeof cell === "number") {
    if (column.name.startsWith("share_")) return "";
    return cell >= 0.85 ? "bad" : cell >= 0.7 ? "warn" : "";
  }
  if (column.name === "conserved") return cell === true ? "good" : cell === false ? "bad" : "";
  if (column.name === "circuit" && cell === "closed") return "good";
  if (typeof cell === "string" && STATES.has(column.name)) {
    if (GOOD.test(cell)) return "good";
    if (OVER.test(cell)) return "";
    if (BAD.test(cell)) return "bad";
    if (WARN.test(cell)) return "warn";
  }
  if (cell > 0 && (column.name === "violations" || column.name === "anomalies")) return "bad";
  return "";
}

const MARKS = { good: "●", warn: "▲", bad: "■" };

export function marked(column, cell) {
  const text = written(cell, column.kind);
  if (column.name === "conserved" && text) return `${cell ? "✓" : "✗"} ${text}`;
  const mark = STATES.has(column.name) && column.name !== "event" ? MARKS[tone(column, cell)] : "";
  return mark ? `${mark} ${text}` : text;
}
