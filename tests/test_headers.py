"""What the bytes of a file say: how many scans a JPEG has, whatever is appended to it, and files made of markers."""

import re

import pytest

from carspotter import headers
from carspotter.errors import ImageError
from carspotter.headers import count_scans, lacks_scans
from carspotter.pixels import decode
from hostile import encoded, photo

FILM = b"\xff\xda\0\x08" * 200_000  # phones append a film to a photo; any bytes occur in it
N_SCANS = {False: 1, True: 10}  # libjpeg's usual script for progressive colour photos


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 1])
def test_scans_are_those_of_the_image(progressive, restart):
    data = encoded(photo(), "JPEG", progressive=progressive, restart_marker_rows=restart)
    assert count_scans(data) == count_scans(data + FILM) == N_SCANS[progressive]
    assert decode(data + FILM).pixels.shape == (64, 96, 3)


def test_scans_are_counted_behind_junk_and_without_an_end():
    data = encoded(photo(), "JPEG", progressive=True)
    assert count_scans(data[:-2]) == 10
    first = data.index(b"\xff\xda")
    # Filling, and a marker without content: a decoder passes over both, so that they may hide no scan.
    assert count_scans(data[:first] + b"\xff\xff\xff" + data[first:]) == 10
    second = data.index(b"\xff\xda", first + 2)
    assert count_scans(data[:second] + b"\xff\x01\0" + data[second:]) == 10


def test_a_file_of_scans_is_read_no_further_than_its_limit(monkeypatch):
    read = 0

    def counted(data, walk=headers._scan_pieces):
        nonlocal read
        for marker in walk(data):
            read += 1
            yield marker

    monkeypatch.setattr(headers, "_scan_pieces", counted)
    data = encoded(photo(), "JPEG")
    bomb = data[:-2] + b"\xff\xda\0\2" * 4_000_000
    with pytest.raises(ImageError, match="markers"):
        count_scans(bomb)
    with pytest.raises(ImageError, match="markers"):
        decode(bomb)
    assert read == 2 * (headers._MAX_PIECES + 1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff"])
def test_no_scan(data):
    assert count_scans(data) == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("restart", [0, 1])
def test_a_progressive_jpeg_that_was_cut_between_two_scans_is_truncated(mode, restart):
    data = encoded(photo().convert(mode), "JPEG", progressive=True, restart_marker_rows=restart)
    assert not lacks_scans(data)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    tables = [found.start() for found in re.finditer(rb"\xff\xc4", data) if found.start() > scans[0]]
    for place in (*scans[1:], *tables):
        assert lacks_scans(data[:place])
        with pytest.raises(ImageError) as raised:
            decode(data[:place])
        assert raised.value.code == "truncated", place
    decode(data[:-2])  # all but its end
    decode(data[: scans[2]] + b"\xff\xd9")  # written so, whoever did it


def test_a_sequential_jpeg_may_have_a_scan_for_each_component():
    frame = b"\xff\xc0\0\x11\x08\0\x08\0\x08\x03" + b"".join(bytes((name, 0x11, 0)) for name in b"YUV")
    scans = [b"\xff\xda\0\x08\x01" + bytes((name, 0, 0, 0, 0)) + b"pixels" for name in b"YUV"]  # as sloppy writers do
    for n_scans in range(4):
        data = b"\xff\xd8" + frame + b"".join(scans[:n_scans])
        assert lacks_scans(data) == lacks_scans(data + b"\xff\xd9") == (n_scans < 3)
    assert lacks_scans(b"\xff\xd8" + b"".join(scans))  # no frame
