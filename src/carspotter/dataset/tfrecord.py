"""Write and read TFRecord files of `tf.train.Example` messages; each checksum is compared.

protobuf writes and reads the messages, google-crc32c counts the checksums; TensorFlow is not needed. A record is its
length, the length's checksum, its bytes and their checksum (tensorflow/core/lib/io/record_writer.h).
What a record holds is for `samples.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

from carspotter.errors import DatasetError, MissingExtraError

Feature = Sequence[bytes] | Sequence[int] | Sequence[float]
"""Values of one kind: bytes, whole numbers of 64 bits, or floats, which become 32 bits."""

# A record of ours is a crop of some kB; a length beyond is damage, and must not become an attempt to read it.
MAX_RECORD_BYTES = 1 << 30
# Bytes before and behind a record: its length and the checksum of that; the checksum of its content.
_HEAD, _TAIL = 12, 4

# TFRecord stores a CRC rotated and shifted, since a CRC over data that holds CRCs is weak (tensorflow crc32c.h).
_MASK = 0xA282EAD8

# tensorflow/core/example/feature.proto. Its map of features is written here as what a map is on the wire, entries with
# a key and a value, so that their order is ours and equal features give equal bytes.
_SCHEMA = """
name: "feature.proto" package: "carspotter" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".carspotter.BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".carspotter.FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".carspotter.Int64List" } }
message_type { name: "Entry"
  field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".carspotter.Feature" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".carspotter.Entry" } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".carspotter.Features" } }
"""


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """Return a `tf.train.Example`; names in sorted order, so that equal features give equal bytes.

    Raises ValueError for a feature whose values are of several kinds.
    """
    example = _message()()
    example.features.SetInParent()
    for name in sorted(features):
        values = features[name]
        for kind, types in (("bytes_list", bytes), ("int64_list", int), ("float_list", int | float)):
            if all(isinstance(value, types) for value in values):
                entry = example.features.feature.add(key=name)
                getattr(entry.value, kind).value.extend(values)
                break
        else:
            raise ValueError(f"feature values {values!r:.80}; they must be all bytes, all whole numbers or all floats")
    data: bytes = example.SerializeToString()
    return data


def decode_example(data: bytes) -> dict[str, list[bytes] | list[int] | list[float]]:
    """Return the features of a message; raises DatasetError for other bytes."""
    message = _message()
    from google.protobuf.message import DecodeError

    try:
        example = message.FromString(data)
    except DecodeError as error:
        raise DatasetError(f"record of {len(data)} bytes is no tf.train.Example: damaged; write it again") from error
    # A feature has one list, or none.
    return {
        entry.key: [value for _, content in entry.value.ListFields() for value in content.value]
        for entry in example.features.feature
    }


def encode_records(records: Iterable[bytes]) -> bytes:
    """Return the content of a TFRecord file."""
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, _checksum(length), record, _checksum(record)]
    return b"".join(parts)


def record_ends(file: BinaryIO, name: str) -> list[int]:
    """Return where each record of an open TFRecord file, called `name` in messages, ends; the heads alone are read.

    Raises DatasetError where the file ends within a record, or a length cannot be one.
    """
    size, place, ends = file.seek(0, 2), 0, list[int]()
    while place < size:
        where = f"{name}: record {len(ends)}"
        file.seek(place)
        head = file.read(_HEAD)
        if len(head) < _HEAD:
            raise DatasetError(f"{where} is cut: {len(head)} of {_HEAD} bytes of its head; write the shard again")
        (length,) = struct.unpack("<Q", head[:8])
        if _checksum(head[:8]) != head[8:] or length > MAX_RECORD_BYTES:
            raise DatasetError(f"{where}: the checksum of its length is wrong: no TFRecord, or damaged")
        there = size - place - _HEAD
        if there < length + _TAIL:
            raise DatasetError(f"{where} is cut: {there} of {length + _TAIL} bytes; write the shard again")
        place += _HEAD + length + _TAIL
        ends.append(place)
    return ends


def unpack_record(data: bytes, where: str) -> bytes:
    """Return the content of one record with its head and its checksum; raises DatasetError where that is wrong."""
    record = data[_HEAD:-_TAIL]
    if _checksum(record) != data[-_TAIL:]:
        raise DatasetError(f"{where}: its checksum is wrong: damaged; write the shard again")
    return record


def _checksum(data: bytes) -> bytes:
    """Return the CRC-32C (Castagnoli) of some bytes as TFRecord stores it."""
    try:
        from google_crc32c import value
    except ModuleNotFoundError as error:
        raise MissingExtraError("google-crc32c", "data") from error
    crc = value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


@lru_cache(maxsize=1)
def _message() -> Any:
    """Return the class of `tf.train.Example`, in a pool of its own, beside TensorFlow's where that is loaded."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    except ModuleNotFoundError as error:
        raise MissingExtraError("protobuf", "data") from error
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("carspotter.Example"))
