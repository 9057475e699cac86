"""Read samples out of shards: a WebDataset tar or a TFRecord file, a folder of them, or their URL.

It gives encoded crops and metadata; `pixels.decode` and `pixels.network_input` make a network's input of them. Both
kinds of file are equals: where each sample lies is found by the heads alone, and any of them can be read.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from carspotter import storage
from carspotter.dataset.manifest import MANIFEST, MAX_SHARD_BYTES, join, load_manifest
from carspotter.dataset.samples import SUFFIXES, Sample, from_members, from_record
from carspotter.dataset.tfrecord import record_ends, unpack_record
from carspotter.errors import DatasetError, StorageError

KINDS = (".tar", ".tfrecord")
"""Endings of a shard's file; where both hold the same samples, the first is read."""

# POSIX ends an archive by two empty blocks; a tar that was cut between two members lacks them.
_TAR_END = bytes(1024)
_BLOCK = 512


def read_webdataset(source: str | Path, *, split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a tar, or of the tars of a folder (of one split), in their order.

    Raises DatasetError for a file that is missing, cut, or no tar, and for a sample without an image.
    """
    return _read(str(source), (".tar",), split)


def read_tfrecord(source: str | Path, *, split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a TFRecord file, or of those of a folder (of one split), in their order.

    Raises DatasetError for a file that is missing or cut, a wrong checksum, and a record that is no sample.
    """
    return _read(str(source), (".tfrecord",), split)


def read_shards(source: str | Path, *, split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a folder of shards (of one split), in their order, tars or TFRecords as they are.

    Raises DatasetError as `read_webdataset` and `read_tfrecord` do.
    """
    return _read(str(source), KINDS, split)


class ShardFile:
    """One shard, of which any sample can be read, from several threads alike; close it, or use it by `with`.

    Raises DatasetError for a file that is missing, cut, or neither tar nor TFRecord.
    """

    def __init__(self, name: str) -> None:
        """Open the file and find where each sample begins, by the heads alone."""
        self.name = name
        self._file = _opened(name)
        self._is_tar = not name.endswith(".tfrecord")
        self._lock = threading.Lock()
        try:
            ends, self._is_plain = (
                _tar_ends(self._file, name) if self._is_tar else (record_ends(self._file, name), False)
            )
        except BaseException:
            self._file.close()
            raise
        # Numbers alone: a list of names and sizes would take a hundred times as much.
        self._ends = np.array([0, *ends], np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def sample(self, number: int, *, image: bool = True) -> Sample:
        """Read a sample by its number from 0; without `image` its labels alone, which spares a tar's pixels."""
        start, end = int(self._ends[number]), int(self._ends[number + 1])
        if self._is_tar:
            return self._of_tar(start, end, image=image)
        with self._lock:
            self._file.seek(start)
            data = self._file.read(end - start)
        where = f"{self.name}: record {number}"
        return from_record(unpack_record(data, where), where)

    def _of_tar(self, start: int, end: int, *, image: bool) -> Sample:
        key, members = "", dict[str, bytes]()
        read = _plain_members if self._is_plain else _members
        with self._lock:
            self._file.seek(start)
            for name, content in read(self._file, self.name, end, image=image):
                key, suffix = _stem(name)
                members[suffix] = content
        return from_members(key, members, self.name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # it could be opened
            self.close()

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shard_files(source: str, kinds: tuple[str, ...] = KINDS, split: str | None = None) -> list[str]:
    """Return the files to read, of the first of `kinds` that is there: by the manifest where there is one.

    So no stale shard is among them. Raises DatasetError where there is none.
    """
    if source.endswith(kinds):
        return [source]
    path = storage.local_path(source)
    if path is not None and not path.is_dir():
        raise DatasetError(f"no shards at {source}: neither a folder nor a file that ends in {' or '.join(kinds)}")
    if path is None or (path / MANIFEST).exists():
        shards = load_manifest(source).shards
        wanted = [join(source, name) for shard in shards if split in (None, shard.split) for name in shard.files]
    else:
        wanted = storage.list_files(source, kinds, recursive=False)
        wanted = [name for name in wanted if split is None or Path(name).name.startswith(f"{split}-")]
    for kind in kinds:
        if found := [name for name in wanted if name.endswith(kind)]:
            return found
    raise DatasetError(f"{source} has no {' or '.join(kinds)} file{f' of split {split!r}' if split else ''}")


def _read(source: str, kinds: tuple[str, ...], split: str | None) -> Iterator[Sample]:
    for name in shard_files(source, kinds, split):
        with ShardFile(name) as shard:
            yield from (shard.sample(number) for number in range(len(shard)))


def _opened(name: str) -> BinaryIO:
    path = storage.local_path(name)
    try:
        if path is None:
            return BytesIO(storage.read(name, max_bytes=MAX_SHARD_BYTES, timeout_s=3600))
        return path.open("rb")
    except StorageError as error:
        raise DatasetError(f"shard cannot be read: {error}") from error
    except OSError as error:
        raise DatasetError(f"shard {name} cannot be read: {error.strerror}") from error


def _tar_ends(file: BinaryIO, name: str) -> tuple[list[int], bool]:
    """Return where the members of each sample end, those of one stem that stand together, and whether all are plain."""
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_TAR_END)))
    if size < len(_TAR_END) or file.read() != _TAR_END:
        raise DatasetError(f"{name} is cut, or no tar: the end of the archive is missing; write the shard again")
    key, ends = None, list[int]()
    plain = _plain_heads(file, size)
    for member, end in plain or _all_heads(file, name):
        stem = _stem(member)[0]
        if stem == key:
            ends[-1] = end
        else:
            ends.append(end)
        key = stem
    return ends, bool(plain)


def _plain_heads(file: BinaryIO, size: int) -> list[tuple[str, int]]:
    """Return name and end of each member of a tar as `shards` writes it, nothing for any other, or a damaged one.

    Each worker of a training looks through each shard: this takes a tenth of the time of `tarfile`.
    """
    place, found = 0, list[tuple[str, int]]()
    while place < size:
        file.seek(place)
        head = file.read(_BLOCK)
        if not head.strip(b"\0"):
            return found
        if (member := _plain_head(head)) is None:
            return []
        place += _BLOCK + -(-member[1] // _BLOCK) * _BLOCK
        found.append((member[0], place))
    return []


def _plain_head(head: bytes) -> tuple[str, int] | None:
    """Return name and bytes of a plain member, None where its head is another kind's, or damaged."""
    # POSIX's letters, a file; a name of over a hundred letters would have a second part.
    if head[257:263] != b"ustar\0" or head[156:157] != b"0" or head[345:346] != b"\0":
        return None
    checksum, length = head[148:154], head[124:135]
    if not (checksum.isdigit() and length.isdigit()):
        return None
    if int(checksum, 8) != sum(head[:148]) + sum(head[156:]) + 8 * ord(" "):
        return None
    return head[:100].rstrip(b"\0").decode("utf-8", "surrogateescape"), int(length, 8)


def _plain_members(file: BinaryIO, name: str, end: int, *, image: bool) -> Iterator[tuple[str, bytes]]:
    """Do as `_members` does, of a tar whose members are plain."""
    while (place := file.tell()) < end:
        member = _plain_head(file.read(_BLOCK))
        if member is None:
            raise DatasetError(f"{name} changed while it was read: no head of a member at byte {place}")
        wanted = image or _stem(member[0])[1] not in SUFFIXES
        yield member[0], file.read(member[1]) if wanted else b""
        file.seek(place + _BLOCK + -(-member[1] // _BLOCK) * _BLOCK)


def _all_heads(file: BinaryIO, name: str) -> Iterator[tuple[str, int]]:
    """Yield name and end of each member of any tar."""
    file.seek(0)
    with _explained(name), tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.isfile():
                yield member.name, member.offset_data + -(-member.size // _BLOCK) * _BLOCK


def _members(file: BinaryIO, name: str, end: int, *, image: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a tar from where it stands to `end`; without `image` those are empty."""
    with _explained(name), tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.offset >= end:
                return
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                wanted = image or _stem(member.name)[1] not in SUFFIXES
                yield member.name, content.read() if wanted else b""
            if member.offset_data + member.size > end - _BLOCK:
                return  # the next head is another sample's


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise DatasetError(f"{name} is damaged, or no tar: {error}; write the shard again") from error


def _stem(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot behind its folders, as WebDataset does."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.casefold()
