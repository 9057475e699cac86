"""The manifest of a folder of shards: what is in it, and the checksums by which that can be proved.

`manifest.json` is written last, so a folder with one is complete. While shards are written it says so instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from carspotter import storage
from carspotter.errors import DatasetError, StorageError, TaxonomyError
from carspotter.pixels import Preprocessing
from carspotter.settings import read_section
from carspotter.taxonomy import Taxon, Taxonomy

FORMAT = 1
MANIFEST = "manifest.json"

# Shards are written by their thousands of crops of some 30 kB; a foreign one may be larger.
MAX_SHARD_BYTES = 8 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Describe one shard: `files` maps the name of each file to its bytes and sha256, `plan` says what made it.

    `errors` are the photos that could not be read: photo_id, path, code and message of each.
    """

    name: str
    split: str
    plan: str
    samples: int
    files: Mapping[str, Mapping[str, Any]]
    classes: Mapping[str, int]
    errors: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Shard:
        """Read what `dataclasses.asdict` gave; raises DatasetError for any other content."""
        return read_section(cls, content, where="description of a shard", error=DatasetError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Describe a folder of shards; `fingerprint` is equal where rows, settings and classes are equal."""

    folder: str
    fingerprint: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return samples by split and class name."""
        counts: dict[str, dict[str, int]] = {}
        for shard in self.shards:
            split = counts.setdefault(shard.split, {})
            for name, number in shard.classes.items():
                split[name] = split.get(name, 0) + number
        return counts

    @property
    def cut_for(self) -> Preprocessing | None:
        """Return the network input that the crops are, None where they have proportions of their own."""
        target = self.settings.get("target")
        return Preprocessing.from_dict(target) if target else None

    @property
    def errors(self) -> tuple[Mapping[str, str], ...]:
        """Return the photos that could not be read, in the order of the shards."""
        return tuple(error for shard in self.shards for error in shard.errors)

    @property
    def n_samples(self) -> int:
        """Return how many samples all shards hold."""
        return sum(shard.samples for shard in self.shards)

    def stats(self) -> dict[str, Any]:
        """Return what there is to say in a line: samples by split, shards, megabytes, photos that could not be read."""
        by_split = {split: sum(counts.values()) for split, counts in self.counts.items()}
        size = sum(int(file["bytes"]) for shard in self.shards for file in shard.files.values())
        return {**by_split, "shards": len(self.shards), "megabytes": round(size / 1e6, 1), "errors": len(self.errors)}

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON; the folder's own place is left out, so that it may be moved."""
        content = {
            "format": FORMAT,
            "complete": True,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "samples": self.n_samples,
            "counts": self.counts,
            "errors": len(self.errors),
            "classes": self.classes,
            "shards": [asdict(shard) for shard in self.shards],
        }
        return storage.json_bytes(content)


UNFINISHED = (json.dumps({"format": FORMAT, "complete": False}) + "\n").encode()
"""What stands in the place of a manifest while shards are written."""


def load_manifest(folder: str) -> Manifest:
    """Read the manifest of a folder or URL; raises DatasetError where shards are missing, unfinished or too new."""
    where = join(folder, MANIFEST)
    try:
        content = json.loads(storage.read(where, max_bytes=MAX_SHARD_BYTES))
    except StorageError as error:
        raise DatasetError(f"no shards in {folder}: {error}") from error
    except ValueError as error:
        raise DatasetError(f"{where} is no JSON: {error}; write the shards again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{where}: not of format {FORMAT}, which this carspotter reads; write the shards again")
    if not content.get("complete"):
        raise DatasetError(f"{folder}: its shards are being written, or writing was stopped; run carspotter shard")
    try:
        return Manifest(
            folder=folder,
            fingerprint=content["fingerprint"],
            settings=content["settings"],
            classes=tuple(content["classes"]),
            shards=tuple(Shard.from_dict(shard) for shard in content["shards"]),
        )
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{where}: {error} is missing; write the shards again") from error


def load_classes(folder: str) -> Taxonomy:
    """Return the classes of a folder of shards: the taxonomy beside them, or else each name as a make of its own.

    Raises DatasetError for a taxonomy of another dataset.
    """
    names = load_manifest(folder).classes
    try:
        content = storage.read(join(folder, "taxonomy.json"))
    except StorageError:
        return Taxonomy(tuple(Taxon(make=name) for name in names))
    try:
        taxonomy = Taxonomy.from_dict(json.loads(content))
    except (ValueError, TaxonomyError) as error:
        raise DatasetError(f"{folder}: taxonomy.json cannot be read: {error}; write the shards again") from error
    if len(taxonomy) != len(names):
        raise DatasetError(
            f"{folder}: taxonomy.json has {len(taxonomy)} classes, the shards {len(names)}; write the shards again"
        )
    return taxonomy


def verify(folder: str) -> Manifest:
    """Read every file of a folder of shards and raise DatasetError unless each is the one that was written."""
    manifest = load_manifest(folder)
    for shard in manifest.shards:
        for name, stated in shard.files.items():
            try:
                data = storage.read(join(folder, name), max_bytes=MAX_SHARD_BYTES, timeout_s=3600)
            except StorageError as error:
                raise DatasetError(f"shard {name} is missing or cannot be read: {error}") from error
            found = hashlib.sha256(data).hexdigest()
            if found != stated["sha256"]:
                raise DatasetError(f"shard {name}: sha256 is {found}, the manifest says {stated['sha256']}; damaged")
    return manifest


def join(folder: str, name: str) -> str:
    """Return the path or URL of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"
