// The ad page: many photos and what the seller declared in; one answer, the verdict, views and each photo's role out.

import * as car from "./carspotter.js";

const ASK = "v1/ads";
const EXAMPLE = ["ad-1", "ad-2", "ad-3", "ad-4", "ad-5", "ad-6", "ad-7", "ad-8"];
const DECLARED = {
  right: { make: "Volkswagen", model: "Golf", year: "1991", colour: "", body: "" },
  wrong: { make: "BMW", model: "X5", year: "2008", colour: "", body: "" },
};
const FIELDS = ["make", "model", "year", "colour", "body"];
const ROLES = {
  view: "view",
  "other-vehicle": "another vehicle",
  interior: "interior",
  detail: "detail",
  other: "something else",
  duplicate: "copy",
  unreadable: "unreadable",
};

const messages = car.find("#messages");
const form = car.find("#form");
const main = car.find("#main");
let service = { bundles: [], limits: {} };
let chosen = []; // {file, url}, in the order they are sent
let shown = []; // URLs of all photos since the page was empty: an answer may still show one that was taken out
let isDrawn = false;
let running = null;

const most = () => service.limits.photos ?? 40;

// ---- choosing

function add(files) {
  if (isDrawn) clear();
  isDrawn = false;
  const room = Math.max(0, most() - chosen.length);
  const added = files.slice(0, room).map((file) => ({ file, url: URL.createObjectURL(file) }));
  chosen.push(...added);
  shown.push(...added.map(({ url }) => url));
  const left = files.length - room;
  if (left > 0) car.show(messages, "note", car.make("p", {}, `An ad has at most ${most()} photos; ${left} ${left === 1 ? "was" : "were"} left out.`));
  else messages.replaceChildren();
  list();
}

function clear() {
  running?.abort();
  shown.forEach((url) => URL.revokeObjectURL(url));
  shown = [];
  chosen = [];
  // What stands below was said of other photos.
  main.dataset.state = "empty";
  car.find("#result").hidden = car.find("#program").hidden = true;
}

function list() {
  const place = car.find("#chosen");
  place.replaceChildren(
    ...chosen.map((one, index) => {
      const remove = car.make("button", { type: "button", class: "remove", "aria-label": `Leave out photo ${index + 1}, ${one.file.name}` }, "×");
      remove.addEventListener("click", () => {
        chosen = chosen.filter((other) => other !== one);
        list();
        (place.querySelectorAll(".remove")[Math.min(index, chosen.length - 1)] ?? car.find("#files")).focus();
      });
      return car.make("li", {}, thumbnail(one, index), remove);
    }),
  );
  car.find("#go").disabled = !chosen.length;
  car.find("#said").textContent = chosen.length ? `${chosen.length} ${chosen.length === 1 ? "photo" : "photos"} chosen` : "";
}

function thumbnail({ url, file }, index) {
  const picture = car.make("img", { src: url, alt: `Photo ${index + 1}`, title: file.name, loading: "lazy" });
  picture.addEventListener("error", () => picture.replaceWith(car.make("span", { class: "unseen" }, file.name)), { once: true });
  return picture;
}

const declared = () => {
  const words = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value.trim()]).filter(([, word]) => word));
  return words.year ? { ...words, year: Number(words.year) } : words;
};

// ---- asking

async function look() {
  const large = chosen.find(({ file }) => file.size > (service.limits.bytes ?? Infinity));
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const photos = [...chosen];
  const says = declared();
  messages.replaceChildren();
  busy(true);
  try {
    if (large) throw new car.Problem(413, `${large.file.name} has ${car.bytes(large.file.size)}; this service takes at most ${car.bytes(service.limits.bytes)} a photo.`);
    const body = new FormData();
    photos.forEach(({ file }) => body.append("photos", file, file.name));
    if (Object.keys(says).length) body.append("declared", JSON.stringify(says));
    const answer = await car.ask(ASK, body, { place: messages, signal, onProgress: (share) => progress(share, photos) });
    if (!service.bundles.length) await introduce();
    present(photos, says, answer);
  } catch (problem) {
    if (problem.name === "AbortError" && running?.signal !== signal) return; // another request took over
    if (problem.name !== "AbortError") {
      if (!(problem instanceof car.Problem)) throw problem;
      car.showProblem(messages, problem, "The ad was not looked at.");
    }
    car.find("#said").textContent = "";
  }
  busy(false);
}

function busy(is) {
  main.setAttribute("aria-busy", String(is));
  main.classList.toggle("busy", is);
  car.find("#progress").hidden = !is;
  car.find("#go").disabled = is || !chosen.length;
  if (is) {
    car.find("#said").textContent = `Looking at ${chosen.length} photos`;
    progress(0, chosen);
  }
}

function progress(share, photos) {
  const bar = car.find("#sent");
  if (share < 1) bar.value = share;
  else bar.removeAttribute("value"); // sent; how long the networks take is not known
  car.find("#sent-words").textContent = share < 1 ? `Sending ${photos.length} photos, ${Math.round(100 * share)} %` : `Looking at ${photos.length} photos`;
}

// ---- answering

function present(photos, says, { content, milliseconds }) {
  main.dataset.state = "answered";
  car.find("#result").hidden = car.find("#program").hidden = false;
  const parts = [car.verdict(content.answer, content.undecided), car.look(content), car.levelPicker(content.levels, content.answer, "level")];
  car.find("#answer").replaceChildren(...parts.filter(Boolean));
  car.find("#declared").replaceChildren(...against(content, says, photos));
  car.find("#views").replaceChildren(...views(content));
  car.find("#score").replaceChildren(...score(content));
  car.find("#note").textContent = isDrawn ? car.DRAWN : "";
  const shots = content.photos.map(({ prediction }, index) => ({
    url: photos[index].url,
    text: `Photo ${index + 1}, ${photos[index].file.name}`,
    overlay: () => outline(prediction),
  }));
  car.find("#photos").replaceChildren(...content.photos.map((photo, index) => card(photo, index, photos[index], content, shots)));
  car.find("#said").textContent = aloud(content, says);
  const declaration = Object.keys(says).length ? [["declared", JSON.stringify(says)]] : [];
  car.find("#curl").textContent = car.curl(ASK, [...photos.map(({ file }) => ["photos", `@${file.name}`]), ...declaration]);
  car.find("#json").textContent = JSON.stringify(content, null, 2);
  const bundles = Object.entries(content.bundles ?? {}).map(([task, name]) => `${task} ${name}`);
  car.find("#took").textContent = `${car.timings(content.milliseconds, milliseconds)}. ${bundles.join(", ")}.`;
  car.find("#answer").scrollIntoView({ block: "nearest" });
}

function aloud({ answer, undecided, colour, body, declared: said, views: { missing } }, says) {
  const look = car.lookWords({ colour, body });
  const what = `${answer ? `${answer.name}, ${car.percent(answer.probability)}` : `Undecided: ${undecided}`}${look ? `, ${look}` : ""}.`;
  const seller = comparisons(said, says).map(([title, { verdict }]) => ` ${title ? `${title}: ` : ""}${VERDICTS[verdict]?.[1] ?? verdict}.`);
  return `${what}${seller.join("")} ${missing.length ? `Missing: ${car.list(missing)}.` : "No view is missing."}`;
}

const VERDICTS = {
  agrees: ["✓", "Agrees with the seller", "good"],
  contradicts: ["!", "Contradicts the seller", "bad"],
  "cannot-tell": ["?", "Cannot tell whether the seller is right", "unsure"],
};

/** Part what was declared into what has a verdict of its own: [title, verdict, what the seller said]. */
function comparisons(said, { colour, body, ...taxon }) {
  const all = [["", said, Object.values(taxon).join(" ")], ["Colour", said?.colour, colour], ["Body", said?.body, body]];
  return all.filter(([, found, words]) => found && words);
}

function against({ declared: said, answer, colour, body }, says, photos) {
  const head = car.make("h3", {}, "Declared against seen");
  if (!said) return [head, car.make("p", { class: "soft" }, "Nothing was declared. Fill in make, model, year, colour or body to have it compared.")];
  return [head, ...comparisons(said, says).flatMap(([title, found, words]) => comparison(title, found, words, photos, [answer, colour, body]))];
}

function comparison(title, { verdict, name, probability, why, photos: deciding }, said, photos, told) {
  const [sign, words, look] = VERDICTS[verdict] ?? ["?", verdict, "unsure"];
  const line = car.make("p", { class: `verdict-line ${look}` }, car.make("span", { class: "sign", "aria-hidden": "true" }, sign), car.make("b", {}, words));
  const read = [car.make("dt", {}, "declared"), car.make("dd", {}, said)];
  if (name && name !== said) read.push(car.make("dt", {}, "read as"), car.make("dd", {}, name));
  const isTold = told.some((one) => one?.name === name); // beside the answer, with its probability
  if (probability !== null && probability !== undefined && !isTold) read.push(car.make("dt", {}, "by the photos"), car.make("dd", {}, car.percent(probability)));
  const links = (deciding ?? []).map((index) => {
    const link = car.make("a", { href: `#photo-${index + 1}`, "aria-label": `Photo ${index + 1}` }, thumbnail(photos[index], index));
    return car.make("li", {}, link);
  });
  return [
    ...(title ? [car.make("h4", {}, title)] : []),
    line,
    car.make("dl", {}, ...read),
    ...(why ? [car.make("p", {}, car.sentence(why))] : []),
    ...(links.length ? [car.make("p", { class: "soft fine decided" }, "Decided by"), car.make("ul", { class: "strip" }, ...links)] : []),
  ];
}

function views({ views: { seen, missing }, photos }) {
  const counts = Object.fromEntries(car.VIEWPOINTS.map((name) => [name, 0]));
  for (const { role, prediction } of photos) {
    const [vehicle] = prediction?.vehicles ?? [];
    if (role === "view" && vehicle && vehicle.viewpoint.name in counts) counts[vehicle.viewpoint.name] += 1;
  }
  for (const name of car.VIEWPOINTS) counts[name] = seen.includes(name) ? Math.max(1, counts[name]) : 0;
  const label = `Seen: ${car.list(seen) || "nothing"}. Missing: ${car.list(missing) || "nothing"}.`;
  const chips = missing.map((name) => car.make("li", { class: "chip" }, name));
  return [
    car.make("h3", {}, "Views"),
    car.topView(counts, { label, interior: missing.includes("interior") ? false : seen.includes("interior") || null }),
    car.make("p", { class: "soft fine" }, missing.length ? "Missing" : "No view is missing."),
    ...(chips.length ? [car.make("ul", { class: "chips" }, ...chips)] : []),
  ];
}

/** The set of photos as a buyer sees it: the total, and where points were lost. */
function score({ score: { total, parts } }) {
  const lost = new Map(); // one line a reason, however many parts it costs
  for (const { points, most, why } of parts) if (why) lost.set(why, (lost.get(why) ?? 0) + most - points);
  const lines = [...lost].sort(([, one], [, other]) => other - one).map(([why, points]) =>
    car.make("li", {}, car.sentence(why), car.make("span", { class: "soft fine" }, ` −${Math.max(1, Math.round(points))}`)),
  );
  const bar = car.make("meter", { min: "0", max: "100", low: "50", high: "80", optimum: "100", value: `${total}`, "aria-label": `Photos: ${total} of 100` });
  return [
    car.make("h3", {}, "Photos as a set"),
    car.make("p", { class: "set-score" }, car.make("b", {}, `${total}`), " of 100 ", bar),
    lines.length ? car.make("ul", { class: "lost" }, ...lines) : car.make("p", { class: "soft fine" }, "No point is lost."),
  ];
}

function card({ role, duplicate_of: of, weight, why, prediction }, index, photo, { lead }, shots) {
  const frame = car.make("button", { type: "button", class: "thumb", "aria-label": `Open photo ${index + 1} large` }, thumbnail(photo, index), outline(prediction));
  frame.addEventListener("click", () => car.enlarge(shots, index));
  const badges = [];
  if (index === lead) badges.push(car.make("span", { class: "badge lead" }, "lead photo"));
  if (role !== "duplicate") badges.push(car.make("span", { class: `badge ${role}` }, ROLES[role] ?? role));
  if (of !== null && of !== undefined) badges.push(car.make("a", { class: "badge duplicate", href: `#photo-${of + 1}` }, `copy of photo ${of + 1}`));
  const [vehicle] = prediction?.vehicles ?? [];
  const lines = [];
  if (vehicle && role !== "duplicate") {
    const what = vehicle.answer ? `${vehicle.answer.name}, ${car.percent(vehicle.answer.probability)}` : "undecided alone";
    const look = car.lookWords(vehicle);
    lines.push(car.make("p", {}, car.make("b", {}, what), car.make("span", { class: "soft" }, ` from ${vehicle.viewpoint.name}${look ? `, ${look}` : ""}`)));
  }
  if (why) lines.push(car.make("p", { class: "soft fine" }, car.sentence(why)));
  if (weight > 0) {
    const bar = car.make("i");
    bar.style.width = `${(100 * weight).toFixed(1)}%`;
    lines.push(car.make("p", { class: "weight soft fine" }, `weight ${car.percent(weight)}`, car.make("span", { class: "track", "aria-hidden": "true" }, bar)));
  }
  const head = car.make("div", { class: "badges" }, car.make("span", { class: "number" }, `${index + 1}`), ...badges);
  return car.make("li", { id: `photo-${index + 1}`, class: `photo ${role}${index === lead ? " lead" : ""}`, tabindex: "-1" }, frame, head, ...lines);
}

/** Draw the boxes of a photo over it, whole in its frame. */
function outline(prediction) {
  if (!prediction?.vehicles?.length) return null;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${prediction.width} ${prediction.height}`);
  svg.setAttribute("preserveAspectRatio", "xMidYMid meet"); // as object-fit: contain does with the picture
  svg.setAttribute("aria-hidden", "true");
  prediction.vehicles.forEach(({ box: [x1, y1, x2, y2] }, index) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) rect.setAttribute(name, value);
    rect.setAttribute("class", index ? "second" : "first");
    svg.append(rect);
  });
  return svg;
}

// ---- set up

/** Say what the service is: at the start, and again after an answer where it told nobody before it had a key. */
async function introduce() {
  service = await car.models();
  car.find("#most").textContent = most();
  car.sayBundles(car.find("#bundles"), service);
}

async function tryExample(name) {
  clear();
  const files = await Promise.all(EXAMPLE.map(car.example));
  add(files);
  isDrawn = true;
  for (const [field, word] of Object.entries(DECLARED[name])) form.elements[field].value = word;
  await look();
}

car.receive({ zone: car.find("#drop"), inputs: [car.find("#files"), car.find("#folder")], onFiles: add });
car.copies(car.find("#copy"), car.find("#curl"));
car.find("#stop").addEventListener("click", () => running?.abort());
form.addEventListener("submit", (event) => (event.preventDefault(), look()));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    try {
      await tryExample(button.dataset.example);
    } catch (problem) {
      if (!(problem instanceof car.Problem)) throw problem;
      car.showProblem(messages, problem);
    }
  });
}
await introduce();
main.dataset.ready = "yes"; // for whoever drives the page
