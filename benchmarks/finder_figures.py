"""Figures of a finder bundle on the part `report` of a manifest, which neither training nor thresholds have seen.

In: a bundle, a manifest (`prepare_finder_data.py`). Out: one line a figure, and with --failures a JSON of the photos
that went wrong. It goes the product's way: decoded photos through `carspotter.vehicles` on an engine of `runtime`.

    python benchmarks/finder_figures.py --manifest finder.csv [--bundle FOLDER] [--engine onnxruntime]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carspotter.geometry import FloatArray, iou_matrix
from carspotter.pixels import decode
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.training.finder_augment import Picture, Variation, place
from carspotter.training.finder_data import LabelledPhoto, load, read_manifest
from carspotter.training.finder_figures import (
    Told,
    exterior_accuracy,
    false_alarms,
    five_way,
    macro_f1,
    mean_iou,
    recall,
    viewpoint_pairs,
)
from carspotter.training.finder_pictures import CROPS
from carspotter.training.finder_scenes import pasted_scene, plain_background, side_by_side
from carspotter.vehicles.finder import Finder
from carspotter.vehicles.locate import DEFAULT_GATE

SCENES = 300
SEED = 7
BATCH = 16
# Scenes are drawn larger than the network's input, so that it is the product that resizes them.
SCENE_SIZE = (640, 480)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--part", default="report")
    parser.add_argument("--failures", type=Path, help="write the photos that went wrong")
    options = parser.parse_args()
    bundle = ModelBundle.load(options.bundle) if options.bundle else shipped("finder")
    finder = Finder(bundle, bundle.open_session(options.engine, threads=1))
    gate = float(bundle.calibration.get("gate", DEFAULT_GATE))
    photos = read_manifest(options.manifest, parts=(options.part,))
    told = tell([photo for photo in photos if photo.source != CROPS], options.manifest.parent, finder)
    print_figures(told, gate)
    scenes = draw_scenes(photos, options.manifest.parent)
    for name, pictures in scenes.items():
        print(f"two vehicles in one photo, both found, {name}: {both_found(pictures, finder):.3f} of {len(pictures)}")
    if options.failures:
        options.failures.write_text(json.dumps(failures(told, gate), indent=1))


def tell(photos: Sequence[LabelledPhoto], root: Path, finder: Finder) -> list[Told]:
    """Return what the finder tells of the photos, boxes in pixels of the upright originals."""
    told = []
    for start in range(0, len(photos), BATCH):
        part = photos[start : start + BATCH]
        decoded = [decode((root / photo.path).read_bytes()) for photo in part]
        for photo, finding in zip(part, finder.find([photo.pixels for photo in decoded]), strict=True):
            boxes = [detection.box.to_list() for detection in finding.detections]
            views = [detection.viewpoints or () for detection in finding.detections]
            told.append(
                Told(
                    source=photo.source,
                    path=photo.path,
                    kind=np.array(finding.kind_probabilities),
                    boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
                    scores=np.array([detection.score for detection in finding.detections]),
                    viewpoints=np.array(views, dtype=np.float64).reshape(-1, len(VIEWPOINTS)),
                    true_kind=photo.kind,
                    true_boxes=photo.boxes.astype(np.float64),
                    true_views=photo.views,
                    ignored=photo.ignore,
                    boxes_known=photo.boxes_known,
                )
            )
    return told


def print_figures(told: Sequence[Told], gate: float) -> None:
    """Print the figures of photos with labels."""
    ads = [entry for entry in told if entry.source == "ads"]
    exteriors = [entry for entry in ads if KINDS[entry.true_kind] == "exterior"]
    others = [entry for entry in told if KINDS[entry.true_kind] in ("interior", "other")]
    parted = [*exteriors, *others]
    print(f"exterior {len(exteriors)} against interior and other {len(others)}:")
    print(f"  accuracy {exterior_accuracy(parted, gate):.4f} at gate {gate:g}; by likeliest kind {by_kind(parted):.4f}")
    print_details([entry for entry in ads if KINDS[entry.true_kind] == "detail"])
    print(f"vehicle told in photos without one: {false_alarms(others):.4f} of {len(others)}")
    print_found(exteriors)
    true, said = viewpoint_pairs(exteriors)
    for name, one, other in (("eight", true, said), ("five", five_way(true), five_way(said))):
        accuracy = float((one == other).mean())
        print(f"viewpoint, {name}-way: macro-F1 {macro_f1(one, other):.4f}, accuracy {accuracy:.4f} of {len(one)}")
    boxed = [entry for entry in told if entry.source == "car-boxes"]
    print(f"car-boxes: recall at IoU 0.5 {recall(boxed):.4f}, mean IoU {mean_iou(boxed):.4f} of {len(boxed)}")


def print_details(details: Sequence[Told]) -> None:
    """Print as what photos labelled `detail` are told."""
    counts = np.bincount([int(entry.kind.argmax()) for entry in details], minlength=len(KINDS))
    shares = ", ".join(f"{name} {count / max(len(details), 1):.3f}" for name, count in zip(KINDS, counts, strict=True))
    print(f"labelled detail {len(details)}, told as: {shares}")


def print_found(exteriors: Sequence[Told]) -> None:
    """Print how many of the ads' vehicles were found, by viewpoint, and how well their boxes agree with the teacher."""
    print(f"own vehicle found on ads: {recall(exteriors):.4f} of {len(exteriors)}; mean IoU {mean_iou(exteriors):.4f}")
    parts = {name: [index] for index, name in enumerate(VIEWPOINTS)}
    for name, indices in (parts | {"profiles": [parts["left"][0], parts["right"][0]]}).items():
        part = [entry for entry in exteriors if entry.own is not None and entry.true_views[entry.own][indices].any()]
        print(f"  {name}: {recall(part):.4f} of {len(part)}")


def by_kind(told: Sequence[Told]) -> float:
    """Return how often the likeliest kind is right about exterior against all else."""
    return float(np.mean([(entry.kind.argmax() == 0) == (entry.true_kind == 0) for entry in told]))


def draw_scenes(photos: Sequence[LabelledPhoto], root: Path) -> dict[str, list[Picture]]:
    """Draw scenes of exactly two vehicles: crops pasted on other photos, and two photos of ads side by side."""
    rng = np.random.default_rng(SEED)
    crops = _some([photo for photo in photos if photo.source == CROPS], 2 * SCENES, root, rng)
    others = _some([photo for photo in photos if photo.source == "not-cars"], SCENES, root, rng)
    alone = [photo for photo in photos if photo.source == "ads" and len(photo.boxes) == 1]
    ads = _some(alone, 2 * SCENES, root, rng)
    pasted: list[Picture] = []
    pairs: list[Picture] = []
    while len(pasted) < SCENES:
        background = place(others[len(pasted) % len(others)], SCENE_SIZE, rng, Variation(zoom_in=2.0))
        if rng.random() < 0.3:
            background = plain_background(SCENE_SIZE, rng)
        chosen = [crops[int(index)] for index in rng.integers(0, len(crops), 2)]
        scene = pasted_scene(background, chosen, [], rng)
        if len(scene.boxes) == 2:
            pasted.append(scene)
    while len(pairs) < SCENES:
        first, second = (ads[int(index)] for index in rng.choice(len(ads), 2, replace=False))
        pairs.append(side_by_side((first, second), SCENE_SIZE, rng, Variation()))
    return {"pasted": pasted, "two photos side by side": pairs}


def both_found(pictures: Sequence[Picture], finder: Finder) -> float:
    """Return the share of scenes in which each vehicle is overlapped by half by a box of its own."""
    hits = []
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        for picture, finding in zip(part, finder.find([picture.pixels for picture in part]), strict=True):
            boxes = np.array([detection.box.to_list() for detection in finding.detections]).reshape(-1, 4)
            hits.append(_matches(boxes, picture.boxes.astype(np.float64)))
    return float(np.mean(hits))


def failures(told: Sequence[Told], gate: float) -> list[dict[str, object]]:
    """Return the photos whose kind, own vehicle or viewpoint is wrong."""
    wrong = []
    for entry in told:
        true, said = viewpoint_pairs([entry])
        faults = {
            "kind": KINDS[entry.true_kind] != "detail" and (entry.kind[0] >= gate) != (entry.true_kind == 0),
            "box": entry.own is not None and not recall([entry]),
            "alarm": bool(false_alarms([entry])),
            "viewpoint": bool((true != said).any()),
        }
        if any(faults.values()):
            view = [VIEWPOINTS[int(index)] if index >= 0 else "not found" for index in (*true, *said)]
            best = float(entry.own_overlaps.max(initial=0))
            kind = {name: round(float(value), 3) for name, value in zip(KINDS, entry.kind, strict=True)}
            names = [name for name, is_wrong in faults.items() if is_wrong]
            wrong.append({"path": entry.path, "wrong": names, "kind": kind, "iou": round(best, 3), "viewpoint": view,
                          "scores": [round(float(score), 3) for score in entry.scores]})  # fmt: skip
    return wrong


def _some(photos: Sequence[LabelledPhoto], most: int, root: Path, rng: np.random.Generator) -> list[LabelledPhoto]:
    chosen = rng.permutation(len(photos))[:most]
    return [load(photos[int(index)], root, SCENE_SIZE) for index in chosen]


def _matches(told: FloatArray, true: FloatArray) -> bool:
    """Say whether each true box has its own told one."""
    overlap = iou_matrix(told, true)
    if len(told) < len(true):
        return False
    best = overlap.argmax(axis=0)
    return bool((overlap.max(axis=0) >= 0.5).all() and len(set(best.tolist())) == len(true))


if __name__ == "__main__":
    main()
