// The file of a photo in, upright sRGB pixels out, as `pixels.decode` in Python. The browser decodes at full size and
// converts colours. It does not turn: Chromium leaves a WebP as its EXIF finds it. A large JPEG is averaged to the size
// that the server decodes it at.

import { PhotoError, countScans, jpegSize, lacksEnd, lacksScans, sniff, uprightBytes } from "./headers.js";

const MAX_PIXELS = 50_400_000;
const MAX_SIDE = 65_535;
const MAX_SCANNED_PIXELS = 20 * MAX_PIXELS; // a progressive JPEG may pass over its pixels hundreds of times
const STRIP = 512; // rows read from a canvas at once, a multiple of 8: small canvases work on every phone
const FILLING = 4096; // bytes of nothing that stand in for blocks of a JPEG, to see whether any are missing
// Colours become sRGB, as Python's do. What AVIF says of turning is followed by default; other formats say 1 by then.
const OPTIONS = { premultiplyAlpha: "none", colorSpaceConversion: "default" };

/** Decode a Blob: {pixels, width, height, scale}. A JPEG is scaled to 1/2, 1/4 or 1/8 while `minSide` pixels stay. */
export async function decode(blob, minSide) {
  const given = new Uint8Array(await blob.arrayBuffer());
  const form = sniff(given);
  const { turn, bytes } = uprightBytes(given, form);
  if (form === "JPEG") checkJpeg(bytes);
  const read = await (lacksEnd(bytes, form) ? withEnd : byBrowser)(bytes, form, minSide);
  const pixels = turned(read.pixels, turn);
  const [width, height] = turn >= 5 && turn <= 8 ? [read.height, read.width] : [read.width, read.height];
  return { pixels, width, height, scale: pixels.width / width };
}

/** Refuse a JPEG by its header, before the browser makes pixels of it. */
function checkJpeg(bytes) {
  const [width, height] = jpegSize(bytes) ?? [0, 0];
  check({ width, height });
  const scans = countScans(bytes);
  if (scans * width * height > MAX_SCANNED_PIXELS) {
    throw new PhotoError("too-large", `JPEG with ${scans} scans of ${width * height} pixels: a bomb, or damaged`);
  }
}

/** Decode a photo with the end that it lacks, where nothing else is missing: then what follows changes no pixel. */
async function withEnd(bytes, form, minSide) {
  const truncated = new PhotoError("truncated", `${form} photo is truncated (${bytes.length} bytes)`);
  if (form === "JPEG" && lacksScans(bytes)) throw truncated;
  const read = [];
  for (const whole of ended(bytes, form)) {
    read.push(await byBrowser(whole, form, minSide).catch((error) => { throw error.code === "broken" ? truncated : error; }));
  }
  const [first, ...others] = read.map(({ pixels }) => pixels.data);
  if (!first || others.some((data) => data.some((value, i) => value !== first[i]))) throw truncated;
  return read[0];
}

/** Return the file with what may stand at its missing end: several for a JPEG, whose last blocks are read from it. */
function ended(bytes, form) {
  if (form === "PNG") return [joined(bytes, [0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82])]; // IEND
  if (form !== "JPEG") return [];
  const start = bytes.at(-1) === 0xff ? bytes.subarray(0, -1) : bytes;
  return [[], new Uint8Array(FILLING), new Uint8Array(FILLING).fill(0xaa)].map((filling) => joined(start, filling, [0xff, 0xd9]));
}

function joined(...parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (result.set(part, at), at + part.length), 0);
  return result;
}

async function byBrowser(bytes, form, minSide) {
  const bitmap = await open(bytes, form);
  try {
    const { width, height } = bitmap;
    check({ width, height });
    return { pixels: read(bitmap, form === "JPEG" ? draft({ width, height }, minSide) : 1), width, height };
  } finally {
    bitmap.close();
  }
}

async function open(bytes, form) {
  const type = `image/${form.toLowerCase()}`;
  try {
    return await createImageBitmap(new Blob([bytes], { type }), OPTIONS);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    if (form === "HEIC") throw new PhotoError("unsupported-format", "this browser cannot read HEIC; save the photo as JPEG, or take a browser that can (Safari)");
    throw new PhotoError("broken", `${form} photo is broken, or too large for this browser (${bytes.length} bytes)`);
  }
}

function check({ width, height }) {
  if (width * height > MAX_PIXELS) throw new PhotoError("too-large", `photo of ${width}x${height} is over the limit of ${MAX_PIXELS / 1e6} million pixels`);
  if (Math.max(width, height) > MAX_SIDE) throw new PhotoError("too-large", `photo of ${width}x${height} is over the limit of ${MAX_SIDE} pixels a side`);
}

/** Return by how much Python's JPEG decoder would scale down: libjpeg knows these three. */
const draft = ({ width, height }, minSide) => [8, 4, 2].find((step) => Math.floor(Math.min(width, height) / minSide) >= step) ?? 1;

/** Read a bitmap as RGB on white, every `step` x `step` pixels averaged. */
function read(bitmap, step) {
  const [width, height] = [Math.ceil(bitmap.width / step), Math.ceil(bitmap.height / step)];
  const pixels = { width, height, data: new Uint8Array(width * height * 3) };
  const canvas = new OffscreenCanvas(bitmap.width, Math.min(STRIP, bitmap.height));
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = "white"; // cut-outs in shops lie on white
  for (let top = 0; top < bitmap.height; top += STRIP) {
    const rows = Math.min(STRIP, bitmap.height - top);
    context.fillRect(0, 0, canvas.width, rows);
    context.drawImage(bitmap, 0, top, bitmap.width, rows, 0, 0, bitmap.width, rows);
    average(context.getImageData(0, 0, bitmap.width, rows), step, pixels, top / step);
  }
  return pixels;
}

/** Average blocks of RGBA into rows of RGB from `top` on.
 *
 * This is nearly what the server's scaled decoding is (libjpeg's jidctred.c): within about 1 of 255.
 */
export function average({ width, height, data }, step, into, top) {
  const bits = 2 * Math.log2(step); // behind the point of a sum
  const mean = (sum) => (bits === 0 ? sum : (sum + (1 << (bits - 1)) - 1 + ((sum >> bits) & 1)) >> bits); // halves to even
  for (let y = 0; y * step < height; y += 1) {
    let at = (top + y) * into.width * 3;
    for (let x = 0; x * step < width; x += 1, at += 3) {
      let [red, green, blue] = [0, 0, 0];
      for (let j = 0; j < step; j += 1) {
        const row = Math.min(y * step + j, height - 1) * width; // a block over the edge repeats it, as encoders do
        for (let i = 0; i < step; i += 1) {
          const from = (row + Math.min(x * step + i, width - 1)) * 4;
          red += data[from];
          green += data[from + 1];
          blue += data[from + 2];
        }
      }
      into.data[at] = mean(red);
      into.data[at + 1] = mean(green);
      into.data[at + 2] = mean(blue);
    }
  }
}

/** Bring pixels upright by the EXIF orientation (1 to 8); another value leaves them. */
export function turned(pixels, turn) {
  if (!(turn >= 2 && turn <= 8)) return pixels;
  const { width: w, height: h, data } = pixels;
  const isTransposed = turn >= 5;
  const [width, height] = isTransposed ? [h, w] : [w, h];
  const result = new Uint8Array(data.length);
  const flipX = [2, 3, 7, 8].includes(turn); // which way the stored columns and rows run
  const flipY = [3, 4, 6, 7].includes(turn);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 3) {
      const [column, row] = isTransposed ? [y, x] : [x, y];
      const from = ((flipY ? h - 1 - row : row) * w + (flipX ? w - 1 - column : column)) * 3;
      result[at] = data[from];
      result[at + 1] = data[from + 1];
      result[at + 2] = data[from + 2];
    }
  }
  return { width, height, data: result };
}
