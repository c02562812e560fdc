// The cost knob: a gear of the model or a threshold, and the most experts.

import { byId, element } from "./dom.js";
import { counted, percent } from "./format.js";

const OWN = "own";
const CUSTOM = "custom";

/** A choice: what to ask the server for, and the thresholds that follow from it. */
export class Cost {
  constructor(model, { quality = OWN, threshold = 0.5, mostExperts = model.num_experts } = {}) {
    this.model = model;
    this.quality = quality;
    this.threshold = threshold;
    this.mostExperts = mostExperts;
  }

  /** Query parameters of `POST /v1/classify`. */
  get parameters() {
    const parameters = {};
    if (this.quality === CUSTOM) parameters.threshold = this.threshold;
    else if (this.quality !== OWN) parameters.quality = this.quality;
    if (this.mostExperts < this.model.num_experts) parameters.max_experts = this.mostExperts;
    return parameters;
  }

  /** One for each router. */
  get thresholds() {
    if (this.quality === CUSTOM) return this.model.thresholds.map(() => this.threshold);
    return this.quality === OWN ? this.model.thresholds : this.model.gears[this.quality].thresholds;
  }

  get name() {
    return this.quality === CUSTOM ? `threshold ${this.threshold.toFixed(2)}` : NAMES[this.quality];
  }
}

const NAMES = { [OWN]: "model's own", fast: "fast", balanced: "balanced", full: "all experts", [CUSTOM]: "custom" };

/** The settings worth a comparison, cheapest first. */
export function comparable(model) {
  const gears = Object.keys(model.gears).map((quality) => new Cost(model, { quality }));
  if (gears.length) return gears;
  return [1, 0.5, 0].map((threshold) => new Cost(model, { quality: CUSTOM, threshold }));
}

/** Fill the form for a model; `changed` is called with every new `Cost`. Returns the first one. */
export function offerCosts(model, changed) {
  const qualities = [OWN, ...Object.keys(model.gears), CUSTOM];
  byId("qualities").replaceChildren(
    ...qualities.flatMap((quality) => radio("quality", quality, capital(NAMES[quality]), quality === OWN)),
  );
  byId("most-experts").replaceChildren(
    ...range(model.num_experts).flatMap((count) =>
      radio("most-experts", count, count, count === model.num_experts, counted(count, "expert"))),
  );
  const form = byId("input");
  const update = () => {
    const cost = chosen(model, form);
    byId("threshold-row").hidden = cost.quality !== CUSTOM;
    byId("threshold-value").textContent = cost.threshold.toFixed(2);
    byId("quality-hint").textContent = hint(cost);
    return cost;
  };
  form.oninput = (event) => {
    if (event.target.type !== "file") changed(update());
  };
  form.onsubmit = (event) => event.preventDefault();
  return update();
}

function chosen(model, form) {
  return new Cost(model, {
    quality: form.elements.quality.value,
    threshold: Number(byId("threshold").value),
    mostExperts: Number(form.elements["most-experts"].value),
  });
}

function hint(cost) {
  const { model, quality } = cost;
  if (quality === CUSTOM) return "The same threshold for every router. A lower one sends more images on.";
  const measured = quality === OWN ? ownFigures(model) : model.gears[quality];
  if (!measured) return "The thresholds that the model came with.";
  return `${measured.mean_experts.toFixed(2)} experts an image and ${percent(measured.accuracy.overall, 1)} right`
    + ` on ${measured.measured_on}.`;
}

function ownFigures({ evaluation }) {
  if (!evaluation.routed) return null;
  const { images, split, dataset, routed } = evaluation;
  return { ...routed, measured_on: `${images.toLocaleString("en")} ${split} images of ${dataset}` };
}

function radio(group, value, text, checked, label = null) {
  const id = `${group}-${value}`;
  return [
    element("input", { type: "radio", name: group, id, value, checked, "aria-label": label }),
    element("label", { for: id }, String(text)),
  ];
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

const range = (count) => Array.from({ length: count }, (_, index) => index + 1);
