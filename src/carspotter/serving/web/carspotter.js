// What both pages share: take files, ask the service, say in words what went wrong, draw what it answers.
// Everything a service or a file name says is set as text, never as HTML. It knows no page's layout.

export const VIEWPOINTS = ["front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"];
export const LEVELS = ["make", "model", "generation", "year"];

const KEY = "carspotter-key"; // in sessionStorage: gone with the tab
const MOST_RETRIES = 8;
const MOST_BARS = 5; // the JSON has all of them
const IMAGE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;
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

// ---- asking the service

/** An answer that is none: `status` of HTTP (0 when nobody answers), `message` in words, seconds to wait if told. */
export class Problem extends Error {
  constructor(status, message, { code = "", retryAfter = null, requestId = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter, requestId });
  }
}

const WORDS = {
  0: "The service does not answer. It may have been stopped, or this device is not connected.",
  413: "This is larger than the service takes.",
  502: "The service cannot be reached behind its proxy. Try again in a moment.",
  503: "The service is stopping or starting. Try again in a moment.",
  504: "The service took too long. Try again in a moment.",
};

function problemOf(request) {
  let content = {};
  try {
    content = JSON.parse(request.responseText) ?? {};
  } catch {
    // A proxy between us and the service answers in HTML: its status says enough.
  }
  const words = content.detail || WORDS[request.status] || `The service answered with status ${request.status}.`;
  const wait = Number.parseFloat(request.getResponseHeader("Retry-After") ?? "");
  return new Problem(request.status, sentence(String(words)), {
    code: content.code,
    retryAfter: Number.isFinite(wait) ? wait : null,
    requestId: content.request_id,
  });
}

export const apiKey = () => sessionStorage.getItem(KEY);

/** Send a body once: `{content, requestId, milliseconds}`. Rejects with a Problem, or AbortError when given up. */
function send(path, body, { method = "POST", onProgress, signal }) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new DOMException("given up", "AbortError"));
    const request = new XMLHttpRequest(); // fetch() tells nothing of an upload's progress
    const started = performance.now();
    request.open(method, path);
    request.setRequestHeader("Accept", "application/json");
    if (typeof body === "string") request.setRequestHeader("Content-Type", "application/json");
    if (apiKey()) request.setRequestHeader("Authorization", `Bearer ${apiKey()}`);
    if (onProgress) request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 200 || request.status > 299) return reject(problemOf(request));
      try {
        resolve({
          content: request.responseText ? JSON.parse(request.responseText) : null,
          requestId: request.getResponseHeader("X-Request-ID") ?? "",
          milliseconds: performance.now() - started,
        });
      } catch {
        reject(new Problem(request.status, "What answered is not carspotter's service."));
      }
    };
    request.onerror = () => reject(new Problem(0, WORDS[0]));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** Ask the service: waits where it is busy, asks for a key where it wants one, and says so in `place`. */
export async function ask(path, body, { place, method, onProgress, signal } = {}) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await send(path, body, { method, onProgress, signal });
    } catch (problem) {
      if (!(problem instanceof Problem) || !place) throw problem;
      if (problem.status === 401) await askForKey(place, problem, signal);
      else if (problem.status === 429 && tries < MOST_RETRIES) await wait(place, problem, signal);
      else throw problem;
    }
  }
}

/** What the service is: its bundles, its limits, whether it takes feedback; what it does not say is empty. */
export async function models() {
  const empty = { bundles: [], limits: {}, urls: false, feedback: false };
  try {
    return { ...empty, ...(await send("/v1/models", null, { method: "GET" })).content };
  } catch {
    return empty; // the first photo will say what is wrong
  }
}

function abortable(signal, start) {
  return new Promise((resolve, reject) => {
    const stop = start(resolve);
    signal?.addEventListener("abort", () => (stop?.(), reject(new DOMException("given up", "AbortError"))), { once: true });
  });
}

/** Count down to the next try; the person may try at once. */
async function wait(place, problem, signal) {
  let left = Math.max(1, Math.ceil(problem.retryAfter ?? 2));
  const count = make("b", { "aria-hidden": "true" }, `${left} s`);
  const now = make("button", { type: "button", class: "button small" }, "Try now");
  show(place, "wait", make("p", {}, make("strong", {}, "The service is busy. "), problem.message, " Next try in ", count, "."), now);
  await abortable(signal, (resolve) => {
    const clock = setInterval(() => {
      left -= 1;
      count.textContent = `${left} s`;
      if (left <= 0) finish();
    }, 1000);
    const finish = () => (clearInterval(clock), resolve());
    now.addEventListener("click", finish);
    return () => clearInterval(clock);
  });
  place.replaceChildren();
}

/** Ask for the API key, keep it for this tab, and go on once it is given. */
async function askForKey(place, problem, signal) {
  const input = make("input", { id: "api-key", type: "password", autocomplete: "off", required: true });
  const form = make(
    "form",
    { class: "key" },
    make("label", { for: "api-key" }, "API key"),
    input,
    make("button", { class: "button primary" }, "Go on"),
    make("small", { class: "soft" }, "Kept in this tab only, and gone when you close it."),
  );
  const words = apiKey() ? problem.message : "This service wants an API key.";
  show(place, "key", make("p", {}, make("strong", {}, words)), form);
  input.focus();
  await abortable(signal, (resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
      resolve();
    });
  });
  place.replaceChildren();
}

/** Show a message; an error is spoken at once by a screen reader, all else when it is its turn. */
export function show(place, look, ...children) {
  const role = look === "error" ? "alert" : "status";
  place.replaceChildren(make("div", { class: `message ${look}`, role }, ...children));
}

export function showProblem(place, problem, title = "That did not work.") {
  const id = problem.requestId ? make("small", { class: "soft" }, `Request ${problem.requestId}`) : null;
  show(place, "error", make("p", {}, make("strong", {}, `${title} `), problem.message), id);
}

// ---- taking files

const isImage = (file) => file.type.startsWith("image/") || IMAGE_NAME.test(file.name);

/** Call `onFiles` with what is dropped anywhere, pasted or chosen; folders are walked, names sorted within them. */
export function receive({ zone, inputs, onFiles }) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // the same file may be chosen again
      // A chosen folder holds all sorts; a file that was chosen by itself goes to the service whatever it is called.
      if (files.length) onFiles(input.webkitdirectory ? files.filter(isImage).sort(byPath) : files);
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) (event.preventDefault(), onFiles(files));
  });
  let depth = 0; // dragenter and dragleave come for every child
  const mark = (change) => zone.classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
  const isFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  window.addEventListener("dragenter", (event) => isFiles(event) && mark(1));
  window.addEventListener("dragleave", (event) => isFiles(event) && mark(-1));
  window.addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  window.addEventListener("drop", async (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    const files = await dropped(event.dataTransfer);
    if (files.length) onFiles(files);
  });
}

const byPath = (a, b) => (a.webkitRelativePath || a.name).localeCompare(b.webkitRelativePath || b.name, "en", { numeric: true });

async function dropped(transfer) {
  const given = [...transfer.files];
  // The entries die with the event, so all are taken before the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return given;
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    return file && isImage(file) ? [file] : [];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const part = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([]))); // 100 at a time
    if (!part.length) break;
    children.push(...part);
  }
  children.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return (await Promise.all(children.map(walk))).flat();
}

/** Fetch a drawn example as the file that a person would have chosen. */
export async function example(name) {
  const response = await fetch(`/static/examples/${name}.jpg`);
  if (!response.ok) throw new Problem(response.status, "The example is missing from this service.");
  return new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" });
}

// ---- drawing answers

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

/** Draw the levels as a row to choose from, and the candidates of the chosen one. */
export function levelPicker(levels, answer, id) {
  const known = LEVELS.filter((level) => levels[level]?.length);
  if (!known.length) return null;
  const start = known.includes(answer?.level) ? answer.level : known[0];
  const below = make("div", { "aria-live": "polite" }, bars(levels[start]));
  const tiles = known.map((level) => {
    const best = levels[level][0];
    const input = make("input", { type: "radio", name: id, id: `${id}-${level}`, value: level, checked: level === start });
    input.addEventListener("change", () => below.replaceChildren(bars(levels[level])));
    const sure = answer && LEVELS.indexOf(level) <= LEVELS.indexOf(answer.level);
    return make(
      "div",
      { class: sure ? "tile sure" : "tile" },
      input,
      make("label", { for: input.id }, make("small", {}, level), make("b", {}, shorter(best.name, level, levels)), make("em", {}, percent(best.probability))),
    );
  });
  return make("fieldset", { class: "levels" }, make("legend", { class: "aside" }, "Candidates of each level"), make("div", { class: "tiles" }, ...tiles), below);
}

/** Say an answer: its name and how sure it is, or that there is none and why. */
export function verdict(answer, undecided, none = "Undecided") {
  if (!answer) return make("div", { class: "verdict undecided" }, make("h2", {}, none), make("p", {}, sentence(undecided ?? "no reason was given")));
  const bar = make("i");
  bar.style.width = `${(100 * answer.probability).toFixed(1)}%`;
  return make(
    "div",
    { class: "verdict" },
    make("h2", {}, answer.name),
    make("p", { class: "soft" }, "sure down to its ", answer.level, ", ", make("b", {}, percent(answer.probability))),
    make("div", { class: "track big", "aria-hidden": "true" }, bar),
  );
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
    button.addEventListener("click", () => onSelect(index));
    frame.append(button);
  }
  place.replaceChildren(frame);
}

/** Write what the service did, in milliseconds. */
export function timings(milliseconds, roundTrip) {
  const known = Object.entries(milliseconds ?? {}).filter(([name]) => name !== "total");
  const parts = known.map(([name, value]) => `${name} ${value < 10 ? value.toFixed(1) : Math.round(value)}`);
  if (milliseconds?.total !== undefined) parts.push(`in all ${Math.round(milliseconds.total)}`);
  return `${parts.join(" · ")} ms; ${Math.round(roundTrip)} ms with the way here and back`;
}

// ---- for programs

const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Write the call as curl, with the parts of the form; a key is named, never shown. */
export function curl(path, parts) {
  const key = apiKey() ? [`-H "Authorization: Bearer $CARSPOTTER_KEY"`] : [];
  const words = [`curl ${quote(location.origin + path)}`, ...key, ...parts.map(([name, value]) => `-F ${quote(`${name}=${value}`)}`)];
  return words.join(" \\\n  ");
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

/** Say in the footer which bundles answer. */
export function sayBundles(place, { bundles }) {
  const words = bundles.map(({ task, name, classes }) => `${task} ${name}${classes ? ` (${typeof classes === "number" ? classes : classes.length} classes)` : ""}`);
  if (words.length) place.textContent = `Answered by ${list(words)}.`;
}
