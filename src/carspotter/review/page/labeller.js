// The labeller in a notebook (anywidget): items from the kernel in, decisions to the kernel out; pictures come ahead.

const KEYS = {
  kind: [["exterior", "e"], ["interior", "i"], ["detail", "d"], ["other", "o"]],
  viewpoint: [["front-left", "7"], ["front", "8"], ["front-right", "9"], ["left", "4"], ["unknown", "0"], ["right", "6"],
    ["back-left", "1"], ["back", "2"], ["back-right", "3"]],
  class: [["keep", "k"], ["undecidable", "u"], ["drop", "d"]],
};
const STYLE = `.spot { font: 14px/1.45 system-ui, sans-serif; outline: none; max-width: 860px; border: 1px solid rgb(128 128 128 / .35); border-radius: 10px; padding: 12px; }
.spot:focus-within, .spot:focus { border-color: #1769aa; } .spot .top { display: flex; justify-content: space-between; gap: 12px; margin-bottom: 8px; }
.spot .photo { position: relative; height: 420px; background: rgb(128 128 128 / .12); border-radius: 8px; overflow: hidden; display: grid; place-items: center; }
.spot img, .spot svg { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; } .spot rect { fill: none; stroke: #2f9e44; stroke-width: 3; vector-effect: non-scaling-stroke; }
.spot .row { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 10px; align-items: center; } .spot .dial { display: grid; grid-template-columns: repeat(3, 1fr); }
.spot button { font: inherit; color: inherit; padding: 7px 12px; border: 1px solid rgb(128 128 128 / .4); border-radius: 8px; background: none; cursor: pointer; } .spot button:hover { border-color: #1769aa; }
.spot kbd { opacity: .6; margin-right: 7px; } .spot input { font: inherit; color: inherit; background: none; border: 1px solid rgb(128 128 128 / .5); border-radius: 8px; padding: 7px 10px; flex: 1; min-width: 180px; }
.spot .album { display: grid; grid-template-columns: repeat(auto-fill, 76px); gap: 5px; margin-top: 8px; } .spot .album button { position: relative; padding: 0; height: 57px; overflow: hidden; } .spot .album img { object-fit: cover; }
.spot .album [aria-current] { border: 2px solid #1769aa; } .spot .album .asked { border: 2px solid #b8691b; } .spot .soft { opacity: .7; } .spot .bad { color: #c92a2a; }`;

const make = (tag, properties = {}, ...inside) => { const node = Object.assign(document.createElement(tag), properties); node.append(...inside); return node; };
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
const fold = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const isSpan = text => /^\d{4}\s*[-–]\s*(\d{4})?$/.test(text ?? "");
const taxonName = ({make, model, generation, year}) =>  // as Taxon.name() has it, of a taxon without a row
  [make, model, year != null && isSpan(generation) ? null : generation, year].filter(part => part != null).join(" ");

function render({model, el}) {
  const task = model.get("task"), pictures = new Map(), smalls = new Map(), decided = new Map(), failed = new Map();
  let back = [], taxa = null, note = "", look = null, album = null;
  const root = make("div", {className: "spot", tabIndex: 0}), count = make("span", {className: "soft"}), title = make("b"), says = make("div", {className: "soft"});
  const photo = make("div", {className: "photo"}), answers = make("div", {className: task === "viewpoint" ? "row dial" : "row"});
  const input = make("input", {placeholder: "another: make and model …"}), names = make("datalist", {id: `taxa-${newId()}`});
  const shots = make("div", {className: "album"});
  root.append(make("style", {textContent: STYLE}), make("div", {className: "top"}, title, count), photo, shots, answers, make("div", {className: "row"}), says);
  el.append(root);

  const items = () => [...back, ...model.get("items").filter(item => !back.some(each => each.key === item.key))].filter(item => !decided.has(item.key));
  const current = () => items()[0];

  function draw() {
    const item = current();
    count.textContent = `${Math.min(model.get("total"), model.get("done") + [...decided.keys()].filter(key => model.get("items").some(each => each.key === key)).length)} of ${model.get("total")}`;
    title.textContent = !item ? "All decided" : task === "class" ? `Is it ${item.given ?? "known"}?` : task === "kind" ? "What does the photo show?" : "Which side is seen?";
    photo.replaceChildren();
    if (album !== item?.key) { album = item?.key; look = null; }
    shots.replaceChildren(...(item?.album ?? []).map(shot => thumb(item, shot)));
    says.textContent = note;
    if (!item) return;
    const view = look ?? item, url = pictures.get(view.photo);
    if (url) photo.append(make("img", {src: url, alt: `photo ${view.photo}`}));
    else photo.append(make("span", {className: "soft", textContent: failed.get(view.photo) ?? "loading …"}));
    photo.dataset.photo = url ? view.photo : "";
    if (url && view.box && task !== "kind") photo.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 ${Number(view.size[0])} ${Number(view.size[1])}"><rect x="${view.box[0] * view.size[0]}" y="${view.box[1] * view.size[1]}" width="${(view.box[2] - view.box[0]) * view.size[0]}" height="${(view.box[3] - view.box[1]) * view.size[1]}"/></svg>`);
    for (const each of [view, ...items().slice(0, 6)]) if (each.photo && !pictures.has(each.photo)) { pictures.set(each.photo, null); model.send({type: "picture", photo: each.photo}); }
  }

  function thumb(item, shot) {
    const button = make("button", {type: "button", title: shot.photo, className: !item.is_ad && shot.photo === item.photo ? "asked" : "", onclick: () => { look = shot; draw(); }});
    if (shot.photo === (look ?? item).photo) button.setAttribute("aria-current", "true");
    if (smalls.get(shot.photo)) button.append(make("img", {src: smalls.get(shot.photo), alt: `photo ${shot.photo}`}));
    else if (!smalls.has(shot.photo)) { smalls.set(shot.photo, null); model.send({type: "picture", photo: shot.photo, small: true}); }
    return button;
  }

  function decide(answer, becomes) {
    const item = current();
    if (!item) return;
    const content = {type: "decide", id: newId(), task, says: answer, shown: false};
    if (item.is_ad) content.ad = item.ad; else content.photo = item.photo;
    if (becomes) content.becomes = becomes;
    decided.set(item.key, content.id);
    back = back.filter(each => each.key !== item.key);
    const said = item.machine?.[task];
    note = `You said ${becomes ? taxonName(becomes) : answer}${said ? `; the machine says ${said.name} ${Math.round(100 * said.probability)} %` : ""}. z takes it back.`;
    model.send(content);
    draw();
  }

  function taxonOf(parts) {
    const typed = fold(parts.join(" ")), found = taxa.find(each => fold(each.name) === typed);
    if (found) return found.taxon;
    // A known make may be of several words, and is spelled as it is known.
    const make = taxa.map(each => each.taxon.make).filter(each => `${typed} `.startsWith(fold(`${each} `))).sort((a, b) => b.length - a.length)[0] ?? parts[0];
    const model = parts.slice(make.split(/\s+/).length).join(" ");
    const made = {make, ...(model ? {model} : {})};
    taxa = [{taxon: made, name: taxonName(made)}, ...taxa];  // or typed again in other letters it would be another class
    return made;
  }

  function undo() {
    const id = [...decided.values()].pop() ?? model.get("last").at(-1);
    if (id) model.send({type: "undo", id});
  }

  for (const [name, key] of KEYS[task]) answers.append(make("button", {type: "button", onclick: () => decide(name)}, make("kbd", {textContent: key}), name));
  const row = root.querySelectorAll(".row")[1];
  if (task === "class") {
    input.setAttribute("list", names.id);
    input.onfocus = () => { if (!taxa) model.send({type: "taxa"}); };
    input.onkeydown = event => {
      event.stopPropagation();
      if (event.key === "Escape") { input.value = ""; root.focus(); }
      if (event.key !== "Enter" || !input.value.trim()) return;
      if (!taxa) { note = "The classes are on their way; then Enter again."; return draw(); }  // a known one could be taken for a new one
      decide("relabel", taxonOf(input.value.trim().split(/\s+/)));
      input.value = ""; root.focus();
    };
    row.append(input, names);
  }
  row.append(make("button", {type: "button", onclick: undo}, make("kbd", {textContent: "z"}), "undo"));

  root.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === input) return;
    const answer = KEYS[task].find(([, key]) => key === event.key);
    if (answer) decide(answer[0]); else if (event.key === "z") undo(); else return;
    event.preventDefault(); event.stopPropagation();  // a notebook has keys of its own
  });
  model.on("msg:custom", (content, buffers) => {
    if (content.type === "picture") {
      const held = content.small ? smalls : pictures, url = URL.createObjectURL(new Blob([buffers[0]], {type: "image/jpeg"}));
      held.set(content.photo, url);
      if (content.small || (look ?? current())?.photo === content.photo) draw(); else new Image().src = url;
    }
    else if (content.type === "undone") { decided.delete(content.item.key); back = [content.item]; note = "Taken back."; draw(); }
    else if (content.type === "taxa") { taxa = content.taxa; names.replaceChildren(...taxa.map(each => make("option", {value: each.name}))); }
    else if (content.type === "error") {
      note = content.text;
      if (content.of === "picture" && pictures.get(content.photo) === null) failed.set(content.photo, content.text);
      for (const [key, id] of decided) if (content.of === "decide" && id === content.id) decided.delete(key);
      draw();
    }
  });
  model.on("change:items", draw); model.on("change:done", draw);
  draw();
  return () => [...pictures.values(), ...smalls.values()].forEach(url => url && URL.revokeObjectURL(url));
}
export default {render};
