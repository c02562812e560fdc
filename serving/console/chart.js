// Charts over time in SVG, with their numbers in words beside them.

import { element, svgElement } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 100;

/**
 * A chart of one or several series.
 *
 * `describe.read(point)` gives the values of a point, one a series (null for none), `say(point)` the
 * same in words; `stacked` adds them up to areas; `from` and `to` fix the axis, which otherwise ends
 * above the largest value, and `format` writes its ends; `marked(point)` tells which points get a
 * band behind them.
 */
export class Chart {
  constructor(describe) {
    this.describe = describe;
    this.points = [];
    this.value = element("strong", {}, "–");
    this.top = element("span", { class: "axis top" });
    this.bottom = element("span", { class: "axis bottom" });
    this.cursor = svgElement("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.marks = svgElement("g");
    this.svg = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.marks, this.cursor);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.node = element(
      "figure", { class: "card chart" },
      element("figcaption", {}, element("span", { class: "chart-title" }, describe.title), this.value),
      element("div", { class: "plot" }, this.svg, this.top, this.bottom),
      this.keys(),
    );
  }

  keys() {
    const { series } = this.describe;
    if (series.length === 1) return null;
    const keys = series.map((name, index) => element("span", { class: `key series-${index + 1}` }, name));
    return element("p", { class: "keys" }, ...keys);
  }

  /** Show points {time, ..}, oldest first, of so long until now. */
  draw(points, now, spanMs) {
    this.points = points;
    this.now = now;
    this.spanMs = spanMs;
    const { from = 0, to = null } = this.describe;
    this.low = from;
    this.high = to ?? niceAbove(Math.max(0, ...points.flatMap((point) => this.heights(point))));
    this.top.textContent = this.describe.format(this.high);
    this.bottom.textContent = this.describe.format(this.low);
    this.marks.replaceChildren(this.grid(), ...this.bands(), ...this.shapes());
    if (!this.pointed) this.tell(points.at(-1));
    this.svg.setAttribute("aria-label", this.inWords());
  }

  x(point) {
    return WIDTH * (1 - (this.now - point.time) / this.spanMs);
  }

  y(value) {
    const share = (value - this.low) / (this.high - this.low);
    return HEIGHT * (1 - Math.min(1, Math.max(0, share)));
  }

  /** Where each series is drawn: its values, or for areas what they add up to. */
  heights(point) {
    const values = this.describe.read(point);
    if (!this.describe.stacked) return values.filter((value) => value !== null);
    let sum = 0;
    return values.map((value) => (sum += value ?? 0));
  }

  grid() {
    const y = HEIGHT / 2;
    return svgElement("path", { class: "grid", d: `M0 ${y}H${WIDTH}M0 0H${WIDTH}M0 ${HEIGHT}H${WIDTH}` });
  }

  bands() {
    const { marked = () => false } = this.describe;
    const width = (WIDTH * 1100) / this.spanMs;
    return this.points.filter(marked).map((point) =>
      svgElement("rect", { class: "band", x: this.x(point) - width, width, y: 0, height: HEIGHT }));
  }

  shapes() {
    const { series, stacked } = this.describe;
    const shapes = series.map((_, index) => {
      const runs = this.runs(index);
      const lines = runs.map((run) => `M${run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`);
      const areas = runs.map((run, at) => `${lines[at]}V${HEIGHT}H${run[0][0].toFixed(1)}Z`);
      const filled = stacked || index === 0;
      return svgElement(
        "g", { class: `series-${index + 1} ${stacked ? "stacked" : ""}` },
        filled ? svgElement("path", { class: "area", d: areas.join("") }) : null,
        svgElement("path", { class: "line", d: lines.join("") }),
      );
    });
    return stacked ? shapes.reverse() : shapes; // lower ones on top
  }

  /** Connected points of a series: it is broken where there are no values. */
  runs(index) {
    const runs = [];
    let run = null;
    for (const point of this.points) {
      if (this.describe.read(point)[index] === null) {
        run = null;
        continue;
      }
      if (!run) runs.push((run = []));
      const height = this.describe.stacked ? this.heights(point)[index] : this.describe.read(point)[index];
      run.push([this.x(point), this.y(height)]);
      if (run.length === 1) run.push([run[0][0] + 0.1, run[0][1]]); // a single point shows
    }
    return runs;
  }

  point(event) {
    if (!this.points.length) return;
    const { left, width } = this.svg.getBoundingClientRect();
    const x = (WIDTH * (event.clientX - left)) / width;
    const nearest = this.points.reduce((a, b) => (Math.abs(this.x(b) - x) < Math.abs(this.x(a) - x) ? b : a));
    this.pointed = true;
    this.cursor.setAttribute("x1", this.x(nearest));
    this.cursor.setAttribute("x2", this.x(nearest));
    this.cursor.setAttribute("visibility", "visible");
    this.tell(nearest, ` ${Math.round((this.now - nearest.time) / 1000)} s ago`);
  }

  leave() {
    this.pointed = false;
    this.cursor.setAttribute("visibility", "hidden");
    this.tell(this.points.at(-1));
  }

  tell(point, when = "") {
    this.value.replaceChildren(point ? this.describe.say(point) : "–", element("small", {}, when));
  }

  inWords() {
    const { title, say } = this.describe;
    const [first] = this.points;
    if (!first) return `${title}: nothing yet`;
    const seconds = Math.round((this.now - first.time) / 1000);
    return `${title}: now ${say(this.points.at(-1))}, ${seconds} seconds ago ${say(first)}`;
  }
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function niceAbove(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}
