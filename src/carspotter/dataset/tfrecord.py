"""Records of bytes in, a TFRecord file out, and back, each checksum compared.

A record is its length, the length's checksum, its bytes and their checksum (tensorflow/core/lib/io/record_writer.h).
What a record holds is for `example.py` and `samples.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from carspotter.dataset.crc32c import masked_crc32c
from carspotter.errors import DatasetError

# A record of ours is a crop of some kB; a length beyond is damage, and must not become an attempt to read it.
MAX_RECORD_BYTES = 1 << 30


def encode_records(records: Iterable[bytes]) -> bytes:
    """Return the content of a TFRecord file."""
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, struct.pack("<I", masked_crc32c(length)), record, struct.pack("<I", masked_crc32c(record))]
    return b"".join(parts)


def read_records(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the records of an open TFRecord file, called `name` in messages.

    Raises DatasetError where the file ends within a record or a checksum differs.
    """
    number = 0
    while head := file.read(12):
        where = f"{name}: record {number}"
        if len(head) < 12:
            raise DatasetError(f"{where} is cut: {len(head)} of 12 bytes of its head; write the shard again")
        length, crc = struct.unpack("<QI", head)
        if masked_crc32c(head[:8]) != crc or length > MAX_RECORD_BYTES:
            raise DatasetError(f"{where}: the checksum of its length is wrong: no TFRecord, or damaged")
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise DatasetError(f"{where} is cut: {len(body)} of {length + 4} bytes; write the shard again")
        record = body[:length]
        if masked_crc32c(record) != struct.unpack("<I", body[length:])[0]:
            raise DatasetError(f"{where}: its checksum is wrong: damaged; write the shard again")
        yield record
        number += 1
