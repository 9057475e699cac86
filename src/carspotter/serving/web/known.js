// What the identifier can name, beside its answer: how many makes and models, of which years, and a list to look one up
// in. It asks nobody: whoever shows it says where the classes come from.

import { find, make } from "./draw.js";

/** Count what classes can name, as `Taxonomy.extent` does: {makes, models, years}. */
export function extent(classes) {
  const makes = new Set(classes.map((taxon) => taxon.make));
  const models = new Set(classes.filter((taxon) => taxon.model).map((taxon) => `${taxon.make}\n${taxon.model}`));
  const years = classes.flatMap(yearsOf);
  return { makes: makes.size, models: models.size, years: years.length ? [Math.min(...years), Math.max(...years)] : null };
}

const yearsOf = ({ year, generation }) => (String(year ?? generation ?? "").match(/(?<!\d)(?:19|20)\d\d(?!\d)/g) ?? []).map(Number);

const number = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const span = ([first, last]) => (first === last ? `${first}` : `${first} to ${last}`);

/** Say in words how much that is. */
export function inWords({ makes, models, years }) {
  const parts = [number(makes, "make", "makes"), ...(models ? [number(models, "model", "models")] : [])];
  return `It knows ${parts.join(" and ")}${years ? `, of the years ${span(years)}` : ""}.`;
}

/** Fill #known and #knows with what can be named; `load` gives the classes once somebody wants to see them. */
export function showKnown(knows, load) {
  if (!knows) return;
  const words = inWords(knows);
  find("#knows").textContent = words;
  const place = find("#known");
  const list = make("div", { class: "listed" });
  const input = make("input", { id: "known-word", type: "search", autocomplete: "off", placeholder: "Make or model" });
  const details = make("details", {}, make("summary", {}, "Look up a make or model"), make("label", { for: "known-word", class: "aside" }, "Make or model"), input, list);
  let makes = null;
  const refresh = () => makes && list.replaceChildren(...found(makes, input.value));
  input.addEventListener("input", refresh);
  details.addEventListener("toggle", async () => {
    if (!details.open || makes) return;
    list.replaceChildren(make("p", { class: "soft fine" }, "Loading the list"));
    try {
      makes = byMake(await load());
      refresh();
    } catch {
      list.replaceChildren(make("p", { class: "soft fine" }, "The list cannot be read now."));
    }
  });
  place.replaceChildren(make("p", { class: "soft fine" }, `${words} A car of another make cannot be named.`), details);
  place.hidden = false;
}

/** Sort classes into makes, models and their years: [{name, models: [{name, years}]}]. */
export function byMake(classes) {
  const makes = new Map();
  for (const taxon of classes) {
    const models = makes.get(taxon.make) ?? makes.set(taxon.make, new Map()).get(taxon.make);
    if (!taxon.model) continue;
    models.set(taxon.model, [...(models.get(taxon.model) ?? []), ...yearsOf(taxon)]);
  }
  const order = new Intl.Collator("en", { numeric: true }).compare;
  const sorted = (map) => [...map].sort(([one], [other]) => order(one, other));
  return sorted(makes).map(([name, models]) => ({ name, models: sorted(models).map(([model, years]) => ({ name: model, years })) }));
}

const plain = (text) => text.normalize("NFKD").replace(/[^\p{L}\p{N}]/gu, "").toLowerCase();

/** Return what a search finds: makes by name with all their models, else makes with the models that fit. */
function found(makes, query) {
  const wanted = plain(query);
  const hits = makes.flatMap((one) => {
    if (!wanted || plain(one.name).includes(wanted)) return [{ ...one, isOpen: false }];
    const models = one.models.filter(({ name }) => plain(name).includes(wanted) || plain(one.name + name).includes(wanted));
    return models.length ? [{ name: one.name, models, isOpen: true }] : [];
  });
  if (!hits.length) return [make("p", { class: "soft fine" }, `“${query.trim()}” is not among them.`)];
  return hits.map((hit) => row(hit, hits.length === 1));
}

function row({ name, models, isOpen }, isOnly) {
  if (!models.length) return make("p", { class: "make" }, `${name} `, make("small", { class: "soft" }, "make alone"));
  const years = (all) => (all.length ? make("small", { class: "soft" }, span([Math.min(...all), Math.max(...all)])) : null);
  const lines = models.map((model) => make("li", {}, `${model.name} `, years(model.years)));
  const head = make("summary", { class: "make" }, `${name} `, make("small", { class: "soft" }, number(models.length, "model", "models")));
  return make("details", { open: isOpen || isOnly }, head, make("ul", {}, ...lines));
}
