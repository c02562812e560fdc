// What the audit knows: how often routing answers as all experts would, and whether images changed.

import { fetchAudit } from "./api.js";
import { byId, element, withProperty } from "./dom.js";
import { percent } from "./format.js";

const EVERY_MS = 5000;

const GROUPS = { all: "all images", many: "many-shot classes", medium: "medium-shot classes", few: "few-shot classes" };

/** Ask for ever; the section appears with the first audited image. */
export async function watchAudit() {
  for (;;) {
    const found = await fetchAudit().catch(() => null);
    if (found?.audit.report.images) show(found);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function show({ audit, drift, confidence }) {
  const { report } = audit;
  byId("audit").hidden = false;
  byId("audit-about").textContent = `${percent(audit.share, 1)} of answered images also run through all experts in idle moments; `
    + `these are the newest ${report.images}. Bars are ${percent(confidence)} confidence intervals.`;
  byId("audit-cards").replaceChildren(
    card("Same answer as all experts", Object.entries(report.agreement).map(([group, share]) => [GROUPS[group], share])),
    card("Room for better routing", [
      ...report.stops.map(({ expert, missed_help: share }) => [`too early, after ${expert}`, share]),
      ["took more than needed", report.wasted],
    ]),
    ...(drift.length ? [card("Images that go on", drift.flatMap(driftRows))] : []),
  );
}

function driftRows({ stage, observed, expected, detected }) {
  const change = detected ? ", changed" : "";
  const now = [`after expert ${stage}, now${change}`, observed];
  return expected ? [now, ["when calibrated", expected]] : [now];
}

function card(title, rows) {
  return element(
    "div", { class: "card audit-card" },
    element("h3", {}, title),
    element("dl", {}, ...rows.map(([name, share]) => element("div", {}, element("dt", {}, name), element("dd", {}, ...value(share))))),
  );
}

function value({ share, low, high }) {
  if (share === null) return ["–", element("small", {}, "none yet")];
  const bar = element("span", { class: "interval", "aria-hidden": "true" });
  withProperty(withProperty(withProperty(bar, "--low", low), "--high", high), "--share", share);
  return [percent(share, 1), element("small", {}, `${percent(low, 1)} to ${percent(high, 1)}`), bar];
}
