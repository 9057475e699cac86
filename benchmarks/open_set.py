"""Does what `learn` makes know that it does not know? Photos of classes that it learnt, and of others of one market.

Half of the classes of a source are learnt by the identifier's embeddings, from all but two fifths of their vehicles, or
from a few photographs each; asked are the vehicles kept apart and all of the other classes. Five draws. Out: AUROC of
the head's evidence, what the bundle's own bar keeps and refuses, and how much of what is then answered is right.

    python benchmarks/open_set.py ../shared/data/more-cars/labels.csv --source toolongdontrea [--bundle FOLDER]
    python benchmarks/open_set.py runs/identifier/labels.csv --source "used-car ads" --level make --least 20
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.crops import crop_of
from carspotter.evaluation.evaluating import LabelledPhoto, from_labels
from carspotter.evaluation.intervals import auroc
from carspotter.recognition.gallery import LearnSettings, learn
from carspotter.recognition.identifier import Identifier
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.session import Session
from carspotter.taxonomy import Taxon, Taxonomy
from measure import parser, report

COUNTS = (None, 10, 5, 3, 1)
"""Photographs of each class to learn from; None: all that are not kept apart."""
DRAWS = 5
KEPT_APART = 0.4
BATCH = 16

Floats = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """The embedding (n, d), the class and the vehicle (n,) of each crop, and what the network says (n, names)."""

    embeddings: Floats
    said: Floats
    classes: Names
    vehicles: Names


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="CSV: path, source, make, model, ad_id or group, box")
    options.add_argument("--classes", type=Path, help="CSV of what each class_id is")
    options.add_argument("--source", required=True)
    options.add_argument("--level", default="model", choices=("make", "model"))
    options.add_argument("--least", type=int, default=10, help="photographs that a class needs")
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    session = bundle.open_session("onnxruntime")
    photos = [photo for photo in from_labels(given.labels, classes=given.classes) if named(photo, given.level)]
    photos = [photo for photo in photos if photo.about["source"] == given.source]
    counts = Counter(named(photo, given.level) for photo in photos)
    crops = embedded([p for p in photos if counts[named(p, given.level)] >= given.least], given.level, bundle, session)
    rows = []
    for count in COUNTS:
        drawn = [measure(crops, count, seed, bundle=bundle, session=session) for seed in range(DRAWS)]
        means = {key: round(float(np.nanmean([row[key] for row in drawn])), 4) for key in drawn[0]}
        rows.append({"photographs of a class": count or "all others", **means})
    conditions = {"identifier": bundle.name, "source": given.source, "level": given.level, "photos": len(crops.classes)}
    conditions["classes"] = f"{len(set(crops.classes.tolist()))}, half of them learnt"
    report("Classes that were not learnt", rows, as_json=given.json, conditions=conditions)


def named(photo: LabelledPhoto, level: Any) -> str:
    """Give the name of a photo's label at a level, "" where it does not say it."""
    label = photo.label or photo.taxon
    return label.name(level) if label is not None and getattr(label, level) is not None else ""


def embedded(photos: Sequence[LabelledPhoto], level: str, bundle: ModelBundle, session: Session) -> Crops:
    """Embed the crops of photos as serving does."""
    parts = []
    for start in range(0, len(photos), BATCH):
        inputs = [crop_of(photo.read(), bundle.preprocessing, photo.box) for photo in photos[start : start + BATCH]]
        outputs = session.run(np.stack(inputs))
        parts.append((outputs["embedding"], outputs[level]))
    return Crops(
        embeddings=np.concatenate([part for part, _ in parts]).astype(np.float32),
        said=np.concatenate([part for _, part in parts]).astype(np.float32),
        classes=np.array([named(photo, level) for photo in photos]),
        vehicles=np.array([photo.about["ad_id"] or photo.name for photo in photos]),
    )


def measure(crops: Crops, count: int | None, seed: int, *, bundle: ModelBundle, session: Session) -> dict[str, float]:
    """Learn one half of the classes, drawn by seed, and ask the vehicles that were kept apart and the other half's."""
    random = np.random.default_rng(seed)
    found = random.permutation(np.unique(crops.classes))
    known = np.sort(found[: len(found) // 2])
    names = np.unique(crops.vehicles)
    apart = np.isin(crops.vehicles, random.permutation(names)[: round(KEPT_APART * len(names))])
    is_known = np.isin(crops.classes, known)
    rows = few(np.flatnonzero(is_known & ~apart), crops.classes, count, random)
    taxonomy = Taxonomy(tuple(Taxon(make=str(name)) for name in np.unique(crops.classes[rows])))
    truth = {name: number for number, name in enumerate(taxonomy.names("make"))}
    gallery = learn(
        crops.embeddings[rows],
        np.array([truth[name] for name in crops.classes[rows].tolist()]),
        taxonomy,
        groups=crops.vehicles[rows].tolist(),
        settings=LearnSettings(seed=seed),
    )
    learnt = ModelBundle(
        task="identifier",
        name="half",
        preprocessing=bundle.preprocessing,
        card=bundle.card,
        calibration=gallery.calibration,
        taxonomy=taxonomy,
        head=gallery.head,
    )
    identifier = Identifier(learnt, session)
    own, others = np.flatnonzero(is_known & apart), np.flatnonzero(~is_known)
    answered = [[said(identifier, gallery, crops.embeddings[at]) for at in part.tolist()] for part in (own, others)]
    right = [answer == crops.classes[at] for answer, at in zip(answered[0], own.tolist(), strict=True) if answer]
    least = gallery.calibration.get("evidence", -np.inf)
    evidence = [gallery.head.evidence(crops.embeddings[part]) for part in (own, others)]
    top = gallery.probabilities(crops.embeddings[own]).argmax(axis=1)
    return {
        "AUROC": auroc(*evidence).value,
        "top-1 of learnt classes": float((np.array(taxonomy.names("make"))[top] == crops.classes[own]).mean()),
        "learnt classes kept": float((evidence[0] >= least).mean()),
        "others refused": float((evidence[1] < least).mean()),
        "answered of learnt classes": float(np.mean([answer != "" for answer in answered[0]])),
        "right where answered": float(np.mean(right)) if right else float("nan"),
        "answered of others": float(np.mean([answer != "" for answer in answered[1]])),
    }


def few(rows: npt.NDArray[np.intp], classes: Names, count: int | None, random: np.random.Generator) -> list[int]:
    """Draw so many of the rows of each class, or take all."""
    order = random.permutation(rows)
    return [at for name in np.unique(classes[rows]) for at in order[classes[order] == name][:count].tolist()]


def said(identifier: Identifier, gallery: Any, embedding: Floats) -> str:
    """Give the name that is answered for a crop, "" where none is."""
    answer = identifier.judge(gallery.probabilities(embedding[None])[0], embedding).answer
    return answer.name if answer else ""


if __name__ == "__main__":
    main()
