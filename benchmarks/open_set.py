"""Does the identifier know that it does not know? Photos of makes that it never learnt, against those that it did.

In: a bundle and labels with makes. Photos whose make the bundle's taxonomy lacks are the unknown ones. Out: AUROC of
the unknown score (1 less the probability of the best taxon), at each level, with its interval.

    python benchmarks/open_set.py LABELS.csv --split train [--bundle FOLDER] [--prefix "ad "]
"""

import json
from pathlib import Path

import numpy as np

from carspotter.evaluation.metrics import Depth, unknown_auroc
from carspotter.project.evaluating import from_labels, predict
from carspotter.runtime.bundle import ModelBundle, shipped
from measure import machine, parser


def main() -> None:
    """Measure, and print figures."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path)
    options.add_argument("--split", default="")
    options.add_argument("--bundle", type=Path)
    options.add_argument("--classes", type=Path, help="CSV of what each class_id is")
    options.add_argument("--prefix", default="", help="only photos whose group begins so")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    assert bundle.taxonomy is not None
    photos = [
        photo
        for photo in from_labels(given.labels, split=given.split, classes=given.classes)
        if photo.about["ad_id"].startswith(given.prefix)
    ]
    table, _ = predict(bundle, photos)
    makes = {photo.name: photo.taxon.make if photo.taxon else "" for photo in photos}
    known = np.array([makes[name] in bundle.taxonomy.names("make") for name in table.photos.tolist()])
    result = {
        "bundle": bundle.name, "photos of known makes": int(known.sum()), "of unknown makes": int((~known).sum()),
        "unknown makes": sorted({makes[name] for name in table.photos[~known].tolist()}),
    }  # fmt: skip
    depths: tuple[Depth, ...] = ("make", "class")
    for depth in depths:
        found = unknown_auroc(table.take(known), table.take(~known), depth=depth)
        result[f"AUROC at {depth}"] = [round(value, 4) for value in (found.value, found.low, found.high)]
    print(json.dumps(result | {"machine": machine()}, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
