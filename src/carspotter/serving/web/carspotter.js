// What the service's pages share: ask the service, say in words what went wrong; and how all pages draw and take photos.

import { list, make, sentence, show } from "./draw.js";
import { showKnown } from "./known.js";

export * from "./draw.js";
export * from "./take.js";

const KEY = "carspotter-key"; // in sessionStorage: gone with the tab
const MOST_RETRIES = 8;

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
    return { ...empty, ...(await send("v1/models", null, { method: "GET" })).content };
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
      // A header takes no other letters: what was pasted beside the key must not end in an error for ever.
      sessionStorage.setItem(KEY, input.value.replace(/[^\x21-\x7e]/g, ""));
      resolve();
    });
  });
  place.replaceChildren();
}

/** Fetch a drawn example as the file that a person would have chosen. */
export async function example(name) {
  const response = await fetch(`static/examples/${name}.jpg`);
  if (!response.ok) throw new Problem(response.status, "The example is missing from this service.");
  return new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" });
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
  const words = [`curl ${quote(new URL(path, document.baseURI).href)}`, ...key, ...parts.map(([name, value]) => `-F ${quote(`${name}=${value}`)}`)];
  return words.join(" \\\n  ");
}

/** Say which bundles answer, and what can be named: `load` gives the classes once somebody wants to see them. */
export function sayBundles(place, { bundles }) {
  const words = bundles.map(({ task, name }) => `${task} ${name}`);
  if (words.length) place.textContent = `Answered by ${list(words)}.`;
  showKnown(bundles.find(({ knows }) => knows)?.knows, async () => (await send("v1/taxonomy", null, { method: "GET" })).content.classes);
}
