// An image's way through the stages: which experts ran, what routers said, where it stopped and why.

import { element, withProperty } from "./dom.js";
import { counted, millions, percent } from "./format.js";

/**
 * The way as data, pure: one entry an expert {expert, ran, multiplyAdds}, each but the last followed
 * by its router {router, score, threshold, outcome}. Scores are null where the router was not asked.
 */
export function steps(cost, result, degraded) {
  const { model } = cost;
  const way = [];
  for (let expert = 1; expert <= model.num_experts; expert += 1) {
    const backbone = expert === 1 ? model.multiply_adds.backbone : 0;
    const multiplyAdds = model.multiply_adds.experts[expert - 1] + backbone;
    way.push({ expert, ran: expert <= result.experts_used, multiplyAdds });
    if (expert < model.num_experts) {
      const score = result.router_scores[expert - 1] ?? null;
      const threshold = cost.thresholds[expert - 1];
      way.push({ router: expert, score, threshold, outcome: outcome(expert, score, threshold, result, degraded) });
    }
  }
  return way;
}

function outcome(router, score, threshold, result, degraded) {
  if (router < result.experts_used) return "on";
  if (router > result.experts_used) return "unasked";
  if (score === null) return "limit";
  return degraded && score > threshold ? "degraded" : "stop";
}

/** The way in words, for those who can't see it. */
export function inWords(way) {
  const last = way.find((step) => ["limit", "degraded", "stop"].includes(step.outcome));
  return last ? reason(last) : "It took every expert.";
}

/** The way as a list. */
export function renderPath(way) {
  return element("ol", { class: "path" }, ...way.map((step) => (step.expert ? expertItem(step) : routerItem(step))));
}

function expertItem({ expert, ran, multiplyAdds }) {
  const name = expert === 1 ? "Backbone and expert 1" : `Expert ${expert}`;
  return element(
    "li", { class: `stage ${ran ? "ran" : "saved"}` },
    element("span", { class: "node", "aria-hidden": "true" }, String(expert)),
    element("span", { class: "stage-name" }, name),
    element("span", { class: "stage-cost" }, ran ? `${millions(multiplyAdds)} multiply-adds` : `not run: ${millions(multiplyAdds)} saved`),
  );
}

function routerItem(step) {
  return element(
    "li", { class: `router ${step.outcome}` },
    element("p", { class: "reason" }, reason(step)),
    step.score === null ? null : scale(step),
  );
}

function reason({ router, score, threshold, outcome: what }) {
  switch (what) {
    case "on": return `Router ${router} scored ${score.toFixed(2)}, above ${threshold.toFixed(2)}: goes on.`;
    case "stop": return `Router ${router} scored ${score.toFixed(2)}, not above ${threshold.toFixed(2)}: stops here.`;
    case "limit": return `Stops here: at most ${counted(router, "expert")} allowed, so router ${router} was not asked.`;
    case "degraded": return `Router ${router} scored ${score.toFixed(2)}; the busy server answers for less than asked and stops here.`;
    default: return `Router ${router} was not asked.`;
  }
}

/** Score and threshold on a line from 0 to 1; the words beside it say the same.
    An end that the score's own number would cover is left out. */
function scale({ score, threshold }) {
  const ends = [score > 0.15 ? "sure" : "", score < 0.8 ? "unsure" : ""];
  const line = element(
    "div", { class: "scale", "aria-hidden": "true" },
    element("span", { class: "beyond" }),
    element("span", { class: "threshold" }),
    element("span", { class: "threshold-value" }, `threshold ${threshold.toFixed(2)}`),
    element("span", { class: "score" }),
    element("span", { class: "ends" }, ...ends.map((end) => element("i", {}, end))),
    element("b", { class: "score-value" }, score.toFixed(2)),
  );
  withProperty(line, "--score", score);
  return withProperty(line, "--threshold", threshold);
}

/** What was spent of the full ensemble, as a bar of its parts. */
export function renderCompute(cost, result, way) {
  const { multiply_adds: costs } = cost.model;
  const parts = [{ name: "backbone", size: costs.backbone, spent: true }];
  for (const step of way.filter(({ expert }) => expert)) {
    parts.push({ name: `expert ${step.expert}`, size: costs.experts[step.expert - 1], spent: step.ran });
  }
  const full = parts.reduce((sum, { size }) => sum + size, 0);
  const bar = element(
    "div", { class: "compute", "aria-hidden": "true" },
    ...parts.map(({ name, size, spent }) =>
      withProperty(element("span", { class: spent ? "spent" : "kept" }, element("i", {}, name)), "--size", size / full)),
  );
  const spent = result.compute_share * full;
  const words = `${millions(spent)} of ${millions(full)} multiply-adds: ${percent(result.compute_share)} of what all experts take`;
  return element("div", {}, bar, element("p", { class: "hint" }, words));
}
