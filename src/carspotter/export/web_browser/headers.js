// The bytes of a photo's file in; format, EXIF orientation and a missing end out, as `headers` reads them in Python.

export const FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "HEIC"];

const MAGIC = [
  ["JPEG", [0xff, 0xd8, 0xff]],
  ["PNG", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["GIF", [0x47, 0x49, 0x46, 0x38, 0x37, 0x61]],
  ["GIF", [0x47, 0x49, 0x46, 0x38, 0x39, 0x61]],
  ["BMP", [0x42, 0x4d]],
];
const HEIC = ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1"];
const ORIENTATION = 0x0112; // Exif 2.32, 4.6.4
const [START_OF_SCAN, END_OF_IMAGE] = [0xda, 0xd9];
// Markers of frames that decoders read, and whether their scans bring the coefficients bit by bit.
const FRAMES = { 0xc0: false, 0xc1: false, 0xc2: true, 0xc9: false, 0xca: true };

/** A photo that cannot be read: `code` is one of the API's, the message is for people. */
export class PhotoError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

/** Return the format that the first bytes tell, whatever the file is called. */
export function sniff(bytes) {
  if (!bytes.length) throw new PhotoError("empty", "the file is empty (0 bytes)");
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 12) === "WEBP") return "WEBP";
  if (text(bytes, 4, 8) === "ftyp") return brand(bytes);
  const found = MAGIC.find(([, magic]) => magic.every((byte, i) => bytes[i] === byte));
  if (found) return found[0];
  throw unsupported(`it begins with ${JSON.stringify(text(bytes, 0, 8))}`);
}

function brand(bytes) {
  const brands = [];
  const length = Math.min(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), 256);
  for (let at = 8; at < length; at += 4) brands.push(text(bytes, at, at + 4));
  if (brands.includes("avif") || brands.includes("avis")) return "AVIF";
  if (brands.some((one) => HEIC.includes(one))) return "HEIC";
  throw unsupported(`it is a media file of brand ${JSON.stringify(brands[0] ?? "")}`);
}

const unsupported = (why) => new PhotoError("unsupported-format", `not a photo that can be read: ${why}; allowed: ${FORMATS.join(", ")}`);

/** Yield [marker, offset, length] of a JPEG's pieces, the scans' among them, until the end of the image or the bytes. */
function* jpegPieces(bytes) {
  let at = 2;
  while (at + 4 <= bytes.length) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff || marker === 0x00 || marker === 0xff) {
      at = bytes.indexOf(0xff, at + 1); // junk, filling, or compressed pixels
      if (at < 0) return;
    } else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2; // markers without content
    } else if (marker === END_OF_IMAGE) {
      yield [marker, at, 0];
      return;
    } else {
      const length = (bytes[at + 2] << 8) | bytes[at + 3];
      yield [marker, at + 4, length - 2];
      at += 2 + length;
    }
  }
  if (at + 2 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] === END_OF_IMAGE) yield [END_OF_IMAGE, at, 0];
}

/** Say whether the end of a JPEG or PNG is missing. Phones append a film, so that the end need not be the file's. */
export function lacksEnd(bytes, form) {
  if (form === "JPEG") return ![...jpegPieces(bytes)].some(([marker]) => marker === END_OF_IMAGE);
  if (form === "PNG") return ![...chunks(bytes, 8, false)].some(([name]) => name === "IEND");
  if (form === "WEBP") return bytes.length < 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
  return false;
}

/** Return [width, height] of a JPEG as its header tells them, before anything is decoded; null where it does not. */
export function jpegSize(bytes) {
  for (const [marker, at] of jpegPieces(bytes)) {
    if (marker === START_OF_SCAN) return null;
    if (marker < 0xc0 || marker > 0xcf || [0xc4, 0xc8, 0xcc].includes(marker)) continue;
    return [(bytes[at + 3] << 8) | bytes[at + 4], (bytes[at + 1] << 8) | bytes[at + 2]];
  }
  return null;
}

/** Return how often a decoder passes over a JPEG's pixels. */
export const countScans = (bytes) => [...jpegPieces(bytes)].filter(([marker]) => marker === START_OF_SCAN).length;

/** Say whether the scans of a JPEG leave out bits of a component that its frame names, as where it was cut between two. */
export function lacksScans(bytes) {
  const pieces = [...jpegPieces(bytes)];
  const frame = pieces.find(([marker]) => marker in FRAMES);
  if (!frame) return true;
  const wanted = new Set(names(bytes, frame[1] + 5, 3).flatMap((name) => Array.from({ length: 64 }, (_, i) => 64 * name + i)));
  for (const [marker, at] of pieces) {
    if (marker !== START_OF_SCAN) continue;
    const found = names(bytes, at, 2);
    const spectrum = at + 1 + 2 * found.length;
    const [first, last, bits] = FRAMES[frame[0]] ? bytes.subarray(spectrum, spectrum + 3) : [0, 63, 0];
    if (bits === undefined || bits & 15) continue; // the last bits of each coefficient are still to come
    for (const name of found) for (let i = first; i <= last; i++) wanted.delete(64 * name + i);
  }
  return wanted.size > 0;
}

/** Return the names of components in a frame or a scan: their number, then `step` bytes for each, its name first. */
const names = (bytes, at, step) => [...bytes.subarray(at + 1, at + 1 + step * (bytes[at] ?? 0))].filter((_, i) => i % step === 0);

/** Yield [name, offset, length] of the pieces of a PNG, or of a WebP, whose lengths stand the other way round. */
function* chunks(bytes, start, little) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = start; at + 8 <= bytes.length; ) {
    const length = view.getUint32(little ? at + 4 : at, little);
    const name = little ? text(bytes, at, at + 4) : text(bytes, at + 4, at + 8);
    yield [name, at + 8, length];
    at += 8 + length + (little ? length % 2 : 4);
  }
}

/** Return where the EXIF of a JPEG, PNG or WebP begins (its "II" or "MM"), or null. */
function exifStart(bytes, form) {
  if (form === "JPEG") {
    for (const [marker, at] of jpegPieces(bytes)) {
      if (marker === START_OF_SCAN) return null;
      if (marker === 0xe1 && text(bytes, at, at + 6) === "Exif\0\0") return at + 6;
    }
  }
  if (form === "PNG" || form === "WEBP") {
    const name = form === "PNG" ? "eXIf" : "EXIF";
    const found = [...chunks(bytes, form === "PNG" ? 8 : 12, form === "WEBP")].find(([known]) => known === name);
    if (found) return found[1] + (text(bytes, found[1], found[1] + 6) === "Exif\0\0" ? 6 : 0);
  }
  return null;
}

/** Return the orientation that EXIF tells (1 is upright), and the bytes with the tag set to 1.
 *
 * Browsers differ in which formats' EXIF they follow, and a scaled JPEG is scaled before it is turned: so nobody but
 * this code turns. A PNG's checksum no longer fits then, and decoders pass the piece over.
 */
export function uprightBytes(bytes, form) {
  const start = exifStart(bytes, form);
  const order = start === null ? "" : text(bytes, start, start + 2);
  if (order !== "II" && order !== "MM") return { turn: 1, bytes };
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start);
    const little = order === "II";
    const folder = view.getUint32(4, little);
    const end = folder + 2 + 12 * view.getUint16(folder, little);
    for (let at = folder + 2; at < end; at += 12) {
      if (view.getUint16(at, little) !== ORIENTATION) continue;
      const isLong = view.getUint16(at + 2, little) === 4;
      const turn = isLong ? view.getUint32(at + 8, little) : view.getUint16(at + 8, little);
      const copy = bytes.slice();
      const into = new DataView(copy.buffer, start);
      if (isLong) into.setUint32(at + 8, 1, little);
      else into.setUint16(at + 8, 1, little);
      return { turn, bytes: copy };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // an EXIF that points beyond its end
  }
  return { turn: 1, bytes };
}
