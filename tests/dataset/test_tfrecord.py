"""TFRecord: checksums against published values, there and back, damage found, and the readers of others."""

import importlib.util
import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.dataset.crc32c import crc32c, masked_crc32c
from carspotter.dataset.example import decode_example, encode_example
from carspotter.dataset.tfrecord import encode_records, read_records
from carspotter.errors import DatasetError


def slow_crc32c(data: bytes) -> int:
    """Compute the checksum bit by bit, as RFC 3720 describes it."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_published_checksums(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1023, 1024, 1025, 2048, 5000])
def test_checksums_of_any_length(size: int) -> None:
    data = bytes((i * 37 + i // 7) % 256 for i in range(size))
    assert crc32c(data) == slow_crc32c(data)


@given(st.binary(max_size=100))
def test_checksums_of_any_bytes(data: bytes) -> None:
    assert crc32c(memoryview(data)) == slow_crc32c(data)


FEATURES = st.dictionaries(
    st.text(max_size=10),
    st.lists(st.binary(max_size=300), min_size=1, max_size=3)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3)
    | st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
    max_size=4,
)


@given(FEATURES)
def test_an_example_there_and_back(features: dict[str, list[bytes] | list[int] | list[float]]) -> None:
    assert decode_example(encode_example(features)) == features


@given(st.binary(max_size=200))
def test_any_bytes_are_an_example_or_an_error(data: bytes) -> None:
    with suppress(DatasetError):  # any other exception fails the test
        decode_example(data)


def test_a_feature_is_of_one_kind() -> None:
    with pytest.raises(ValueError, match="must be all bytes"):
        encode_example({"mixed": [b"a", 1]})  # type: ignore[list-item]


@given(st.lists(st.binary(max_size=2000), max_size=4))
def test_records_there_and_back(records: list[bytes]) -> None:
    assert list(read_records(BytesIO(encode_records(records)), "x")) == records


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_each_flipped_bit_is_found(position: int, bit: int) -> None:
    data = bytearray(encode_records([b"one" * 30, b"two" * 30]))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(DatasetError, match=r"x\.tfrecord: record [01]: .*checksum"):
        list(read_records(BytesIO(bytes(data)), "x.tfrecord"))


@given(cut=st.integers(1, 10_000))
def test_each_cut_within_a_record_is_found(cut: int) -> None:
    first = len(encode_records([b"one" * 30]))
    data = encode_records([b"one" * 30, b"two" * 30])
    size = cut % len(data)
    if size in (0, first):  # whole records: the manifest knows how many there should be
        return
    with pytest.raises(DatasetError, match=r"record [01] is cut"):
        list(read_records(BytesIO(data[:size]), "x"))


def test_a_length_beyond_all_bounds_is_not_read() -> None:
    length = struct.pack("<Q", 1 << 40)
    with pytest.raises(DatasetError, match="no TFRecord, or damaged"):
        list(read_records(BytesIO(length + struct.pack("<I", masked_crc32c(length))), "x"))


EXAMPLE = {"image/encoded": [b"\xff\xd8\xff"], "image/class/label": [7], "image/object/bbox/xmin": [0.25, 0.5]}


def test_the_tfrecord_package_reads_it(tmp_path: Path) -> None:
    reader = pytest.importorskip("tfrecord.reader")
    path = tmp_path / "x.tfrecord"
    path.write_bytes(encode_records([encode_example(EXAMPLE)] * 2))
    kinds = {"image/encoded": "byte", "image/class/label": "int", "image/object/bbox/xmin": "float"}
    found = list(reader.tfrecord_loader(str(path), None, kinds))
    assert len(found) == 2
    assert bytes(found[0]["image/encoded"]) == b"\xff\xd8\xff"
    assert found[1]["image/class/label"].tolist() == [7]
    assert found[1]["image/object/bbox/xmin"].tolist() == [0.25, 0.5]


def test_we_read_what_the_tfrecord_package_writes(tmp_path: Path) -> None:
    writer_module = pytest.importorskip("tfrecord.writer")
    writer = writer_module.TFRecordWriter(str(tmp_path / "x.tfrecord"))
    writer.write({"text": (b"abc", "byte"), "numbers": ([1, -2], "int"), "floats": ([0.5], "float")})
    writer.close()
    with (tmp_path / "x.tfrecord").open("rb") as file:
        records = list(read_records(file, "x"))
    assert [decode_example(record) for record in records] == [{"text": [b"abc"], "numbers": [1, -2], "floats": [0.5]}]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow")
@pytest.mark.filterwarnings("ignore")
def test_tensorflow_reads_it(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    path.write_bytes(encode_records([encode_example(EXAMPLE)] * 2))
    kinds = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/object/bbox/xmin": tf.io.VarLenFeature(tf.float32),
    }
    found = [tf.io.parse_single_example(record, kinds) for record in tf.data.TFRecordDataset(str(path))]
    assert [int(row["image/class/label"]) for row in found] == [7, 7]
    assert found[0]["image/object/bbox/xmin"].values.numpy().tolist() == [0.25, 0.5]
