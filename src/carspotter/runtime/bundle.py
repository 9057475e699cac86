"""A folder in, a `ModelBundle` out: weights, preprocessing, taxonomy, calibration and card of one network; and back.

A bundle says all that a runtime needs to know. The folder holds the network (`model.onnx`; or `model.xml` and
`model.bin`, or `model.tflite`), `bundle.json`, `card.json`, `CARD.md` (the card for people), for an identifier
`taxonomy.json`, and for a learned one `head.npz`. Reading checks the folder;
opening a session checks the network against it. Running it is `session.py`'s work; what its outputs mean is for
`recognition`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from carspotter import storage
from carspotter.errors import BundleError, StorageError, TaxonomyError, suggestion
from carspotter.pixels import Preprocessing
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.card import check_card, render_card
from carspotter.runtime.form import TensorForm
from carspotter.runtime.head import KINDS as HEAD_KINDS
from carspotter.runtime.head import Head
from carspotter.runtime.session import Session, open_session
from carspotter.taxonomy import LEVELS, Taxonomy

Task = Literal["finder", "identifier"]
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
}
"""What a network for each task must answer, besides its attributes; `_last_size` knows their last dimension."""

SUBJECT = "subject"
"""The attribute that says whether a crop shows one whole car, in the word `CAR`, or what has no name for us."""
CAR = "car"

_REQUIRED = ("format", "task", "name", "preprocessing", "calibration", "outputs")
_KNOWN = (*_REQUIRED, "attributes", "model", "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """Hold what travels with a network's weights; `load` reads one, `save` writes one.

    `calibration` maps names to numbers (or to mappings of numbers): of a finder `score` and `gate`, of an identifier
    `thresholds` and `subject`, and with a head `temperature`. `card` has the keys of `CARD_KEYS`. `attributes` are what
    an identifier tells besides names, each with its words in the order of the output that is called like it. A `head`
    answers the taxonomy's classes from the embedding, in place of the network's own. `file` is one of `FILES`,
    `precision` one of `PRECISIONS`. `folder` is None before `save`.
    """

    task: Task
    name: str
    preprocessing: Preprocessing
    card: Mapping[str, Any]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    taxonomy: Taxonomy | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    head: Head | None = None
    file: str = FILES[0]
    precision: Precision = "float32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        _check_task(self.task, f"bundle {self.name!r}")
        _check_file(self.file, self.precision, f"bundle {self.name}")
        if not self.name.strip():
            raise BundleError("a bundle needs a name, such as lite0.stanford-cars.2026-11; set `name` in bundle.json")
        if (self.taxonomy is None) == (self.task == "identifier"):
            fault = "an identifier needs a taxonomy" if self.taxonomy is None else "a finder has no taxonomy"
            raise BundleError(f"bundle {self.name}: {fault}; see taxonomy.json in the folder of a shipped identifier")
        if self.head is not None and (self.taxonomy is None or self.head.n_classes != len(self.taxonomy)):
            known = "no classes" if self.taxonomy is None else f"{len(self.taxonomy)} classes"
            raise BundleError(f"bundle {self.name}: its head answers {self.head.n_classes}, its taxonomy has {known}")
        _check_attributes(self.attributes, self.task, f"bundle {self.name}: attributes")
        object.__setattr__(self, "attributes", {name: tuple(words) for name, words in self.attributes.items()})
        _check_calibration(self.calibration, f"bundle {self.name}: calibration")
        check_card(self.card, f"bundle {self.name}")

    @classmethod
    def load(cls, folder: Path | str) -> ModelBundle:
        """Read a bundle's folder; raises BundleError when a part is missing, odd, or newer than this carspotter."""
        folder = Path(folder)
        if not folder.is_dir():
            raise BundleError(f"no bundle at {folder}: it is no folder; `carspotter models` lists the bundles")
        manifest = _read_manifest(folder / "bundle.json")
        stated = manifest.get("model", {})
        file = stated.get("file", FILES[0])
        for name, part in _parts(stated, file).items():
            _check_model_file(folder / name, part)
        taxonomy = _read_taxonomy(folder / "taxonomy.json") if manifest["task"] == "identifier" else None
        return cls(
            task=manifest["task"],
            name=manifest["name"],
            preprocessing=_preprocessing(manifest["preprocessing"], folder),
            calibration=manifest["calibration"],
            card=_read_json(folder / "card.json"),
            taxonomy=taxonomy,
            attributes=manifest.get("attributes", {}),
            head=_read_head(folder / "head.npz", manifest["head"]) if "head" in manifest else None,
            file=file,
            precision=stated.get("precision", "float32"),
            folder=folder,
        )

    def save(
        self, folder: Path | str, model_bytes: bytes, *, file: str | None = None, weights: bytes | None = None
    ) -> ModelBundle:
        """Write the folder, the manifest `bundle.json` last, and return the bundle that stands there.

        `file` (one of `FILES`; None: the bundle's own) says what `model_bytes` are; `weights` go with an `.xml`, and
        only with one. Each file is written under a temporary name and renamed; a folder without its manifest is no
        bundle. Raises StorageError when the folder cannot be written, BundleError for another file or odd weights.
        """
        if file is not None and file != self.file:
            return replace(self, file=file).save(folder, model_bytes, weights=weights)
        contents = _contents(self.file, model_bytes, weights)
        folder = Path(folder)
        try:
            # A reader must not meet the old manifest beside new weights while the parts are replaced.
            (folder / "bundle.json").unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"bundle {folder} cannot be written: {error.strerror}") from error
        for name in {*_FILES_AND_WEIGHTS} - set(contents):  # of a bundle that stood here before
            (folder / name).unlink(missing_ok=True)
        for name, content in contents.items():
            _write(folder / name, content)
        if self.taxonomy is not None:
            self.taxonomy.save(folder / "taxonomy.json")
        if self.head is not None:
            _write(folder / "head.npz", self.head.to_bytes())
        _write(folder / "card.json", _json_bytes(self.card))
        _write(folder / "CARD.md", render_card(self.card, name=self.name, task=self.task).encode())
        _write(folder / "bundle.json", _json_bytes(self._manifest(contents)))
        return replace(self, folder=folder)

    def share(self, name: str, default: float) -> float:
        """Return a number of the calibration that must lie in 0..1; `default` where it has none. Raises BundleError."""
        value = self.calibration.get(name, default)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise BundleError(f"bundle {self.name}: calibration {name} is {value!r}; it must be from 0 to 1")
        return float(value)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of all that the network answers."""
        return (*TASK_OUTPUTS[self.task], *self.attributes)

    @property
    def model_path(self) -> Path:
        """Return the path of the network file; raises BundleError before the bundle is saved."""
        if self.folder is None:
            raise BundleError(
                f"bundle {self.name} is not saved yet, so it has no network file; call save(folder, bytes)"
            )
        return self.folder / self.file

    @property
    def version(self) -> str:
        """Return name and checksum of what decides how the network sees: weights, preprocessing, a finder's score.

        A retrained network under the same name has another version. Raises BundleError before the bundle is saved.
        """
        seen: dict[str, Any] = {"preprocessing": self.preprocessing.to_dict()}
        if self.task == "finder":
            seen["score"] = self.calibration.get("score")
        network, weights = self.read_network()
        return f"{self.name}@{_sha256(network + (weights or b'') + _json_bytes(seen))[:12]}"

    def read_network(self) -> tuple[bytes, bytes | None]:
        """Return the network's file and, of an `.xml`, its weights, as `save` takes them; raises BundleError."""
        path = self.model_path
        weights = path.with_suffix(".bin").read_bytes() if path.suffix == ".xml" else None
        return path.read_bytes(), weights

    def open_session(
        self,
        engine: str = "auto",
        *,
        threads: int | None = None,
        device: str = "cpu",
        precision: str = "float32",
        at_once: int = 1,
    ) -> Session:
        """Open the network with an engine and check it; raises as `session.open_session` and `check_session` do."""
        session = open_session(
            self.model_path, engine, threads=threads, device=device, precision=precision, at_once=at_once
        )
        self.check_session(session)
        return session

    def check_session(self, session: Session) -> None:
        """Raise BundleError unless the network takes and answers what the bundle says."""
        size = self.preprocessing
        wanted = TensorForm(name="image", shape=(None, size.height, size.width, 3), dtype="uint8")
        given = session.input_form
        if (given.name, given.dtype) != (wanted.name, wanted.dtype) or not _fits(given.shape, wanted.shape):
            raise BundleError(
                f"bundle {self.name}: the network takes {given}, but bundle.json says {wanted}; {_EXPORT}"
            )
        forms = {form.name: form for form in session.output_forms}
        for output in self.outputs:
            if output not in forms:
                answers = ", ".join(forms) or "nothing"
                raise BundleError(
                    f"bundle {self.name}: the network answers {answers}, {output!r} is missing; {_EXPORT}"
                )
            last, want = forms[output].shape[-1], self._last_size(output)
            if None not in (last, want) and last != want:
                raise BundleError(
                    f"bundle {self.name}: the network answers {forms[output]}, wanted {want} last; {_EXPORT}"
                )

    def verify(self) -> None:
        """Read the network's and the head's file and raise BundleError unless they are the ones that were saved."""
        manifest = _read_manifest(self.model_path.with_name("bundle.json"))
        parts = _parts(manifest.get("model", {}), self.file)
        if "head" in manifest:
            parts["head.npz"] = manifest["head"]
        for name, stated in parts.items():
            path, expected = self.model_path.with_name(name), stated.get("sha256")
            found = _sha256(path.read_bytes()) if expected is not None else None
            if expected != found:
                raise BundleError(f"{path}: sha256 is {found}, bundle.json says {expected}; copy the folder again")

    def _last_size(self, output: str) -> int | None:
        sizes = {"kind": len(KINDS), "boxes": 4, "viewpoints": len(VIEWPOINTS)}
        sizes |= {name: len(words) for name, words in self.attributes.items()}
        if self.head is not None:  # the network's own classes are those of the bundle it was learned from
            sizes["embedding"] = self.head.width
        elif self.taxonomy is not None:
            sizes["probabilities"] = len(self.taxonomy)
            sizes |= {level: len(self.taxonomy.names(level)) for level in LEVELS}
        return sizes.get(output)

    def _manifest(self, contents: Mapping[str, bytes]) -> dict[str, Any]:
        manifest = {
            "format": FORMAT,
            "task": self.task,
            "name": self.name,
            "preprocessing": self.preprocessing.to_dict(),
            "calibration": dict(self.calibration),
            "outputs": list(self.outputs),
            "model": self._model(contents),
        }
        if self.task == "identifier":
            manifest["attributes"] = {name: list(words) for name, words in self.attributes.items()}
        if self.head is not None:
            data = self.head.to_bytes()
            manifest["head"] = {"kind": HEAD_KINDS[0], "bytes": len(data), "sha256": _sha256(data)}
        return manifest

    def _model(self, contents: Mapping[str, bytes]) -> dict[str, Any]:
        """State the network's file; what is as it always was stays unsaid, so that such manifests do not change."""
        stated: dict[str, Any] = {} if self.file == FILES[0] else {"file": self.file}
        if self.precision != "float32":
            stated["precision"] = self.precision
        model, *weights = (_stated(content) for content in contents.values())
        return stated | model | ({"weights": weights[0]} if weights else {})


def list_bundles(folder: Path | str | None = None) -> list[ModelBundle]:
    """Return the bundles in the folders right below `folder` (None: those that ship inside the package), by name.

    A folder without `bundle.json` is passed over; a broken bundle raises BundleError.
    """
    if folder is None:
        parent = _shipped_folder()
        if not parent.is_dir():
            return []
    else:
        parent = Path(folder)
        if not parent.is_dir():
            raise BundleError(f"no folder {parent} to look for bundles in; leave it out for those of the package")
    found = [ModelBundle.load(path.parent) for path in sorted(parent.glob("*/bundle.json"))]
    return sorted(found, key=lambda bundle: bundle.name)


def shipped(task: Task) -> ModelBundle:
    """Return the bundle inside the package for a task, the folder named after it; raises BundleError without one."""
    _check_task(task, "shipped bundle")
    folder = _shipped_folder() / task
    if not folder.is_dir():
        raise BundleError(f"this install has no {task} at {folder}; name a bundle's folder, or reinstall carspotter")
    return ModelBundle.load(folder)


_FILES_AND_WEIGHTS = (*FILES, "model.bin")
_EXPORT = "export it again with `carspotter export`"


def _shipped_folder() -> Path:
    return Path(str(resources.files("carspotter"))) / "models"


def _sha256(data: bytes) -> str:
    import hashlib  # loads OpenSSL, 7 to 24 ms, which reading a bundle does not need

    return hashlib.sha256(data).hexdigest()


def _check_task(task: object, what: str) -> None:
    if not isinstance(task, str) or task not in TASK_OUTPUTS:
        raise BundleError(f"{what}: task {task!r} is unknown; {suggestion(str(task), TASK_OUTPUTS)}")


def _check_file(file: object, precision: object, what: str) -> None:
    for key, value, allowed in (("file", file, FILES), ("precision", precision, PRECISIONS)):
        if not isinstance(value, str) or value not in allowed:
            raise BundleError(f"{what}: model {key} {value!r} is unknown; {suggestion(str(value), allowed)}")


def _contents(file: str, model_bytes: bytes, weights: bytes | None) -> dict[str, bytes]:
    """Return the network's files by name, the one that an engine opens first."""
    needs = file.endswith(".xml")
    if needs != (weights is not None):
        fault = "needs its weights, the .bin" if needs else "holds its own weights"
        raise BundleError(f"{file} {fault}; `weights` are for an .xml, and only for one")
    return {file: model_bytes} | ({} if weights is None else {file.removesuffix(".xml") + ".bin": weights})


def _parts(stated: Mapping[str, Any], file: str) -> dict[str, Mapping[str, Any]]:
    """Return the files of a network and what the manifest states of each."""
    parts: dict[str, Mapping[str, Any]] = {file: stated}
    if file.endswith(".xml"):
        parts[file.removesuffix(".xml") + ".bin"] = stated.get("weights", {})
    return parts


def _stated(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": _sha256(content)}


def _check_attributes(attributes: object, task: str, what: str) -> None:
    if not isinstance(attributes, Mapping) or (attributes and task != "identifier"):
        raise BundleError(f"{what} are {attributes!r}; they must be a mapping from names to words, of an identifier")
    for name, words in attributes.items():
        if not isinstance(name, str) or not name or name in TASK_OUTPUTS[task]:
            raise BundleError(f"{what}: {name!r} cannot be one; it must be a text, and no other output")
        listed = isinstance(words, list | tuple) and all(isinstance(word, str) and word for word in words)
        if not listed or len(set(words)) != len(words) or len(words) < 2:
            raise BundleError(f"{what}.{name} is {words!r}; it must be a list of two words or more, each another")
    if SUBJECT in attributes and CAR not in attributes[SUBJECT]:
        raise BundleError(f"{what}.{SUBJECT} is {attributes[SUBJECT]!r}; one of its words must be {CAR!r}")


def _check_calibration(values: Mapping[str, Any], what: str) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _check_calibration(value, f"{what}.{key}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BundleError(f"{what}.{key} is {value!r}; it must be a finite number, or a mapping of such")


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _read_json(path)
    version = manifest.get("format")
    # Before anything else: of another format we know neither the keys nor what they mean.
    if isinstance(version, bool) or not isinstance(version, int) or version < FORMAT:
        raise BundleError(f"{path}: format is {version!r}, this carspotter reads {FORMAT}; export the bundle again")
    if version > FORMAT:
        raise BundleError(
            f"{path}: format {version} is newer than this carspotter reads ({FORMAT}); upgrade carspotter"
        )
    _check_keys(manifest, path)
    _check_task(manifest["task"], str(path))
    _check_model(manifest.get("model", {}), path)
    missing = {*TASK_OUTPUTS[manifest["task"]], *manifest.get("attributes", {})} - set(manifest["outputs"])
    if missing:
        raise BundleError(f"{path}: outputs lack {', '.join(sorted(missing))}; {_EXPORT}")
    return manifest


def _check_model(stated: Mapping[str, Any], path: Path) -> None:
    _check_file(stated.get("file", FILES[0]), stated.get("precision", "float32"), str(path))
    if not isinstance(stated.get("weights", {}), Mapping):
        raise BundleError(f"{path}: model weights are {stated['weights']!r}; they must be a dict")


def _check_keys(manifest: Mapping[str, Any], path: Path) -> None:
    for key in manifest:
        if key not in _KNOWN:
            raise BundleError(f"{path}: unknown key {key!r}; {suggestion(key, _KNOWN)}")
    types = {"name": str, "preprocessing": dict, "calibration": dict, "outputs": list, "attributes": dict}
    types |= {"model": dict, "head": dict}
    for key in _REQUIRED:
        if key not in manifest:
            raise BundleError(f"{path}: key {key!r} is missing; {_EXPORT}")
    for key, kind in types.items():
        if key in manifest and not isinstance(manifest[key], kind):
            raise BundleError(f"{path}: {key} is {manifest[key]!r}; it must be a {kind.__name__}")
    if not all(isinstance(name, str) for name in manifest["outputs"]):
        raise BundleError(f"{path}: outputs are {manifest['outputs']!r}; they must be names")


def _check_model_file(path: Path, stated: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing: the bundle has no weights; copy the whole folder again")
    size, expected = path.stat().st_size, stated.get("bytes")
    # A cut download or Git LFS's pointer; the engine's own words for it would be about protobuf.
    if not size or expected not in (None, size):
        wanted = f", bundle.json says {expected}" if expected is not None else ""
        raise BundleError(f"{path} has {size} bytes{wanted}: it is cut or another file; copy the whole folder again")


def _read_head(path: Path, stated: Mapping[str, Any]) -> Head:
    kind = stated.get("kind")
    if kind not in HEAD_KINDS:
        raise BundleError(f"{path}: head is of kind {kind!r}; {suggestion(str(kind), HEAD_KINDS)}")
    if not path.is_file():
        raise BundleError(f"{path} is missing, though bundle.json names a head; copy the whole folder again")
    data = path.read_bytes()
    if stated.get("bytes") not in (None, len(data)):
        raise BundleError(f"{path} has {len(data)} bytes, bundle.json says {stated['bytes']}; copy the folder again")
    return Head.from_bytes(data, str(path))


def _preprocessing(values: Mapping[str, Any], folder: Path) -> Preprocessing:
    try:
        return Preprocessing.from_dict(values)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{folder / 'bundle.json'}: preprocessing {dict(values)!r}: {error}") from error


def _read_taxonomy(path: Path) -> Taxonomy:
    try:
        return Taxonomy.from_dict(_read_json(path))
    except TaxonomyError as error:
        raise BundleError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"{path} is missing, so {path.parent} is no complete bundle; copy the whole folder again")
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no JSON: {error}; copy the file again") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} holds a {type(value).__name__}; it must be a JSON object")
    return value


def _write(path: Path, data: bytes) -> None:
    storage.write(str(path), data)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _fits(given: Iterable[int | None], wanted: Iterable[int | None]) -> bool:
    sizes, wishes = tuple(given), tuple(wanted)
    return len(sizes) == len(wishes) and all(size == wish for size, wish in zip(sizes, wishes, strict=True))
