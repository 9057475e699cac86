// The answer of one photo on a page that has #stage, #vehicles, #answer, #facts, #caption, #said and #json: boxes,
// candidates, viewpoint and reasons, the same whether a service answered or the page itself. It asks nobody.

import * as car from "./draw.js";

const UNSURE_KIND = 0.8; // below, the kind is worth a percentage

const main = car.find("#main");
let url = null; // of the photo on show

/** Say that a photo is being looked at, or that it no longer is. */
export function busy(is) {
  main.classList.toggle("busy", is);
  main.setAttribute("aria-busy", String(is));
  if (is) car.find("#said").textContent = "Looking at the photo";
}

/** Take the answer off the page. */
export function clear() {
  main.dataset.state = "empty";
  car.find("#result").hidden = true;
  car.find("#program").hidden = true;
  car.find("#said").textContent = "";
}

/** Show a prediction as the API tells it, beside the photo's file. */
export function showAnswer(file, content, isDrawn = false) {
  if (url) URL.revokeObjectURL(url);
  url = URL.createObjectURL(file);
  main.dataset.state = "answered";
  car.find("#result").hidden = false;
  const vehicles = content.vehicles;
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const largest = vehicles.reduce((best, one, index) => (area(one) > area(vehicles[best]) ? index : best), 0);
  car.stage(car.find("#stage"), url, content, { names: vehicles.map(tag), selected: largest, onSelect: (index) => select(content, index) });
  car.find("#caption").textContent = `${file.name}, ${content.width} × ${content.height}, ${car.bytes(file.size)}${
    isDrawn ? `. ${car.DRAWN}` : ""
  }`;
  tabs(content, largest);
  select(content, largest);
  car.find("#said").textContent = aloud(content, largest);
  car.find("#json").textContent = JSON.stringify(content, null, 2);
}

// Of several vehicles an undecided one shows its number alone: far ones stand close, and words would cover them.
function tag(vehicle, index, all) {
  const name = vehicle.answer?.name;
  if (all.length === 1) return name ?? "undecided";
  return name ? `${index + 1} · ${name}` : `${index + 1}`;
}

function aloud(content, index) {
  const vehicle = content.vehicles[index];
  if (!vehicle) return `No vehicle: ${content.undecided}.`;
  const many = content.vehicles.length;
  const what = vehicle.answer ? `${vehicle.answer.name}, ${car.percent(vehicle.answer.probability)}` : `Undecided: ${vehicle.undecided}`;
  const look = car.lookWords(vehicle);
  return `${many > 1 ? `${many} vehicles. The largest: ` : ""}${what}${look ? `, ${look}` : ""}, seen from ${vehicle.viewpoint.name}.`;
}

function tabs(content, selected) {
  const place = car.find("#vehicles");
  place.hidden = content.vehicles.length < 2;
  place.replaceChildren(
    ...content.vehicles.map((vehicle, index) => {
      const button = car.make("button", { type: "button", "aria-pressed": String(index === selected) }, `Vehicle ${index + 1}`);
      button.dataset.vehicle = index;
      button.addEventListener("click", () => select(content, index));
      return button;
    }),
  );
}

function select(content, index) {
  for (const button of document.querySelectorAll("[data-vehicle]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.vehicle) === index));
  }
  const vehicle = content.vehicles[index];
  const parts = vehicle
    ? [car.verdict(vehicle.answer, vehicle.undecided), car.look(vehicle), car.levelPicker(vehicle.levels, vehicle.answer, "level")]
    : [car.verdict(null, content.undecided, "No vehicle to name")];
  car.find("#answer").replaceChildren(...parts.filter(Boolean));
  const facts = [vehicle && side(vehicle.viewpoint), kind(content.kind), time(content.milliseconds)];
  car.find("#facts").replaceChildren(...facts.filter(Boolean));
}

function side({ name, probability }) {
  const words = name === "unknown" ? "Seen from an unknown side" : `Seen from ${name}`;
  const sure = name === "unknown" ? "no side is certain" : `${car.percent(probability)} sure, by the vehicle's own left and right`;
  return fact(car.topView({ [name]: 1 }, { label: words }), "Viewpoint", name, sure);
}

const KINDS = {
  exterior: "a photo of the outside",
  interior: "a photo of the inside",
  detail: "a close-up of a part",
  other: "neither a car's outside nor its inside",
};
const CLOCK = "M24 12a15 15 0 1 0 .1 0zM24 19v8l5 4M20 5h8M24 5v7M36 13l3-3";
const GLYPHS = {
  exterior: "M9 32H6q-2 0-2-2v-4q0-3 3-4l6-1 5-7q2-3 5-3h9q3 0 5 3l4 7q3 1 3 4v5q0 2-2 2h-3M18 32h11M9 32a4.500 4.500 0 1 1 0 .1zM30 32a4.500 4.500 0 1 1 0 .1z",
  interior: "M24 8a16 16 0 1 0 .1 0zM24 20a4 4 0 1 0 .1 0zM9 22l11 1M28 23l11-1M24 28v12",
  detail: "M20 8a12 12 0 1 0 .1 0zM29 29l11 11",
  other: "M10 10h28v28H10zM10 31l9-9 8 8 5-5 6 6M30 17a2 2 0 1 0 .1 0z",
};

function kind({ name, probability }) {
  const sure = probability < UNSURE_KIND ? `, ${car.percent(probability)} sure` : "";
  return fact(car.glyph(GLYPHS[name] ?? GLYPHS.other), "Kind", name, `${KINDS[name] ?? ""}${sure}`);
}

function time(milliseconds) {
  const parts = Object.entries(milliseconds).filter(([name, value]) => name !== "total" && Math.round(value) > 0);
  const words = parts.map(([name, value]) => `${name} ${Math.round(value)}`).join(" · ");
  return fact(car.glyph(CLOCK), "Time", `${Math.round(milliseconds.total)} ms`, words);
}

const fact = (picture, title, value, words) =>
  car.make("div", { class: "fact" }, picture, car.make("p", {}, car.make("small", {}, title), car.make("b", {}, value), car.make("span", { class: "soft" }, words)));
