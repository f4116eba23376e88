// The training images of a static folder that are nearest to a sample, by the pixels of both averaged over boxes.

import { paint } from "./draw.js";

const SHOWN = 6;

/** An image [H, W, C] averaged over boxes of factor x factor pixels. */
export function boxed(image, [height, width, channels], factor) {
  if (factor === 1) return image;
  const columns = width / factor;
  const found = new Float32Array((height / factor) * columns * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const to = (Math.floor(y / factor) * columns + Math.floor(x / factor)) * channels;
      for (let c = 0; c < channels; c++) found[to + c] += image[(y * width + x) * channels + c] / factor ** 2;
    }
  }
  return found;
}

/**
 * The nearest images, the nearest first, as the server's answer: index, distance (root mean square, in levels of 255)
 * and the picture's address.
 */
export function nearestImages(levels, wanted, shape) {
  const size = wanted.length;
  const target = wanted.map((value) => (value + 1) * 127.5);
  const distances = Array.from({ length: levels.length / size }, (_, index) => {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += (levels[index * size + i] - target[i]) ** 2;
    return { index, distance: Math.sqrt(sum / size) };
  });
  distances.sort((a, b) => a.distance - b.distance || a.index - b.index);
  return distances.slice(0, SHOWN).map(({ index, distance }) => {
    const values = Float32Array.from(levels.subarray(index * size, (index + 1) * size), (level) => level / 127.5 - 1);
    const canvas = document.createElement("canvas");
    paint(canvas, values, shape);
    return { index, distance, png: canvas.toDataURL() };
  });
}
