// One chart for each metric, a line for each device. All devices are sampled at the same moments, twice a second.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { element } from "./tiles.js";

const SAMPLE_MILLISECONDS = 500;
const WINDOW_SECONDS = 180;
const SHORTEST_WINDOW_SECONDS = 20;
const POINTS = (WINDOW_SECONDS * 1000) / SAMPLE_MILLISECONDS;
const HEIGHT = 112;

/** The charts; `start` lets them move. */
export class Charts {
  #place;
  #model;
  #isLive;
  #charts = new Map();

  /** `isLive()` says whether values come; while they don't, lines have a gap. */
  constructor(place, model, isLive) {
    this.#place = place;
    this.#model = model;
    this.#isLive = isLive;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#charts.forEach((chart) => chart.build()));
    new ResizeObserver(() => this.#charts.forEach((chart) => chart.resize())).observe(place);
  }

  start() {
    setInterval(() => this.#sample(), SAMPLE_MILLISECONDS);
  }

  #sample() {
    const now = Date.now() / 1000;
    if (!this.#isLive()) return this.#charts.forEach((chart) => chart.pause(now));
    for (const device of this.#model.devices.values()) {
      for (const [metric, { unit }] of device.metrics) this.#chart(metric, unit).has(device);
    }
    for (const chart of this.#charts.values()) chart.sample(now);
  }

  #chart(metric, unit) {
    let chart = this.#charts.get(metric);
    if (!chart) {
      chart = new Chart(metric, unit);
      this.#charts.set(metric, chart);
      const next = [...this.#place.children].find((other) => other.dataset.metric < metric);
      this.#place.insertBefore(chart.root, next ?? null);
      chart.build();
    }
    return chart;
  }
}

class Chart {
  #metric;
  #plot = null;
  #devices = [];
  #times = [];
  #values = []; // for each device, a value for each time
  #legend = element("ul", "legend");
  #canvas = element("div");
  #samples = 0;
  #paused = false;

  constructor(metric, unit) {
    this.#metric = metric;
    this.root = element("figure", "chart");
    this.root.style.margin = "0";
    Object.assign(this.root.dataset, { testid: "chart", metric });
    const title = element("h2", "", metric);
    title.append(element("span", "unit", unit));
    this.#canvas.setAttribute("role", "img");
    this.#canvas.setAttribute("aria-label", `${metric} of each device, the last minutes`);
    this.root.append(title, this.#canvas, this.#legend);
  }

  has(device) {
    if (this.#devices.includes(device)) return;
    this.#devices.push(device);
    this.#values.push(this.#times.map(() => null));
    const item = element("li");
    const swatch = element("span", "swatch");
    swatch.style.background = device.colour;
    item.append(swatch, device.name);
    this.#legend.append(item);
    this.build();
  }

  sample(now) {
    this.#push(now, (device) => (device.status === "offline" ? null : device.metrics.get(this.#metric).value));
    this.#paused = false;
    this.#samples += 1;
    this.root.dataset.points = String(this.#samples);
    if (!document.hidden) this.#plot?.setData([this.#times, ...this.#values]);
  }

  /** One empty point parts what was before an outage from what comes after. */
  pause(now) {
    if (!this.#paused) this.#push(now, () => null);
    this.#paused = true;
  }

  #push(now, valueOf) {
    this.#times.push(now);
    this.#devices.forEach((device, i) => this.#values[i].push(valueOf(device)));
    while (this.#times.length > POINTS || now - this.#times[0] > WINDOW_SECONDS) {
      for (const list of [this.#times, ...this.#values]) list.shift();
    }
  }

  resize() {
    const width = this.#canvas.clientWidth;
    if (width > 0 && this.#plot && this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
  }

  /** uPlot takes its lines and colours once, so a new device or colour scheme makes a new plot. */
  build() {
    this.#plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const axis = {
      stroke: style.getPropertyValue("--dim"),
      grid: { stroke: style.getPropertyValue("--grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const options = {
      width: this.#canvas.clientWidth || 320,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 24, 0, 0],
      scales: { x: { range: (_, low, high) => [high - shownSeconds(high - low), high] } },
      axes: [{ ...axis, size: 22, space: 80, values: clock }, { ...axis, size: 44, space: 26 }],
      series: [{}, ...this.#devices.map(({ colour, name }) => ({ label: name, stroke: colour, width: 1.5, points: { show: false } }))],
    };
    this.#plot = new uPlot(options, [this.#times, ...this.#values], this.#canvas);
  }
}

function clock(_, times) {
  return times.map((time) => new Date(time * 1000).toLocaleTimeString("en-GB"));
}

/** The window grows with what there is to see. */
function shownSeconds(seconds) {
  return Math.min(WINDOW_SECONDS, Math.max(SHORTEST_WINDOW_SECONDS, seconds));
}
