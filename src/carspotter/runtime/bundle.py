"""Read and write a `ModelBundle`: weights, preprocessing, taxonomy, calibration and card of one network.

The folder holds the network (`model.onnx`; or `model.xml` and `model.bin`, or `model.tflite`), `bundle.json`,
`card.json`, `CARD.md` (the card for people), for an identifier `taxonomy.json`, and for a learned one `head.npz` and
`network.json` (the network's own classes).
Reading checks the folder; opening a session checks the network against it. Running it is `session.py`'s work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.errors import BundleError, TaxonomyError
from carspotter.pixels import Preprocessing
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.runtime.card import check_card, render_card
from carspotter.runtime.form import TensorSpec
from carspotter.runtime.head import KINDS as HEAD_KINDS
from carspotter.runtime.head import Head
from carspotter.runtime.manifest import CAR as CAR
from carspotter.runtime.manifest import (
    EXPORT,
    HEAD_FILE,
    NETWORK_FILE,
    check_attributes,
    check_calibration,
    check_file,
    check_task,
    network_files,
    read_json,
    read_manifest,
    sha256,
    state,
)
from carspotter.runtime.manifest import FILES as FILES
from carspotter.runtime.manifest import FORMAT as FORMAT
from carspotter.runtime.manifest import NETWORK as NETWORK
from carspotter.runtime.manifest import PRECISIONS as PRECISIONS
from carspotter.runtime.manifest import READS as READS
from carspotter.runtime.manifest import SUBJECT as SUBJECT
from carspotter.runtime.manifest import TASK_OUTPUTS as TASK_OUTPUTS
from carspotter.runtime.manifest import Precision as Precision
from carspotter.runtime.manifest import Task as Task
from carspotter.runtime.seen import SEEN_FILE, from_bytes
from carspotter.runtime.session import Session, open_session
from carspotter.taxonomy import LEVELS, Taxonomy


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """What travels with a network's weights; `load` reads one, `save` writes one.

    `calibration` maps names to numbers (or to mappings of numbers): of a finder `score` and `gate`, of an identifier
    `thresholds` and `subject`, and with a head `temperature`. `card` has the keys of `CARD_KEYS`. `attributes` are what
    an identifier answers in addition to names, each with its words in the order of the output that is called like it. A
    `head` answers the taxonomy's classes from the embedding, in place of the network's own, which `network` names where
    they are known. `seen` are hashes of what the network learnt from, empty where that is not known. `file` is one of
    `FILES`, `precision` one of `PRECISIONS`. `folder` is None before `save`. A bundle for the task `attribute` has one
    attribute, which its head answers from what it `reads` of the network, one of `READS`; its calibration is
    `temperature`, the attribute's threshold under its name and, of a kind, `gate`.
    """

    task: Task
    name: str
    preprocessing: Preprocessing
    card: Mapping[str, Any]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    taxonomy: Taxonomy | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    head: Head | None = None
    seen: bytes = b""
    reads: tuple[str, ...] = ()
    network: Taxonomy | None = None
    file: str = FILES[0]
    precision: Precision = "float32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_task(self.task, f"bundle {self.name!r}")
        check_file(self.file, self.precision, f"bundle {self.name}")
        if not self.name.strip():
            raise BundleError("a bundle needs a name, such as lite0.stanford-cars.2026-11; set `name` in bundle.json")
        if (self.taxonomy is None) == (self.task == "identifier"):
            article = "an" if self.task[0] in "ai" else "a"
            fault = (
                "an identifier needs a taxonomy" if self.taxonomy is None else f"{article} {self.task} has no taxonomy"
            )
            raise BundleError(f"bundle {self.name}: {fault}; see taxonomy.json in the folder of a shipped identifier")
        if self.network is not None and self.head is None:
            raise BundleError(
                f"bundle {self.name}: network.json names a network's classes, but no head answers instead"
            )
        check_attributes(self.attributes, self.task, f"bundle {self.name}: attributes")
        self._check_head()
        object.__setattr__(self, "attributes", {name: tuple(words) for name, words in self.attributes.items()})
        check_calibration(self.calibration, f"bundle {self.name}: calibration")
        check_card(self.card, f"bundle {self.name}")

    @classmethod
    def load(cls, folder: Path | str) -> ModelBundle:
        """Read a bundle's folder; raises BundleError when a part is missing, odd, or newer than this carspotter."""
        folder = Path(folder)
        if not folder.is_dir():
            raise BundleError(f"no bundle at {folder}: it is no folder; `carspotter models` lists the bundles")
        manifest = read_manifest(folder / "bundle.json")
        for name, part in manifest.parts.items():
            part.check(folder / name)
        head, network, seen = (folder / name for name in (HEAD_FILE, NETWORK_FILE, SEEN_FILE))
        hashes = seen.read_bytes() if seen.is_file() else b""
        from_bytes(hashes, str(seen))  # a cut file must not pass for a shorter list
        return cls(
            task=manifest.task,
            name=manifest.name,
            preprocessing=manifest.preprocessing,
            calibration=manifest.calibration,
            card=read_json(folder / "card.json"),
            taxonomy=_read_taxonomy(folder / "taxonomy.json") if manifest.task == "identifier" else None,
            attributes=manifest.attributes,
            reads=manifest.outputs if manifest.task == "attribute" else (),
            head=Head.from_bytes(head.read_bytes(), str(head)) if manifest.head else None,
            seen=hashes,
            network=_read_taxonomy(network) if manifest.head and network.is_file() else None,
            file=manifest.model.file,
            precision=manifest.model.precision,
            folder=folder,
        )

    def save(
        self, folder: Path | str, model_bytes: bytes, *, file: str | None = None, weights: bytes | None = None
    ) -> ModelBundle:
        """Write the folder, the manifest `bundle.json` last, and return the bundle that stands there.

        `file` (one of `FILES`; None: the bundle's own) says what `model_bytes` are; `weights` go with an `.xml`, and
        only with one. What stood there stays until all is on the disk; a folder without its manifest is no
        bundle. Raises StorageError when the folder cannot be written, BundleError for another file or odd weights.
        """
        if file is not None and file != self.file:
            return replace(self, file=file).save(folder, model_bytes, weights=weights)
        contents = network_files(self.file, model_bytes, weights)
        folder = Path(folder)
        written = contents | {
            **({} if self.taxonomy is None else {"taxonomy.json": self.taxonomy.to_bytes()}),
            **({} if self.network is None else {NETWORK_FILE: self.network.to_bytes()}),
            **({} if self.head is None else {HEAD_FILE: self.head.to_bytes()}),
            **({SEEN_FILE: self.seen} if self.seen else {}),
            "card.json": storage.json_bytes(self.card, nan=False),
            "CARD.md": render_card(self.card, name=self.name, task=self.task).encode(),
            "bundle.json": storage.json_bytes(self._manifest(contents), nan=False),
        }
        # Of a bundle that stood here before, what this one does not have.
        gone = {*_FILES_AND_WEIGHTS, NETWORK_FILE, SEEN_FILE} - set(written)
        storage.write_together(folder, written, gone=gone)
        return replace(self, folder=folder)

    def _check_head(self) -> None:
        if self.task == "attribute":
            ((name, words),) = self.attributes.items()
            if self.head is None or self.head.n_classes != len(words) or self.reads not in READS:
                known = "no head" if self.head is None else f"a head of {self.head.n_classes} that reads {self.reads}"
                raise BundleError(
                    f"bundle {self.name}: {known} for {len(words)} words of {name}; train it again with "
                    f"`carspotter train PROJECT --task {name}`"
                )
        elif self.head is not None and (self.taxonomy is None or self.head.n_classes != len(self.taxonomy)):
            known = "no classes" if self.taxonomy is None else f"{len(self.taxonomy)} classes"
            raise BundleError(f"bundle {self.name}: its head answers {self.head.n_classes}, its taxonomy has {known}")

    def share(self, name: str, default: float) -> float:
        """Return a number of the calibration that must lie in 0..1; `default` where it has none. Raises BundleError."""
        value = self.calibration.get(name, default)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise BundleError(f"bundle {self.name}: calibration {name} is {value!r}; it must be from 0 to 1")
        return float(value)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of all that the network answers."""
        return self.reads if self.task == "attribute" else (*TASK_OUTPUTS[self.task], *self.attributes)

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
        head = b""
        if self.task == "attribute":
            seen["calibration"] = dict(self.calibration)
            head = self.head.to_bytes() if self.head is not None else b""
        return f"{self.name}@{sha256(network + (weights or b'') + head + storage.json_bytes(seen, nan=False))[:12]}"

    def has_network_of(self, other: ModelBundle) -> bool:
        """Return whether both bundles hold the same network, whatever their heads are. Raises BundleError."""
        return self.file == other.file and self.read_network() == other.read_network()

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
        max_concurrency: int = 1,
    ) -> Session:
        """Open the network with an engine and check it; raises as `session.open_session` and `check_session` do."""
        session = open_session(
            self.model_path,
            engine,
            threads=threads,
            device=device,
            precision=precision,
            max_concurrency=max_concurrency,
        )
        self.check_session(session)
        return session

    def check_session(self, session: Session) -> None:
        """Raise BundleError unless the network takes and answers what the bundle says."""
        size = self.preprocessing
        wanted = TensorSpec(name="image", shape=(None, size.height, size.width, 3), dtype="uint8")
        given = session.input_form
        if given != wanted:
            raise BundleError(f"bundle {self.name}: the network takes {given}, but bundle.json says {wanted}; {EXPORT}")
        forms = {form.name: form for form in session.output_forms}
        for output in self.outputs:
            if output not in forms:
                answers = ", ".join(forms) or "nothing"
                raise BundleError(f"bundle {self.name}: the network answers {answers}, {output!r} is missing; {EXPORT}")
            last, want = forms[output].shape[-1], self._last_size(output)
            if None not in (last, want) and last != want:
                raise BundleError(
                    f"bundle {self.name}: the network answers {forms[output]}, wanted {want} last; {EXPORT}"
                )

    def verify(self) -> None:
        """Read the network's and the head's file and raise BundleError unless they are the ones that were saved."""
        manifest = read_manifest(self.model_path.with_name("bundle.json"))
        for name, stated in manifest.parts.items():
            path = self.model_path.with_name(name)
            if stated.sha256 not in (None, found := sha256(path.read_bytes())):
                raise BundleError(f"{path}: sha256 is {found}, bundle.json says {stated.sha256}; copy the folder again")

    def _last_size(self, output: str) -> int | None:
        sizes = {"kind": len(KINDS), "boxes": 4, "viewpoints": len(VIEWPOINTS)}
        if self.task == "attribute" and self.head is not None:
            # The network is an identifier's or a finder's, whose `kind` has all kinds, however few ours are.
            return self.head.width if self.reads == READS[0] else sizes.get(output)
        sizes |= {name: len(words) for name, words in self.attributes.items()}
        if self.head is not None:  # the network's own classes are those of the bundle it was learned from
            sizes["embedding"] = self.head.width
            if self.head.profiles is not None:
                sizes["model"] = self.head.profiles.shape[1]
        own = self.taxonomy if self.head is None else self.network
        if own is not None:
            sizes["probabilities"] = len(own)
            sizes |= {level: len(own.names(level)) for level in LEVELS}
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
        if self.task != "finder":
            manifest["attributes"] = {name: list(words) for name, words in self.attributes.items()}
        if self.head is not None:
            data = self.head.to_bytes()
            manifest["head"] = {"kind": HEAD_KINDS[0], **state(data)}
        return manifest

    def _model(self, contents: Mapping[str, bytes]) -> dict[str, Any]:
        """State the network's file; what is as it always was stays unsaid, so that such manifests do not change."""
        stated: dict[str, Any] = {} if self.file == FILES[0] else {"file": self.file}
        if self.precision != "float32":
            stated["precision"] = self.precision
        model, *weights = (state(content) for content in contents.values())
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
    check_task(task, "shipped bundle")
    folder = _shipped_folder() / task
    if task == "attribute":
        raise BundleError("no attribute ships: train one with `carspotter train PROJECT --task NAME`")
    if not folder.is_dir():
        raise BundleError(f"this install has no {task} at {folder}; name a bundle's folder, or reinstall carspotter")
    return ModelBundle.load(folder)


_FILES_AND_WEIGHTS = (*FILES, "model.bin")


def _shipped_folder() -> Path:
    return Path(str(resources.files("carspotter"))) / "models"


def _read_taxonomy(path: Path) -> Taxonomy:
    try:
        return Taxonomy.from_dict(read_json(path))
    except TaxonomyError as error:
        raise BundleError(f"{path}: {error}") from error
