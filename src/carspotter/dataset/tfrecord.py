"""Write and read TFRecord files of `tf.train.Example` messages; each checksum is compared.

protobuf writes and reads the messages, google-crc32c counts the checksums; TensorFlow is not needed. A record is its
length, the length's checksum, its bytes and their checksum (tensorflow/core/lib/io/record_writer.h).
What a record holds is for `samples.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

from carspotter.errors import DatasetError, MissingExtraError

Feature = Sequence[bytes] | Sequence[int] | Sequence[float]
"""Values of one kind: bytes, whole numbers of 64 bits, or floats, which become 32 bits."""

# A record of ours is a crop of some kB; a length beyond is damage, and must not become an attempt to read it.
MAX_RECORD_BYTES = 1 << 30

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


def read_records(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the records of an open TFRecord file, called `name` in messages.

    Raises DatasetError where the file ends within a record or a checksum differs.
    """
    number = 0
    while head := file.read(12):
        where = f"{name}: record {number}"
        if len(head) < 12:
            raise DatasetError(f"{where} is cut: {len(head)} of 12 bytes of its head; write the shard again")
        (length,) = struct.unpack("<Q", head[:8])
        if _checksum(head[:8]) != head[8:] or length > MAX_RECORD_BYTES:
            raise DatasetError(f"{where}: the checksum of its length is wrong: no TFRecord, or damaged")
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise DatasetError(f"{where} is cut: {len(body)} of {length + 4} bytes; write the shard again")
        record = body[:length]
        if _checksum(record) != body[length:]:
            raise DatasetError(f"{where}: its checksum is wrong: damaged; write the shard again")
        yield record
        number += 1


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
