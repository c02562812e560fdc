// The answer for one image or several, as the visible part of the page.

import { element, withProperty } from "./dom.js";
import { counted, duration, millions, percent, probability, words } from "./format.js";
import { renderCompute, renderPath, steps } from "./path.js";

/**
 * Show an answer {images, cost, answer, seconds} in a node; `select` is called with the image that
 * is looked at, from 0, and `extra` stands below its details.
 */
export function showAnswer(node, shown, selected, select, extra) {
  const { images, answer } = shown;
  const parts = [];
  if (answer.degraded) {
    parts.push(element("p", { class: "notice" }, "The server is busy: it answered for less than was asked for."));
  }
  if (images.length > 1) parts.push(strip(shown, selected, select));
  parts.push(...details(shown, selected), extra);
  node.replaceChildren(...parts);
  node.hidden = false;
}

function strip({ images, answer }, selected, select) {
  const buttons = images.map((image, index) => {
    const result = answer.results[index];
    const button = element(
      "button", { type: "button", "aria-pressed": String(index === selected) },
      element("img", { src: image.url, alt: "", class: "thumb" }),
      element("span", {}, words(result.labels[0].label)),
      element("small", {}, counted(result.experts_used, "expert")),
    );
    button.addEventListener("click", () => select(index));
    return element("li", {}, button);
  });
  return element("ul", { class: "strip", "aria-label": counted(images.length, "image") }, ...buttons);
}

function details({ images, cost, answer, seconds }, index) {
  const result = answer.results[index];
  const way = steps(cost, result, answer.degraded);
  return [
    verdict(images, index, result, cost, seconds),
    element("h4", {}, "Most probable"),
    labels(result),
    element("h4", {}, "Way through the experts"),
    renderPath(way),
    element("h4", {}, "Compute"),
    renderCompute(cost, result, way),
  ];
}

function verdict(images, index, result, cost, seconds) {
  const { model } = cost;
  const [best] = result.labels;
  const image = images[index];
  return element(
    "div", { class: "verdict" },
    pictures(image, model.image),
    element(
      "div", { class: "verdict-text" },
      element("h3", {}, words(best.label), " ", element("span", {}, probability(best.probability))),
      truth(image, best, model),
      element(
        "dl", { class: "facts" },
        ...fact("Experts", `${result.experts_used} of ${model.num_experts}`),
        ...fact("Compute", percent(result.compute_share)),
        ...fact(images.length > 1 ? `Time for all ${images.length}` : "Time", duration(seconds)),
      ),
    ),
  );
}

const fact = (name, value) => [element("div", {}, element("dt", {}, name), element("dd", {}, value))];

function truth(image, best, model) {
  const trained = `${counted(model.class_counts[best.index], "training image")} of this class`;
  if (image.truth === null || !model.class_names.includes(image.truth)) {
    return element("p", { class: "hint" }, `${image.name} · ${trained}`);
  }
  const right = image.truth === best.label;
  const mark = element("span", { class: right ? "right" : "wrong" }, right ? "✓ right" : `✗ it is ${words(image.truth)}`);
  return element("p", { class: "hint" }, mark, ` · ${trained}`);
}

function pictures(image, spec) {
  const canvas = element("canvas", {
    width: spec.width, height: spec.height, role: "img", class: "seen pixels",
    "aria-label": `About what the model sees: ${spec.width} by ${spec.height} pixels`,
  });
  const seen = element("figure", { hidden: true }, canvas, element("figcaption", {}, "as the model sees it"));
  drawSeen(canvas, image, spec).then((differs) => (seen.hidden = !differs));
  return element(
    "div", { class: "pictures" },
    element("figure", {}, element("img", { src: image.url, alt: `Your image ${image.name}` }), element("figcaption", {}, "your image")),
    seen,
  );
}

/**
 * Shorter side resized, centre cut out; browsers filter a little differently than the server.
 * Whether that leaves anything to see: not of an image that has the model's size already.
 */
async function drawSeen(canvas, image, { width, height, resize_shorter_side: side }) {
  const bitmap = await createImageBitmap(image.blob).catch(() => null);
  if (!bitmap || (bitmap.width === width && bitmap.height === height)) return false;
  const factor = side / Math.min(bitmap.width, bitmap.height);
  const [w, h] = [bitmap.width * factor, bitmap.height * factor];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
  return true;
}

function labels(result) {
  const items = result.labels.map(({ label, probability: share }) => {
    const bar = withProperty(element("span", { class: "meter", "aria-hidden": "true" }), "--share", share);
    return element("li", {}, element("span", {}, words(label)), bar, element("span", { class: "number" }, probability(share)));
  });
  return element("ol", { class: "labels" }, ...items);
}

/** One image under several costs: a table of {cost, answer, seconds}, the last of them the dearest. */
export function comparison(runs, index) {
  const dearest = runs.at(-1).answer.results[index].labels[0].label;
  const rows = runs.map(({ cost, answer, seconds }) => {
    const result = answer.results[index];
    const [best] = result.labels;
    const same = best.label === dearest ? "" : " differs";
    return element(
      "tr", {},
      element("th", { scope: "row" }, cost.name),
      element("td", { class: same.trim() }, `${words(best.label)} ${probability(best.probability)}`, same && element("small", {}, same)),
      element("td", { class: "number" }, String(result.experts_used)),
      element("td", { class: "number" }, millions(result.compute_share * fullCost(cost.model))),
      element("td", { class: "number" }, duration(seconds)),
    );
  });
  const heads = ["Setting", "Answer", "Experts", "Multiply-adds", "Time"];
  return element(
    "table", {},
    element("caption", { class: "visually-hidden" }, "The same image under each setting"),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows),
  );
}

const fullCost = ({ multiply_adds: { backbone, experts } }) => experts.reduce((sum, cost) => sum + cost, backbone);
