// A JPEG's coefficients in, RGB pixels at 1/2, 1/4 or 1/8 out, in the integer arithmetic of libjpeg (jidctred.c,
// jidctint.c, jdsample.c, jdcolor.c), so that a network sees the bytes that it sees on a server.

const BITS = 13; // behind the point of a constant, CONST_BITS
const fix = (value) => Math.round(value * (1 << BITS));

const EVEN4 = [fix(1.847759065), -fix(0.765366865)];
const OUTER4 = [fix(1.061594337), -fix(2.172734803), fix(1.451774981), -fix(0.211164243)]; // of the odd rows 1, 3, 5, 7
const INNER4 = [fix(2.562915447), fix(0.899976223), -fix(0.601344887), -fix(0.509795579)];
const ODD2 = [fix(3.624509785), -fix(1.27275858), fix(0.850430095), -fix(0.720959822)];

const round = (value, bits) => (value + (1 << (bits - 1))) >> bits;
const odd = (s, at, step, [a, b, c, d]) => s[at + step] * a + s[at + 3 * step] * b + s[at + 5 * step] * c + s[at + 7 * step] * d;

/** Transform 8 values, `step` apart, to 4: each is the mean of two of the 8 that a full transform gives. */
function line4(s, at, step, out, to, stride, bits) {
  const zero = s[at] * (1 << (BITS + 1));
  const two = s[at + 2 * step] * EVEN4[0] + s[at + 6 * step] * EVEN4[1];
  const outer = odd(s, at, step, INNER4);
  const inner = odd(s, at, step, OUTER4);
  out[to] = round(zero + two + outer, bits + 1);
  out[to + 3 * stride] = round(zero + two - outer, bits + 1);
  out[to + stride] = round(zero - two + inner, bits + 1);
  out[to + 2 * stride] = round(zero - two - inner, bits + 1);
}

/** Transform 8 values to 2. */
function line2(s, at, step, out, to, stride, bits) {
  const zero = s[at] * (1 << (BITS + 2));
  const rest = odd(s, at, step, ODD2);
  out[to] = round(zero + rest, bits + 2);
  out[to + stride] = round(zero - rest, bits + 2);
}

/** Transform 8 values to 8 (Loeffler, Ligtenberg and Moschytz). */
function line8(s, at, step, out, to, stride, bits) {
  const z = (s[at + 2 * step] + s[at + 6 * step]) * fix(0.5411961);
  const two = z - s[at + 6 * step] * fix(1.847759065);
  const three = z + s[at + 2 * step] * fix(0.765366865);
  const sum = (s[at] + s[at + 4 * step]) * (1 << BITS);
  const difference = (s[at] - s[at + 4 * step]) * (1 << BITS);
  const even = [sum + three, difference + two, difference - two, sum - three];
  const [a, b, c, d] = [s[at + 7 * step], s[at + 5 * step], s[at + 3 * step], s[at + step]];
  const all = (a + c + b + d) * fix(1.175875602);
  const [ad, bc] = [(a + d) * -fix(0.899976223), (b + c) * -fix(2.562915447)];
  const [ac, bd] = [(a + c) * -fix(1.96157056) + all, (b + d) * -fix(0.390180644) + all];
  const odds = [d * fix(1.50132111) + ad + bd, c * fix(3.072711026) + bc + ac, b * fix(2.053119869) + bc + bd, a * fix(0.298631336) + ad + ac];
  for (let i = 0; i < 4; i += 1) {
    out[to + i * stride] = round(even[i] + odds[i], bits);
    out[to + (7 - i) * stride] = round(even[i] - odds[i], bits);
  }
}

const LINES = { 2: line2, 4: line4, 8: line8 };

/** Decode a component, its blocks as `size` x `size` samples: {width, height, data}. */
function plane({ across, down, values, quantisation }, size) {
  const width = across * size;
  const data = new Uint8ClampedArray(width * down * size);
  const [block, middle, result] = [new Int32Array(64), new Int32Array(64), new Int32Array(64)];
  for (let y = 0, at = 0; y < down; y += 1) {
    for (let x = 0; x < across; x += 1, at += 64) {
      const to = y * size * width + x * size;
      if (size === 1) {
        data[to] = round(values[at] * quantisation[0], 3) + 128;
        continue;
      }
      for (let k = 0; k < 64; k += 1) block[k] = values[at + k] * quantisation[k];
      for (let k = 0; k < 8; k += 1) LINES[size](block, k, 8, middle, k, 8, BITS - 2);
      for (let k = 0; k < size; k += 1) LINES[size](middle, 8 * k, 1, result, 8 * k, 1, BITS + 5);
      for (let k = 0; k < size * size; k += 1) data[to + Math.floor(k / size) * width + (k % size)] = result[Math.floor(k / size) * 8 + (k % size)] + 128;
    }
  }
  return { width, data };
}

/** Say at what size libjpeg decodes a component's blocks, so that as little as possible is left to enlarge. */
function blockSize({ h, v }, frame, least) {
  let size = least;
  while (size < 8 && (frame.h * least) % (h * size * 2) === 0 && (frame.v * least) % (v * size * 2) === 0) size *= 2;
  return size;
}

/** Double the columns of a plane of which `columns` count, weighting neighbours 3 to 1 ("fancy"), or plainly. */
function doubled({ width, data }, columns, isFancy) {
  const result = new Uint8ClampedArray(data.length * 2);
  for (let line = 0; line < data.length; line += width) {
    for (let x = 0; x < columns; x += 1) {
      const value = data[line + x];
      const before = x > 0 ? data[line + x - 1] : value;
      const after = x < columns - 1 ? data[line + x + 1] : value;
      result[2 * (line + x)] = isFancy ? (3 * value + before + 1) >> 2 : value;
      result[2 * (line + x) + 1] = isFancy ? (3 * value + after + 2) >> 2 : value;
    }
  }
  return { width: 2 * width, data: result };
}

/** Return pixels at 1/`step` of the size, or null where the colours are stored in a way that is rare. */
export function scaled(frame, step) {
  const least = 8 / step;
  const [width, height] = [Math.ceil(frame.width / step), Math.ceil(frame.height / step)];
  const planes = [];
  for (const component of frame.components) {
    const size = blockSize(component, frame, least);
    const enlarge = [(frame.h * least) / (component.h * size), (frame.v * least) / (component.v * size)];
    if (enlarge[1] !== 1 || (enlarge[0] !== 1 && enlarge[0] !== 2)) return null;
    const columns = Math.ceil((frame.width * component.h * size) / (frame.h * 8));
    const decoded = plane(component, size);
    planes.push(enlarge[0] === 2 ? doubled(decoded, columns, least > 1 && columns > 2) : decoded);
  }
  return { width, height, data: planes.length === 1 ? grey(planes[0], width, height) : colours(planes, width, height) };
}

function grey(one, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, at = 0; y < height; y += 1) for (let x = 0; x < width; x += 1, at += 3) data.fill(one.data[y * one.width + x], at, at + 3);
  return data;
}

const fix16 = (value) => Math.round(value * 65536);
const HALF16 = 1 << 15;

function colours([luma, blue, red], width, height) {
  const data = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 3) {
      const light = luma.data[y * luma.width + x];
      const cb = blue.data[y * blue.width + x] - 128;
      const cr = red.data[y * red.width + x] - 128;
      data[at] = light + ((fix16(1.402) * cr + HALF16) >> 16);
      data[at + 1] = light + ((-fix16(0.34414) * cb + HALF16 - fix16(0.71414) * cr) >> 16);
      data[at + 2] = light + ((fix16(1.772) * cb + HALF16) >> 16);
    }
  }
  return new Uint8Array(data.buffer);
}
