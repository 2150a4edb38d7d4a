// Plots over time, from the broker's memory of the last minutes and from what arrives since.
import { html } from "./vendor/lit-html.js";
import { duration } from "./cells.js";

const KEPT_S = 900;
// A rate is that of so many seconds.
const RATE_S = 3;
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
  // What was seen at each moment, the oldest first.
  #points = [];
  #drawn = new Map();
  #theme = "";

  // Rows of the broker's memory, the oldest first: columns have the names of the table broker.
  prefill({ columns, rows }) {
    const time = columns.indexOf("time");
    if (time < 0 || !rows.length) return;
    const known = rows.map((row) => ({
      time: row[time],
      figures: Object.fromEntries(columns.map((name, at) => [name, row[at]])),
    }));
    this.#points = [...known, ...this.#points.filter((each) => each.time > known.at(-1).time + 0.5)];
  }

  add(time, figures) {
    if (this.#points.length && time - this.#points.at(-1).time < 0.5) this.#points.pop();
    this.#points.push({ time, figures });
    while (this.#points[0].time < time - KEPT_S) this.#points.shift();
  }

  #values([, name, isRate]) {
    if (!isRate) return this.#points.map((each) => each.figures[name] ?? null);
    let from = 0;
    return this.#points.map(({ time, figures }, at) => {
      while (from < at && this.#points[from].time < time - RATE_S) from += 1;
      const before = this.#points[Math.max(0, from - 1)];
      const gap = time - before.time;
      if (gap <= 0 || gap > 30 || figures[name] === undefined) return null;
      return Math.max(0, (figures[name] - before.figures[name]) / gap);
    });
  }

  template() {
    return html`<div class="plots">${PLOTS.map(({ title, series }, at) => {
      const legend = series.map(
        ([name, key, isRate], index) =>
          html`<span class="key k${index + 1}"><i></i>${name} <b>${this.#latest([name, key, isRate], PLOTS[at].isTime)}</b></span>`,
      );
      return html`<figure><figcaption><span>${title}</span><span class="legend">${legend}</span></figcaption><div class="plot" data-plot=${at} role="img" aria-label=${`${title} over the last minutes`}></div></figure>`;
    })}</div>`;
  }

  #latest(series, isTime) {
    const value = this.#values(series).at(-1);
    if (value === null || value === undefined) return "–";
    if (isTime) return duration(value);
    return series[2] ? `${value >= 10 ? Math.round(value) : value.toFixed(1)}/s` : value.toLocaleString("en");
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
      const data = [this.#points.map((each) => each.time), ...plot.series.map((each) => this.#values(each))];
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
    padding: [8, 26, 0, 0],
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
