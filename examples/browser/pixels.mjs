// An image becomes the model's input as `ride serve` makes it: the shorter side is resized with a
// triangle filter that is as wide as the scale (antialiasing), and the centre is cut out.

/**
 * @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA, opaque
 * @param {{height: number, width: number, resize_shorter_side: number}} spec
 * @returns {Uint8Array} RGB, spec.height rows of spec.width pixels
 */
export function modelInput(picture, spec) {
  const scale = spec.resize_shorter_side / Math.min(picture.width, picture.height);
  // The longer side is cut to whole pixels, as torchvision does.
  const size = [picture.width, picture.height].map((side) =>
    side === Math.min(picture.width, picture.height)
      ? spec.resize_shorter_side
      : Math.floor((side * spec.resize_shorter_side) / Math.min(picture.width, picture.height)),
  );
  const [width, height] = size;
  const resized =
    scale === 1 ? rgb(picture) : resizeRows(resizeColumns(picture, width), width, picture.height, height);
  const [left, top] = [Math.round((width - spec.width) / 2), Math.round((height - spec.height) / 2)];
  const cut = new Uint8Array(spec.height * spec.width * 3);
  for (let row = 0; row < spec.height; row++) {
    const start = ((top + row) * width + left) * 3;
    cut.set(resized.subarray(start, start + spec.width * 3), row * spec.width * 3);
  }
  return cut;
}

function rgb(picture) {
  const pixels = new Uint8Array(picture.width * picture.height * 3);
  for (let i = 0; i < picture.width * picture.height; i++)
    for (let channel = 0; channel < 3; channel++) pixels[3 * i + channel] = picture.data[4 * i + channel];
  return pixels;
}

/** For each of `to` places: the first of the `from` places that it takes, and their weights. */
function filter(from, to) {
  const scale = from / to;
  const reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.round(centre - reach));
    const end = Math.min(from, Math.round(centre + reach));
    const weights = [];
    for (let i = first; i < end; i++)
      weights.push(Math.max(0, 1 - Math.abs(i + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function resizeColumns(picture, width) {
  const columns = filter(picture.width, width);
  const pixels = new Uint8ClampedArray(width * picture.height * 3);
  for (let row = 0; row < picture.height; row++)
    columns.forEach(({ first, weights }, column) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        weights.forEach((weight, i) => {
          sum += weight * picture.data[(row * picture.width + first + i) * 4 + channel];
        });
        pixels[(row * width + column) * 3 + channel] = sum;
      }
    });
  return pixels;
}

function resizeRows(pixels, width, from, height) {
  const resized = new Uint8ClampedArray(width * height * 3);
  filter(from, height).forEach(({ first, weights }, row) => {
    for (let at = 0; at < width * 3; at++) {
      let sum = 0;
      weights.forEach((weight, i) => {
        sum += weight * pixels[(first + i) * width * 3 + at];
      });
      resized[row * width * 3 + at] = sum;
    }
  });
  return resized;
}
