"""What the bytes of a file say: how many scans a JPEG has, whatever is appended to it, and files made of markers."""

import pytest

from carspotter import headers
from carspotter.errors import ImageError
from carspotter.headers import count_scans
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

    def counted(data, walk=headers._scan_markers):
        nonlocal read
        for marker in walk(data):
            read += 1
            yield marker

    monkeypatch.setattr(headers, "_scan_markers", counted)
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
