/**
 * A stored image to the network's input, as ft_tf/data/image_ops.py makes it.
 *
 * All arithmetic is that of TensorFlow's ScaleAndTranslate with the triangle
 * kernel, in float32 and in its order, so that the bytes are the same.
 */
const {fround} = Math;
// Of red, green and blue in grey (ITU-R BT.601).
const GREY = [0.299, 0.587, 0.114];

/**
 * Returns the pixels that the network is given.
 *
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image Red,
 *     green, blue and alpha, which is not looked at.
 * @param {object} preprocessing As export.json has it.
 * @return {Uint8Array} [height, width, channels] of the network.
 */
export function prepare(image, preprocessing) {
  const {height, width, channels} = preprocessing;
  let pixels = withChannels(image, channels);
  // Images that were stored in the network's size have no steps.
  const sizes = preprocessing.sizes.length ?
      preprocessing.sizes : [[height, width]];
  if (preprocessing.resizing === 'crop') {
    pixels = cropMiddle(pixels, sizes[0], preprocessing.central_fraction);
  }
  for (const size of sizes) pixels = resize(pixels, size);
  return pixels.data;
}

/** Returns `{data, height, width, channels}` of 1 (grey) or 3 channels. */
export function withChannels({data, height, width}, channels) {
  const pixels = new Uint8Array(height * width * channels);
  if (channels === 3) {
    for (let from = 0, to = 0; to < pixels.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
  } else {
    for (let from = 0, to = 0; to < pixels.length; from += 4) {
      pixels[to++] = Math.round(
          GREY[0] * data[from] + GREY[1] * data[from + 1] +
          GREY[2] * data[from + 2]);
    }
  }
  return {data: pixels, height, width, channels};
}

/**
 * Returns the middle of an image, in the aspect ratio of `[rows, columns]`.
 *
 * Its sides are a fraction of those of the largest such part.
 */
export function cropMiddle(
    {data, height, width, channels}, [rows, columns], fraction) {
  // In double precision, as there.
  const [partHeight, partWidth] = [
    Math.min(fraction * height, fraction * width * rows / columns),
    Math.min(fraction * width, fraction * height * columns / rows),
  ].map(side => Math.max(roundToEven(side), 1));
  const top = Math.floor((height - partHeight) / 2);
  const left = Math.floor((width - partWidth) / 2);
  const part = new Uint8Array(partHeight * partWidth * channels);
  for (let row = 0; row < partHeight; row++) {
    const from = ((top + row) * width + left) * channels;
    part.set(data.subarray(from, from + partWidth * channels),
             row * partWidth * channels);
  }
  return {data: part, height: partHeight, width: partWidth, channels};
}

/** Returns an image at another `[height, width]`. */
export function resize({data, height, width, channels}, [newHeight, newWidth]) {
  const rows = weightsOf(newHeight, height);
  const columns = weightsOf(newWidth, width);
  const lineLength = width * channels;
  const line = new Float32Array(lineLength);
  const pixel = new Float32Array(channels);
  const resized = new Uint8Array(newHeight * newWidth * channels);
  let to = 0;
  for (const {start, weights} of rows) {
    line.fill(0);
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i];
      const from = (start + i) * lineLength;
      for (let j = 0; j < lineLength; j++) {
        line[j] += fround(data[from + j] * weight);
      }
    }
    for (const {start, weights} of columns) {
      pixel.fill(0);
      for (let i = 0; i < weights.length; i++) {
        const weight = weights[i];
        const from = (start + i) * channels;
        for (let c = 0; c < channels; c++) {
          pixel[c] += fround(line[from + c] * weight);
        }
      }
      for (let c = 0; c < channels; c++) {
        resized[to++] = Math.min(255, Math.max(0, roundToEven(pixel[c])));
      }
    }
  }
  return {data: resized, height: newHeight, width: newWidth, channels};
}

/**
 * Returns which old pixels of a line a new pixel is made of.
 *
 * @param {number} length The number of new pixels.
 * @param {number} oldLength That of old ones.
 * @return {Array<{start: number, weights: Float32Array}>} For each new pixel
 *     the first old one and the weights from there on.
 */
function weightsOf(length, oldLength) {
  const step = fround(1 / fround(length / oldLength));
  // The triangle is as wide as a new pixel where the image shrinks.
  const radius = Math.max(step, 1);
  const inverse = fround(1 / radius);
  const spans = [];
  for (let x = 0; x < length; x++) {
    const middle = fround((x + 0.5) * step);
    const first = Math.ceil(fround(fround(middle - radius) - 0.5));
    const last = Math.floor(fround(fround(middle + radius) - 0.5));
    const start = Math.max(0, Math.min(oldLength - 1, first));
    const end = Math.max(0, Math.min(oldLength - 1, last)) + 1;
    const weights = new Float32Array(end - start);
    let sum = 0;
    for (let i = 0; i < weights.length; i++) {
      const distance = Math.abs(fround(fround(start + i + 0.5) - middle));
      weights[i] = Math.max(0, fround(1 - fround(distance * inverse)));
      sum = fround(sum + weights[i]);
    }
    const scale = fround(1 / sum);
    for (let i = 0; i < weights.length; i++) weights[i] *= scale;
    spans.push({start, weights});
  }
  return spans;
}

/** Rounds halves to the even number, as TensorFlow and NumPy do. */
function roundToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
