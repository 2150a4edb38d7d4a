// Plots over time, from the broker's memory of the last minutes and from what arrives since.
import { html } from "./vendor/lit-html.js";
import { duration } from "./cells.js";

const KEPT_S = 900;
const COLORS = ["--series-1", "--series-2", "--series-3", "--series-4"];

// Each plot's series: the title and the column of the table of the broker. A total is a rate.
const PLOTS = [
  { title: "Calls in flight", series: [["In flight", "in_flight"], ["Limit", "limit"]] },
  { title: "Requests that wait", series: [["Queued", "queued"]] },
  {
    title: "Outcomes per second",
    series: [["Completed", "completed", "rate"], ["Refused", "refused", "rate"], ["Failed", "failed", "rate"]],
  },
  { title: "Event loop", series: [["Lag", "loop_lag_s"]], isTime: true },
];

export class Plots {
  #times = [];
  #samples = {};
  #last = null;
  #drawn = new Map();
  #theme = "";
  #isPrefilled = false;

  // Rows of the broker's memory, oldest first: columns have the names of the table of the broker.
  prefill({ columns, rows }) {
    if (this.#isPrefilled || !columns) return;
    this.#isPrefilled = true;
    const time = columns.findIndex((name) => ["time", "at_s", "at"].includes(name));
    if (time < 0) return;
    const [times, samples] = [this.#times, this.#samples];
    this.#times = [];
    this.#samples = {};
    this.#last = null;
    for (const row of rows) {
      this.add(row[time], Object.fromEntries(columns.map((name, at) => [name, row[at]])));
    }
    const since = this.#times.at(-1) ?? 0;
    times.forEach((each, at) => {
      if (each <= since) return;
      this.#times.push(each);
      for (const key in samples) (this.#samples[key] ??= []).push(samples[key][at]);
    });
  }

  add(time, figures) {
    const before = this.#last;
    if (before && time - before.time < 0.5) return;
    this.#last = { time, figures };
    this.#times.push(time);
    for (const { series } of PLOTS) {
      for (const [, name, isRate] of series) {
        let value = figures[name] ?? null;
        if (isRate) {
          const earlier = before?.figures[name];
          const gap = before ? time - before.time : 0;
          value = value === null || earlier === undefined || gap > 30 ? null : Math.max(0, (value - earlier) / gap);
        }
        const samples = (this.#samples[name] ??= []);
        while (samples.length < this.#times.length - 1) samples.push(null);
        samples.push(value);
      }
    }
    while (this.#times[0] < time - KEPT_S) {
      this.#times.shift();
      for (const name in this.#samples) this.#samples[name].shift();
    }
  }

  template() {
    return html`<div class="plots">${PLOTS.map(({ title, series }, at) => {
      const legend = series.map(
        ([name, key, isRate], index) =>
          html`<span class="key k${index + 1}"><i></i>${name} <b>${this.#latest(key, isRate, PLOTS[at].isTime)}</b></span>`,
      );
      return html`<figure><figcaption><span>${title}</span><span class="legend">${legend}</span></figcaption><div class="plot" data-plot=${at} role="img" aria-label=${`${title} over the last minutes`}></div></figure>`;
    })}</div>`;
  }

  #latest(key, isRate, isTime) {
    const value = this.#samples[key]?.at(-1);
    if (value === null || value === undefined) return "–";
    if (isTime) return duration(value);
    return isRate ? `${value >= 10 ? Math.round(value) : value.toFixed(1)}/s` : value.toLocaleString("en");
  }

  // Draws into the elements of the template, which must be in the document.
  draw(root) {
    const theme = getComputedStyle(document.documentElement).getPropertyValue("--line");
    for (const element of root.querySelectorAll("[data-plot]")) {
      let drawn = this.#drawn.get(element);
      if (drawn && theme !== this.#theme) {
        drawn.destroy();
        drawn = undefined;
      }
      const plot = PLOTS[Number(element.dataset.plot)];
      const data = [this.#times, ...plot.series.map(([, name]) => this.#samples[name] ?? [])];
      const width = element.clientWidth;
      if (width === 0) continue;
      if (!drawn) {
        for (const [old, each] of this.#drawn) {
          if (!old.isConnected) {
            each.destroy();
            this.#drawn.delete(old);
          }
        }
        drawn = new uPlot(options(plot, width), data, element);
        this.#drawn.set(element, drawn);
      } else {
        if (drawn.width !== width) drawn.setSize({ width, height: 132 });
        drawn.setData(data);
      }
    }
    this.#theme = theme;
  }
}

function options({ series, isTime }, width) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const font = `11px ${style.getPropertyValue("--sans")}`;
  const axis = { stroke: color("--muted"), font, ticks: { show: false }, grid: { stroke: color("--line"), width: 1 } };
  const number = (value) => (isTime ? duration(value) : value.toLocaleString("en"));
  return {
    width,
    height: 132,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: (_, min, max) => [Math.min(min, max - 60), max] },
      y: { range: (_, min, max) => [0, Math.max(isTime ? 0.001 : 1, max * 1.15)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 22, space: 80, values: (_, ticks) => ticks.map((tick) => new Date(1000 * tick).toLocaleTimeString("en-GB")) },
      { ...axis, size: isTime ? 56 : 40, space: 28, values: (_, ticks) => ticks.map(number), incrs: isTime ? undefined : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000] },
    ],
    series: [
      {},
      ...series.map(([label, name], at) => ({
        label,
        stroke: color(COLORS[at]),
        width: name === "limit" ? 1 : 1.75,
        dash: name === "limit" ? [4, 4] : undefined,
        fill: at === 0 ? color("--series-fill") : undefined,
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}
