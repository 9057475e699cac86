// The identifier's outputs in; candidates of each level and the answer out, as `recognition/identifier.py` has them.

import { argmax } from "./finder.js";

export const LEVELS = ["make", "model", "generation", "year"];

const DEFAULT_THRESHOLD = 0.6;
const DEFAULT_SUBJECT = 0.5;
const DEFAULT_WORD = 0.5;
const UNKNOWN = "not one of yours: it looks like none of the classes that were learnt";

/** Why what is no whole car is not identified. */
export const NO_CAR = "not decidable: this does not look like a photograph of one whole car";

/**
 * Say what the network's outputs mean: {levels, answer, undecided}. `outline` has the names of each level and, by
 * `parents`, under which name of the level above each stands.
 */
export function judge(outputs, outline, { calibration, attributes }, top = 5) {
  const way = descend(outputs, outline);
  const levels = Object.fromEntries(LEVELS.map((level) => [level, candidates(outline.names[level], outputs[level], way[level], top)]));
  const car = attributes.subject ? outputs.subject[attributes.subject.indexOf("car")] : 1;
  if (car < (calibration.subject ?? DEFAULT_SUBJECT)) return { levels, answer: null, undecided: NO_CAR };
  const evidence = outputs.evidence?.[0] ?? Infinity; // of a learned bundle: how much speaks for any of its classes
  if (evidence < (calibration.evidence ?? -Infinity)) return { levels, answer: null, undecided: UNKNOWN };
  const answer = deepest(outputs, outline, way, calibration);
  return { levels, answer, undecided: answer ? null : reason(outline.names.make, outputs.make, calibration) };
}

/** Return the likeliest word of an attribute from the probabilities of its words, null where it is not sure. */
export function likeliest(name, probabilities, { attributes, calibration }) {
  if (!attributes[name]) return null;
  const best = argmax(probabilities);
  const least = Math.fround(calibration[name] ?? DEFAULT_WORD); // numpy compares in the type of the probabilities
  return probabilities[best] >= least ? { name: attributes[name][best], probability: probabilities[best] } : null;
}

/** The one on the way down first, then the others by probability. */
function candidates(names, values, first, top) {
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
  return [first, ...order.filter((i) => i !== first)].slice(0, top).map((i) => ({ name: names[i], probability: values[i] }));
}

const threshold = (level, { thresholds = {}, threshold: all = DEFAULT_THRESHOLD }) => thresholds[level] ?? all;

/** Walk from the likeliest make down, at each level to the likeliest child of the one above. */
function descend(outputs, { parents }) {
  const way = {};
  LEVELS.forEach((level, depth) => {
    const above = way[LEVELS[depth - 1]];
    way[level] = argmax(Array.from(outputs[level], (value, place) => (depth === 0 || parents[level][place] === above ? value : -1)));
  });
  return way;
}

/** The deepest on the way that is sure enough is the answer. */
function deepest(outputs, { names }, way, calibration) {
  let answer = null;
  let said = "";
  for (const level of LEVELS) {
    const [name, probability] = [names[level][way[level]], outputs[level][way[level]]];
    // A class without generation or year repeats its parent's name: that says no more, so the level stays.
    if (name !== said && probability >= threshold(level, calibration)) answer = { level, name, probability };
    said = name;
  }
  return answer;
}

function reason(names, makes, calibration) {
  const best = argmax(makes);
  const least = threshold("make", calibration).toFixed(2);
  let told = makes[best].toFixed(2);
  if (told === least) told = (Math.floor(makes[best] * 100) / 100).toFixed(2); // 0.598 must not read as "0.60 is below 0.60"
  return `not decidable from this photo: best guess ${names[best]} (${told}) is below ${least}`;
}
