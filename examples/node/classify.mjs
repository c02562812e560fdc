// Classify PNG files by the self-routing graph, without a server and without Python:
//
//     npm install
//     node classify.mjs ../../model_repository/ride_graph/1/model.onnx ../*.png
//
// One line of JSON an image. Class names and image size are in the model's file.

import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";

import { readMetadata } from "../browser/model_metadata.mjs";
import { modelInput } from "../browser/pixels.mjs";

const [path, ...files] = process.argv.slice(2);
if (!path || files.length === 0) {
  console.error("usage: node classify.mjs MODEL.onnx IMAGE.png ..");
  process.exit(2);
}
const graph = readFileSync(path);
const model = readMetadata(graph);
const { height, width } = model.image;
const session = await InferenceSession.create(graph, { logSeverityLevel: 3 });

for (const file of files) {
  const pixels = modelInput(PNG.sync.read(readFileSync(file)), model.image);
  const answers = await session.run({ image: new Tensor("uint8", pixels, [1, height, width, 3]) });
  const { data } = answers.probabilities;
  const best = data.indexOf(Math.max(...data));
  console.log(
    JSON.stringify({
      file,
      label: model.class_names[best],
      probability: data[best],
      experts_used: answers.experts_used.data[0],
      router_scores: Array.from(answers.router_scores.data), // null where a router was not asked
    }),
  );
}
