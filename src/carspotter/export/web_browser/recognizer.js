// Decoded pixels in, a prediction out, as `recognition/recognizer.py` makes it with all vehicles selected.
// `find` and `identify` run the networks (networks.js): RGB bytes in, outputs by name out.

import { clip, scale } from "./boxes.js";
import { finding, gate, gateOf, largestFirst } from "./finder.js";
import { judge, LEVELS, likeliest, NO_CAR } from "./identifier.js";
import { networkInput, roundHalfEven } from "./resize.js";

const CERTAIN_BOX = 0.8;
const MAX_ENLARGEMENT = 224 / 48;
const CROP_SHARE = 0.5;
const LEAST_SIDE = 448;
const LONGEST = 8;

// Digits that are told, as of the API's numbers.
const BOX_DIGITS = 2;
const PROBABILITY_DIGITS = 4;
const TIME_DIGITS = 2;

const NO_VEHICLE = {
  interior: "an interior: no whole vehicle to identify",
  detail: "a detail: no whole vehicle to identify",
  exterior: "no vehicle found",
  other: "no vehicle found",
};

/** Say how many pixels the shorter side of a photo needs to serve both networks. */
export function leastSide(finder, identifier) {
  const crop = Math.max(identifier.width, identifier.height) / CROP_SHARE;
  return roundHalfEven(Math.max(crop, LEAST_SIDE, Math.min(finder.width, finder.height)));
}

/** Shrink a photo by the whole number that its shorter side allows, and a strip until its longer side is bounded. */
export function shrunk(photo, side) {
  const { width, height } = photo.pixels;
  const factor = Math.max(Math.floor(Math.min(height, width) / side), Math.ceil(Math.max(height, width) / (LONGEST * side)));
  if (factor < 2) return photo;
  const small = { width: Math.ceil(width / factor), height: Math.ceil(height / factor), fit: "squash" };
  return { ...photo, pixels: networkInput(photo.pixels, small), scale: small.width / photo.width };
}

/** Recognize one decoded photo: {pixels, width, height, scale}. */
export async function recognize(photo, { finder, identifier }) {
  const { pixels } = photo;
  const start = performance.now();
  const outputs = await finder.run(networkInput(pixels, finder.bundle.preprocessing));
  const found = finding(outputs, [pixels.width, pixels.height], finder.bundle);
  const between = performance.now();
  const vehicles = [];
  for (const candidate of candidates(found, photo, { finder, identifier })) {
    const said = candidate.refusal === null ? await identify(pixels, candidate.box, identifier) : null;
    vehicles.push(vehicle(photo, candidate, said));
  }
  return {
    width: photo.width,
    height: photo.height,
    kind: told(found.kind),
    vehicles,
    undecided: vehicles.length ? null : NO_VEHICLE[found.kind.name],
    bundles: { finder: finder.bundle.name, identifier: identifier.bundle.name },
    milliseconds: { find: rounded(between - start, TIME_DIGITS), identify: rounded(performance.now() - between, TIME_DIGITS) },
  };
}

/** Decide which vehicles are listed and which of them are identified: `refusal` says why one is not. */
function candidates(found, photo, { finder, identifier }) {
  const passes = gate(found.kinds, finder.bundle.calibration);
  if (!passes && !["exterior", "detail"].includes(found.kind.name)) return [];
  const { width, height } = photo.pixels;
  const inside = found.detections.map((detection) => ({ ...detection, box: clip(detection.box, width, height) }));
  return largestFirst(inside).map((detection) => ({
    ...detection,
    refusal: gateRefusal(detection, found, passes, finder.bundle.calibration) ?? sizeRefusal(detection, photo, identifier.bundle.preprocessing),
  }));
}

function gateRefusal(detection, found, passes, calibration) {
  if (passes || detection.score >= (calibration.certain_box ?? CERTAIN_BOX)) return null;
  if (found.kind.name === "detail") return NO_VEHICLE.detail;
  return `not surely a photo of a vehicle's outside: ${found.kinds[0].toFixed(2)} is below ${gateOf(calibration).toFixed(2)}`;
}

function sizeRefusal({ box: [x1, y1, x2, y2] }, photo, preprocessing) {
  const side = Math.min(x2 - x1, y2 - y1);
  const least = Math.min(preprocessing.width, preprocessing.height) / MAX_ENLARGEMENT;
  if (side >= least) return null;
  // People count in the photo they gave, not in the one we decoded smaller.
  const [given, needed] = [side / photo.scale, least / photo.scale].map(roundHalfEven);
  return `too small to identify: its shorter side has ${given} px of this photo, ${needed} are needed`;
}

async function identify(pixels, box, identifier) {
  const outputs = await identifier.run(networkInput(pixels, identifier.bundle.preprocessing, box));
  const said = judge(outputs, identifier.outline, identifier.bundle);
  // Whatever it is, a car's name, colour or body would be a wrong one.
  if (said.undecided === NO_CAR) return { undecided: NO_CAR, levels: {} };
  const [colour, body] = ["colour", "body"].map((name) => likeliest(name, outputs[name], identifier.bundle));
  return { ...said, colour, body };
}

function vehicle(photo, { box, score, viewpoint, refusal }, said) {
  // Both axes by themselves: the JPEG decoder rounds a scaled height and width up, each for itself.
  const { width, height } = photo.pixels;
  const whole = clip(scale(box, photo.width / width, photo.height / height), photo.width, photo.height);
  return {
    box: whole.map((value) => rounded(value, BOX_DIGITS)),
    score: rounded(score, PROBABILITY_DIGITS),
    viewpoint: told(viewpoint),
    colour: said?.colour ? told(said.colour) : null,
    body: said?.body ? told(said.body) : null,
    answer: said?.answer ? told(said.answer) : null,
    levels: Object.fromEntries(LEVELS.map((level) => [level, (said?.levels[level] ?? []).map(told)])),
    undecided: said ? said.undecided : refusal,
  };
}

export const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

const told = (one) => ({ ...one, probability: rounded(one.probability, PROBABILITY_DIGITS) });
