"""How right is an identifier in each market by itself? Labels of all markets in, the figures of each out.

A market is a value of the labels' column `source`. The bundle answers as in serving, with its own thresholds; makes and
models that it does not know count as wrong. Intervals are by vehicle where the labels tell which photographs show one.
Rows without a make (what is no whole car) tell how much of them is answered all the same.

With `--leave-one-out` each market is left out in turn instead: a linear layer on the bundle's embedding is learnt from
all others (`--learn`, as a rule the split train), averaged with what the bundle's network says itself, so that makes
without a photograph stay possible, calibrated on a sixth part of the others, which it did not learn from, and judged on
the market. It answers makes alone. That is fair only for a bundle that learnt from none of the markets.

    python benchmarks/markets.py runs/identifier/labels.csv --classes runs/identifier/classes.csv [--split test]
    python benchmarks/markets.py … --leave-one-out [--bundle FOLDER]
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carspotter.evaluation.evaluating import LabelledPhoto, from_labels, predict
from carspotter.evaluation.intervals import Estimate, Share
from carspotter.evaluation.markets import MarketFigures, market_figures
from carspotter.evaluation.predictions import Predictions
from carspotter.labels.resolve import Resolver
from carspotter.recognition.identifier import Identifier
from carspotter.recognition.probes import fit_probe
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.runtime.calibration import LEAST_PHOTOS, calibrate, softmax
from carspotter.runtime.session import Session
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from measure import parser, report
from open_set import Crops, embedded

STRENGTH = 3e-3  # of the layer's penalty, fixed beforehand
SIXTH = 6

Row = dict[str, Any]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="CSV: path, split, class_id or make and model, source, group, box")
    options.add_argument("--classes", type=Path, help="CSV of what each class_id is")
    options.add_argument("--split", default="test")
    options.add_argument("--bundle", type=Path, help="folder of an identifier; without it the shipped one")
    options.add_argument("--leave-one-out", action="store_true")
    options.add_argument("--learn", default="train", help="the split to learn from, with --leave-one-out")
    given = options.parse_args()
    bundle = ModelBundle.load(given.bundle) if given.bundle else shipped("identifier")
    if given.leave_one_out:
        photos = from_labels(given.labels, classes=given.classes)
        learnt = {photo.name for photo in from_labels(given.labels, split=given.learn, classes=given.classes)}
        rows = list(left_out(photos, learnt, bundle))
    else:
        table, _ = predict(bundle, from_labels(given.labels, split=given.split, classes=given.classes))
        rows = list(figures(table, bundle))
    conditions = {"identifier": bundle.name, "labels": given.labels.parent.name, "split": given.split}
    conditions["market"] = "each left out of a linear layer" if given.leave_one_out else "learnt from like the others"
    report("Markets", rows, as_json=given.json, conditions=conditions)


# ---- the bundle


def figures(table: Predictions, bundle: ModelBundle) -> Iterator[Row]:
    """Yield a row a market, the contradictions between levels, and what is answered of what is no whole car."""
    yield from map(row_of, market_figures(table))
    yield {
        "market": "first candidates of two levels that contradict each other",
        "photos": contradictions(table, bundle),
    }
    answered = table.about["answer_level"] != ""
    for name in np.unique(table.about["source"]):
        members = (table.about["source"] == name) & (table.about["label_make"] == "")
        if members.any():
            share = Share(count=int(answered[members].sum()), total=int(members.sum()))
            yield {"market": f"no whole car: {name}", "photos": share.total, "answered": said(share)}


def row_of(market: MarketFigures) -> Row:
    """Write the figures of a market."""
    levels = {
        f"right at {level}": f"{share.value:.3f} of {share.total}" if share.total else ""
        for level, share in market.by_level.items()
    }
    covers = {
        f"answerable at {name}": f"{point.coverage.value:.3f}" if point else "0"
        for name, point in (("95 %", market.at_95), ("99 %", market.at_99))
    }
    return {
        "market": market.name,
        "photos": market.photos,
        "make": by_ad(market.make_by_ad),
        "make and model": said(market.model),
        "model, of known ones": said(market.known_model),
        "ECE (make)": f"{market.calibration_error:.3f}",
        **covers,
        "answered": said(market.answered),
        "right where answered": by_ad(market.right_by_ad),
        **levels,
    }


def said(share: Share) -> str:
    """Write a share with its interval and count."""
    return f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f}) of {share.total}" if share.total else ""


def by_ad(figure: Estimate) -> str:
    """Write a share with the interval that minds the vehicles."""
    return "" if np.isnan(figure.value) else f"{figure.value:.3f} ({figure.low:.3f}-{figure.high:.3f})"


def contradictions(table: Predictions, bundle: ModelBundle) -> int:
    """Count the photos whose first candidate at a level does not lie below the first of the level above."""
    identifier = Identifier(replace(bundle, head=None), bundle.open_session())
    parents = {
        level: {
            name: above
            for taxon in table.taxonomy.classes
            for name, above in [(taxon.name(level), taxon.name(LEVELS[place]))]
        }
        for place, level in enumerate(LEVELS[1:])
    }
    odd = 0
    for probabilities in table.probabilities.astype(np.float64):
        levels = identifier.judge(probabilities, np.zeros(1, np.float32)).levels
        firsts = [levels[level][0].name for level in LEVELS]
        odd += any(
            parents[level][name] != above for level, name, above in zip(LEVELS[1:], firsts[1:], firsts, strict=False)
        )
    return odd


# ---- a market left out


def left_out(photos: Sequence[LabelledPhoto], learnt: set[str], bundle: ModelBundle) -> Iterator[Row]:
    """Yield a row for each market with enough photographs, as a layer sees it that learnt from all others."""
    photos = [photo for photo in photos if photo.taxon is not None]
    session: Session = bundle.open_session("onnxruntime")
    crops = embedded(photos, "make", bundle, session)
    sources = np.array([photo.about["source"] for photo in photos])
    is_learnt = np.array([photo.name in learnt for photo in photos])
    assert bundle.taxonomy is not None
    resolver = Resolver()
    called = [resolver.resolve(make).make or make for make in bundle.taxonomy.names("make")]
    taxonomy = Taxonomy(tuple(Taxon(make=name) for name in sorted({*called, *crops.classes.tolist()})))
    own = np.zeros((len(photos), len(taxonomy)))
    for column, make in enumerate(called):
        own[:, taxonomy.names("make").index(make)] += crops.said[:, column]
    for market, count in zip(*np.unique(sources, return_counts=True), strict=True):
        if count >= LEAST_PHOTOS:
            others = is_learnt & (sources != market)
            answered = layer(crops, others, sources, taxonomy, own=own)
            yield from map(row_of, market_figures(answered(sources == market)))


def layer(
    crops: Crops,
    rows: npt.NDArray[np.bool_],
    sources: npt.NDArray[np.str_],
    taxonomy: Taxonomy,
    *,
    own: npt.NDArray[np.float64],
) -> Callable[[npt.NDArray[np.bool_]], Predictions]:
    """Fit and calibrate a layer on rows (n,), averaged with the network's own probabilities (n, makes).

    Returns what gives the prediction table of other rows.
    """
    names = list(taxonomy.names("make"))
    truth = np.array([names.index(name) for name in crops.classes.tolist()])
    digests = [int(hashlib.sha256(vehicle.encode()).hexdigest(), 16) for vehicle in crops.vehicles.tolist()]
    judge = rows & (np.array([digest % SIXTH == 0 for digest in digests]))
    learn = rows & ~judge
    head = fit_probe(crops.embeddings[learn], truth[learn], len(names), strength=STRENGTH)
    logits = np.log(softmax(head.logits(crops.embeddings).astype(np.float64)) + own + 1e-9)
    calibration, _ = calibrate(logits[judge], truth[judge], taxonomy, sources=sources[judge].tolist())
    p, least = softmax(logits / calibration["temperature"]), calibration["thresholds"]["make"]

    def table(asked: npt.NDArray[np.bool_]) -> Predictions:
        best, sure = p[asked].argmax(axis=1), p[asked].max(axis=1) >= least
        about = {f"label_{level}": np.full(asked.sum(), "") for level in LEVELS} | {"label_make": crops.classes[asked]}
        about |= {"answer": np.where(sure, np.array(names)[best], ""), "answer_level": np.where(sure, "make", "")}
        about |= {"source": sources[asked], "ad_id": crops.vehicles[asked]}
        return Predictions(
            name="layer",
            taxonomy=taxonomy,
            photos=np.array([str(at) for at in np.flatnonzero(asked)]),
            probabilities=p[asked].astype(np.float32),
            truth=truth[asked],
            levels={"make": truth[asked]},
            about=about,
        )

    return table


if __name__ == "__main__":
    main()
