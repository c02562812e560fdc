// The live charts: /metrics once a second, and what happened in between.

import { fetchMetrics } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element } from "./dom.js";
import { decimal, duration, percent, short } from "./format.js";
import { Scrape, between } from "./metrics.js";

const EVERY_MS = 1000;
const SPAN_MS = 180_000;
const LEAST_SPAN_MS = 30_000; // what little there is at first fills the charts
const SMOOTHED = 3; // scrapes that a point looks back over
const TABLE_ROWS = 12;

const or = (format) => (value) => (value === null ? "–" : format(value));
const say = { number: or(decimal), share: or((share) => percent(share)), time: or(duration) };

function charts(experts) {
  return [
    {
      title: "Images a second", series: ["images"], format: short,
      read: (point) => [point.imagesPerSecond], say: (point) => say.number(point.imagesPerSecond),
    },
    {
      title: "Experts per image", series: ["mean"], from: 1, to: Math.max(2, experts), format: String,
      read: (point) => [point.expertsPerImage], say: (point) => say.number(point.expertsPerImage),
    },
    {
      title: "Images that stop after", stacked: true, to: 1, format: (share) => percent(share),
      series: Array.from({ length: experts }, (_, index) => (index ? `${index + 1} experts` : "1 expert")),
      read: (point) => point.exits, say: (point) => point.exits.map(say.share).join(" · "),
    },
    {
      title: "Compute saved", series: ["share"], to: 1, format: (share) => percent(share),
      read: (point) => [point.computeSaved], say: (point) => say.share(point.computeSaved),
    },
    {
      title: "Time to answer", series: ["mean", "95th percentile, estimated"], format: duration,
      read: (point) => [point.meanLatency, point.highLatency],
      say: (point) => `${say.time(point.meanLatency)} · ${say.time(point.highLatency)}`,
    },
    {
      title: "Waiting images", series: ["waiting"], format: short, marked: (point) => point.level > 0,
      read: (point) => [point.waiting],
      say: (point) => `${point.waiting}${point.level ? ` · cheaper answers, level ${point.level}` : ""}`,
      needs: "ride_queue_depth", // in front of Triton the queues are Triton's
    },
  ];
}

/** Watches the server. `heard` is called with every scrape, or null where none came. */
export class Live {
  constructor(model, heard) {
    this.experts = model.num_experts;
    this.heard = heard;
    this.scrapes = [];
    this.points = [];
    this.charts = null;
    this.paused = false;
    byId("pause").onclick = () => this.pause();
    byId("live-numbers").ontoggle = () => this.fillTable();
  }

  /** Ask for ever. */
  async watch() {
    for (;;) {
      if (!this.paused) await this.look();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async look() {
    let scrape;
    try {
      scrape = new Scrape(await fetchMetrics(), Date.now());
    } catch {
      this.heard(null);
      return;
    }
    this.take(scrape);
    this.heard(scrape);
  }

  take(scrape) {
    const last = this.scrapes.at(-1);
    if (last && scrape.sum("ride_images_total") < last.sum("ride_images_total")) {
      this.scrapes = []; // the server was started anew
    }
    const before = this.scrapes.at(-SMOOTHED) ?? this.scrapes[0];
    this.scrapes = [...this.scrapes.slice(-SMOOTHED), scrape];
    if (!before) return;
    this.points = this.points.filter(({ time }) => time > scrape.time - SPAN_MS);
    this.points.push(between(before, scrape, this.experts));
    this.draw(scrape);
  }

  draw(scrape) {
    if (!this.charts) {
      const shown = charts(this.experts).filter(({ needs }) => !needs || scrape.has(needs));
      this.charts = shown.map((describe) => new Chart(describe));
      byId("charts").replaceChildren(...this.charts.map(({ node }) => node));
    }
    const span = Math.max(LEAST_SPAN_MS, scrape.time - this.points[0].time);
    for (const chart of this.charts) chart.draw(this.points, scrape.time, span);
    this.fillTable();
  }

  fillTable() {
    if (!byId("live-numbers").open || !this.charts) return;
    const described = this.charts.map((chart) => chart.describe);
    const now = Date.now();
    const every = Math.max(1, Math.floor(this.points.length / TABLE_ROWS));
    const kept = this.points.filter((_, index) => (this.points.length - 1 - index) % every === 0).reverse();
    const head = ["Seconds ago", ...described.map(({ title, series }) => (series.length > 1 ? `${title} (${series.join(", ")})` : title))];
    const rows = kept.map((point) => [Math.round((now - point.time) / 1000), ...described.map((each) => each.say(point))]);
    byId("live-table").replaceChildren(element(
      "table", {},
      element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows.map(([first, ...rest]) => element(
        "tr", {}, element("th", { scope: "row" }, String(first)), ...rest.map((text) => element("td", { class: "number" }, text))))),
    ));
  }

  pause() {
    this.paused = !this.paused;
    byId("pause").textContent = this.paused ? "Go on" : "Pause";
    byId("pause").setAttribute("aria-pressed", String(this.paused));
    this.scrapes = []; // nothing is known of the time in between
  }
}
