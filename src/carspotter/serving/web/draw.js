// How every page draws: elements, words for people, messages, and the answer of a photo. It asks nobody anything.
// Everything a service or a file name says is set as text, never as HTML. It knows no page's layout.

export const VIEWPOINTS = ["front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"];
export const LEVELS = ["make", "model", "generation", "year"];
/** What the answer to a drawn example means. */
export const DRAWN = "Drawn, not photographed: that no name is given is right, and a name would say nothing about accuracy.";

const MOST_BARS = 5; // the JSON has all of them
const SVG = "http://www.w3.org/2000/svg";

// ---- elements

/** Make an element; attributes that are false, null or undefined are left out, children may be text. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const find = (selector) => document.querySelector(selector);

// ---- words

/** Write a probability for people, unbroken: two digits tell all that a calibration knows. */
export function percent(probability) {
  if (probability > 0 && probability < 0.01) return "<\u00a01\u00a0%";
  if (probability > 0.99 && probability < 1) return ">\u00a099\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

export function bytes(n) {
  return n < 1e6 ? `${Math.max(1, Math.round(n / 1e3))} kB` : `${(n / 1e6).toFixed(1)} MB`;
}

/** Join words as a person would: "a, b and c". */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** Make a button that copies the text of an element. */
export function copies(button, source) {
  const words = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // without HTTPS there is no clipboard: Ctrl+C does the rest
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = words), 1600);
  });
}

// ---- messages

/** Show a message; an error is spoken at once by a screen reader, all else when it is its turn. */
export function show(place, look, ...children) {
  const role = look === "error" ? "alert" : "status";
  place.replaceChildren(make("div", { class: `message ${look}`, role }, ...children));
}

export function showProblem(place, problem, title = "That did not work.") {
  const id = problem.requestId ? make("small", { class: "soft" }, `Request ${problem.requestId}`) : null;
  show(place, "error", make("p", {}, make("strong", {}, `${title} `), problem.message), id);
}

// ---- answers

/** Draw a sign of 48 x 48 in lines. */
export function glyph(path) {
  return draw("svg", { viewBox: "0 0 48 48", class: "glyph", "aria-hidden": "true" }, draw("path", { d: path }));
}

/** Draw candidates as bars, best first. */
export function bars(candidates) {
  return make(
    "ol",
    { class: "bars" },
    ...candidates.slice(0, MOST_BARS).map(({ name, probability }) => {
      const bar = make("i");
      bar.style.width = `${(100 * probability).toFixed(1)}%`; // a style attribute would break the page's own policy
      return make("li", {}, make("span", {}, name), make("em", {}, percent(probability)), make("div", { class: "track" }, bar));
    }),
  );
}

/** Cut off what the level above says already: "Audi TTS Coupe 2012" is "2012" below its model. */
function shorter(name, level, levels) {
  const above = level === "model" ? levels.make : levels.model;
  if (level === "make" || !above) return name;
  const said = above.filter((candidate) => name.startsWith(`${candidate.name} `)).sort((a, b) => b.name.length - a.name.length);
  if (said.length) return name.slice(said[0].name.length + 1);
  return above.some((candidate) => candidate.name === name) ? "–" : name; // a class without a generation of its own
}

/** Draw the levels as a row to choose from, and the candidates of the chosen one; the answer stands above, with its probability. */
export function levelPicker(levels, answer, id) {
  const known = LEVELS.filter((level) => levels[level]?.length);
  if (!known.length) return null;
  const start = known.includes(answer?.level) ? answer.level : known[0];
  const others = (level) => {
    const rest = levels[level].filter(({ name }) => level !== answer?.level || name !== answer.name);
    return rest.length ? [make("p", { class: "soft fine rest" }, rest.length < levels[level].length ? "Less likely" : `Candidates for the ${level}`), bars(rest)] : [];
  };
  const below = make("div", { "aria-live": "polite" }, ...others(start));
  const tiles = known.map((level) => {
    const best = levels[level][0];
    const input = make("input", { type: "radio", name: id, id: `${id}-${level}`, value: level, checked: level === start });
    input.addEventListener("change", () => below.replaceChildren(...others(level)));
    const sure = answer && LEVELS.indexOf(level) <= LEVELS.indexOf(answer.level);
    return make(
      "div",
      { class: sure ? "tile sure" : "tile" },
      input,
      make("label", { for: input.id }, make("small", {}, level), make("b", {}, shorter(best.name, level, levels))),
    );
  });
  return make("fieldset", { class: "levels" }, make("legend", { class: "aside" }, "Candidates of each level"), make("div", { class: "tiles" }, ...tiles), below);
}

// How the words for colours look; a word that is not here is said without a sample.
const PAINTS = {
  black: "#1b1c1f", white: "#fbfbf8", grey: "#7d8288", silver: "#c3c7cc", blue: "#2459b8", red: "#c8202b", green: "#2f7d43", brown: "#6f4a32",
  beige: "#d9c8a5", golden: "#c39a3b", bordeaux: "#6d1b2c", yellow: "#f2cf1d", violet: "#6f48a8", orange: "#ec7a1c",
};

/** Say colour and body, each with how sure it is; nothing where neither is sure. */
export function look({ colour, body }) {
  if (!colour && !body) return null;
  const sample = colour && PAINTS[colour.name] ? make("i", { class: "paint", "aria-hidden": "true" }) : null;
  if (sample) sample.style.background = PAINTS[colour.name];
  const words = [colour, body].filter(Boolean).map(({ name, probability }) => make("span", {}, `${name} `, make("em", {}, percent(probability))));
  return make("p", { class: "says" }, sample, ...words);
}

/** Join the words of a colour and a body: "red hatchback"; empty where neither is sure. */
export const lookWords = ({ colour, body }) => [colour, body].filter(Boolean).map(({ name }) => name).join(" ");

/** Say an answer: its name and how sure it is, or that there is none and why. */
export function verdict(answer, undecided, none = "Undecided") {
  if (!answer) return make("div", { class: "verdict undecided" }, make("h2", {}, none), make("p", {}, sentence(undecided ?? "no reason was given")));
  const sure = make("p", { class: "soft" }, make("b", {}, percent(answer.probability)), ` sure, down to its ${answer.level}`);
  return make("div", { class: "verdict" }, make("h2", {}, answer.name), sure);
}

// Radii and outlines in the units of the drawing, 200 across, the car 100 long.
const point = (radius, degrees) => {
  const angle = ((degrees - 90) * Math.PI) / 180; // 0 is the nose, clockwise, as viewpoints are counted
  return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
};

const sector = (turn) =>
  `M${point(68, turn - 20)}A68 68 0 0 1 ${point(68, turn + 20)}L${point(96, turn + 20.6)}A96 96 0 0 0 ${point(96, turn - 20.6)}Z`;

/** Draw a car from above, nose up, with the sides that are seen; `counts` says how many photos show each. */
export function topView(counts, { label, interior = null } = {}) {
  const marks = VIEWPOINTS.flatMap((name, index) => {
    const n = counts[name] ?? 0;
    const [x, y] = point(82, 45 * index).split(" ");
    const number = n > 1 ? draw("text", { x, y, dy: "0.36em", class: "count" }, String(n)) : null;
    return [draw("path", { d: sector(45 * index), class: n ? "side seen" : "side", "data-side": name }, draw("title", {}, name)), number];
  });
  const cabin = interior === null ? "cabin" : interior ? "cabin seen" : "cabin missing";
  return draw(
    "svg",
    { viewBox: "-100 -100 200 200", class: "topview", role: "img", "aria-label": label },
    ...marks.filter(Boolean),
    draw(
      "g",
      { transform: "scale(1.15)" },
      draw("path", { class: "body", d: "M-17-48Q0-55 17-48Q23-44 23-34L23 36Q23 46 17 48Q0 52-17 48Q-23 46-23 36L-23-34Q-23-44-17-48Z" }),
      draw("path", { class: "body", d: "M-23-14L-29-11L-29-8L-23-9M23-14L29-11L29-8L23-9" }),
      draw("path", { class: cabin, d: "M-18-16Q0-23 18-16L15-3L15 24L17 36Q0 41-17 36L-15 24L-15-3Z" }),
      draw("path", { class: "glass", d: "M-18-16Q0-23 18-16L15-3Q0-7-15-3ZM-15 24Q0 27 15 24L17 36Q0 41-17 36Z" }),
      draw("path", { class: "lamp", d: "M-19-46L-11-49.500M19-46L11-49.500" }),
      draw("path", { class: "tail", d: "M-19 46.500L-11 49M19 46.500L11 49" }),
    ),
  );
}

/** Open pictures large, all that are given: `pictures` are {url, text, overlay}, where `overlay` makes what lies over one. */
export function enlarge(pictures, start) {
  let at = start;
  const place = make("div", { class: "large-place" });
  const words = make("p", { class: "fine" });
  const key = (label, text, turn) => {
    const button = make("button", { type: "button", class: "button small", "aria-label": label }, text);
    button.addEventListener("click", () => (turn ? show(at + turn) : dialog.close()));
    return button;
  };
  const many = pictures.length > 1;
  const keys = [many && key("Photo before", "←", -1), key("Close", "Close", 0), many && key("Next photo", "→", 1)];
  const dialog = make("dialog", { class: "large", "aria-label": "Photo" }, place, words, make("div", { class: "large-keys" }, ...keys));
  function show(index) {
    at = (index + pictures.length) % pictures.length;
    const { url, text, overlay } = pictures[at];
    place.replaceChildren(...[make("img", { src: url, alt: text }), overlay?.()].filter(Boolean));
    words.textContent = text;
  }
  dialog.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn && many) show(at + turn);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  show(at);
  document.body.append(dialog);
  dialog.showModal();
}

/** Show a photo with the boxes of its vehicles as buttons; `names` are their tags. */
export function stage(place, url, prediction, { names, selected, onSelect }) {
  const picture = make("img", { src: url, alt: "The photo" });
  const frame = make("div", { class: "frame" }, picture);
  frame.style.aspectRatio = `${prediction.width} / ${prediction.height}`;
  frame.style.setProperty("--ratio", prediction.width / prediction.height);
  picture.addEventListener("error", () => picture.replaceWith(make("p", { class: "unseen" }, "This browser cannot show this format; the service could read it.")));
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const order = prediction.vehicles.map((_, index) => index).sort((a, b) => area(prediction.vehicles[b].box) - area(prediction.vehicles[a].box));
  for (const index of order) {
    const [x1, y1, x2, y2] = prediction.vehicles[index].box;
    const tag = make("span", {}, names[index]);
    const button = make("button", { type: "button", class: "box", "aria-pressed": String(index === selected) }, tag);
    button.dataset.vehicle = index;
    button.style.left = `${(100 * x1) / prediction.width}%`;
    button.style.top = `${(100 * y1) / prediction.height}%`;
    button.style.width = `${(100 * (x2 - x1)) / prediction.width}%`;
    button.style.height = `${(100 * (y2 - y1)) / prediction.height}%`;
    button.classList.toggle("high", y1 / prediction.height < 0.08); // no room for the tag above
    button.classList.toggle("end", x1 / prediction.width > 0.6 && x2 / prediction.width > 0.9); // nor to the right
    button.addEventListener("click", () => onSelect(index));
    frame.append(button);
  }
  place.replaceChildren(frame);
}
