// The bytes of a JPEG in, its quantised coefficients out: baseline and progressive, 8 bits (ITU-T T.81).
// Browsers decode JPEGs at full size only; the server's libjpeg decodes them smaller, from the coefficients. So does
// jpeg_scaled.js, to the same bytes. What is rare returns null, and is left to the browser.

import { isSrgb } from "./headers.js";
import { acAgain, acFirst, Bits, dcAgain, dcFirst, huffman, nextMarker, sequential, ZIGZAG } from "./jpeg_blocks.js";

const [SOF0, SOF2, DHT, EOI, SOS, DQT, DRI, APP2, APP14] = [0xc0, 0xc2, 0xc4, 0xd9, 0xda, 0xdb, 0xdd, 0xe2, 0xee];

/** Return {width, height, components} with coefficients and quantisation, or null for what is left to the browser. */
export function coefficients(bytes) {
  const state = { quantisations: [], dc: [], ac: [], interval: 0, frame: null };
  for (let at = nextMarker(bytes, 2); bytes[at + 1] !== EOI; at = nextMarker(bytes, at)) {
    const marker = bytes[at + 1];
    const part = bytes.subarray(at + 4, at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]));
    at += 4 + part.length;
    if (marker === APP2 && hasOtherColours(part)) return null;
    if (marker === APP14 && part.length >= 12 && part[11] === 0) return null; // Adobe's RGB or CMYK
    if (marker === DQT) readQuantisations(part, state.quantisations);
    else if (marker === DHT) readTables(part, state);
    else if (marker === DRI) state.interval = (part[0] << 8) | part[1];
    else if (marker === SOS) {
      if (!state.frame) return null;
      at = readScan(bytes, at, part, state);
    } else if (marker >= SOF0 && marker <= 0xcf && marker !== 0xc8 && marker !== 0xcc) {
      state.frame = marker <= SOF2 ? readFrame(part, marker === SOF2) : null;
      if (!state.frame) return null;
    }
  }
  for (const component of state.frame.components) component.quantisation = state.quantisations[component.table];
  return state.frame;
}

/** Say whether a piece begins an ICC profile other than sRGB, which the browser has to convert from. */
const hasOtherColours = (part) => String.fromCharCode(...part.subarray(0, 11)) === "ICC_PROFILE" && part[12] === 1 && !isSrgb(part.subarray(14));

function readQuantisations(part, into) {
  for (let at = 0; at < part.length; ) {
    const [precision, id] = [part[at] >> 4, part[at] & 15];
    at += 1;
    into[id] = new Int32Array(64);
    for (let k = 0; k < 64; k += 1, at += precision ? 2 : 1) into[id][ZIGZAG[k]] = precision ? (part[at] << 8) | part[at + 1] : part[at];
  }
}

function readTables(part, { dc, ac }) {
  for (let at = 0; at < part.length; ) {
    const counts = part.subarray(at + 1, at + 17);
    const n = counts.reduce((a, b) => a + b, 0);
    (part[at] >> 4 ? ac : dc)[part[at] & 15] = huffman(counts, part.subarray(at + 17, at + 17 + n));
    at += 17 + n;
  }
}

function readFrame(part, isProgressive) {
  const [height, width, n] = [(part[1] << 8) | part[2], (part[3] << 8) | part[4], part[5]];
  if (part[0] !== 8 || (n !== 1 && n !== 3) || !height || !width) return null;
  const components = Array.from({ length: n }, (_, i) => {
    const [id, sampling, table] = part.subarray(6 + 3 * i, 9 + 3 * i);
    return { id, h: n === 1 ? 1 : sampling >> 4, v: n === 1 ? 1 : sampling & 15, table, last: 0 };
  });
  if (String.fromCharCode(...components.map(({ id }) => id)) === "RGB") return null;
  const [h, v] = [Math.max(...components.map((one) => one.h)), Math.max(...components.map((one) => one.v))];
  const [mcusX, mcusY] = [Math.ceil(width / (8 * h)), Math.ceil(height / (8 * v))];
  for (const one of components) {
    Object.assign(one, { across: mcusX * one.h, down: mcusY * one.v });
    one.own = [Math.ceil((width * one.h) / (8 * h)), Math.ceil((height * one.v) / (8 * v))]; // blocks of a scan by itself
    one.values = new Int16Array(one.across * one.down * 64);
  }
  return { width, height, h, v, mcusX, mcusY, components, isProgressive };
}

function readScan(bytes, at, part, { frame, dc, ac, interval }) {
  const n = part[0];
  const members = Array.from({ length: n }, (_, i) => {
    const component = frame.components.find(({ id }) => id === part[1 + 2 * i]);
    component.last = 0;
    return { component, dc: dc[part[2 + 2 * i] >> 4], ac: ac[part[2 + 2 * i] & 15] };
  });
  const [from, to, approximation] = part.subarray(1 + 2 * n);
  const scan = { from, to, high: approximation >> 4, low: approximation & 15 };
  const decode = !frame.isProgressive ? sequential : from === 0 ? (scan.high ? dcAgain : dcFirst) : scan.high ? acAgain : acFirst;
  const bits = new Bits(bytes, at);
  const [columns, rows] = n === 1 ? members[0].component.own : [frame.mcusX, frame.mcusY];
  for (let mcu = 0; mcu < columns * rows; mcu += 1) {
    if (interval && mcu && mcu % interval === 0) {
      bits.restart();
      for (const { component } of members) component.last = 0;
    }
    const [x, y] = [mcu % columns, Math.floor(mcu / columns)];
    for (const member of members) {
      const { h, v, across, values } = member.component;
      const [wide, tall] = n === 1 ? [1, 1] : [h, v];
      for (let i = 0; i < wide * tall; i += 1) {
        const block = (y * tall + Math.floor(i / wide)) * across + x * wide + (i % wide);
        decode(bits, values, block * 64, member, scan);
      }
    }
  }
  return bits.at;
}
