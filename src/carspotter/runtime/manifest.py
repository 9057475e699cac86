"""Read `bundle.json` and check each value; the words that it may hold.

It knows the manifest's layout and opens no other file; `bundle.py` reads and writes the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from carspotter.errors import BundleError, suggestion
from carspotter.pixels import Preprocessing
from carspotter.records import KINDS
from carspotter.runtime.head import Kind
from carspotter.settings import read_section
from carspotter.taxonomy import LEVELS

Task = Literal["finder", "identifier", "attribute"]
Precision = Literal["float32", "float16", "int8"]

FORMAT = 4
"""Version of the folder's layout, the only one that is read: an older network ends in raw numbers, a newer one in what
this carspotter does not know."""

FILES: tuple[str, ...] = ("model.onnx", "model.xml", "model.tflite")
"""What a bundle's network file may be called; its suffix says which engines can open it."""

PRECISIONS: tuple[str, ...] = get_args(Precision)
"""What a network may calculate in; the weights of a float32 one may be stored in less."""

TASK_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "finder": ("kind", "scores", "boxes", "viewpoints"),
    "identifier": ("probabilities", "embedding", *LEVELS),
    "attribute": (),
}
"""What a network for each task must answer, attributes aside; `_last_size` knows their last dimension. Of an
`attribute` it is one of `READS`."""

READS: tuple[tuple[str, ...], ...] = (("embedding",), ("kind", "viewpoints"))
"""What the head of an attribute may read: an identifier's embedding, or what a finder says of kind and sides."""

SUBJECT = "subject"
"""The attribute that says whether a crop shows one whole car, in the word `CAR`, or what has no name for us."""
CAR = "car"

HEAD_FILE = "head.npz"
NETWORK_FILE = "network.json"
"""The taxonomy of the network's own classes, where a head answers in their place."""
NETWORK = "network"
"""Key of a calibration: the thresholds by level of the network's own names, where a head answers in their place."""
EXPORT = "export it again with `carspotter export`"
"""What to do about a bundle that contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a manifest may state of a file: its length, and its checksum in hexadecimal digits."""

    bytes: int | None = None
    sha256: str | None = None

    def check(self, path: Path) -> None:
        """Raise BundleError unless the file is there and as long as is stated."""
        if not path.is_file():
            raise BundleError(f"{path} is missing, though bundle.json names it; copy the whole folder again")
        size = path.stat().st_size
        # A cut download or Git LFS's pointer; the engine's own words for it would be about protobuf.
        if not size or self.bytes not in (None, size):
            wanted = f", bundle.json says {self.bytes}" if self.bytes is not None else ""
            raise BundleError(
                f"{path} has {size} bytes{wanted}: it is cut or another file; copy the whole folder again"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Part):
    """What a manifest states of the network's file; `weights` are those of an `.xml`."""

    file: str = FILES[0]
    precision: Precision = "float32"
    weights: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        check_file(self.file, self.precision, "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFile(Part):
    """What a manifest states of a learned head's file."""

    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What stands in `bundle.json`."""

    format: int
    task: Task
    name: str
    preprocessing: Preprocessing
    calibration: Mapping[str, Any]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    model: Model = field(default_factory=Model)
    head: HeadFile | None = None

    def __post_init__(self) -> None:
        own = () if self.task == "attribute" else tuple(self.attributes)  # an attribute's own are its head's
        missing = {*TASK_OUTPUTS[self.task], *own} - set(self.outputs)
        if missing:
            raise ValueError(f"outputs lack {', '.join(sorted(missing))}; {EXPORT}")

    @property
    def parts(self) -> dict[str, Part]:
        """Return the names of the files of network and head, and what is stated of each."""
        weights = {self.model.file.removesuffix(".xml") + ".bin": self.model.weights}
        return {
            self.model.file: self.model,
            **(weights if self.model.file.endswith(".xml") else {}),
            **({HEAD_FILE: self.head} if self.head else {}),
        }


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest; raises BundleError that names the file, the key and its value."""
    content = read_json(path)
    version = content.get("format")
    # Before anything else: of another format we know neither the keys nor what they mean.
    if isinstance(version, bool) or not isinstance(version, int) or version < FORMAT:
        raise BundleError(f"{path}: format is {version!r}, this carspotter reads {FORMAT}; export the bundle again")
    if version > FORMAT:
        raise BundleError(
            f"{path}: format {version} is newer than this carspotter reads ({FORMAT}); upgrade carspotter"
        )
    return read_section(Manifest, content, where=str(path), error=BundleError)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises BundleError where there is none."""
    if not path.is_file():
        raise BundleError(f"{path} is missing, so {path.parent} is no complete bundle; copy the whole folder again")
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no JSON: {error}; copy the file again") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} holds a {type(value).__name__}; it must be a JSON object")
    return value


def sha256(data: bytes) -> str:
    """Return a checksum in hexadecimal digits."""
    import hashlib  # loads OpenSSL, 7 to 24 ms, which reading a bundle does not need

    return hashlib.sha256(data).hexdigest()


def network_files(file: str, model_bytes: bytes, weights: bytes | None) -> dict[str, bytes]:
    """Return the network's files by name, the one that an engine opens first."""
    needs = file.endswith(".xml")
    if needs != (weights is not None):
        fault = "needs its weights, the .bin" if needs else "holds its own weights"
        raise BundleError(f"{file} {fault}; `weights` are for an .xml, and only for one")
    return {file: model_bytes} | ({} if weights is None else {file.removesuffix(".xml") + ".bin": weights})


def state(content: bytes) -> dict[str, Any]:
    """Return what a manifest states of a file with this content."""
    return {"bytes": len(content), "sha256": sha256(content)}


def check_task(task: object, what: str) -> None:
    """Raise BundleError for a word that is no task."""
    if not isinstance(task, str) or task not in TASK_OUTPUTS:
        raise BundleError(f"{what}: task {task!r} is unknown; {suggestion(str(task), TASK_OUTPUTS)}")


def check_file(file: object, precision: object, what: str) -> None:
    """Raise BundleError for a network's file or precision that this version does not know."""
    for key, value, allowed in (("file", file, FILES), ("precision", precision, PRECISIONS)):
        if not isinstance(value, str) or value not in allowed:
            raise BundleError(f"{what}: model {key} {value!r} is unknown; {suggestion(str(value), allowed)}")


def check_attributes(attributes: object, task: str, what: str) -> None:
    """Raise BundleError unless attributes are names with two words or more: an identifier's, or one of an attribute."""
    if not isinstance(attributes, Mapping) or (attributes and task == "finder"):
        raise BundleError(f"{what} are {attributes!r}; they must be a mapping from names to words, of an identifier")
    if task == "attribute" and len(attributes) != 1:
        raise BundleError(f"{what} are {attributes!r}; a bundle for the task attribute has one")
    for name, words in attributes.items():
        if not isinstance(name, str) or not name or name in TASK_OUTPUTS[task]:
            raise BundleError(f"{what}: {name!r} cannot be one; it must be a text, and no other output")
        listed = isinstance(words, list | tuple) and all(isinstance(word, str) and word for word in words)
        if not listed or len(set(words)) != len(words) or len(words) < 2:
            raise BundleError(f"{what}.{name} is {words!r}; it must be a list of two words or more, each another")
    odd = [word for word in attributes.get("kind", ()) if word not in KINDS] if task == "attribute" else []
    if odd or "exterior" not in attributes.get("kind", ("exterior",)):
        fault = f"it has {odd[0]!r}" if odd else "it lacks exterior"
        raise BundleError(f"{what}.kind: {fault}; kinds are {', '.join(KINDS)}, and exterior passes the gate")
    if SUBJECT in attributes and CAR not in attributes[SUBJECT]:
        raise BundleError(f"{what}.{SUBJECT} is {attributes[SUBJECT]!r}; one of its words must be {CAR!r}")


def check_calibration(values: Mapping[str, Any], what: str) -> None:
    """Raise BundleError unless a calibration is of finite numbers, or mappings of such."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            check_calibration(value, f"{what}.{key}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BundleError(f"{what}.{key} is {value!r}; it must be a finite number, or a mapping of such")
