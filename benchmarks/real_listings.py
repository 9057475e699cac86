"""Build real listings as a project: what passes the gate, which sides are seen, how well `learn` knows the makes.

In: a folder with `photos.csv` (path, ad_id, view, make, model) and the photographs. The whole build runs in a temporary
folder. Views of the source are only compared with, never learnt from. Then makes of a tenth and of a fifth of the ads
are swapped, twenty draws each, and `doubts` is asked for them.

    python benchmarks/real_listings.py ../shared/data/used-car-ads --manifest runs/finder.csv
"""

import csv
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.catalog.catalog import Catalog
from carspotter.labels.noise import find_doubts, out_of_fold
from carspotter.project.doubting import STRENGTH
from carspotter.project.folder import Project, create
from carspotter.project.pipeline import build
from carspotter.recognition.fusion import fuse
from carspotter.recognition.probes import fit_probe
from carspotter.taxonomy import Taxon, Taxonomy
from measure import machine, parser

SHARES, DRAWS = (0.1, 0.2), 20  # of ads whose make is swapped

VIEWS = {
    "front": "front",
    "back": "back",
    "profile-on-left": "left",
    "profile-on-right": "right",
    "angle-front-on-left": "front-left",
    "angle-front-on-right": "front-right",
    "angle-back-on-left": "back-right",
    "angle-back-on-right": "back-left",
}
KINDS = {**dict.fromkeys(VIEWS, "exterior"), "in": "interior", "d": "detail"}

SETTINGS = """
name = "used-car ads"

[[sources]]
kind = "table"
path = "{table}"
name = "ads"
columns = {{ ad_id = "ad_id", make = "make", model = "model", photos = "path", viewpoint = "view", kind = "view" }}
photos = "{folder}"
words = {{ viewpoint = {{ {views} }}, kind = {{ {kinds} }} }}

[locate]
{gate}

[classes]
level = "make"
min_photos = 40
"""


def settings(data: Path, gate: float | None) -> str:
    """Write the settings of the project."""
    words = {
        name: ", ".join(f'{old} = "{new}"' for old, new in table.items())
        for name, table in (("views", VIEWS), ("kinds", KINDS))
    }
    return SETTINGS.format(
        table=data / "photos.csv", folder=data, gate=f"gate = {gate}" if gate is not None else "", **words
    )


def figures(catalog: Catalog, held_out: set[str] | None) -> dict[str, Any]:
    """Compare what the finder says with the views of the source; `held_out` are ads that it never saw."""
    rows = catalog.rows(
        """SELECT p.ad_id, p.kind, p.viewpoint AS truth, v.passed, v.viewpoint, v.x1 IS NOT NULL AS has_box
        FROM listing_photos p JOIN findings v USING (photo_id) WHERE p.kind IS NOT NULL"""
    )
    if held_out is not None:
        rows = [row for row in rows if row["ad_id"] in held_out]
    passed = Counter(row["kind"] for row in rows if row["passed"])
    counts = Counter(row["kind"] for row in rows)
    seen = [row for row in rows if row["kind"] == "exterior" and row["passed"] and row["has_box"] and row["truth"]]
    right = sum(row["viewpoint"] == row["truth"] for row in seen)
    return {
        "photos": len(rows),
        "interiors that pass": [passed["interior"], counts["interior"]],
        "details that pass": [passed["detail"], counts["detail"]],
        "exteriors lost": [counts["exterior"] - passed["exterior"], counts["exterior"]],
        "views right of those that pass": [right, len(seen)],
    }


def doubted(catalog: Catalog) -> dict[str, Any]:
    """Swap makes of some ads for other makes of the project; tell how well `doubts` flags those ads."""
    samples = catalog.columns(
        """SELECT s.photo_id, s.ad_id, s.class_name, e.embedding FROM samples s JOIN embeddings e USING (photo_id)
        WHERE s.status = 'ok' ORDER BY s.photo_id"""
    )
    names, classes = np.unique(np.asarray(samples["class_name"], str), return_inverse=True)
    x, ads = np.asarray(samples["embedding"], np.float32), np.asarray(samples["ad_id"], str)
    result = {}
    for share in SHARES:
        flags = [flagged(x, classes, ads, names.tolist(), share=share, seed=seed) for seed in range(DRAWS)]
        n_flagged, hits, n_wrong, named = np.sum(flags, axis=0).tolist()
        result[f"{share:.0%} of the ads wrong"] = {
            "flagged and truly wrong": [hits, n_flagged],
            "found": [hits, n_wrong],
            "right make suggested": [named, hits],
        }
    return result


def flagged(
    x: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    ads: npt.NDArray[np.str_],
    names: list[str],
    *,
    share: float,
    seed: int,
) -> tuple[int, int, int, int]:
    """Return of one draw the ads flagged, those of them that are wrong, all that are, and right makes suggested."""
    random = np.random.default_rng(seed)
    ids, first = np.unique(ads, return_index=True)
    own = dict(zip(ids.tolist(), classes[first].tolist(), strict=True))
    given = classes.copy()
    wrong = sorted(random.permutation(ids)[: round(share * len(ids))].tolist())
    for ad in wrong:
        given[ads == ad] = random.choice([number for number in range(len(names)) if number != own[ad]])
    said = out_of_fold(
        x, given, ads, len(names), fit=lambda rows, y, n: fit_probe(rows, y, n, strength=STRENGTH).logits
    )
    taxonomy = Taxonomy(tuple(Taxon(make=name) for name in names))
    doubts = find_doubts(said, given, names, ads=ads, fuse=lambda photos: fuse(photos, taxonomy)).ads
    assert doubts is not None
    found = [row for row in doubts.rows() if row["flagged"]]
    hits = [row for row in found if row["ad_id"] in wrong]
    return len(found), len(hits), len(wrong), sum(row["suggested"] == names[own[row["ad_id"]]] for row in hits)


def held_out_ads(manifest: Path | None) -> set[str] | None:
    """Read the ads that the shipped finder was never shown, from the manifest that it was trained with."""
    if manifest is None:
        return None
    with manifest.open(encoding="utf-8", newline="") as file:
        return {row["ad_id"] for row in csv.DictReader(file) if row["part"] == "report" and row["source"] == "ads"}


def main() -> None:
    """Build, measure, print."""
    options = parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--gate", type=float, help="in place of the finder's own")
    options.add_argument("--manifest", type=Path, help="the finder's manifest, whose part `report` is held out")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        create(folder, settings(given.data.resolve(), given.gate))
        project = Project.open(folder)
        said = build(project)
        with project.catalog() as catalog:
            found = {"all ads": figures(catalog, None)}
            held_out = held_out_ads(given.manifest)
            if held_out is not None:
                found["held-out ads"] = figures(catalog, held_out)
            found["doubts"] = doubted(catalog)
    learned = {key: value for key, value in said["learn"].items() if key != "text"}
    result = {"gate": given.gate, **found, "learn": learned, "certificate": said["split"]["certificate"]}
    print(json.dumps({**result, "machine": machine()}, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
