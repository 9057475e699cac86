"""Does what `learn` makes refuse strangers? Photos of classes that it learnt, and of others of one market.

Some classes of a source, drawn by seed, are learnt from all but two fifths of their vehicles, or from a few photographs
each; asked are the vehicles kept apart, and all of ten other classes. Out: AUROC of the evidence, the share of
strangers refused where 95 % of own photographs are kept, what the bundle's own bar does, and how much of what is
answered is right.

The shipped network knows most models of its own market. With `--hide` its names of the strangers (`out`), of the learnt
classes (`own`) or of both (`all`) are taken from what it says, as if it had never heard of them; with `--plain` the
embedding decides alone. `--ads N` draws groups of N photographs of one class and asks each group as one ad.

    python benchmarks/open_set.py ../shared/data/more-cars/labels.csv --source toolongdontrea --cache runs/open-set
    python benchmarks/open_set.py … --hide all | --plain | --learnt 1 2 5 | --ads 4
    python benchmarks/open_set.py runs/identifier/labels.csv --source "used-car ads" --level make --least 20
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.crops import crop_of
from carspotter.evaluation.evaluating import LabelledPhoto, from_labels
from carspotter.evaluation.strangers import stranger_figures
from carspotter.recognition.fusion import fuse
from carspotter.recognition.gallery import Gallery, LearnSettings, learn
from carspotter.recognition.identifier import Identifier
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import Session
from carspotter.taxonomy import Taxon, Taxonomy
from measure import parser, report

COUNTS = (0, 10, 5, 3, 1)
"""Photographs of each class to learn from; 0: all that are not kept apart."""
DRAWS = 3
STRANGERS = 10
KEPT_APART = 0.4
BATCH = 16

Floats = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """The embedding (n, d), the class and the vehicle (n,) of each crop, and what the network says (n, names).

    `said` is of the level that is asked for, `models` of models and `probabilities` of the network's classes.
    """

    embeddings: Floats
    said: Floats
    models: Floats
    probabilities: Floats
    classes: Names
    vehicles: Names


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="CSV: path, source, make, model, ad_id or group, box")
    options.add_argument("--classes", type=Path, help="CSV of what each class_id is")
    options.add_argument("--source", required=True, help="a market of the labels, or all")
    options.add_argument("--level", default="model", choices=("make", "model"))
    options.add_argument("--least", type=int, default=10, help="photographs that a class needs")
    options.add_argument("--learnt", type=int, nargs="+", default=[10], help="classes to learn")
    options.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="photographs of a class; 0: all others")
    options.add_argument("--hide", choices=("out", "own", "all"), help="names that the network shall not know")
    options.add_argument("--plain", action="store_true", help="without what the network itself says")
    options.add_argument("--ads", type=int, default=1, help="photographs that are asked together")
    options.add_argument("--cache", type=Path, help="folder for what the network said of the photographs")
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    session = bundle.open_session("onnxruntime")
    photos = [photo for photo in from_labels(given.labels, classes=given.classes) if named(photo, given.level)]
    photos = [photo for photo in photos if given.source in ("all", photo.about["source"])]
    counts = Counter(named(photo, given.level) for photo in photos)
    photos = [photo for photo in photos if counts[named(photo, given.level)] >= given.least]
    crops = cached(photos, given.level, bundle, session, folder=given.cache)
    rows = []
    for learnt in given.learnt:
        for count in given.counts:
            how = Trial(learnt=learnt, count=count, hide=given.hide or "", plain=given.plain, together=given.ads)
            drawn = [measure(crops, how, seed, bundle=bundle, session=session) for seed in range(DRAWS)]
            means = {key: round(float(np.nanmean([row[key] for row in drawn])), 4) for key in drawn[0]}
            rows.append({"classes learnt": learnt, "photographs of each": count or "all others", **means})
    conditions = {"identifier": bundle.name, "source": given.source, "level": given.level, "photos": len(crops.classes)}
    conditions |= {"hidden": given.hide or "nothing", "plain": given.plain, "photographs asked together": given.ads}
    report(f"{STRANGERS} classes that were not learnt", rows, as_json=given.json, conditions=conditions)


def named(photo: LabelledPhoto, level: Any) -> str:
    """Give the name of a photo's label at a level, "" where it does not say it."""
    label = photo.label or photo.taxon
    return label.name(level) if label is not None and getattr(label, level) is not None else ""


def cached(
    photos: Sequence[LabelledPhoto], level: str, bundle: ModelBundle, session: Session, *, folder: Path | None
) -> Crops:
    """Embed photos, or read what was kept of the same photos and network."""
    said = "|".join([bundle.version, level, *(f"{photo.name} {named(photo, level)}" for photo in photos)])
    path = folder / f"{blake2b(said.encode(), digest_size=8).hexdigest()}.npz" if folder else None
    if path is not None and path.exists():
        with np.load(path) as kept:
            return Crops(**kept)
    crops = embedded(photos, level, bundle, session)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(crops))
    return crops


def embedded(photos: Sequence[LabelledPhoto], level: str, bundle: ModelBundle, session: Session) -> Crops:
    """Embed the crops of photos as serving does."""
    parts = []
    for start in range(0, len(photos), BATCH):
        inputs = [crop_of(photo.read(), bundle.preprocessing, photo.box) for photo in photos[start : start + BATCH]]
        parts.append(session.run(np.stack(inputs)))
    told = {
        name: np.concatenate([part[name] for part in parts]).astype(np.float32)
        for name in ("embedding", level, "model", "probabilities")
    }
    return Crops(
        embeddings=told["embedding"],
        said=told[level],
        models=told["model"],
        probabilities=told["probabilities"],
        classes=np.array([named(photo, level) for photo in photos]),
        vehicles=np.array([photo.about["ad_id"] or photo.name for photo in photos]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How many classes are learnt from how many photographs each, and what is asked."""

    learnt: int
    count: int
    hide: str = ""
    plain: bool = False
    together: int = 1


def measure(crops: Crops, how: Trial, seed: int, *, bundle: ModelBundle, session: Session) -> dict[str, float]:
    """Learn some classes, drawn by seed, and ask the vehicles that were kept apart and those of ten other classes."""
    random = np.random.default_rng(seed)
    found = random.permutation(np.unique(crops.classes))
    known, others = np.sort(found[: how.learnt]), found[how.learnt :][:STRANGERS]
    names = np.unique(crops.vehicles)
    apart = np.isin(crops.vehicles, random.permutation(names)[: round(KEPT_APART * len(names))])
    is_known = np.isin(crops.classes, known)
    rows = few(np.flatnonzero(is_known & ~apart), crops.classes, how.count or None, random)
    unknown = {"out": others.tolist(), "own": known.tolist(), "all": [*known.tolist(), *others.tolist()]}
    crops = hidden(crops, unknown.get(how.hide, []), bundle)
    taxonomy = Taxonomy(tuple(Taxon(make=str(name)) for name in np.unique(crops.classes[rows])))
    truth = {name: number for number, name in enumerate(taxonomy.names("make"))}
    gallery = learn(
        crops.embeddings[rows],
        np.array([truth[name] for name in crops.classes[rows].tolist()]),
        taxonomy,
        said=None if how.plain else crops.models[rows],
        groups=crops.vehicles[rows].tolist(),
        settings=LearnSettings(seed=seed),
    )
    learnt = ModelBundle(
        task="identifier",
        name="some",
        preprocessing=bundle.preprocessing,
        card=bundle.card,
        calibration=gallery.calibration,
        taxonomy=taxonomy,
        head=gallery.head,
    )
    identifier = Identifier(learnt, session)
    asked = [
        ads(np.flatnonzero(chosen), crops.classes, how.together, random)
        for chosen in (is_known & apart, np.isin(crops.classes, others))
    ]
    evidence = [[asked_together(ad, crops, gallery) for ad in part] for part in asked]
    figures = stranger_figures(evidence[0], evidence[1], gallery.calibration.get("evidence", -np.inf))
    table = [[fuse(gallery.probabilities(crops.embeddings[ad]), taxonomy) for ad in part] for part in asked]
    answered = [
        [said(identifier, p, crops.embeddings[ad[0]], each) for p, ad, each in zip(*group, strict=True)]
        for group in zip(table, asked, evidence, strict=True)
    ]
    labels = [crops.classes[ad[0]] for ad in asked[0]]
    right = [answer == label for answer, label in zip(answered[0], labels, strict=True) if answer]
    top = [taxonomy.names("make")[int(p.argmax())] == label for p, label in zip(table[0], labels, strict=True)]
    return {
        "AUROC": figures.auroc.value,
        "strangers refused at 95 % of own kept": figures.at_95.value,
        "bar: own kept": figures.kept.value,
        "bar: strangers refused": figures.refused.value,
        "top-1 of own": float(np.mean(top)),
        "answered of own": float(np.mean([answer != "" for answer in answered[0]])),
        "right where answered": float(np.mean(right)) if right else float("nan"),
        "strangers answered": float(np.mean([answer != "" for answer in answered[1]])),
    }


def hidden(crops: Crops, names: Sequence[str], bundle: ModelBundle) -> Crops:
    """Return the crops as a network without these models would have said it: their probability goes to the others."""
    if not names:
        return crops
    assert bundle.taxonomy is not None
    plain = {plain_name(name) for name in names}
    shown = np.array([plain_name(name) not in plain for name in bundle.taxonomy.names("model")])
    left = crops.models * shown + 1e-9
    return replace(crops, models=left / left.sum(axis=1, keepdims=True))


def plain_name(name: str) -> str:
    """Write a model as its sources do not differ in."""
    return name.casefold().replace("-", " ")


def few(rows: npt.NDArray[np.intp], classes: Names, count: int | None, random: np.random.Generator) -> list[int]:
    """Draw so many of the rows of each class, or take all."""
    order = random.permutation(rows)
    return [at for name in np.unique(classes[rows]) for at in order[classes[order] == name][:count].tolist()]


def ads(
    rows: npt.NDArray[np.intp], classes: Names, together: int, random: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """Deal the rows of each class to groups of so many; what is left over is not asked."""
    groups = []
    for name in np.unique(classes[rows]):
        order = random.permutation(rows[classes[rows] == name])
        groups += [order[at : at + together] for at in range(0, len(order) - together + 1, together)]
    return groups


def asked_together(ad: npt.NDArray[np.intp], crops: Crops, gallery: Gallery) -> float:
    """Give the evidence of an ad as `answer_ad` does: the mean of its photographs."""
    return float(gallery.head.evidence(crops.embeddings[ad], crops.models[ad]).mean())


def said(identifier: Identifier, probabilities: npt.NDArray[np.float64], embedding: Floats, evidence: float) -> str:
    """Give the name that is answered, "" where none is."""
    answer = identifier.judge(probabilities, embedding, evidence=evidence).answer
    return answer.name if answer else ""


if __name__ == "__main__":
    main()
