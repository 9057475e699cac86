"""Build real listings as a project: what passes the gate, which sides are seen, how well `learn` knows the makes.

In: a folder with `photos.csv` (path, ad_id, view, make, model) and the photographs. The whole build runs in a temporary
folder. Views of the source are only compared with, never learnt from.

    python benchmarks/real_listings.py ../shared/data/used-car-ads --manifest runs/finder.csv
"""

import csv
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.project.folder import Project, create
from carspotter.project.pipeline import build
from measure import machine, parser

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
    learned = {key: value for key, value in said["learn"].items() if key != "text"}
    result = {"gate": given.gate, **found, "learn": learned, "certificate": said["split"]["certificate"]}
    print(json.dumps({**result, "machine": machine()}, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
