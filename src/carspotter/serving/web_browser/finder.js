// The finder's outputs in; kind and vehicles of a photo out, as `vehicles/finder.py` and `vehicles/locate.py` have them.

import { area, clip, scale, suppress } from "./boxes.js";
import { toPhotoBox } from "./resize.js";

export const KINDS = ["exterior", "interior", "detail", "other"];
export const VIEWPOINTS = ["front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"];

const DEFAULT_SCORE = 0.4;
const DEFAULT_IOU = 0.5;
const DEFAULT_GATE = 0.7;
const MOST_DETECTIONS = 20;
const MOST_CANDIDATES = 200;
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
  const detections = choose(outputs.boxes, outputs.scores, calibration).flatMap((index) => {
    const box = photoBox(outputs.boxes.subarray(4 * index, 4 * index + 4), [width, height], preprocessing);
    if (!box) return [];
    const viewpoints = outputs.viewpoints.subarray(sides * index, sides * (index + 1));
    const side = argmax(viewpoints);
    return [{ box, score: outputs.scores[index], viewpoint: { name: VIEWPOINTS[side], probability: viewpoints[side] } }];
  });
  return { kind: { name: KINDS[best], probability: kinds[best] }, kinds, detections: detections.slice(0, MOST_DETECTIONS) };
}

/** Return the places of the vehicles among boxes (a x 4, relative) with scores (a), best first. */
export function choose(boxes, scores, { score = DEFAULT_SCORE, iou = DEFAULT_IOU } = {}) {
  const least = Math.fround(score); // numpy compares in the type of the scores
  const candidates = [];
  for (let i = 0; i < scores.length; i += 1) {
    const [x1, y1, x2, y2] = boxes.subarray(4 * i, 4 * i + 4);
    if (scores[i] >= least && [x1, y1, x2, y2].every(Number.isFinite) && x2 > x1 && y2 > y1) candidates.push(i);
  }
  candidates.sort((a, b) => scores[b] - scores[a] || a - b);
  const best = candidates.slice(0, MOST_CANDIDATES);
  return suppress(best.map((i) => Array.from(boxes.subarray(4 * i, 4 * i + 4))), iou).map((place) => best[place]);
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
