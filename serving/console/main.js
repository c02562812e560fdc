// The console: an image in, its answer and what it cost out; and what the server does meanwhile.

import { classify, fetchModel, Problem } from "./api.js";
import { watchAudit } from "./audit.js";
import { comparable, offerCosts } from "./cost.js";
import { byId, element } from "./dom.js";
import { counted, probability, words } from "./format.js";
import { offerImages } from "./images.js";
import { Live } from "./live.js";
import { inWords, steps } from "./path.js";
import { comparison, showAnswer } from "./result.js";
import { offerThemes } from "./theme.js";

const KNOB_REST_MS = 120; // a slider that is being moved asks no questions
const ASK_AGAIN_MS = 2000;

class Console {
  constructor(model) {
    this.model = model;
    this.images = [];
    this.selected = 0;
    this.shown = null; // the answer on the page: {images, cost, answer, seconds}
    this.running = new AbortController();
    this.cost = offerCosts(model, (cost) => this.turnKnob(cost));
    this.compare = this.comparisonPanel();
    offerImages((images) => this.take(images), (sentence) => this.refuse(new Problem(sentence)));
  }

  take(images) {
    const problem = this.unacceptable(images);
    if (problem) {
      this.refuse(problem);
      return;
    }
    for (const { url } of this.images) URL.revokeObjectURL(url);
    this.images = images.map((image) => ({ ...image, url: URL.createObjectURL(image.blob) }));
    this.selected = 0;
    this.ask().then(() => {
      if (matchMedia("(max-width: 820px)").matches) byId("answer").scrollIntoView();
    });
  }

  /** What the server would refuse in the middle of an upload, when no browser reads its answer. */
  unacceptable(images) {
    const { limits } = this.model;
    if (images.length > limits.images) return new Problem(`At most ${limits.images} images at once, please.`);
    const large = images.find(({ blob }) => blob.size > limits.image_bytes);
    if (large) return new Problem(`${large.name} is larger than ${megabytes(limits.image_bytes)}, the most that this server takes.`);
    const total = images.reduce((sum, { blob }) => sum + blob.size + 1000, 0);
    if (total > limits.body_bytes) return new Problem(`Together these are more than ${megabytes(limits.body_bytes)}: take fewer at once.`);
    return null;
  }

  turnKnob(cost) {
    this.cost = cost;
    clearTimeout(this.waiting);
    if (this.images.length) this.waiting = setTimeout(() => this.ask(), KNOB_REST_MS);
  }

  async ask() {
    this.running.abort();
    const running = (this.running = new AbortController());
    const { images, cost } = this;
    byId("answer").setAttribute("aria-busy", "true");
    try {
      const answered = await classify(images, cost.parameters, running.signal);
      if (running.signal.aborted) return;
      this.show({ images, cost, ...answered });
    } catch (error) {
      if (!running.signal.aborted) this.refuse(error, () => this.ask());
    } finally {
      if (this.running === running) byId("answer").setAttribute("aria-busy", "false");
    }
  }

  show(shown) {
    this.shown = shown;
    byId("problem").hidden = true;
    byId("empty").hidden = true;
    this.showSelected();
    const result = shown.answer.results[this.selected];
    const [best] = result.labels;
    byId("announcement").textContent = `${words(best.label)}, ${probability(best.probability)}, `
      + `by ${result.experts_used} of ${counted(this.model.num_experts, "expert")}. `
      + inWords(steps(shown.cost, result, shown.answer.degraded));
    if (this.compare.open) this.fillComparison();
  }

  showSelected() {
    const select = (index) => {
      this.selected = index;
      this.showSelected();
      byId("result").querySelectorAll(".strip button")[index].focus();
      if (this.compare.open) this.fillComparison();
    };
    showAnswer(byId("result"), this.shown, this.selected, select, this.compare);
  }

  refuse(error, again = null) {
    byId("announcement").textContent = ""; // it was of another answer
    const known = error instanceof Problem;
    if (!known) console.error(error);
    const message = known ? error.message : "Something in this page failed; the browser's console says what.";
    const problem = byId("problem");
    problem.replaceChildren(element("p", {}, message));
    if (known && error.retry && again) {
      const button = element("button", { type: "button" }, "Try again");
      button.addEventListener("click", again);
      problem.append(button);
    }
    problem.hidden = false;
    byId("empty").hidden = true;
    byId("result").hidden = true;
  }

  comparisonPanel() {
    this.table = element("div", { class: "scrolls" });
    const panel = element("details", { class: "compare" }, element("summary", {}, "Compare the settings on this image"), this.table);
    panel.addEventListener("toggle", () => panel.open && this.fillComparison());
    return panel;
  }

  async fillComparison() {
    const { images } = this.shown;
    try {
      if (this.compared?.images !== images) {
        const runs = [];
        for (const cost of comparable(this.model)) { // one after the other, so that times compare
          runs.push({ cost, ...(await classify(images, cost.parameters)) });
        }
        this.compared = { images, runs };
      }
      if (this.shown.images === images) this.table.replaceChildren(comparison(this.compared.runs, this.selected));
    } catch (error) {
      this.table.replaceChildren(element("p", { class: "hint" }, error.message));
    }
  }
}

const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;

function describe(model) {
  const { width, height } = model.image;
  byId("served").textContent = `${model.model} version ${model.version} · ${model.class_names.length} classes · `
    + `${counted(model.num_experts, "expert")} · ${width} × ${height} pixels`;
}

function tellHealth(scrape, model) {
  const [state, text] = health(scrape, model);
  const pill = byId("health");
  if (pill.textContent !== text) pill.textContent = text; // or a screen reader repeats it
  pill.dataset.state = state;
}

function health(scrape, model) {
  if (scrape === null) return ["gone", "Unreachable"];
  const versions = scrape.labels("ride_model_info", "version");
  if (versions.length && !versions.includes(model.version)) return ["busy", "New version: reload"];
  return scrape.sum("ride_degradation_level") ? ["busy", "Busy: cheaper answers"] : ["ready", "Ready"];
}

/** The model, as soon as there is one. */
async function waitForModel() {
  for (;;) {
    try {
      return await fetchModel();
    } catch (error) {
      byId("served").textContent = error.message;
      byId("health").textContent = "Waiting";
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    }
  }
}

offerThemes(byId("theme"));
const model = await waitForModel();
describe(model);
new Console(model);
new Live(model, (scrape) => tellHealth(scrape, model)).watch();
watchAudit();
