// Runs beside the page, so that the page stays alive: photos in, predictions out, one after the other.
// It sends nothing anywhere: it fetches the site's own files before the first photo, and nothing after.

import { decode } from "./decode.js";
import { openNetworks } from "./networks.js";
import { leastSide, recognize, rounded, shrunk } from "./recognizer.js";

const base = new URL(".", import.meta.url);
let networks = null; // a promise, once asked for
let last = Promise.resolve();

function load() {
  networks ??= openNetworks(base, (loaded, total) => postMessage({ type: "progress", loaded, total })).then((all) => {
    const bundles = [all.finder.bundle.name, all.identifier.bundle.name];
    postMessage({ type: "ready", bundles, classes: all.identifier.classes, threads: all.threads, bytes: all.bytes });
    return all;
  });
  networks.catch(({ message }) => {
    networks = null; // the next photo tries again
    postMessage({ type: "unready", message });
  });
  return networks;
}

async function answer({ id, file }) {
  let all;
  try {
    all = await load();
  } catch {
    return; // `unready` said why
  }
  try {
    const start = performance.now();
    const side = leastSide(all.finder.bundle.preprocessing, all.identifier.bundle.preprocessing);
    const photo = shrunk(await decode(file, side), side);
    const decoded = performance.now() - start;
    const said = await recognize(photo, all);
    const milliseconds = { decode: rounded(decoded, 2), ...said.milliseconds, total: rounded(performance.now() - start, 2) };
    postMessage({ type: "answer", id, content: { photo: file.name, ...said, milliseconds } });
  } catch (error) {
    postMessage({ type: "problem", id, code: error.code ?? "broken", message: error.message });
  }
}

addEventListener("message", ({ data }) => {
  if (data.type === "load") load().catch(() => undefined);
  else last = last.then(() => answer(data)); // a session runs one photo at a time
});
