"""Read samples out of shards: a WebDataset tar or a TFRecord file, a folder of them, or their URL.

It gives encoded crops and metadata; `pixels.decode` and `pixels.network_input` make a network's input of them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from carspotter import storage
from carspotter.dataset.manifest import MANIFEST, MAX_SHARD_BYTES, join, load_manifest
from carspotter.dataset.samples import Sample, from_members, from_record
from carspotter.dataset.tfrecord import read_records
from carspotter.errors import DatasetError, StorageError

# POSIX ends an archive by two empty blocks; a tar that was cut between two members lacks them.
_TAR_END = bytes(1024)


def read_webdataset(source: str | Path, *, split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a tar, or of the tars of a folder (of one split), in their order.

    Raises DatasetError for a file that is missing, cut, or no tar, and for a sample without an image.
    """
    return _read(str(source), ".tar", split, _read_tar)


def read_tfrecord(source: str | Path, *, split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a TFRecord file, or of those of a folder (of one split), in their order.

    Raises DatasetError for a file that is missing or cut, a wrong checksum, and a record that is no sample.
    """
    return _read(str(source), ".tfrecord", split, _read_examples)


def _read(
    source: str, suffix: str, split: str | None, read: Callable[[BinaryIO, str], Iterator[Sample]]
) -> Iterator[Sample]:
    for name in _files(source, suffix, split):
        with _opened(name) as file:
            yield from read(file, name)


def _files(source: str, suffix: str, split: str | None) -> list[str]:
    """Return the files to read: by the manifest where there is one, so that no stale shard is among them."""
    if source.endswith(suffix):
        return [source]
    path = storage.local_path(source)
    if path is not None and not path.is_dir():
        raise DatasetError(f"no shards at {source}: neither a folder nor a file that ends in {suffix}")
    if path is None or (path / MANIFEST).exists():
        shards = load_manifest(source).shards
        wanted = [join(source, name) for shard in shards if split in (None, shard.split) for name in shard.files]
    else:
        wanted = storage.list_files(source, (suffix,), recursive=False)
        wanted = [name for name in wanted if split is None or Path(name).name.startswith(f"{split}-")]
    found = [name for name in wanted if name.endswith(suffix)]
    if not found:
        raise DatasetError(f"{source} has no {suffix} file{f' of split {split!r}' if split else ''}")
    return found


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    path = storage.local_path(name)
    try:
        file: BinaryIO = (
            BytesIO(storage.read(name, max_bytes=MAX_SHARD_BYTES, timeout_s=3600)) if path is None else path.open("rb")
        )
    except StorageError as error:
        raise DatasetError(f"shard cannot be read: {error}") from error
    except OSError as error:
        raise DatasetError(f"shard {name} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _read_tar(file: BinaryIO, name: str) -> Iterator[Sample]:
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_TAR_END)))
    if size < len(_TAR_END) or file.read() != _TAR_END:
        raise DatasetError(f"{name} is cut, or no tar: the end of the archive is missing; write the shard again")
    file.seek(0)
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                stem, suffix = _stem(member.name)
                if stem != key and members:
                    yield from_members(key, members, name)
                    members = {}
                key = stem
                members[suffix] = content.read()
    except tarfile.TarError as error:
        raise DatasetError(f"{name} is damaged, or no tar: {error}; write the shard again") from error
    if members:
        yield from_members(key, members, name)


def _read_examples(file: BinaryIO, name: str) -> Iterator[Sample]:
    for number, record in enumerate(read_records(file, name)):
        yield from_record(record, f"{name}: record {number}")


def _stem(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot behind its folders, as WebDataset does."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.casefold()
