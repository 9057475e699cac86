// The page that recognises a photo by itself: takes the photo, hands it to the worker, shows what comes back.

import { busy, clear, showAnswer } from "./answer.js";
import * as car from "./draw.js";
import { extent, showKnown } from "./known.js";
import { receive } from "./take.js";

const main = car.find("#main");
const messages = car.find("#messages");
const waiting = new Map(); // id → {file, isDrawn}; only the newest photo's answer is shown
let newest = 0;
const worker = startWorker();

/** Start the worker by a blob: it then inherits this page's policy, which a worker of a plain static server has not. */
function startWorker() {
  const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const started = new Worker(url, { type: "module" });
  started.addEventListener("message", ({ data }) => TOLD[data.type](data));
  const message = "This browser cannot run the page's worker: it needs modules in workers and WebAssembly (browsers from 2023 on).";
  started.addEventListener("error", () => TOLD.unready({ message }));
  return started;
}

const TOLD = {
  progress({ loaded, total }) {
    const bar = car.find("#loaded");
    bar.hidden = false;
    bar.max = total;
    bar.value = loaded;
    car.find("#load-words").textContent = loaded < total ? `Loading the networks, once: ${car.bytes(loaded)} of ${car.bytes(total)}` : "Starting the networks";
  },
  ready({ bundles, classes, threads, bytes }) {
    showKnown(extent(classes), async () => classes);
    car.find("#loading").hidden = true;
    const words = `${car.bytes(bytes)} are kept by this browser for the next visit`;
    car.find("#bundles").textContent = `Answered by ${car.list(bundles)}, in this browser on ${threads > 1 ? `${threads} threads` : "one thread"}; ${words}.`;
    main.dataset.ready = "yes"; // for whoever drives the page
  },
  unready({ message }) {
    car.find("#loading").hidden = true;
    main.dataset.ready = "no";
    waiting.clear();
    busy(false);
    clear();
    car.showProblem(messages, { message }, "The networks are not ready.");
  },
  answer({ id, content }) {
    const asked = taken(id);
    if (!asked) return;
    showAnswer(asked.file, content, asked.isDrawn);
    car.find("#program").hidden = false;
    busy(false);
  },
  problem({ id, message }) {
    const asked = taken(id);
    if (!asked) return;
    clear();
    car.showProblem(messages, { message: `${car.sentence(message)}.` }, `${asked.file.name} was not recognised.`);
    busy(false);
  },
};

/** Return what was asked under a number, unless another photo was chosen meanwhile. */
function taken(id) {
  const asked = waiting.get(id);
  waiting.delete(id);
  return id === newest ? asked : null;
}

function look(file, isDrawn = false) {
  newest += 1;
  waiting.set(newest, { file, isDrawn });
  messages.replaceChildren();
  busy(true);
  worker.postMessage({ type: "photo", id: newest, file });
}

function take(files) {
  look(files[0]);
  if (files.length > 1) car.show(messages, "note", car.make("p", {}, `Only the first of ${files.length} photos is looked at.`));
}

receive({ zone: car.find("#drop"), inputs: [car.find("#file"), car.find("#camera")], onFiles: take });
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    // Shown on this page already, so that the browser need not ask for it again.
    const response = await fetch(button.querySelector("img").src, { cache: "force-cache" });
    look(new File([await response.blob()], `${button.dataset.example}.jpg`, { type: "image/jpeg" }), true);
  });
}
if (navigator.connection?.saveData) {
  car.find("#load-words").textContent = "The networks are loaded with the first photo, since this browser saves data";
  car.find("#loaded").hidden = true;
} else worker.postMessage({ type: "load" });
