// Drop an image, see its way through the experts: the self-routing graph in ONNX Runtime's
// WebAssembly, on this machine alone. ?model=URL names another graph that `ride export` compiled.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

import { readMetadata } from "./model_metadata.mjs";
import { modelInput } from "./pixels.mjs";

const MODEL = "../../model_repository/ride_graph/1/model.onnx";
const status = document.getElementById("status");
const answers = document.getElementById("answers");

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
const loading = load(new URLSearchParams(location.search).get("model") ?? MODEL);
loading.catch((error) => {
  status.textContent = `The model can't be loaded: ${error.message}`;
});

const input = document.getElementById("files");
input.addEventListener("change", () => {
  classifyAll([...input.files]);
  input.value = ""; // the same file may be chosen again
});
const drop = document.getElementById("drop");
for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
  drop.addEventListener(event, (dragged) => {
    dragged.preventDefault();
    drop.classList.toggle("over", over);
    if (event === "drop") classifyAll(dragged.dataTransfer.files);
  });

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  const file = new Uint8Array(await response.arrayBuffer());
  const model = readMetadata(file);
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  status.textContent =
    `${model.class_names.length} classes, ${model.num_experts} experts, ` +
    `${model.image.width} x ${model.image.height} pixels. Easy images stop after one expert.`;
  status.dataset.ready = "true";
  return { model, session };
}

let last = Promise.resolve();

/** One after the other: a session runs one image at a time. */
function classifyAll(files) {
  for (const file of files) {
    const item = answers.appendChild(document.createElement("li"));
    last = last
      .then(() => show(item, file))
      .catch((error) => item.append(text("p", "problem", `${file.name}: ${error.message}`)));
  }
}

async function show(item, file) {
  const { model, session } = await loading;
  const pixels = modelInput(await picture(file), model.image);
  const { height, width } = model.image;
  const image = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const start = performance.now();
  const found = await session.run({ image });
  const ms = performance.now() - start;
  const { data } = found.probabilities;
  const best = data.indexOf(Math.max(...data));
  const used = found.experts_used.data[0];
  item.dataset.label = model.class_names[best];
  item.dataset.expertsUsed = used;
  item.dataset.ms = ms;
  const words = document.createElement("div");
  words.append(
    text("p", "label", `${model.class_names[best]} ${(100 * data[best]).toFixed(1)} %`),
    text("small", "", `${file.name}, ${ms.toFixed(1)} ms, ${cost(model, used)}`),
    path(model, used, found.router_scores.data),
  );
  item.append(thumbnail(pixels, width, height), words);
}

/** A file's pixels, upright, over white where it is transparent. */
async function picture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("this browser can't read it as an image");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

function cost(model, used) {
  const { backbone, experts, routers } = model.multiply_adds;
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const asked = Math.min(used, routers.length);
  const spent = backbone + sum(experts.slice(0, used)) + sum(routers.slice(0, asked));
  return `${Math.round((100 * spent) / (backbone + sum(experts)))} % of all experts' compute`;
}

/** One line for each expert, and between them why the image went on or stopped. */
function path(model, used, scores) {
  const list = document.createElement("ol");
  list.className = "path";
  for (let expert = 1; expert <= model.num_experts; expert++) {
    list.append(text("li", expert <= used ? "expert" : "expert spared", `expert ${expert}`));
    if (expert > used || expert === model.num_experts) continue;
    const [score, threshold] = [scores[expert - 1], model.thresholds[expert - 1]];
    const what = score > threshold ? "above" : "not above";
    const then = score > threshold ? "goes on" : "stops";
    list.append(
      text("li", "why", `router: ${score.toFixed(3)}, ${what} ${threshold.toFixed(3)}: ${then}`),
    );
  }
  return list;
}

function thumbnail(pixels, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++)
    image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function text(tag, name, content) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = content;
  return element;
}
