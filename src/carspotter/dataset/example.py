"""Named values in, the bytes of a `tf.train.Example` out, and back: the message that TensorFlow's readers parse.

The few fields of its protocol (tensorflow/core/example/feature.proto) are written by hand, so that neither TensorFlow
nor protobuf is needed. It knows no file and no photo.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from carspotter.errors import DatasetError

Feature = Sequence[bytes] | Sequence[int] | Sequence[float]
"""Values of one kind: bytes, whole numbers of 64 bits, or floats, which become 32 bits."""

# Numbers of the fields in feature.proto, and protobuf's two wire types that occur.
_BYTES, _FLOATS, _INTS = 1, 2, 3
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """Return the message; names in sorted order, so that equal features give equal bytes.

    Raises ValueError for a feature whose values are of several kinds.
    """
    entries = (_field(1, _field(1, name.encode()) + _field(2, _feature(features[name]))) for name in sorted(features))
    return _field(1, b"".join(entries))


def decode_example(data: bytes) -> dict[str, list[bytes] | list[int] | list[float]]:
    """Return the features of a message; raises DatasetError for bytes that are none."""
    features: dict[str, list[bytes] | list[int] | list[float]] = {}
    try:
        for group in _only(data, 1):
            for entry in _only(group, 1):
                name, value = b"", b""
                for number, part in _fields(entry):
                    if isinstance(part, bytes):
                        name, value = (part, value) if number == 1 else (name, part)
                features[name.decode()] = _values(value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DatasetError(f"record of {len(data)} bytes is no tf.train.Example: {error or 'it is cut'}") from error
    return features


def _feature(values: Feature) -> bytes:
    if all(isinstance(value, bytes) for value in values):
        return _field(_BYTES, b"".join(_field(1, value) for value in values if isinstance(value, bytes)))
    if all(isinstance(value, int) for value in values):
        packed = b"".join(_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values)
        return _field(_INTS, _field(1, packed))
    if all(isinstance(value, int | float) for value in values):
        return _field(_FLOATS, _field(1, struct.pack(f"<{len(values)}f", *values)))
    raise ValueError(f"feature values {values!r:.80}; they must be all bytes, all whole numbers or all floats")


def _values(data: bytes) -> list[bytes] | list[int] | list[float]:
    for kind, content in _fields(data):
        if not isinstance(content, bytes):
            continue
        parts = [part for number, part in _fields(content) if number == 1]
        if kind == _BYTES:
            return [part for part in parts if isinstance(part, bytes)]
        if kind == _FLOATS:  # packed in one part, or one part of four bytes each
            packed = b"".join(part for part in parts if isinstance(part, bytes))
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        if kind == _INTS:
            return [_signed(value) for part in parts for value in _ints(part)]
    return []


def _ints(part: bytes | int) -> Iterator[int]:
    if isinstance(part, int):
        yield part
        return
    at = 0
    while at < len(part):
        value, at = _read_varint(part, at)
        yield value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _only(data: bytes, number: int) -> Iterable[bytes]:
    return (part for found, part in _fields(data) if found == number and isinstance(part, bytes))


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and content of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind, end = key & 7, at
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            length, at = _read_varint(data, at)
            end = at + length
        elif kind in (_FIXED32, _FIXED64):
            end = at + (4 if kind == _FIXED32 else 8)
        if (end <= at and kind != _LENGTH) or end > len(data):
            raise IndexError(f"field of kind {kind} ends behind the record")
        yield key >> 3, data[at:end]
        at = end


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
