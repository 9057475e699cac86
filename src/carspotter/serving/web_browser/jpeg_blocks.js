// The bits of a JPEG's scan in, the coefficients of one block out, each way that T.81 knows (F.2 and G.2).

export const ZIGZAG = Uint8Array.of(
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
);

/** Read the bits of a scan, most significant first; behind its end there are zeros. */
export class Bits {
  constructor(bytes, at) {
    Object.assign(this, { bytes, at, held: 0, count: 0, eobRun: 0 });
  }

  fill() {
    while (this.count <= 24) {
      let byte = this.bytes[this.at] ?? 0;
      if (byte === 0xff && this.bytes[this.at + 1] !== 0) byte = 0; // a marker: it stays where it is
      else this.at += byte === 0xff ? 2 : 1;
      this.held = (this.held << 8) | byte;
      this.count += 8;
    }
  }

  take(n) {
    if (n === 0) return 0;
    if (this.count < n) this.fill();
    this.count -= n;
    return (this.held >> this.count) & ((1 << n) - 1);
  }

  /** Return a number of n bits, of which those that begin with 0 are negative. */
  number(n) {
    const value = this.take(n);
    return n === 0 || value >= 1 << (n - 1) ? value : value - (1 << n) + 1;
  }

  symbol({ fast, most, offset, symbols }) {
    if (this.count < 16) this.fill();
    const entry = fast[(this.held >> (this.count - 8)) & 0xff];
    if (entry) {
      this.count -= entry >> 8;
      return entry & 0xff;
    }
    for (let n = 9; n <= 16; n += 1) {
      const code = (this.held >> (this.count - n)) & ((1 << n) - 1);
      if (code <= most[n]) {
        this.count -= n;
        return symbols[offset[n] + code];
      }
    }
    throw new RangeError("a code that the JPEG's tables lack");
  }

  /** Begin anew behind a restart marker. */
  restart() {
    this.at = nextMarker(this.bytes, this.at) + 2;
    this.held = this.count = this.eobRun = 0;
  }
}

/** Make the look-up of a Huffman table: by the next 8 bits, and by the largest code of each length. */
export function huffman(counts, symbols) {
  const table = { fast: new Uint16Array(256), most: new Int32Array(17).fill(-1), offset: new Int32Array(17), symbols };
  for (let n = 1, code = 0, k = 0; n <= 16; n += 1, code <<= 1) {
    table.offset[n] = k - code;
    for (let i = 0; i < counts[n - 1]; i += 1, code += 1, k += 1) {
      if (n <= 8) table.fast.fill((n << 8) | symbols[k], code << (8 - n), (code + 1) << (8 - n));
    }
    if (counts[n - 1]) table.most[n] = code - 1;
  }
  return table;
}

/** Return where the next marker stands. */
export function nextMarker(bytes, at) {
  for (let i = bytes.indexOf(0xff, at); i >= 0; i = bytes.indexOf(0xff, i + 1)) {
    if (bytes[i + 1] !== 0 && bytes[i + 1] !== 0xff && i + 1 < bytes.length) return i;
  }
  throw new RangeError("the JPEG has no end");
}

// ---- one block, its coefficients from `at` on

export function sequential(bits, values, at, { component, dc, ac }) {
  values[at] = component.last += bits.number(bits.symbol(dc));
  for (let k = 1; k < 64; k += 1) {
    const symbol = bits.symbol(ac);
    if ((symbol & 15) === 0) {
      if (symbol !== 0xf0) return;
      k += 15;
    } else {
      k += symbol >> 4;
      values[at + ZIGZAG[k & 63]] = bits.number(symbol & 15);
    }
  }
}

export function dcFirst(bits, values, at, { component, dc }, { low }) {
  values[at] = (component.last += bits.number(bits.symbol(dc))) << low;
}

export function dcAgain(bits, values, at, member, { low }) {
  if (bits.take(1)) values[at] |= 1 << low;
}

export function acFirst(bits, values, at, { ac }, { from, to, low }) {
  if (bits.eobRun > 0) {
    bits.eobRun -= 1;
    return;
  }
  for (let k = from; k <= to; k += 1) {
    const symbol = bits.symbol(ac);
    const run = symbol >> 4;
    if (symbol & 15) {
      k += run;
      values[at + ZIGZAG[k & 63]] = bits.number(symbol & 15) * (1 << low);
    } else if (run === 15) {
      k += 15;
    } else {
      bits.eobRun = (1 << run) - 1 + bits.take(run);
      return;
    }
  }
}

/** Add a bit to each coefficient that is known, and place the new ones among those that are still zero. */
export function acAgain(bits, values, at, { ac }, { from, to, low }) {
  const bit = 1 << low;
  const refine = (place) => {
    if (bits.take(1) && !(values[place] & bit)) values[place] += values[place] > 0 ? bit : -bit;
  };
  let k = from;
  while (bits.eobRun === 0 && k <= to) {
    const symbol = bits.symbol(ac);
    let run = symbol >> 4;
    let fresh = 0;
    if (symbol & 15) fresh = bits.take(1) ? bit : -bit;
    else if (run < 15) {
      bits.eobRun = (1 << run) + bits.take(run);
      break;
    }
    for (; k <= to; k += 1) {
      const place = at + ZIGZAG[k];
      if (values[place]) refine(place);
      else if (run === 0) {
        if (fresh) values[place] = fresh;
        k += 1;
        break;
      } else run -= 1;
    }
  }
  if (bits.eobRun === 0) return;
  for (; k <= to; k += 1) if (values[at + ZIGZAG[k]]) refine(at + ZIGZAG[k]);
  bits.eobRun -= 1;
}
