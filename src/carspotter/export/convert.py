"""Convert a bundle to another engine or precision, and compare the two before the new one is used.

It chooses among `onnx`, `openvino`, `litert` and `coreml`, has int8 calibrated, states the preprocessing in the file
itself, and asks `parity` whether the result is good. Where it is not, nothing is written. It reads no photos.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from carspotter.compute.apart import apart
from carspotter.errors import BundleError, ComputeError, suggestion
from carspotter.export.parity import Parity, compare, write_report
from carspotter.pixels import LETTERBOX_GREY
from carspotter.runtime.bundle import PRECISIONS, ModelBundle, Precision

Target = Literal["onnx", "openvino", "litert", "coreml"]
TARGETS: tuple[str, ...] = get_args(Target)

_FILES = {"onnx": "model.onnx", "openvino": "model.xml", "litert": "model.tflite"}
_ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "litert"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Network inputs uint8 (n, h, w, 3): some to calibrate int8 on, others to compare on.

    `targets` (n,) are the classes of those compared, -1 where none is known; `about` says in the card what int8 was
    calibrated on.
    """

    compared: NDArray[np.uint8]
    calibration: NDArray[np.uint8] | None = None
    targets: NDArray[np.int64] | None = None
    about: str = ""


def check(bundle: ModelBundle, *, to: str, precision: str, has_photos: bool) -> None:
    """Raise BundleError where the bundle cannot be exported so, whatever the photos are."""
    for what, word, allowed in (("--to", to, TARGETS), ("--precision", precision, PRECISIONS)):
        if word not in allowed:
            raise BundleError(f"{what} {word!r} is unknown; {suggestion(word, allowed)}")
    if bundle.task not in ("identifier", "finder"):
        raise BundleError(
            f"bundle {bundle.name} says an attribute from the features of a network: it goes beside that one as it is, "
            "with --attribute; an identifier or a finder can be exported"
        )
    if bundle.model_path.suffix != ".onnx" or bundle.precision != "float32":
        raise BundleError(
            f"bundle {bundle.name} is an export itself ({bundle.file}, {bundle.precision}); name the bundle it is of"
        )
    if precision == "int8" and to != "coreml" and not has_photos:
        raise BundleError("int8 is calibrated on photos, and there are none; give --photos FOLDER, CSV or PROJECT")


def convert(bundle: ModelBundle, out: str | Path, *, to: str, precision: str, inputs: Inputs) -> Parity | None:
    """Write the bundle for an engine and in a precision into the folder `out`; return how alike both answer.

    Core ML cannot be run here, so that its package is not compared: None. Raises BundleError where the export misses
    its bar (nothing is then written), for a source that was exported before, and for int8 without calibration.
    """
    check(bundle, to=to, precision=precision, has_photos=inputs.calibration is not None)
    if to == "coreml":
        from carspotter.export.coreml import to_coreml

        to_coreml(bundle, precision=precision, out=Path(out))
        return None
    with tempfile.TemporaryDirectory() as folder:
        tried, parity = _tried(bundle, Path(folder), to=to, precision=precision, inputs=inputs)
        network, weights = tried.read_network()
    missed = parity.misses()
    if missed:
        raise BundleError(
            f"export of {bundle.name} to {to} in {precision} is below its bar on {parity.photos} photos: "
            f"{'; '.join(missed)}; nothing was written, take a finer precision or more photos"
        )
    replace(tried, card=_card(bundle, parity, inputs.about)).save(out, network, weights=weights)
    write_report(parity, Path(out))
    return parity


def _tried(bundle: ModelBundle, folder: Path, *, to: str, precision: str, inputs: Inputs) -> tuple[ModelBundle, Parity]:
    """Convert a bundle into a folder and ask both; return the one there, and how alike they answer."""
    trying = partial(_try, bundle, folder, to=to, precision=precision, inputs=inputs)
    if to != "litert":
        return trying()
    try:
        # Its converter and its runtime have ended whole processes, with whatever else these held.
        return apart(trying)
    except ComputeError as error:
        finer = [each for each in PRECISIONS if each != precision]
        raise BundleError(
            f"export of {bundle.name} to LiteRT in {precision} failed in its converter or its runtime, which are not "
            f"ours: {error}; nothing was written, try --precision {' or '.join(finer)}"
        ) from error


def _try(bundle: ModelBundle, folder: Path, *, to: str, precision: str, inputs: Inputs) -> tuple[ModelBundle, Parity]:
    chosen: Precision = next(each for each in get_args(Precision) if each == precision)
    told, (network, weights) = bundle, _network(bundle, to, chosen, inputs)
    if to == "litert":
        from carspotter.export.answers import whole

        told = whole(bundle)[0]  # a head is inside
    exported = replace(told, name=f"{bundle.name}.{to}.{precision}", file=_FILES[to], precision=chosen, folder=None)
    tried = exported.save(folder, network, weights=weights)
    return tried, compare(bundle, tried, inputs.compared, targets=inputs.targets, engine=_ENGINES[to])


def about(bundle: ModelBundle, precision: str) -> dict[str, str]:
    """Return what a network's file states of itself: what it takes, what it answers, and for which classes."""
    size = bundle.preprocessing
    words = {
        "task": bundle.task,
        "name": bundle.name,
        "precision": precision,
        "input": f"image uint8 (n, {size.height}, {size.width}, 3)",
        "colour": "sRGB, red first, 0 to 255; normalization is inside",
        "fit": size.fit,
        "pad": f"{size.pad:g}",
        "letterbox_grey": str(LETTERBOX_GREY),
        "outputs": ", ".join(bundle.outputs),
        "calibration": json.dumps(dict(bundle.calibration)),
    }
    if bundle.attributes:
        words["attributes"] = json.dumps(dict(bundle.attributes), ensure_ascii=False)
    if bundle.taxonomy is not None:
        listed = json.dumps(bundle.taxonomy.to_dict(), sort_keys=True, ensure_ascii=False)
        words["classes"] = str(len(bundle.taxonomy))
        words["classes_fingerprint"] = hashlib.sha256(listed.encode()).hexdigest()[:16]
    return words


def _network(bundle: ModelBundle, to: str, precision: Precision, inputs: Inputs) -> tuple[bytes, bytes | None]:
    """Return the network's file, and the weights of an `.xml`."""
    if to == "litert":
        from carspotter.export.litert import to_litert

        return to_litert(bundle, precision=precision, photos=inputs.calibration), None
    from carspotter.export.quantize import stated, to_float16, to_int8

    network = bundle.model_path.read_bytes()
    if precision == "int8":
        assert inputs.calibration is not None
        network = to_int8(network, inputs.calibration)
    elif precision == "float16" and to == "onnx":
        network = to_float16(network)
    words = about(bundle, precision)
    if to == "onnx":
        return stated(network, words), None
    from carspotter.export.openvino import to_openvino

    return to_openvino(network, precision=precision, about=words)


def _card(bundle: ModelBundle, parity: Parity, calibrated_on: str) -> Mapping[str, Any]:
    """Add to the card how the export was made and what it answers beside its source."""
    before = bundle.card["recipe"]
    recipe = dict(before) if isinstance(before, Mapping) else {"trained": before}
    recipe["export"] = f"{bundle.name} in {parity.precision} for {parity.engine}"
    if parity.precision == "int8":
        recipe["calibration"] = f"static int8, calibrated on {calibrated_on or 'photos of its user'}"
    figures = bundle.card["figures"]
    kept = {f"before export, {name}": value for name, value in figures.items()} if isinstance(figures, Mapping) else {}
    with_source = {f"with {bundle.name} on {parity.photos} photos: {k}": v for k, v in parity.figures.items()}
    return {**bundle.card, "recipe": recipe, "figures": {**with_source, **kept}}
