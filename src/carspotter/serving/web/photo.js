// The photo page: one photo in, its vehicles with boxes, candidates, viewpoint and reasons out.

import { busy, clear, showAnswer } from "./answer.js";
import * as car from "./carspotter.js";

const ASK = "v1/photos?select=all&top=5";

const main = car.find("#main");
const messages = car.find("#messages");
let service = { bundles: [], limits: {}, feedback: false };
let running = null; // AbortController of the request under way

async function look(file, isDrawn = false) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  messages.replaceChildren();
  busy(true);
  try {
    if (file.size > (service.limits.bytes ?? Infinity)) {
      throw new car.Problem(413, `${file.name} has ${car.bytes(file.size)}; this service takes at most ${car.bytes(service.limits.bytes)}.`);
    }
    const form = new FormData();
    form.append("photo", file, file.name);
    const answer = await car.ask(ASK, form, { place: messages, signal });
    if (!service.bundles.length) await introduce();
    present(file, answer, isDrawn);
  } catch (problem) {
    if (problem.name === "AbortError") return; // another photo was chosen meanwhile
    if (!(problem instanceof car.Problem)) throw problem;
    clear();
    car.showProblem(messages, problem, `${file.name} was not recognised.`);
  }
  busy(false);
}

function present(file, { content, requestId, milliseconds }, isDrawn) {
  showAnswer(file, content, isDrawn);
  car.find("#program").hidden = false;
  car.find("#curl").textContent = car.curl(ASK, [["photo", `@${file.name}`]]);
  const bundles = Object.entries(content.bundles ?? {}).map(([task, name]) => `${task} ${name}`);
  car.find("#took").textContent = `${car.timings(content.milliseconds, milliseconds)}. ${bundles.join(", ")}.`;
  feedback(requestId);
}

function feedback(requestId) {
  const place = car.find("#feedback");
  place.hidden = !(service.feedback && requestId);
  if (place.hidden) return;
  const tell = async (right, said) => {
    try {
      await car.ask("v1/feedback", JSON.stringify({ request_id: requestId, right, ...(said ? { said } : {}) }), { place: messages });
      place.replaceChildren(car.make("p", { role: "status" }, "Thank you. It was kept."));
    } catch (problem) {
      if (!(problem instanceof car.Problem)) throw problem;
      place.append(car.make("p", { role: "alert", class: "soft" }, problem.message));
    }
  };
  const yes = car.make("button", { type: "button", class: "button small" }, "Yes");
  const no = car.make("button", { type: "button", class: "button small", "aria-expanded": "false" }, "No");
  yes.addEventListener("click", () => tell(true));
  no.addEventListener("click", () => {
    const input = car.make("input", { id: "said-word", type: "text", maxlength: "200", placeholder: "Audi A4 2012" });
    const form = car.make("form", { class: "said" }, car.make("label", { for: "said-word" }, "What is it?"), input, car.make("button", { class: "button small" }, "Send"));
    form.addEventListener("submit", (event) => (event.preventDefault(), tell(false, input.value.trim())));
    no.setAttribute("aria-expanded", "true");
    place.querySelector("form")?.remove();
    place.append(form);
    input.focus();
  });
  place.replaceChildren(car.make("p", { class: "ask" }, "Was this right? ", car.make("small", { class: "soft" }, "The service then keeps this photo.")), yes, no);
}

// ---- set up

/** Say what the service is: at the start, and again after an answer where it told nobody before it had a key. */
async function introduce() {
  service = await car.models();
  car.sayBundles(car.find("#bundles"), service);
  if (service.feedback) car.find("#kept").textContent = "A photo is kept only if you say whether its answer was right";
}

async function take(files) {
  await look(files[0]);
  if (files.length < 2 || messages.childElementCount) return;
  const link = car.make("a", { href: "ad" }, "the page for a whole ad");
  car.show(messages, "note", car.make("p", {}, `Only the first of ${files.length} photos was looked at; for all of them there is `, link, "."));
}

car.receive({ zone: car.find("#drop"), inputs: [car.find("#file"), car.find("#camera")], onFiles: take });
car.copies(car.find("#copy"), car.find("#curl"));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    try {
      await look(await car.example(button.dataset.example), true);
    } catch (problem) {
      if (!(problem instanceof car.Problem)) throw problem;
      car.showProblem(messages, problem);
    }
  });
}
await introduce();
main.dataset.ready = "yes"; // for whoever drives the page
