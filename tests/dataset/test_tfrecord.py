"""TFRecord: there and back, damage found, the readers and writers of others, and files of earlier versions."""

import importlib.util
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.dataset.reader import read_tfrecord
from carspotter.dataset.samples import Sample, to_record
from carspotter.dataset.tfrecord import (
    _message,
    decode_example,
    encode_example,
    encode_records,
    record_ends,
    unpack_record,
)
from carspotter.errors import DatasetError, MissingExtraError

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


def read_records(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the records of a file, as the reader of shards takes them one by one."""
    place = 0
    for number, end in enumerate(record_ends(file, name)):
        file.seek(place)
        yield unpack_record(file.read(end - place), f"{name}: record {number}")
        place = end


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
    from tfrecord.writer import TFRecordWriter

    # Eight bytes and their checksum, which is right.
    length = struct.pack("<Q", 1 << 40)
    checksum = TFRecordWriter.masked_crc(length)
    with pytest.raises(DatasetError, match="no TFRecord, or damaged"):
        list(read_records(BytesIO(length + checksum), "x"))


EXAMPLE = {"image/encoded": [b"\xff\xd8\xff"], "image/class/label": [7], "image/object/bbox/xmin": [0.25, 0.5]}


def test_the_tfrecord_package_reads_it(tmp_path: Path) -> None:
    from tfrecord.reader import tfrecord_loader

    path = tmp_path / "x.tfrecord"
    path.write_bytes(encode_records([encode_example(EXAMPLE)] * 2))
    kinds = {"image/encoded": "byte", "image/class/label": "int", "image/object/bbox/xmin": "float"}
    found = list(tfrecord_loader(str(path), None, kinds))
    assert len(found) == 2
    assert bytes(found[0]["image/encoded"]) == b"\xff\xd8\xff"
    assert found[1]["image/class/label"].tolist() == [7]
    assert found[1]["image/object/bbox/xmin"].tolist() == [0.25, 0.5]


def test_we_read_what_the_tfrecord_package_writes(tmp_path: Path) -> None:
    from tfrecord.writer import TFRecordWriter

    writer = TFRecordWriter(str(tmp_path / "x.tfrecord"))
    writer.write({"text": (b"abc", "byte"), "numbers": ([1, -2], "int"), "floats": ([0.5], "float")})
    writer.close()
    with (tmp_path / "x.tfrecord").open("rb") as file:
        records = list(read_records(file, "x"))
    assert [decode_example(record) for record in records] == [{"text": [b"abc"], "numbers": [1, -2], "floats": [0.5]}]


# A file of an earlier version, which wrote messages and checksums without any library.
EARLIER = bytes.fromhex(
    "ec02000000000000ea22474d0ae9050a1b0a11696d6167652f636c6173732f6c6162656c12061a040a02ac020a1e0a10696d6167652f636c"
    "6173732f74657874120a0a080a06c5a06b6f64610a1c0a0d696d6167652f656e636f646564120b0a090a07ffd82063726f700a1c0a0e696d"
    "6167652f66696c656e616d65120a0a080a0666e92e6a70670a180a0c696d6167652f666f726d617412080a060a046a7065670a150a0c696d"
    "6167652f68656967687412051a030a011e0a120a09696d6167652f6b657912050a030a01370adb010a0e696d6167652f6d65746164617461"
    "12c8010ac5010ac2017b22626f78223a205b312e302c20322e302c2031312e302c2032322e305d2c2022636c6173735f696e646578223a20"
    "3330302c2022636c6173735f6e616d65223a20225c75303136306b6f6461222c2022686569676874223a2033302c202270617468223a2022"
    "665c75646365392e6a7067222c202270686f746f5f6964223a202261642f31222c202273706c6974223a2022747261696e222c2022766965"
    "77706f696e74223a202266726f6e742d6c656674222c20227769647468223a2034307d0a220a16696d6167652f6f626a6563742f62626f78"
    "2f786d6178120812060a04cdcc8c3e0a220a16696d6167652f6f626a6563742f62626f782f786d696e120812060a04cdcccc3c0a220a1669"
    "6d6167652f6f626a6563742f62626f782f796d6178120812060a04bcbb3b3f0a220a16696d6167652f6f626a6563742f62626f782f796d69"
    "6e120812060a048988883d0a220a18696d6167652f6f626a6563742f636c6173732f6c6162656c12061a040a02ad020a250a17696d616765"
    "2f6f626a6563742f636c6173732f74657874120a0a080a06c5a06b6f64610a230a11696d6167652f6f626a6563742f76696577120e0a0c0a"
    "0a66726f6e742d6c6566740a1b0a0f696d6167652f736f757263655f696412080a060a0461642f310a180a0b696d6167652f73706c697412"
    "090a070a05747261696e0a140a0b696d6167652f776964746812051a030a01280d01d3b7"
)
SAMPLE = Sample(
    key="7",
    image=b"\xff\xd8 crop",
    format="jpeg",
    metadata={
        "photo_id": "ad/1",
        "path": "f\udce9.jpg",
        "class_name": "Škoda",
        "class_index": 300,
        "split": "train",
        "box": [1.0, 2.0, 11.0, 22.0],
        "width": 40,
        "height": 30,
        "viewpoint": "front-left",
    },
)


def test_files_of_earlier_versions_hold_the_same_records(tmp_path: Path) -> None:
    from tfrecord.reader import tfrecord_loader

    (tmp_path / "before.tfrecord").write_bytes(EARLIER)
    (tmp_path / "after.tfrecord").write_bytes(encode_records([to_record(SAMPLE)]))
    before, after = (list(tfrecord_loader(str(tmp_path / f"{name}.tfrecord"), None)) for name in ("before", "after"))
    assert repr(before) == repr(after)
    assert before[0].keys() >= {"image/encoded", "image/metadata", "image/object/bbox/xmin"}
    assert list(read_tfrecord(tmp_path / "before.tfrecord")) == [SAMPLE]
    assert (tmp_path / "after.tfrecord").read_bytes() == EARLIER


@pytest.mark.parametrize("module", ["google_crc32c", "google.protobuf"])
def test_without_a_library_the_command_to_install_it_is_told(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _message.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "carspotter\[data\]"'):
        encode_records([encode_example(EXAMPLE)])


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
