"""The step shard: write the dataset that networks are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carspotter.project.build import Build
from carspotter.project.classes import class_taxa
from carspotter.project.learn import base_bundle
from carspotter.review.apply import PHOTO_LABELS
from carspotter.taxonomy import Taxonomy

SAMPLED = f"""SELECT s.photo_id, s.ad_id, s.class_name, s.split, f.path, f.sha256, v.x1, v.y1, v.x2, v.y2, v.viewpoint,
k.make, k.model, k.generation, k.year, w.said_by
FROM samples s JOIN files f USING (photo_id) JOIN findings v USING (photo_id)
LEFT JOIN ({PHOTO_LABELS}) w ON w.photo_id = s.photo_id LEFT JOIN classes k ON k.taxon = w.name WHERE s.status = 'ok'"""


def write_shards(build: Build) -> Mapping[str, Any]:
    """Write the dataset for training."""
    from carspotter.dataset.shards import write

    settings, network = build.project.settings.shards, base_bundle(build).preprocessing

    def work() -> Mapping[str, Any]:
        rows = build.catalog.rows(f"{SAMPLED} ORDER BY s.photo_id")
        names = sorted({row["class_name"] for row in rows})
        for row in rows:
            row["class_index"] = names.index(row["class_name"])
        taxa = class_taxa(build)
        manifest = write(
            rows,
            settings,
            build.project.shards,
            network=network,
            root=build.project.folder,
            on=build.on,
            workers=build.workers,
            progress=build.watch.advance,
            taxonomy=Taxonomy(tuple(taxa[name] for name in names)) if names else None,
        )
        return manifest.stats()

    # A photo that could not be read may be readable by now.
    if not (build.project.shards / "manifest.json").exists() or build.journal.stats("shard").get("errors"):
        build.journal.forget("shard")
    seen = [settings, settings.target(network).to_dict()]
    return build.whole("shard", reads=(SAMPLED,), writes=(), settings=seen, work=work)
