"""Figures of a finder bundle on the part `report` of a manifest, which neither training nor thresholds have seen.

In: a bundle, a manifest (`prepare_finder_data.py`). Out: one line a figure, and with --failures a JSON of the photos
that went wrong. It goes the product's way: decoded photos through `carspotter.recognition` on an engine of `runtime`.

    python benchmarks/finder_figures.py --manifest finder.csv [--bundle FOLDER] [--engine onnxruntime]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from carspotter.geometry import FloatArray, iou_matrix
from carspotter.pixels import Pixels, decode
from carspotter.recognition.finder import Finder
from carspotter.recognition.locate import DEFAULT_GATE
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.bundle import ModelBundle, shipped
from carspotter.training.finder.augment import Picture, Variation, place, turn
from carspotter.training.finder.data import CUT_OUTS, LabelledPhoto, load, read_manifest
from carspotter.training.finder.figures import (
    FinderResult,
    exterior_accuracy,
    false_alarms,
    five_way,
    mean_iou,
    precision,
    recall,
    recall_by_size,
    view_f1,
    viewpoint_pairs,
)
from carspotter.training.finder.pictures import CROPS
from carspotter.training.finder.scenes import pasted_scene, plain_background, side_by_side

SCENES = 300
SEED = 7
BATCH = 16
# Scenes are drawn larger than the network's input, so that it is the product that resizes them.
SCENE_SIZE = (640, 480)
# Sizes of vehicles in streets, as parts of the photo.
SIZES = ((0.05, 1.0), (0.01, 0.05), (0.0, 0.01))
# A box that covers so much of a photo whose own vehicle covers less than the second says "photo of a car".
WHOLE, NOT_WHOLE = 0.95, 0.8
TURNS, LIGHTS = (-30, -15, 15, 30), (0.5, 0.25)

Change = Callable[[Pixels, FloatArray], tuple[Pixels, FloatArray]]


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
    root = options.manifest.parent
    told = tell([photo for photo in photos if photo.source != CROPS], root, finder)
    print_figures(told, gate)
    print_streets([entry for entry in told if entry.source == "street"])
    print_changed([photo for photo in photos if photo.source == "ads" and len(photo.boxes)], root, finder, gate)
    scenes = draw_scenes(photos, options.manifest.parent)
    for name, pictures in scenes.items():
        print(f"two vehicles in one photo, both found, {name}: {both_found(pictures, finder):.3f} of {len(pictures)}")
    if options.failures:
        options.failures.write_text(json.dumps(failures(told, gate), indent=1))


def tell(
    photos: Sequence[LabelledPhoto], root: Path, finder: Finder, change: Change = lambda pixels, boxes: (pixels, boxes)
) -> list[FinderResult]:
    """Return what the finder tells of the photos, changed or not, boxes in pixels of the upright originals."""
    told = []
    for start in range(0, len(photos), BATCH):
        part = photos[start : start + BATCH]
        decoded = [decode((root / photo.path).read_bytes()).pixels for photo in part]
        seen = [change(pixels, photo.boxes) for pixels, photo in zip(decoded, part, strict=True)]
        findings = finder.find([pixels for pixels, _ in seen])
        for photo, (pixels, true_boxes), finding in zip(part, seen, findings, strict=True):
            boxes = [detection.box.to_list() for detection in finding.detections]
            views = [detection.viewpoints or () for detection in finding.detections]
            told.append(
                FinderResult(
                    source=photo.source,
                    path=photo.path,
                    kind=np.array(finding.kind_probabilities),
                    boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
                    scores=np.array([detection.score for detection in finding.detections]),
                    viewpoints=np.array(views, dtype=np.float64).reshape(-1, len(VIEWPOINTS)),
                    true_kind=photo.kind,
                    true_boxes=true_boxes.astype(np.float64),
                    true_views=photo.views,
                    ignored=photo.ignore,
                    boxes_known=photo.boxes_known,
                    size=(pixels.shape[1], pixels.shape[0]),
                )
            )
    return told


def print_figures(told: Sequence[FinderResult], gate: float) -> None:
    """Print the figures of photos with labels."""
    ads = [entry for entry in told if entry.source == "ads"]
    exteriors = [entry for entry in ads if KINDS[entry.true_kind] == "exterior"]
    others = [entry for entry in told if KINDS[entry.true_kind] in ("interior", "other")]
    parted = [*exteriors, *others]
    print(f"exterior {len(exteriors)} against interior and other {len(others)}:")
    print(f"  accuracy {exterior_accuracy(parted, gate):.4f} at gate {gate:g}; by likeliest kind {by_kind(parted):.4f}")
    print_details([entry for entry in ads if KINDS[entry.true_kind] == "detail"])
    print_silence(others, gate)
    print_found(exteriors)
    cut_outs = [entry for entry in told if entry.source == CUT_OUTS]
    for source, entries in (("ads", exteriors), ("cut-outs", cut_outs)):
        true, said = viewpoint_pairs(entries)
        for name, one, other in (("eight", true, said), ("five", five_way(true), five_way(said))):
            figures = f"macro-F1 {view_f1(one, other):.4f}, accuracy {float((one == other).mean()):.4f} of {len(one)}"
            print(f"viewpoint, {source}, {name}-way: {figures}")
    boxed = [entry for entry in told if entry.source == "car-boxes"]
    print(f"car-boxes: recall at IoU 0.5 {recall(boxed):.4f}, mean IoU {mean_iou(boxed):.4f} of {len(boxed)}")


def print_silence(others: Sequence[FinderResult], gate: float) -> None:
    """Print in how many photos without a vehicle one is told, and in how many of them the gate lets it pass."""
    for source in sorted({entry.source for entry in others}):
        part = [entry for entry in others if entry.source == source]
        passed = float(np.mean([len(entry.boxes) > 0 and entry.kind[0] >= gate for entry in part]))
        alarms = f"{false_alarms(part):.4f} of {len(part)}; past the gate {passed:.4f}"
        print(f"vehicle told in photos without one, {source}: {alarms}")


def print_streets(streets: Sequence[FinderResult]) -> None:
    """Print how many vehicles of each size are found in streets, and how many of the boxes told are vehicles."""
    for low, high in SIZES:
        share, count = recall_by_size(streets, low, high)
        print(f"streets: vehicles of {low:.0%} to {high:.0%} of the photo found: {share:.4f} of {count}")
    share, count = precision(streets)
    print(f"streets: precision {share:.4f} of {count} boxes told in {len(streets)} photos")


def print_changed(photos: Sequence[LabelledPhoto], root: Path, finder: Finder, gate: float) -> None:
    """Print how ads' own vehicles are found in portraits, turned, dark, and where a dark one fills the picture."""
    plain = tell(photos, root, finder)
    print_change("portraits", [entry for entry in plain if entry.size[1] > entry.size[0]], gate)
    whole = float(np.mean([is_whole_photo(entry) for entry in plain]))
    print(f"boxes of the whole photo where the vehicle is smaller: {whole:.4f} of {len(plain)}")
    for degrees in TURNS:
        turned = tell(photos, root, finder, lambda pixels, boxes, by=degrees: turn(pixels, boxes, by))  # type: ignore[misc]
        print_change(f"turned by {degrees}", turned, gate)
    for light in LIGHTS:
        dark = tell(photos, root, finder, lambda pixels, boxes, by=light: (_darker(pixels, by), boxes))  # type: ignore[misc]
        print_change(f"at {light:.0%} of the light", dark, gate)
    fronts = [
        replace(photo, boxes=photo.boxes[[own]], views=photo.views[[own]], ignore=photo.ignore[[own]])
        for photo in photos
        for own in [_largest(photo)]
        if photo.views[own][[0, 1, 7]].any()
    ]
    print_change("fronts that fill the picture, at half the light", tell(fronts, root, finder, _close_and_dark), gate)


def print_change(name: str, told: Sequence[FinderResult], gate: float) -> None:
    """Print recall, overlap and how many pass the gate."""
    passed = float(np.mean([entry.kind[0] >= gate for entry in told]))
    found = f"own vehicle found {recall(told):.4f}, mean IoU {mean_iou(told):.4f}"
    print(f"{name}: {found}, past the gate {passed:.4f} of {len(told)}")


def is_whole_photo(entry: FinderResult) -> bool:
    """Return whether a told box covers the whole photo while the photo's own vehicle does not."""
    area = entry.size[0] * entry.size[1]
    told, true = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / area for boxes in (entry.boxes, entry.true_boxes))
    return bool(told.max(initial=0) > WHOLE and true.max(initial=0) < NOT_WHOLE)


def _darker(pixels: Pixels, light: float) -> Pixels:
    return (pixels * np.float32(light)).astype(np.uint8)


def _close_and_dark(pixels: Pixels, boxes: FloatArray) -> tuple[Pixels, FloatArray]:
    """Cut a photo to its vehicle and 2 % more, and take half of its light."""
    (x1, y1, x2, y2), (height, width) = boxes[0], pixels.shape[:2]
    more_x, more_y = 0.02 * (x2 - x1), 0.02 * (y2 - y1)
    left, top = int(max(x1 - more_x, 0)), int(max(y1 - more_y, 0))
    cut = pixels[top : int(min(y2 + more_y, height)), left : int(min(x2 + more_x, width))]
    return np.ascontiguousarray(_darker(cut, 0.5)), boxes - np.array([left, top, left, top])


def _largest(photo: LabelledPhoto) -> int:
    sides = (photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(axis=1) * ~photo.ignore
    return int(sides.argmax())


def print_details(details: Sequence[FinderResult]) -> None:
    """Print as what photos labelled `detail` are told."""
    counts = np.bincount([int(entry.kind.argmax()) for entry in details], minlength=len(KINDS))
    shares = ", ".join(f"{name} {count / max(len(details), 1):.3f}" for name, count in zip(KINDS, counts, strict=True))
    print(f"labelled detail {len(details)}, told as: {shares}")


def print_found(exteriors: Sequence[FinderResult]) -> None:
    """Print how many of the ads' vehicles were found, by viewpoint, and how well their boxes agree with the teacher."""
    print(f"own vehicle found on ads: {recall(exteriors):.4f} of {len(exteriors)}; mean IoU {mean_iou(exteriors):.4f}")
    parts = {name: [index] for index, name in enumerate(VIEWPOINTS)}
    for name, indices in (parts | {"profiles": [parts["left"][0], parts["right"][0]]}).items():
        part = [entry for entry in exteriors if entry.own is not None and entry.true_views[entry.own][indices].any()]
        print(f"  {name}: {recall(part):.4f} of {len(part)}")


def by_kind(told: Sequence[FinderResult]) -> float:
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


def failures(told: Sequence[FinderResult], gate: float) -> list[dict[str, object]]:
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
            wrong.append(
                {
                    "path": entry.path,
                    "wrong": names,
                    "kind": kind,
                    "iou": round(best, 3),
                    "viewpoint": view,
                    "scores": [round(float(score), 3) for score in entry.scores],
                }
            )
    return wrong


def _some(photos: Sequence[LabelledPhoto], most: int, root: Path, rng: np.random.Generator) -> list[LabelledPhoto]:
    chosen = rng.permutation(len(photos))[:most]
    return [load(photos[int(index)], root, SCENE_SIZE) for index in chosen]


def _matches(told: FloatArray, true: FloatArray) -> bool:
    """Return whether each true box has its own told one."""
    overlap = iou_matrix(told, true)
    if len(told) < len(true):
        return False
    best = overlap.argmax(axis=0)
    return bool((overlap.max(axis=0) >= 0.5).all() and len(set(best.tolist())) == len(true))


if __name__ == "__main__":
    main()
