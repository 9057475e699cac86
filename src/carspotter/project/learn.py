"""The step learn: fit a linear head on the embeddings of the samples, judge it on what it did not see, and save it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.evaluation.ads import ad_figures
from carspotter.evaluation.curves import calibration_error
from carspotter.evaluation.evaluating import truths
from carspotter.evaluation.metrics import SEEN, in_top, rank_of, seen_figures, seen_in_words
from carspotter.evaluation.predictions import UNLABELLED, Predictions
from carspotter.evaluation.strangers import stranger_figures
from carspotter.project.build import Build
from carspotter.project.classes import class_taxa
from carspotter.recognition.gallery import Gallery, learn
from carspotter.recognition.gallery_bundle import save_gallery
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.intervals import wilson
from carspotter.taxonomy import Taxon, Taxonomy

Row = dict[str, Any]

LEAST_CLASSES = 1
TOP = 5


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
            return {"text": _nothing_to_learn(settings.classes.min_photos, settings.classes.min_ads)}
        taxonomy = Taxonomy(tuple(taxa[name] for name in known))
        gallery = _fit(samples, part, known, taxonomy=taxonomy, build=build)
        judged = _judged(samples, taxa, gallery=gallery, name=settings.learn.name)
        catalog.replace("predictions", list(_rows(judged, known)))
        stats: dict[str, Any] = {"method": gallery.method, "classes": len(known), "train": int((part == "train").sum())}
        stats |= figures(judged) | _refused(gallery)
        stats["text"] = in_words(stats)
        save_gallery(gallery, base_bundle(build), folder, name=settings.learn.name, card=_card(build, stats, gallery))
        judged.save(build.project.predictions)
        return stats

    # Bytes and networks that changed have changed what is pending, so the digests of files stand for the vectors.
    reads = (EMBEDDED_OF, "SELECT * FROM classes")
    writes = ("SELECT * FROM predictions",)
    if not (folder / "bundle.json").exists() or not build.project.predictions.exists():
        build.journal.forget("learn")
    return build.whole("learn", reads=reads, writes=writes, settings=settings.learn, work=work)


EMBEDDED_OF = """SELECT s.photo_id, s.ad_id, s.class_name, s.split, e.stage_version, e.seen, c.sha256 FROM samples s
JOIN embeddings e USING (photo_id) JOIN checks c USING (photo_id) WHERE s.status = 'ok' AND e.status = 'ok'"""
"""What the learned classes depend on: the samples, their bytes, and the networks that saw them."""


def embedded(build: Build) -> str:
    """Return the SQL of the samples with the embeddings that the project's networks made."""
    return f"""SELECT s.photo_id, s.ad_id, s.class_name, s.split, e.embedding, e.said, e.seen FROM samples s
    JOIN {build.embeddings} e USING (photo_id) WHERE s.status = 'ok'"""


def in_words(stats: Mapping[str, Any]) -> str:
    """Return what was learned and what it reaches in one line."""
    one = "class" if stats["classes"] == 1 else "classes"
    learned = f"{stats['method']} on {stats['train']} photos of {stats['classes']} {one}"
    if not stats["test"]:
        return f"{learned}; no test photos to try it on{_strangers_in_words(stats)}"
    low, high = wilson(round(stats["test_top1"] * stats["test"]), stats["test"])
    right = f"{stats['test_top1']:.1%} of {stats['test']} test photos right ({low:.1%} to {high:.1%})"
    ads = f"{stats['ad_top1']:.1%} of {stats['test_ads']} whole ads"
    not_learned = stats.get("not_learned")
    more = f"; {not_learned} test photos are of classes without photos in train" if not_learned else ""
    seen = "".join(f"; {said}" for said in stats.get("seen", ()))
    return f"{learned}: {right}, {ads}{more}{seen}{_strangers_in_words(stats)}"


def _strangers_in_words(stats: Mapping[str, Any]) -> str:
    refused, kept = stats.get("strangers_refused"), stats.get("own_kept")
    if refused is None or kept is None:
        return ""
    return f"; of classes left out in turn {refused:.1%} are refused as not one of yours, of your own {1 - kept:.1%}"


def _nothing_to_learn(min_photos: int, min_ads: int) -> str:
    """Say what to set where no class is large enough."""
    return (
        f"nothing to learn yet: no class has {min_photos} photos and {min_ads} ads with photos to learn from. "
        "To learn from less, down to one photo a class, set min_photos = 1 and min_ads = 1 under [classes] in "
        "carspotter.toml, and train = 1.0, validation = 0.0 and test = 0.0 under [split]; then build again"
    )


def base_bundle(build: Build) -> ModelBundle:
    """Return the identifier whose embeddings a project uses."""
    return build.project.settings.locate.bundle("identifier")


def _fit(
    samples: Mapping[str, Any], part: NDArray[np.str_], known: Sequence[str], *, taxonomy: Taxonomy, build: Build
) -> Gallery:
    vectors, said = (np.asarray(samples[name], dtype=np.float32) for name in ("embedding", "said"))
    number = {name: index for index, name in enumerate(known)}
    # -1: a class without a photo in train cannot be learnt, and its other photos calibrate nothing.
    label = np.array([number.get(name, -1) for name in samples["class_name"]], dtype=np.int64)
    train, validation = (np.flatnonzero((part == name) & (label >= 0)) for name in ("train", "validation"))
    held_out = (vectors[validation], label[validation], said[validation]) if len(validation) else None
    return learn(
        vectors[train],
        label[train],
        taxonomy,
        said=said[train],
        settings=build.project.settings.learn,
        validation=held_out,
        groups=[samples["ad_id"][position] for position in train],
    )


def _judged(samples: Mapping[str, Any], taxa: Mapping[str, Taxon], *, gallery: Gallery, name: str) -> Predictions:
    """Return what the gallery answers for the photos that it did not learn from, beside their labels."""
    # Photos learnt from would look better than any that comes later.
    others = np.flatnonzero(np.asarray(samples["split"], dtype=str) != "train")
    about = {column: np.asarray(samples[column], dtype=str)[others] for column in ("split", "ad_id", "class_name")}
    truth, levels = truths([taxa[class_name] for class_name in about["class_name"]], gallery.taxonomy)
    vectors = np.asarray(samples["embedding"], dtype=np.float32).reshape(len(samples["split"]), -1)[others]
    seen = [samples["seen"][position] for position in others]
    if all(each is not None for each in seen):
        about[SEEN] = np.where(np.array(seen, bool), "yes", "no")
    return Predictions(
        name=name,
        taxonomy=gallery.taxonomy,
        photos=np.asarray(samples["photo_id"], dtype=str)[others],
        probabilities=gallery.probabilities(vectors).astype(np.float32),
        truth=truth,
        levels=levels,
        about=about,
    )


def _rows(table: Predictions, known: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of the catalogue: the label, the likeliest class, and the label's rank among the answers."""
    for photo, truth, p, split, label in zip(
        table.photos, table.truth, table.probabilities, table.about["split"], table.about["class_name"], strict=True
    ):
        best = int(p.argmax())
        # Without a class of its own a photo has no rank: 0 or the last would enter means.
        rank = {} if truth < 0 else {"rank": rank_of(p, int(truth))}
        yield {
            "photo_id": str(photo),
            "bundle": table.name,
            "split": str(split),
            "truth": str(label),
            "answer": known[best],
            "probability": float(p[best]),
            **rank,
        }


def figures(table: Predictions) -> dict[str, Any]:
    """Return the shares of test photos whose class is the answer, or among the best five; and of whole ads.

    Photos of a class that has none in `train` cannot be right: they are counted in `not_learned` alone.
    """
    test = table.take(table.about["split"] == "test")
    # Said apart, so that a top-1 speaks of classes that could be answered.
    labelled = test.take(test.truth != UNLABELLED)
    stats: dict[str, Any] = {"test": len(labelled), "not_learned": len(test) - len(labelled)}
    ads = ad_figures(labelled)
    if ads is None:
        return stats
    top5 = in_top(labelled.probabilities, labelled.truth, TOP)
    whole = ads.right["class"]
    return stats | {
        "test_top1": float(labelled.right_at()[0].mean()),
        "test_top5": float(top5.mean()),
        "test_ads": whole.total,
        "ad_top1": whole.value,
        **({"seen": seen} if (seen := seen_in_words(seen_figures(labelled))) else {}),
    }


def _refused(gallery: Gallery) -> dict[str, float]:
    """Return how well classes left out are told from held-out photos, and which shares are refused and kept."""
    bar = gallery.refusal
    if bar is None or not len(bar.known) or not len(bar.unknown):
        return {}
    found = stranger_figures(bar.known, bar.unknown, bar.least)
    return {
        "strangers_auroc": found.auroc.value,
        "own_kept": found.kept.value,
        "strangers_refused": found.refused.value,
    }


def _card(build: Build, stats: Mapping[str, Any], gallery: Gallery) -> dict[str, Any]:
    name = build.project.settings.name or build.project.folder.name
    tested = ("test_top1", "test_top5", "ad_top1")
    left_out = {"strangers_auroc": "AUROC", "own_kept": "kept of own", "strangers_refused": "refused"}
    return {
        "data": f"{stats['train']} photographs of the project {name}, labelled by its listings",
        "figures": {
            **{f"{key}, on {gallery.judged_on}": value for key, value in held_out_figures(gallery).items()},
            **{f"classes left out in turn: {left_out[key]}": stats[key] for key in left_out if key in stats},
            **{f"test {key}": stats[key] for key in tested if key in stats},
        },
    }


def held_out_figures(gallery: Gallery) -> dict[str, float]:
    """Return the accuracy and calibration error on the photos that a gallery held out; none where it held out none."""
    held = gallery.held
    if held is None:
        return {}
    table = Predictions(
        name="held out",
        taxonomy=gallery.taxonomy,
        photos=np.arange(len(held.truth)).astype(str),
        probabilities=held.probabilities.astype(np.float32),
        truth=held.truth,
    )
    right = table.right_at()[0]
    shares = {
        "top-1": right.mean(),
        "top-5": in_top(table.probabilities, table.truth, TOP).mean(),
        "make": table.right_at("make")[0].mean(),
        "ECE": calibration_error(table.probabilities.max(1), right),
    }
    return {name: round(float(share), 4) for name, share in shares.items()}
