// The page of the API: examples ask this service by its own address, in the language that was chosen, and can be copied.

import { copies, find } from "./draw.js";

const LANGUAGE = "carspotter-language"; // in sessionStorage: gone with the tab

const here = new URL(".", document.baseURI).href.replace(/\/$/, "");
const main = find("#main");
const written = find("[data-base]").dataset.base; // the address that examples are written with
for (const block of main.querySelectorAll(".code")) {
  const pre = block.querySelector("pre");
  pre.textContent = pre.textContent.replaceAll(written, here);
  copies(block.querySelector("button"), pre);
}

/** Show the examples of one language; where a language has none, as before the first path, they stay. */
function choose(language) {
  main.dataset.language = language;
  sessionStorage.setItem(LANGUAGE, language);
  find("#said").textContent = `Examples in ${find(`label[for=in-${language}]`).textContent}`;
}

const inputs = [...document.querySelectorAll("[name=language]")];
for (const input of inputs) input.addEventListener("change", () => choose(input.value));
const kept = inputs.find(({ value }) => value === sessionStorage.getItem(LANGUAGE)) ?? inputs[0];
kept.checked = true;
choose(kept.value);
find("#contents").open = matchMedia("(min-width: 901px)").matches;
main.dataset.ready = "yes"; // for whoever drives the page
