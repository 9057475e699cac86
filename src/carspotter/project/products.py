"""The last steps of a build: a learned bundle, shards, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.labels.classes import cut
from carspotter.project.build import Build
from carspotter.project.report import write_report as draw_report
from carspotter.project.reviews import PHOTO_LABELS
from carspotter.recognition.gallery import Gallery, learn, save_gallery
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import Taxon, Taxonomy

Row = dict[str, Any]

LEAST_CLASSES = 2
TOP = 5

SAMPLED = f"""SELECT s.photo_id, s.ad_id, s.class_name, s.split, f.path, f.sha256, v.x1, v.y1, v.x2, v.y2, v.viewpoint,
k.make, k.model, k.generation, k.year, w.said_by
FROM samples s JOIN files f USING (photo_id) JOIN findings v USING (photo_id)
LEFT JOIN ({PHOTO_LABELS}) w ON w.photo_id = s.photo_id LEFT JOIN classes k ON k.taxon = w.name WHERE s.status = 'ok'"""


def learn_classes(build: Build) -> Mapping[str, Any]:
    """Fit the classes on the identifier's embeddings, try them on the test split, and write a bundle."""
    catalog, settings = build.catalog, build.project.settings
    folder = build.project.models / settings.learn.name

    def work() -> Mapping[str, Any]:
        samples = catalog.columns(f"{embedded(build)} ORDER BY s.photo_id")
        taxa = class_taxa(build)
        part = np.asarray(samples["split"], dtype=str)
        known = sorted({str(name) for name in np.asarray(samples["class_name"])[part == "train"]})
        if len(known) < LEAST_CLASSES:
            catalog.replace("predictions", [])
            needs = f"min_photos = {settings.classes.min_photos} and min_ads = {settings.classes.min_ads}"
            return {
                "text": f"nothing to learn: {len(known)} classes have photos in train, {LEAST_CLASSES} are needed; "
                f"[classes] asks for {needs}, from one photo on is enough"
            }
        taxonomy = Taxonomy(tuple(taxa[name] for name in known))
        gallery = _fit(samples, part, known, taxonomy=taxonomy, build=build)
        predictions = _predictions(samples, part, known, gallery=gallery, bundle=settings.learn.name)
        catalog.replace("predictions", predictions)
        said: dict[str, Any] = {"method": gallery.method, "classes": len(known), "train": int((part == "train").sum())}
        said |= figures(predictions, {row["photo_id"]: row["ad_id"] for row in _ads(samples)})
        said["text"] = in_words(said)
        save_gallery(gallery, base_bundle(build), folder, name=settings.learn.name, card=_card(build, said))
        return said

    # Bytes and networks that changed have changed what is pending, so the digests of files stand for the vectors.
    reads = (EMBEDDED_OF, "SELECT * FROM classes")
    writes = ("SELECT * FROM predictions",)
    if not (folder / "bundle.json").exists():
        build.journal.forget("learn")
    return build.whole("learn", reads=reads, writes=writes, settings=settings.learn, work=work)


EMBEDDED_OF = """SELECT s.photo_id, s.ad_id, s.class_name, s.split, e.stage_version, c.sha256 FROM samples s
JOIN embeddings e USING (photo_id) JOIN checks c USING (photo_id) WHERE s.status = 'ok' AND e.status = 'ok'"""
"""What the learned classes depend on: the samples, their bytes, and the networks that saw them."""


def embedded(build: Build) -> str:
    """Return the SQL of the samples with the embeddings that the project's networks made."""
    return f"""SELECT s.photo_id, s.ad_id, s.class_name, s.split, e.embedding FROM samples s
    JOIN {build.embeddings} e USING (photo_id) WHERE s.status = 'ok'"""


def in_words(said: Mapping[str, Any]) -> str:
    """Say what was learned and what it reaches in one line."""
    learned = f"{said['method']} on {said['train']} photos of {said['classes']} classes"
    if not said["test"]:
        return f"{learned}; no test photos to try it on"
    right = f"{said['test_top1']:.1%} of {said['test']} test photos right"
    return f"{learned}: {right}, {said['ad_top1']:.1%} of {said['test_ads']} whole ads"


def class_taxa(build: Build) -> dict[str, Taxon]:
    """Return the taxon of each class."""
    rows = build.catalog.rows(
        """SELECT class_name, make, model, generation, year FROM classes
        WHERE status IN ('ok', 'merged') ORDER BY class_name, status DESC, taxon"""
    )
    level = build.project.settings.classes.level
    taxa: dict[str, Taxon] = {}
    for row in rows:
        taxon = cut(Taxon(make=row["make"], model=row["model"], generation=row["generation"], year=row["year"]), level)
        if taxon.name() == row["class_name"]:  # not what a person merged into it
            taxa[taxon.name()] = taxon
        taxa.setdefault(row["class_name"], taxon)
    return taxa


def base_bundle(build: Build) -> ModelBundle:
    """Return the identifier whose embeddings a project uses."""
    return build.project.settings.locate.bundle("identifier")


def _fit(
    samples: Mapping[str, Any], part: NDArray[np.str_], known: Sequence[str], *, taxonomy: Taxonomy, build: Build
) -> Gallery:
    vectors = np.asarray(samples["embedding"], dtype=np.float32)
    number = {name: index for index, name in enumerate(known)}
    label = np.array([number.get(name, -1) for name in samples["class_name"]], dtype=np.int64)
    train, validation = (np.flatnonzero((part == name) & (label >= 0)) for name in ("train", "validation"))
    held_out = (vectors[validation], label[validation]) if len(validation) else None
    return learn(
        vectors[train],
        label[train],
        taxonomy,
        settings=build.project.settings.learn,
        validation=held_out,
        groups=[samples["ad_id"][position] for position in train],
    )


def _predictions(
    samples: Mapping[str, Any], part: NDArray[np.str_], known: Sequence[str], *, gallery: Gallery, bundle: str
) -> list[Row]:
    """Return what the gallery answers for the photos that it did not learn from."""
    others = np.flatnonzero(part != "train")
    if not len(others):
        return []
    probabilities = gallery.probabilities(np.asarray(samples["embedding"], dtype=np.float32)[others])
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    rows = []
    for position, order, values in zip(others, ranked, probabilities, strict=True):
        truth = str(samples["class_name"][position])
        rank = {"rank": int(np.flatnonzero(order == known.index(truth))[0]) + 1} if truth in known else {}
        rows.append(
            {
                "photo_id": samples["photo_id"][position], "bundle": bundle, "split": str(part[position]),
                "truth": truth, "answer": known[order[0]], "probability": float(values[order[0]]), **rank,
            }
        )  # fmt: skip
    return rows


def _ads(samples: Mapping[str, Any]) -> list[Row]:
    return [{"photo_id": photo, "ad_id": ad} for photo, ad in zip(samples["photo_id"], samples["ad_id"], strict=True)]


def figures(predictions: Sequence[Row], ad_of: Mapping[str, str]) -> dict[str, Any]:
    """Return the shares of test photos whose truth is the answer, or among the best five; and of whole ads.

    An ad's answer is the one that most of its photos give, the likelier one among equals.
    """
    test = [row for row in predictions if row["split"] == "test"]
    if not test:
        return {"test": 0}
    ads: dict[str, list[Row]] = {}
    for row in test:
        ads.setdefault(ad_of[row["photo_id"]], []).append(row)
    return {
        "test": len(test),
        "test_top1": sum(row["answer"] == row["truth"] for row in test) / len(test),
        "test_top5": sum(row.get("rank", TOP + 1) <= TOP for row in test) / len(test),
        "test_ads": len(ads),
        "ad_top1": sum(_vote(rows) == rows[0]["truth"] for rows in ads.values()) / len(ads),
    }


def _vote(rows: Sequence[Row]) -> str:
    votes = Counter(row["answer"] for row in rows)
    sure: Counter[str] = Counter()
    for row in rows:
        sure[row["answer"]] += row["probability"]
    return str(max(votes, key=lambda name: (votes[name], sure[name])))


def _card(build: Build, said: Mapping[str, Any]) -> dict[str, Any]:
    name = build.project.settings.name or build.project.folder.name
    return {
        "data": f"{said['train']} photographs of the project {name}, labelled by its listings",
        "figures": {f"test {key}": value for key, value in said.items() if isinstance(value, float)},
    }


def write_shards(build: Build) -> Mapping[str, Any]:
    """Write the dataset for training."""
    from carspotter.dataset.shards import write

    settings = build.project.settings.shards

    def work() -> Mapping[str, Any]:
        rows = build.catalog.rows(f"{SAMPLED} ORDER BY s.photo_id")
        names = sorted({row["class_name"] for row in rows})
        for row in rows:
            row["class_index"] = names.index(row["class_name"])
        taxa = class_taxa(build)
        manifest = write(
            rows, settings, build.project.shards, root=build.project.folder, on=build.on, workers=build.workers,
            progress=build.watch.advance, taxonomy=Taxonomy(tuple(taxa[name] for name in names)) if names else None,
        )  # fmt: skip
        return manifest.said()

    if not (build.project.shards / "manifest.json").exists():
        build.journal.forget("shard")
    return build.whole("shard", reads=(SAMPLED,), writes=(), settings=settings, work=work)


def write_report(build: Build) -> Mapping[str, Any]:
    """Draw the report; it is drawn at each build, since it is quick and shows everything."""
    return {"text": str(draw_report(build.project, build.catalog, build.journal))}
