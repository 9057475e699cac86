// Pixels to a network's input, as `pixels.network_input` does it in Python: crop, pad, letterbox or squash.
// Pixels are {width, height, data} with data a Uint8Array of RGB. A canvas would resize with a filter of the browser's
// own; this repeats Pillow's antialiased BILINEAR in its fixed-point arithmetic, so that a network sees the same bytes.

import { clip, pad, scale, shift } from "./boxes.js";

export const LETTERBOX_GREY = 114;

const PRECISION = 22; // bits behind the point of a weight: 32 - 8 of the pixel - 2 of headroom (Pillow's Resample.c)
const HALF = 1 << (PRECISION - 1);

/** Round to the nearest whole number, halves to the even one, as Python's round does. */
export function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return rest < 0.5 ? floor : floor + 1;
}

/** Return left, top, width and height of a resized photo of `size` [w, h] in the network's input. */
function placement([width, height], to) {
  if (to.fit !== "letterbox") return [0, 0, to.width, to.height];
  const factor = Math.min(to.width / width, to.height / height);
  const w = Math.min(Math.max(roundHalfEven(width * factor), 1), to.width);
  const h = Math.min(Math.max(roundHalfEven(height * factor), 1), to.height);
  return [Math.floor((to.width - w) / 2), Math.floor((to.height - h) / 2), w, h];
}

/** Make the RGB bytes of a network's input: of the whole photo, or of a box of it in its pixels, padded and clipped. */
export function networkInput(pixels, to, box = null) {
  let area = [0, 0, pixels.width, pixels.height];
  if (box) {
    area = clip(pad(box, to.pad ?? 0), pixels.width, pixels.height);
    if (area[2] - area[0] < 1 || area[3] - area[1] < 1) throw new Error(`box (${box.join(", ")}) holds no pixel of the photo`);
  }
  const [left, top, width, height] = placement([area[2] - area[0], area[3] - area[1]], to);
  const resized = resizeArea(pixels, area, width, height);
  if (width === to.width && height === to.height) return resized;
  const canvas = new Uint8Array(to.width * to.height * 3).fill(LETTERBOX_GREY);
  for (let y = 0; y < height; y += 1) {
    canvas.set(resized.data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * to.width + left) * 3);
  }
  return { width: to.width, height: to.height, data: canvas };
}

/** Say where a box of the network's input lies in the photo of `size` [w, h] that fills it. */
export function toPhotoBox(box, size, to) {
  const [left, top, width, height] = placement(size, to);
  return scale(shift(box, -left, -top), size[0] / width, size[1] / height);
}

/** Resize a part of the pixels, as `pixels._resize`: cut out with a margin first, since that moves the corners' last bits. */
export function resizeArea(pixels, area, width, height) {
  const [x1, y1, x2, y2] = area;
  const marginX = Math.ceil(Math.max((x2 - x1) / width, 1)) + 1;
  const marginY = Math.ceil(Math.max((y2 - y1) / height, 1)) + 1;
  const left = Math.max(Math.floor(x1) - marginX, 0);
  const top = Math.max(Math.floor(y1) - marginY, 0);
  const right = Math.min(Math.ceil(x2) + marginX, pixels.width);
  const bottom = Math.min(Math.ceil(y2) + marginY, pixels.height);
  const columns = weights(right - left, x1 - left, x2 - left, width);
  const rows = weights(bottom - top, y1 - top, y2 - top, height);
  return resample(cut(pixels, left, top, right, bottom), columns, rows, [width, height]);
}

/** Return per output pixel the first input pixel, how many, and their weights; null where nothing would change. */
function weights(size, from, to, out) {
  const low = Math.fround(from); // Pillow holds the box in float32
  const high = Math.fround(to);
  if (size === out && low === 0 && high === size) return null;
  const step = Math.fround(high - low) / out;
  const support = Math.max(step, 1); // of the triangle that BILINEAR is
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(out);
  const count = new Int32Array(out);
  const weight = new Int32Array(out * most);
  const exact = new Float64Array(most);
  for (let i = 0; i < out; i += 1) {
    const center = low + (i + 0.5) * step;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const n = Math.min(Math.trunc(center + support + 0.5), size) - start;
    let sum = 0;
    for (let k = 0; k < n; k += 1) {
      exact[k] = Math.max(1 - Math.abs((k + start - center + 0.5) * (1 / support)), 0);
      sum += exact[k];
    }
    for (let k = 0; k < n; k += 1) {
      const share = sum === 0 ? exact[k] : exact[k] / sum;
      weight[i * most + k] = Math.trunc(0.5 + share * 2 ** PRECISION);
    }
    first[i] = start;
    count[i] = n;
  }
  return { first, count, weight, most };
}

/** Run both passes, rounding to bytes between them, in Pillow's order: columns first where the height shrinks most.
 *
 * That order is Pillow 13's; older ones begin with the rows always, which moves some bytes by 1.
 */
function resample(part, columns, rows, [width, height]) {
  const lost = part.height - height;
  if (lost > 0 && lost > 2 * (part.width - width)) return across(down(part, rows, height), columns, width);
  return down(across(part, columns, width), rows, height);
}

function across(pixels, columns, width) {
  if (!columns) return pixels;
  const data = new Uint8Array(width * pixels.height * 3);
  for (let y = 0; y < pixels.height; y += 1) {
    horizontal(pixels.data, y * pixels.width * 3, columns, data.subarray(y * width * 3, (y + 1) * width * 3));
  }
  return { width, height: pixels.height, data };
}

function down(pixels, rows, height) {
  if (!rows) return pixels;
  const data = new Uint8Array(pixels.width * height * 3);
  vertical(pixels.data, rows, data, pixels.width * 3);
  return { width: pixels.width, height, data };
}

function cut({ width, data }, left, top, right, bottom) {
  const part = new Uint8Array((right - left) * (bottom - top) * 3);
  for (let y = top; y < bottom; y += 1) {
    part.set(data.subarray((y * width + left) * 3, (y * width + right) * 3), (y - top) * (right - left) * 3);
  }
  return { width: right - left, height: bottom - top, data: part };
}

function horizontal(source, line, { first, count, weight, most }, into) {
  for (let x = 0, at = 0; at < into.length; x += 1, at += 3) {
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    let from = line + first[x] * 3;
    for (let k = x * most, end = k + count[x]; k < end; k += 1, from += 3) {
      const w = weight[k];
      red += source[from] * w;
      green += source[from + 1] * w;
      blue += source[from + 2] * w;
    }
    // The weights are positive and sum to one within rounding: a sum is below 2^31, over 255 by a bit at most.
    into[at] = Math.min(red >> PRECISION, 255);
    into[at + 1] = Math.min(green >> PRECISION, 255);
    into[at + 2] = Math.min(blue >> PRECISION, 255);
  }
}

function vertical(source, { first, count, weight, most }, into, length) {
  const sums = new Int32Array(length);
  for (let y = 0; y * length < into.length; y += 1) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k += 1) {
      const w = weight[y * most + k];
      const line = (first[y] + k) * length;
      for (let x = 0; x < length; x += 1) sums[x] += source[line + x] * w;
    }
    for (let x = 0; x < length; x += 1) into[y * length + x] = Math.min(sums[x] >> PRECISION, 255);
  }
}
