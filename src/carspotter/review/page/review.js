// The review page: one key a decision. In: items and pictures from this server. Out: decisions, sent one after the other
// and again until each is saved. The next photos are decoded ahead, so that a key only has to paint.

const $ = id => document.getElementById(id);
const AHEAD = 6;            // photos decoded before they are wanted
const FEW = 20;             // items left at which more are fetched
const KINDS = ["exterior", "interior", "detail", "other"];
const DIAL = [["front-left", "7", "u"], ["front", "8", "i"], ["front-right", "9", "o"], ["left", "4", "j"], null, ["right", "6", "l"],
  ["back-left", "1", "m"], ["back", "2", ","], ["back-right", "3", "."]];
const QUESTIONS = {kind: "What does the photo show?", viewpoint: "Which side is seen?"};
const TITLES = {random: "Random sample", uncertain: "Uncertain first", kind: "Kind", viewpoint: "Viewpoint", doubts: "Doubts first", unresolved: "Unresolved words"};

const state = {session: null, queue: "kind", task: "kind", items: [], seen: new Set(), total: 0, done: 0, history: [], exhausted: false, hint: false, box: true,
  look: null, round: 0, filling: null, byOthers: 0};
const pictures = new Map();  // photo → {bitmap, promise}

// ---- talking to the server

async function get(path, query = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error((await answer.json()).detail ?? answer.statusText);
  if (state.session && answer.headers.get("X-Review") !== state.session.review)  // of another person, project or folder
    throw new Error("another review answers here now; reload the page, or start the old one again");
  return answer;
}
const ask = async (path, query) => (await get(path, query)).json();

const outbox = [];
let sending = false;

function post(path, body) {
  return new Promise((resolve, reject) => { outbox.push({path, body, resolve, reject}); showSaved(); send(); });
}

async function send() {
  if (sending) return;
  sending = true;
  for (let tries = 0; outbox.length;) {
    const {path, body, resolve, reject} = outbox[0];
    let answer, content = {};
    try {
      answer = await fetch(path, {method: "POST", keepalive: true, body: JSON.stringify(body),
        headers: {"Content-Type": "application/json", "X-Review-Token": state.session.token}});
      content = await answer.json();
    } catch { answer = {ok: false, status: 0}; }
    if (answer.ok) { outbox.shift(); resolve(content); tries = 0; showSaved(); continue; }
    if (content.code === "wrong-token") {  // the review was started anew meanwhile
      try { state.session = await ask("v1/session"); if (!tries++) continue; } catch (error) { content = {detail: error.message}; }  // tried again below
    } else if (answer.status >= 400 && answer.status < 500) {
      outbox.shift(); reject(new Error(content.detail ?? "refused")); tries = 0; showSaved(); continue;
    }
    showSaved(content.detail ?? "the review does not answer");
    await new Promise(wake => setTimeout(wake, Math.min(8000, 500 * 2 ** tries++)));
  }
  sending = false;
}

function showSaved(trouble = "") {
  $("saved").className = trouble ? "bad" : "soft";
  $("saved").textContent = trouble ? `not saved: ${trouble}` : outbox.length ? "saving …" : "saved";
}
addEventListener("beforeunload", event => { if (outbox.length) event.preventDefault(); });

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");

// ---- the queue

async function load() {
  const round = ++state.round;
  Object.assign(state, {items: [], history: [], exhausted: false, done: 0, total: 0, filling: null});
  state.seen.clear();
  closeSearch();
  message("loading …");
  $("answers").replaceChildren(); $("question").textContent = ""; $("context").textContent = ""; $("about").textContent = ""; $("last").hidden = true;
  setGuide();
  try {
    const work = await ask("v1/items", {queue: state.queue, task: state.task, limit: 60, fresh: true});
    if (round !== state.round) return;
    state.history = work.last.map(entry => ({entry}));
    count(work);
    take(work.items);
    show();
  } catch (error) { if (round === state.round) message(error.message, "Nothing to decide yet"); }
}

function take(items) {
  const fresh = items.filter(item => !state.seen.has(item.key));
  fresh.forEach(item => state.seen.add(item.key));
  state.items.push(...fresh);
  return fresh.length;
}

function count(work) { Object.assign(state, {total: work.total, done: work.done, byOthers: work.by_others}); }

// `anew`: others have decided meanwhile, so that what is held is looked through again.
function refill(anew = false) {
  if (state.filling || (!anew && (state.exhausted || state.items.length >= FEW))) return;
  const round = state.round, known = state.items.length + outbox.length, limit = Math.min(500, known + (anew ? FEW : 60));
  const last = state.history.at(-1), idle = !outbox.length;
  state.filling = ask("v1/items", {queue: state.queue, task: state.task, limit}).then(work => {
    if (round !== state.round) return;
    const wasEmpty = !state.items.length;  // then nothing is looked at; else what is being typed must stay
    if (idle && !outbox.length && last === state.history.at(-1)) dropDecided(work);
    if (state.items.length < FEW) state.exhausted = take(work.items) === 0;
    state.filling = null;
    if (wasEmpty) show(); else preload();
  }).catch(() => { if (round === state.round) state.filling = null; });
}

function dropDecided(work) {  // by others; what is looked at stays
  const open = new Set(work.items.map(item => item.key)), gone = state.items.slice(1).filter(item => !open.has(item.key));
  gone.forEach(item => state.seen.delete(item.key));
  state.items = state.items.filter(item => !gone.includes(item));
  count(work);
  showProgress();
}

// ---- pictures

function picture(photo) {
  let held = pictures.get(photo);
  if (!held) {
    held = {bitmap: null, failed: null};
    held.promise = get("v1/picture", {photo}).then(async answer => {
      held.bitmap = await createImageBitmap(await answer.blob());
    }).catch(error => { held.failed = error.message; });
    pictures.set(photo, held);
  }
  return held;
}

function preload() {
  const wanted = new Set(state.items.slice(0, AHEAD + 1).map(item => item.photo).filter(Boolean));
  if (state.look) wanted.add(state.look.photo).add(turned(1).photo);
  state.items[1]?.album.forEach(({photo}) => { new Image().src = small(photo); });
  state.history.slice(-2).forEach(({item}) => item?.photo && wanted.add(item.photo));  // for undo
  for (const [photo, held] of pictures) if (!wanted.has(photo)) { held.bitmap?.close(); pictures.delete(photo); }
  wanted.forEach(picture);
}

function paint(item, since) {
  const canvas = $("photo"), box = $("box");
  const view = state.look ?? item;  // another photo of the ad, where one was chosen
  if (!item.photo) { canvas.hidden = true; box.toggleAttribute("hidden", true); return message("no photo can be shown"); }
  const held = picture(view.photo);
  if (held.failed) { canvas.hidden = true; box.toggleAttribute("hidden", true); return message(held.failed, "This photo cannot be shown"); }
  if (!held.bitmap) {
    message("loading …");
    held.promise.then(() => { if (state.items[0] === item && view === (state.look ?? item)) paint(item, since); });
    return;
  }
  $("message").hidden = true; canvas.hidden = false;
  Object.assign(canvas, {width: held.bitmap.width, height: held.bitmap.height});
  canvas.getContext("2d", {alpha: false}).drawImage(held.bitmap, 0, 0);
  canvas.setAttribute("aria-label", `photo ${view.photo}`);
  canvas.dataset.photo = view.photo;
  paintBox(view, held.bitmap);
  if (since) measure(since);
}

function paintBox({box: corners}, {width, height}) {
  const svg = $("box"), drawn = corners && state.box && (state.task !== "kind" || state.hint);
  svg.toggleAttribute("hidden", !drawn);
  if (!drawn) return;
  const [x1, y1, x2, y2] = corners;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const rect of svg.children) for (const [name, value] of Object.entries({x: x1 * width, y: y1 * height, width: (x2 - x1) * width, height: (y2 - y1) * height, rx: 4})) rect.setAttribute(name, value);
}

// All photos of the ad; one of them is looked at.
const small = photo => `v1/picture?${new URLSearchParams({photo, small: true})}`;

function showAlbum(item) {
  const shots = item?.album ?? [];
  $("album").hidden = document.querySelector("[data-do=turn]").hidden = shots.length < 2;
  $("album").classList.toggle("many", shots.length > 14);
  $("album").replaceChildren(...shots.map(shot => {
    const button = document.createElement("button"), image = document.createElement("img");
    button.type = "button"; button.dataset.photo = shot.photo;
    if (!item.is_ad && item.task !== "words" && shot.photo === item.photo) { button.className = "asked"; button.title = "the photo that is asked about"; }
    image.alt = `photo ${shot.photo}`; image.src = small(shot.photo);
    image.addEventListener("error", () => image.remove());  // a photo that cannot be shown is an empty tile
    button.append(image);
    button.addEventListener("click", () => { look(shot); button.blur(); });
    return button;
  }));
  markAlbum(item);
}

function markAlbum(item) {
  for (const button of $("album").children) button.toggleAttribute("aria-current", button.dataset.photo === (state.look ?? item).photo);
}

function look(shot) {
  state.look = shot;
  paint(state.items[0]);
  markAlbum(state.items[0]);
  preload();
}

function turned(by) {
  const shots = state.items[0].album, now = shots.findIndex(shot => shot.photo === (state.look ?? state.items[0]).photo);
  return shots[(now + by + shots.length) % shots.length];
}

// From the key to the end of the frame that shows the next photo: a task that is posted from a frame's callback runs after it.
const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.splice(0).forEach(start => performance.measure("next photo", {start, end: performance.now()}));
function measure(start) { requestAnimationFrame(() => { waiting.push(start); channel.port2.postMessage(0); }); }

// ---- what is on the screen

function message(text, title = "") {
  const head = document.createElement("h2"), body = document.createElement("p"), all = document.createElement("div");
  head.textContent = title; body.textContent = text;
  if (title) all.append(head);
  all.append(body);
  $("message").replaceChildren(all);
  $("message").hidden = false; $("photo").hidden = true; $("box").toggleAttribute("hidden", true);
  delete $("photo").dataset.photo;
}

function show(since) {
  const item = state.items[0];
  state.look = null;
  showAlbum(item);
  showProgress();
  refill();
  if (!item) {
    $("answers").replaceChildren(); $("context").textContent = ""; $("about").textContent = ""; $("hint").hidden = true;
    if (state.filling) { $("question").textContent = ""; return message("loading …"); }
    $("question").textContent = "Done";
    return message(state.total ? `All ${state.total} of this queue are decided. Choose another queue above, or let the project learn from it.` : "This queue is empty.", state.total ? "Well done" : "Nothing to decide");
  }
  paint(item, since);
  showQuestion(item);
  showHint(item);
  preload();
}

function showProgress() {
  $("count").textContent = state.total ? `${state.done} of ${state.total}` : "";
  $("bar").firstElementChild.style.width = `${state.total ? 100 * state.done / state.total : 0}%`;
  $("bar").setAttribute("aria-valuemax", state.total); $("bar").setAttribute("aria-valuenow", state.done);
}

function showQuestion(item) {
  const about = [item.is_ad ? "whole ad" : item.task === "words" ? "one of the ads" : item.album.length > 1 ? "the marked photo" : "", item.ad ? `ad ${item.ad}` : ""].filter(Boolean).join(" · ");
  $("about").textContent = item.photo ? about : "";
  $("context").textContent = "";
  if (item.task === "class") {
    $("question").textContent = item.given ? `Is it a ${item.given}?` : "What is it?";
    if (/^[aeiou]/i.test(item.given ?? "")) $("question").textContent = `Is it an ${item.given}?`;
    $("context").textContent = item.seller && item.seller !== item.given ? `The seller wrote: ${item.seller}` : "";
    if (item.why && item.why !== "label") $("context").textContent += `${$("context").textContent ? ". " : ""}Unlike others of its class: ${item.why}`;
  } else if (item.task === "words") {
    $("question").textContent = `“${item.words.filter(Boolean).join(" ")}”`;
    $("context").textContent = [item.seller && `Title: ${item.seller}`, item.why].filter(Boolean).join(". ");
  } else $("question").textContent = QUESTIONS[item.task];
  drawAnswers(item);
  const typing = item.task === "words";
  for (const [name, key] of [["skip", typing ? "tab" : "s"], ["undo", typing ? "ctrl z" : "z"]]) document.querySelector(`[data-do=${name}] kbd`).textContent = key;
  for (const name of ["hint", "box", "guide"]) document.querySelector(`[data-do=${name}]`).hidden = typing;
  if (item.task === "words") openSearch();
}

function answersOf(item) {
  if (item.task === "kind") return KINDS.map((name, index) => ({name, keys: [name[0], String(index + 1)], says: {says: name}}));
  if (item.task === "viewpoint") return DIAL.map(cell => cell && {name: cell[0], keys: [cell[1], cell[2]], says: {says: cell[0]}})
    .concat({name: "unknown", keys: ["0", "k", "5"], says: {says: "unknown"}, wide: true});
  if (item.task === "words") return [{name: "They name nothing", keys: ["Escape"], shown: "esc", says: {says: "nothing"}, wide: true}];
  const found = [{name: "keep", note: item.given, keys: ["k"], says: {says: "keep"}}];
  if (item.suggested) found.push({name: "take", note: item.suggested_name, keys: ["t"], says: {says: "relabel", becomes: item.suggested}});
  found.push({name: "another …", keys: ["a"], run: openSearch}, {name: "can't tell", keys: ["u"], says: {says: "undecidable"}}, {name: "drop", keys: ["d"], says: {says: "drop"}});
  found.forEach((answer, index) => answer.keys.push(String(index + 1)));
  if (found.length % 2) found[0].wide = true;
  return found;
}

function drawAnswers(item) {
  $("answers").className = `answers${item.task === "viewpoint" ? " dial" : ""}`;
  $("answers").replaceChildren(...answersOf(item).map(answer => {
    if (!answer) { const middle = document.createElement("div"); middle.className = "middle"; middle.append($("car").content.cloneNode(true)); return middle; }
    const button = document.createElement("button"), key = document.createElement("kbd"), text = document.createElement("span");
    button.type = "button"; button.dataset.name = answer.name; if (answer.wide) button.className = "wide";
    key.textContent = answer.shown ?? answer.keys[0]; text.textContent = answer.name;
    if (answer.note) { const note = document.createElement("small"); note.textContent = answer.note; text.append(note); }
    button.append(key, text);
    button.title = answer.keys.join(" or ");
    button.addEventListener("click", event => choose(answer, event.timeStamp));
    return button;
  }));
}

function showHint(item) {
  const said = item.machine[item.task], hint = $("hint");
  const words = item.task === "class" && item.machine.suggested_probability != null
    ? `others of the project: ${percent(item.machine.suggested_probability)} ${item.suggested_name ?? ""}, ${percent(item.machine.given_probability)} ${item.given ?? ""}`
    : said ? `machine: ${said.name}${said.probability == null ? "" : ` ${percent(said.probability)}`}` : "machine: nothing";
  hint.hidden = item.task === "words";
  hint.setAttribute("aria-pressed", state.hint);
  hint.textContent = state.hint ? words : "what the machine says";
}
const percent = value => `${Math.round(100 * value)}\u00a0%`;

function setGuide() {
  $("guidelines").replaceChildren($(`guide-${state.task}`).content.cloneNode(true));
  $("agreement").open = false;
}

// ---- deciding

function choose(answer, since) {
  if (answer.run) return answer.run();
  decide(answer.says, answer.name, since);
}

function decide(says, name, since) {
  const item = state.items.shift();
  if (!item) return;
  closeSearch();
  const body = {id: newId(), task: item.task, ...says, shown: state.hint || item.suggested != null};
  if (item.task === "words") body.words = item.words; else if (item.is_ad) body.ad = item.ad; else body.photo = item.photo;
  if (item.task === "class") body.given = item.given;
  const record = {entry: body, item};
  state.history.push(record);
  state.done++;
  const round = state.round;
  post("v1/decisions", body).then(({by_others: byOthers}) => {
    if (round === state.round && byOthers !== state.byOthers && state.queue !== "random") refill(true);  // of a sample everybody is asked all
  }, error => {
    toast(`Not taken: ${error.message}`);
    if (round !== state.round || !state.history.includes(record)) return;
    if (item.task === "class") return load();  // its label may be another one by now
    state.history.splice(state.history.indexOf(record), 1);
    state.done--; state.items.unshift(item); show();
  });
  const spelled = says.becomes ? taxonName(says.becomes) : name;
  show(since);
  press(name);
  showLast(item, says, spelled);
}

function press(name) {
  const button = [...$("answers").children].find(each => each.dataset.name === name);
  button?.classList.add("pressed");
  setTimeout(() => button?.classList.remove("pressed"), 160);
}

function showLast(item, says, name) {
  const said = item.machine[item.task], last = $("last");
  let words = "", mark = "";
  if (said && (item.task === "kind" || item.task === "viewpoint")) {
    const agrees = said.name === says.says;
    words = agrees ? ` · the machine says so too, ${percent(said.probability)}` : ` · the machine says ${said.name}, ${percent(said.probability)}`;
    mark = agrees ? "agrees" : "differs";
  } else if (said && item.task === "class" && ["keep", "relabel"].includes(says.says)) {
    const truth = says.becomes ? taxonName(says.becomes) : item.given, agrees = `${truth} `.startsWith(`${said.name} `);
    words = agrees ? ` · the machine says so too, ${percent(said.probability)}` : ` · the machine says ${said.name}, ${percent(said.probability)}`;
    mark = agrees ? "agrees" : "differs";
  }
  const strong = document.createElement("b");
  strong.textContent = name;
  last.className = `last ${mark}`;
  last.replaceChildren("You said ", strong, words);
  last.hidden = false;
}

async function undo() {
  const record = state.history.pop(), round = state.round;
  if (!record) return toast("Nothing to undo in this queue");
  closeSearch();
  const back = item => { state.items.unshift(item); state.seen.add(item.key); state.done = Math.max(0, state.done - 1); $("last").hidden = true; show(); };
  if (record.item) back(record.item);
  try {
    const answer = await post("v1/undo", {id: record.entry.id});
    if (!record.item && round === state.round) back(answer.item);
  } catch (error) { toast(`Not undone: ${error.message}`); }
}

function skip(since) {
  if (state.items.length < 2) return toast("No other is left");
  state.items.push(state.items.shift());
  closeSearch();
  show(since);
}

// ---- choosing a taxon

let taxa = null, choices = [], chosen = 0;
const fold = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const isSpan = text => /^\d{4}\s*[-–]\s*(\d{4})?$/.test(text ?? "");
const taxonName = ({make, model, generation, year}) =>  // as Taxon.name() has it, of a taxon without a row
  [make, model, year != null && isSpan(generation) ? null : generation, year].filter(part => part != null).join(" ");

const withWords = row => ({...row, words: fold(row.name).split(/[^\p{L}\p{N}]+/u)});

async function openSearch() {
  $("search").hidden = false;
  $("taxon").value = "";
  choices = []; drawChoices();
  $("taxon").focus();
  if (!taxa) {
    try { taxa = (await ask("v1/taxa")).map(withWords); } catch (error) { toast(error.message); }
    findChoices();
  }
}

function closeSearch() { $("search").hidden = true; if (document.activeElement === $("taxon")) $("taxon").blur(); }

function findChoices() {
  if (!taxa) return;  // until the classes are there, a known one could be taken for a new one
  const typed = $("taxon").value.trim(), words = fold(typed).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const needsModel = state.task === "words";
  choices = !words.length ? [] : taxa.filter(row => (row.taxon.model || !needsModel) && words.every(word => row.words.some(each => each.startsWith(word)))).slice(0, 8);
  const {make, model} = makeAndModel(typed);
  if (model && !choices.some(row => fold(row.name) === fold(typed)))
    choices = [...choices.slice(0, 7), {taxon: {make, model}, name: `${make} · ${model}`, note: "new: make · model", isNew: true}];
  chosen = 0;
  drawChoices();
}

function makeAndModel(typed) {  // a known make may be of several words, and is spelled as it is known
  const parts = typed.split(/\s+/), folded = fold(`${parts.join(" ")} `);
  const make = taxa.map(row => row.taxon.make).filter(each => folded.startsWith(fold(`${each} `))).sort((a, b) => b.length - a.length)[0] ?? parts[0];
  return {make, model: parts.slice(make.split(/\s+/).length).join(" ")};
}

function drawChoices() {
  $("taxa").replaceChildren(...choices.map((row, index) => {
    const line = document.createElement("li"), name = document.createElement("span"), note = document.createElement("small");
    line.role = "option"; line.id = `taxon-${index}`; line.ariaSelected = String(index === chosen);
    name.textContent = row.name; note.textContent = row.note ?? (row.ads ? `${row.ads} ad${row.ads === 1 ? "" : "s"}` : "");
    line.append(name, note);
    line.addEventListener("click", event => pick(index, event.timeStamp));
    return line;
  }));
  $("taxon").setAttribute("aria-activedescendant", choices.length ? `taxon-${chosen}` : "");
}

function pick(index, since) {
  const row = choices[index];
  if (!row) return;
  if (row.isNew) taxa.unshift(withWords({taxon: row.taxon, name: taxonName(row.taxon)}));  // or typed again in other letters it would be another class
  decide({says: "relabel", becomes: row.taxon}, "another …", since);
}

$("taxon").addEventListener("input", findChoices);
$("search").addEventListener("submit", event => event.preventDefault());
$("taxon").addEventListener("keydown", event => {
  event.stopPropagation();
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    chosen = (chosen + (event.key === "ArrowDown" ? 1 : choices.length - 1)) % Math.max(1, choices.length);
    drawChoices();
  } else if (event.key === "Enter") { event.preventDefault(); pick(chosen, event.timeStamp); }
  else if (event.key === "Escape") {
    if (state.task === "words" && !$("taxon").value) { const [answer] = answersOf(state.items[0]); choose(answer, event.timeStamp); }
    else if (state.task === "words") { $("taxon").value = ""; findChoices(); } else closeSearch();
  } else if (event.key === "Tab" && !event.shiftKey && state.task === "words" && !$("taxon").value) { event.preventDefault(); skip(event.timeStamp); }
  else if (event.key === "z" && (event.ctrlKey || event.metaKey) && !$("taxon").value) { event.preventDefault(); undo(); }
});

// ---- keys and buttons

const ACTIONS = {
  skip: since => skip(since), undo,
  hint: () => { state.hint = !state.hint; localStorage.setItem("hint", state.hint ? "1" : ""); if (state.items[0]) { showHint(state.items[0]); paint(state.items[0]); } },
  turn: () => { if (state.items[0]?.album.length > 1) look(turned(1)); },
  back: () => { if (state.items[0]?.album.length > 1) look(turned(-1)); },
  box: () => { state.box = !state.box; if (state.items[0]) paint(state.items[0]); },
  guide: () => { $("guide").open = !$("guide").open; if ($("guide").open) $("guide").scrollIntoView({block: "nearest"}); },
};
const KEYS = {s: "skip", " ": "skip", z: "undo", Backspace: "undo", h: "hint", b: "box", ArrowRight: "turn", ArrowLeft: "back", "?": "guide"};

addEventListener("keydown", event => {
  if (event.key === "Z" || (event.key === "z" && (event.ctrlKey || event.metaKey))) { event.preventDefault(); return undo(); }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("select, input, textarea") || (event.target.closest("button, summary") && (event.key === " " || event.key === "Enter"))) return;
  if (event.key === "L") return learn();
  const item = state.items[0], answer = item && answersOf(item).find(each => each?.keys.includes(event.key));
  if (answer) { event.preventDefault(); choose(answer, event.timeStamp); }
  else if (KEYS[event.key]) { event.preventDefault(); ACTIONS[KEYS[event.key]](event.timeStamp); }
});
document.querySelector(".keys").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button) { ACTIONS[button.dataset.do](event.timeStamp); button.blur(); }
});
$("hint").addEventListener("click", () => { ACTIONS.hint(); $("hint").blur(); });
$("queue").addEventListener("change", () => { choosePreset($("queue").value); $("queue").blur(); load(); });
$("learn").addEventListener("click", () => { learn(); $("learn").blur(); });
$("agreement").addEventListener("toggle", async () => {
  if (!$("agreement").open) return;
  try { $("agreed").textContent = inWords(await ask("v1/agreement", {task: state.task})); } catch (error) { $("agreed").textContent = error.message; }
});

function inWords({people, targets, percent: share, kappa, method, differ}) {
  if (!targets) return "Nobody has judged the same as somebody else yet. A random sample is asked of everybody.";
  const name = method === "cohen" ? "Cohen's" : "Fleiss'";
  return `${people.join(", ")} agree on ${share} % of ${targets}; ${name} kappa ${kappa ?? "cannot be told"}. They differ on ${differ.length}.`;
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text; $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

async function learn() {
  if ($("learn").disabled || $("learn").hidden) return;
  $("learn").disabled = true;
  try {
    await post("v1/learn", {}).catch(() => {});  // it runs already
    for (let now = {running: true}; now.running;) {
      await new Promise(wake => setTimeout(wake, 600));
      now = await ask("v1/learn");
      $("learn").textContent = now.running ? `Learning: ${now.step} …` : "Learn";
      if (!now.running) toast(now.error ?? `Learned: ${now.said}`);
    }
    taxa = null;
    if (!state.items.length || state.queue === "uncertain" || ["class", "words"].includes(state.task)) load();
  } catch (error) { toast(error.message); }
  $("learn").textContent = "Learn"; $("learn").disabled = false;
}

// ---- beginning

function choosePreset(value) { [state.queue, state.task] = value.split("/"); localStorage.setItem("queue", value); }

async function begin() {
  try { state.session = await ask("v1/session"); } catch (error) { return message(error.message, "The review does not answer"); }
  const {project, person, queues, learns, begin: wanted} = state.session;
  document.title = `Review · ${project}`;
  $("learn").hidden = !learns;
  $("project").textContent = project; $("person").textContent = person;
  for (const [queue, tasks] of Object.entries(queues)) for (const task of tasks) {
    const option = document.createElement("option");
    option.value = `${queue}/${task}`; option.textContent = tasks.length > 1 ? `${TITLES[queue]}: ${task}` : TITLES[queue];
    $("queue").append(option);
  }
  const first = `${wanted.queue}/${wanted.task ?? queues[wanted.queue][0]}`;
  const held = sessionStorage.getItem("began") ? localStorage.getItem("queue") : null;  // a reload stays where it was
  sessionStorage.setItem("began", "1");
  $("queue").value = held ?? first;
  if (!$("queue").value) $("queue").value = first;
  choosePreset($("queue").value);
  state.hint = localStorage.getItem("hint") === "1";
  $("guide").open = innerWidth > 860;
  showSaved();
  load();
}
begin();
