// The finder's outputs in; kind and vehicles of a photo out, as `recognition/finder.py` and `recognition/locate.py` have them.

import { area, clip, scale } from "./boxes.js";
import { toPhotoBox } from "./resize.js";

export const KINDS = ["exterior", "interior", "detail", "other"];
export const VIEWPOINTS = ["front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"];

const DEFAULT_SCORE = 0.4;
const DEFAULT_GATE = 0.7;
const MOST_DETECTIONS = 20;
const LEAST_SIDE = 1;

/** Return the place of the largest value, the first one of equals. */
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i += 1) if (values[i] > values[best]) best = i;
  return best;
}

/** Say what the finder saw: kind probabilities, and detections best first with boxes in pixels of the array given. */
export function finding(outputs, [width, height], { preprocessing, calibration }) {
  const kinds = Array.from(outputs.kind);
  const best = argmax(kinds);
  const sides = VIEWPOINTS.length;
  const detections = [];
  const least = Math.fround(calibration.score ?? DEFAULT_SCORE); // numpy compares in the type of the scores
  outputs.scores.forEach((score, place) => {
    // A place without a vehicle has the score 0, whatever the least score is.
    const relative = outputs.boxes.subarray(4 * place, 4 * place + 4);
    const [x1, y1, x2, y2] = relative;
    if (!(score >= least && score > 0 && relative.every(Number.isFinite) && x2 > x1 && y2 > y1)) return;
    const box = photoBox(relative, [width, height], preprocessing);
    if (!box) return;
    const viewpoints = outputs.viewpoints.subarray(sides * place, sides * (place + 1));
    const side = argmax(viewpoints);
    detections.push({ box, score, viewpoint: { name: VIEWPOINTS[side], probability: viewpoints[side] } });
  });
  return { kind: { name: KINDS[best], probability: kinds[best] }, kinds, detections: detections.slice(0, MOST_DETECTIONS) };
}

function photoBox(relative, size, preprocessing) {
  const inside = scale(relative, preprocessing.width, preprocessing.height);
  const box = clip(toPhotoBox(inside, size, preprocessing), ...size);
  return Math.min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE ? box : null;
}

/** Tell whether a photo shows a vehicle's outside surely enough. */
export const gate = (kinds, { gate: least = DEFAULT_GATE }) => kinds[0] >= least;
export const gateOf = ({ gate: least = DEFAULT_GATE }) => least;

/** Return all detections, largest first; equal ones by score. */
export const largestFirst = (detections) => [...detections].sort((a, b) => area(b.box) - area(a.box) || b.score - a.score);
