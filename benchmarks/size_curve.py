"""The curve of size, latency and accuracy: identifiers at several input sizes in; a table, JSON and a plot out.

A network is written NAME=BUNDLE@SIZES: a bundle's folder, or `identifier` or `identifier-int8` for a shipped one, and
input sizes in pixels, multiples of 32 (without them the bundle's own). Our networks are convolutions before the
pooling, so that an ONNX file takes another size once its input says so. Latency is of one photo on one thread in ONNX
Runtime: all points take turns, and `ratio` compares each turn with that of the first point, which is the one to beat.
Top-1 and make are of the photos of LABELS, with a Wilson interval. What `--out` holds of a file is not asked anew, so
that a second call measures the latencies alone.

    python benchmarks/size_curve.py LABELS "shipped=identifier@128,160,192,224" "half=runs/small/bundle@160,192,224" \\
        --classes recipes/stanford-cars.csv --out runs/size.json --plot docs/size.svg
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from carspotter.evaluation.intervals import Share
from carspotter.project.evaluating import LabelledPhoto, from_labels, predict
from carspotter.runtime.bundle import ModelBundle, list_bundles
from measure import keep_to_one_core, machine, parser, table
from size_plot import draw

STRIDE = 32
"""Sizes are multiples of it: at others the padding that the file holds would have to change as well."""
SHIPPED = ("identifier", "identifier-int8")
WARM = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A network at one size of its input."""

    name: str
    size: int
    bundle: ModelBundle


def points_of(word: str, folder: Path) -> list[Point]:
    """Open NAME=BUNDLE@SIZES, and write a bundle for each size below `folder`."""
    name, equals, rest = word.partition("=")
    place, _, sizes = rest.partition("@")
    if not (name and equals and place):
        raise SystemExit(f"{word!r}: write NAME=BUNDLE@SIZES, such as half=runs/small/bundle@160,224")
    bundle = open_bundle(place)
    own = bundle.preprocessing.width
    chosen = [int(size) if size.isdecimal() else 0 for size in sizes.split(",")] if sizes else [own]
    if any(size < STRIDE or size % STRIDE for size in chosen):
        raise SystemExit(f"{word!r}: sizes must be multiples of {STRIDE} from {STRIDE}, separated by commas")
    return [
        Point(name=name, size=size, bundle=bundle if size == own else resized(bundle, size, folder / f"{name}-{size}"))
        for size in chosen
    ]


def open_bundle(place: str) -> ModelBundle:
    """Open a bundle's folder, or a shipped one by its word."""
    if place not in SHIPPED:
        return ModelBundle.load(place)
    return next(bundle for bundle in list_bundles() if bundle.folder is not None and bundle.folder.name == place)


def resized(bundle: ModelBundle, size: int, folder: Path) -> ModelBundle:
    """Write a bundle whose network takes `size` x `size` pixels, and is otherwise the same."""
    model = onnx.load(bundle.model_path)
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    del model.graph.value_info[:]
    preprocessing = replace(bundle.preprocessing, width=size, height=size)
    return replace(bundle, preprocessing=preprocessing).save(folder, model.SerializeToString())


def cost(bundle: ModelBundle) -> dict[str, Any]:
    """Count weights, bytes of the file, and millions of multiply-adds of convolutions and products for one photo."""
    model = onnx.load(bundle.model_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    weights = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    adds = 0
    for node in inferred.node:
        if node.op_type == "Conv":  # each output is a sum over the kernel and the input channels of its group
            adds += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            adds += math.prod(shapes[node.input[1]])
    return {"weights": weights, "bytes": bundle.model_path.stat().st_size, "multiply_adds": adds}


def latencies(points: Sequence[Point], *, rounds: int) -> list[dict[str, float]]:
    """Time one photo through each network in turn; medians, and each turn against the first network's."""
    sessions = [point.bundle.open_session("onnxruntime", threads=1) for point in points]
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (1, point.size, point.size, 3), dtype=np.uint8) for point in points]
    taken = np.empty((rounds, len(points)))
    for turn in range(-WARM, rounds):
        for number, (session, photo) in enumerate(zip(sessions, photos, strict=True)):
            start = time.perf_counter()
            session.run(photo)
            if turn >= 0:
                taken[turn, number] = (time.perf_counter() - start) * 1000
    middle, ratios = np.median(taken, axis=0), np.median(taken / taken[:, :1], axis=0)
    return [
        {"p50_ms": round(float(ms), 2), "ratio": round(float(ratio), 3)}
        for ms, ratio in zip(middle, ratios, strict=True)
    ]


def accuracy(point: Point, photos: Sequence[LabelledPhoto]) -> dict[str, Any]:
    """Ask a network about the photos; shares that are right, with their 95 % intervals."""
    answers, unread = predict(point.bundle, photos, engine="onnxruntime")
    if unread:
        raise SystemExit(f"{len(unread)} photos cannot be read: {next(iter(unread.values()))}")
    make = answers.at("make").argmax(1) == answers.levels["make"]
    return {"top1": share(answers.probabilities.argmax(1) == answers.truth), "make": share(make)}


def share(right: np.ndarray) -> dict[str, float]:
    """Give a share and its interval."""
    found = Share(count=int(right.sum()), total=len(right))
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4), "n": len(right)}


def measure(chosen: argparse.Namespace, content: dict[str, Any]) -> None:
    """Measure every point; keep the answers of each file as soon as they are there."""
    known = content.setdefault("answers", {})
    with tempfile.TemporaryDirectory() as folder:
        points = [point for word in chosen.networks for point in points_of(word, Path(folder))]
        photos = from_labels(chosen.labels, split=chosen.split, classes=chosen.classes)[: chosen.limit]
        rows = []
        for point, timed in zip(points, latencies(points, rounds=chosen.rounds), strict=True):
            key = hashlib.sha256(point.bundle.model_path.read_bytes()).hexdigest()[:16] + f" {len(photos)}"
            if key not in known:
                known[key] = accuracy(point, photos)
                print(f"{point.name} at {point.size} px: top-1 {known[key]['top1']['value']}", file=sys.stderr)
                save(content, chosen.out)
            rows.append({"name": point.name, "size": point.size, **cost(point.bundle), **timed, **known[key]})
    content |= {"rows": rows, "machine": machine()}
    save(content, chosen.out)


def save(content: dict[str, Any], path: Path) -> None:
    """Write all figures under a temporary name, then rename."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def for_people(row: dict[str, Any]) -> dict[str, Any]:
    """Write a row as a table's."""
    return {
        "network": row["name"], "input": f"{row['size']} px", "weights, M": round(row["weights"] / 1e6, 2),
        "file, MB": round(row["bytes"] / 1e6, 1), "multiply-adds, M": round(row["multiply_adds"] / 1e6),
        "p50, ms": row["p50_ms"], "latency, ratio": row["ratio"],
        "top-1": "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row["top1"]), "make": f"{row['make']['value']:.3f}",
    }  # fmt: skip


def main() -> None:
    """Measure, print, keep and draw."""
    options = parser(__doc__)
    options.add_argument("labels", type=Path, help="CSV of photos: path, class_id, split")
    options.add_argument("networks", nargs="*", help="NAME=BUNDLE@SIZES; none: print and draw what --out holds")
    options.add_argument("--classes", type=Path, help="CSV that says what each class_id is")
    options.add_argument("--split", default="test")
    options.add_argument("--limit", type=int, help="ask about so many photos only, to try it")
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--out", type=Path, required=True, help="JSON of all figures")
    options.add_argument("--plot", type=Path, help="SVG of the curve")
    chosen = options.parse_args()
    content = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {"rows": []}
    if chosen.networks:
        keep_to_one_core()
        measure(chosen, content)
    if chosen.plot:
        chosen.plot.write_text(draw(content["rows"]), encoding="utf-8")
    print(json.dumps(content) if chosen.json else "\n".join(table([for_people(row) for row in content["rows"]])))


if __name__ == "__main__":
    main()
