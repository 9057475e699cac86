// The identifier's outputs in; candidates of each level and the answer out, as `recognition/identifier.py` has them.

import { argmax } from "./finder.js";

export const LEVELS = ["make", "model", "generation", "year"];

const DEFAULT_THRESHOLD = 0.6;
const DEFAULT_SUBJECT = 0.5;
const DEFAULT_WORD = 0.5;
const UNKNOWN = "not decidable from this photo: it looks like none of the classes that were learnt";

/** Why what is no whole car is not identified. */
export const NO_CAR = "not decidable: this does not look like a photograph of one whole car";

/** Number the taxa of each level, in the order in which the classes first need them: {names, index} per level. */
export function numbered(classes) {
  return Object.fromEntries(
    LEVELS.map((level, depth) => {
      const numbers = new Map();
      const names = [];
      const index = classes.map((taxon) => {
        const path = JSON.stringify(LEVELS.slice(0, depth + 1).map((part) => taxon[part] ?? null));
        if (!numbers.has(path)) {
          numbers.set(path, names.length);
          names.push(fullName(taxon, level));
        }
        return numbers.get(path);
      });
      return [level, { names, index }];
    }),
  );
}

/** Return the full name down to a level; the year's name leaves the generation out. */
function fullName(taxon, level) {
  const parts = [taxon.make];
  if (level !== "make") parts.push(taxon.model);
  if (level === "generation" || (level === "year" && taxon.year === undefined)) parts.push(taxon.generation);
  else if (level === "year") parts.push(taxon.year);
  return parts.filter((part) => part !== undefined && part !== null).join(" ");
}

/** Turn logits into probabilities; a temperature above 1 makes them softer. */
export function softmax(logits, temperature = 1) {
  const scaled = Float64Array.from(logits, (value) => value / temperature);
  const most = scaled.reduce((a, b) => Math.max(a, b));
  const powers = scaled.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Return the logits of a learned bundle's head: weights (n x d, row by row) on the embedding, plus a bias. */
export function headLogits(embedding, { weights, bias }) {
  const width = embedding.length;
  return Float64Array.from(bias, (value, row) => {
    let sum = value;
    for (let i = 0; i < width; i += 1) sum += weights[row * width + i] * embedding[i];
    return sum;
  });
}

/** Return how much speaks for any class of a head: the logarithm of the mean power of its logits. */
export function evidenceOf(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  return most + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - most), 0) / logits.length);
}

/**
 * Say what class probabilities mean: {levels, answer, undecided}. `car` is how surely the crop shows one whole car,
 * `evidence` how much speaks for any class of a learned bundle.
 */
export function judge(probabilities, taxonomy, calibration, { car = 1, evidence = Infinity, top = 5 } = {}) {
  const sums = Object.fromEntries(LEVELS.map((level) => [level, sumTo(taxonomy[level], probabilities)]));
  const branch = walk(taxonomy, sums);
  const levels = Object.fromEntries(LEVELS.map((level) => [level, candidates(taxonomy[level].names, sums[level], branch[level], top)]));
  if (car < (calibration.subject ?? DEFAULT_SUBJECT)) return { levels, answer: null, undecided: NO_CAR };
  if (evidence < (calibration.evidence ?? -Infinity)) return { levels, answer: null, undecided: UNKNOWN };
  const answer = deepest(taxonomy, sums, branch, calibration);
  return { levels, answer, undecided: answer ? null : reason(taxonomy.make.names, sums.make, calibration) };
}

/** Return the likeliest word of an attribute from the probabilities of its words, null where it is not sure. */
export function likeliest(name, probabilities, { attributes, calibration }) {
  if (!attributes[name]) return null;
  const best = argmax(probabilities);
  const least = Math.fround(calibration[name] ?? DEFAULT_WORD); // numpy compares in the type of the probabilities
  return probabilities[best] >= least ? { name: attributes[name][best], probability: probabilities[best] } : null;
}

/** Sum class probabilities up to a level: a taxon has the sum of its children. */
export function sumTo({ names, index }, probabilities) {
  const sums = new Float64Array(names.length);
  index.forEach((place, taxon) => (sums[place] += probabilities[taxon]));
  return sums;
}

/** The one of the walked branch first, then the others by probability. */
function candidates(names, values, first, top) {
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
  return [first, ...order.filter((i) => i !== first)].slice(0, top).map((i) => ({ name: names[i], probability: values[i] }));
}

const threshold = (level, { thresholds = {}, threshold: all = DEFAULT_THRESHOLD }) => thresholds[level] ?? all;

/** Walk from the make down, at each level to the best among the children of the one chosen above. */
function walk(taxonomy, sums) {
  const branch = {};
  let inside = taxonomy.make.index.map((_, taxon) => taxon); // the classes of the branch chosen so far
  for (const level of LEVELS) {
    const { index } = taxonomy[level];
    const children = [...new Set(inside.map((taxon) => index[taxon]))].sort((a, b) => a - b);
    branch[level] = children[argmax(children.map((child) => sums[level][child]))];
    inside = inside.filter((taxon) => index[taxon] === branch[level]);
  }
  return branch;
}

/** The deepest of the branch that is sure enough is the answer. */
function deepest(taxonomy, sums, branch, calibration) {
  let answer = null;
  let said = "";
  for (const level of LEVELS) {
    const [name, probability] = [taxonomy[level].names[branch[level]], sums[level][branch[level]]];
    // A class without generation or year repeats its parent's name: that says no more, so the level stays.
    if (name !== said && probability >= threshold(level, calibration)) answer = { level, name, probability };
    said = name;
  }
  return answer;
}

function reason(names, makes, calibration) {
  const best = argmax(makes);
  // Cut, not rounded: 0.598 must not read as "0.60 is below 0.60".
  const probability = (Math.floor(makes[best] * 100) / 100).toFixed(2);
  return `not decidable from this photo: best guess ${names[best]} (${probability}) is below ${threshold("make", calibration).toFixed(2)}`;
}
