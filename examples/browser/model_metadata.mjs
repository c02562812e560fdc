// What the model's file says of itself: class names, image size, thresholds, costs.
//
// ONNX Runtime's JavaScript has no call for a model's metadata, so it is read from the file: an ONNX
// file is a protobuf message, ModelProto, whose field 14 are entries of a key (1) and a value (2).

const METADATA_PROPS = 14;

/**
 * The metadata of an ONNX file that `ride export` compiled; every value there is JSON.
 * @param {Uint8Array} file
 * @returns {{class_names: string[], image: {height: number, width: number,
 *   resize_shorter_side: number}, num_experts: number, thresholds: number[],
 *   multiply_adds: {backbone: number, experts: number[], routers: number[]}}}
 */
export function readMetadata(file) {
  const metadata = {};
  for (const [field, content] of fields(file)) {
    if (field !== METADATA_PROPS) continue;
    const entry = Object.fromEntries(fields(content));
    const [key, value] = [entry[1], entry[2]].map((text) => new TextDecoder().decode(text));
    metadata[key] = JSON.parse(value);
  }
  if (!metadata.class_names) throw new Error("this file is no graph that ride export compiled");
  return metadata;
}

/** The fields of a protobuf message that hold bytes: their numbers and contents. */
function* fields(message) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= message.length) throw new Error("this file is no ONNX model");
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      yield [field, message.subarray(at, at + length)];
      at += length;
    } else throw new Error("this file is no ONNX model");
  }
}
