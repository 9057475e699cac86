"""Any bytes as a table: ads or one SourceError of one line, and nothing else.

The small number of cases runs each time; `CARSPOTTER_FUZZ=200000 pytest -m slow` runs as many as it says.
"""

import os
import random

import pytest

from carspotter.errors import SourceError
from carspotter.sources.table import TableSettings, read

SMALL, WIDE = 300, int(os.environ.get("CARSPOTTER_FUZZ", "20000"))
PIECES = [
    b"id",
    b"make",
    b"model",
    b"images",
    b"image1",
    b"price (EUR)",
    b"split",
    b"Inserat-Nr",
    b"sep=;",
    b"#",
    b"nan",
    b"{}",
    b"[]",
    b"['a.jpg', 'b.jpg']",
    b'"[""a.jpg""]"',
    b"{a,b}",
    b"https://h/a.jpg|https://h/b.jpg",
    b"4711.0",
    b"1E+11",
    b'{"id": 1, "make": "VW", "images": ["a.jpg"]}',
    b'{"id": {}}',
    b"[1]",
    b'"',
    b"'",
    b"\\",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe9",
    "ł".encode(),
    b"\xed\xa0\x80",
    b"\\ud800",
    b"{" * 50,
    b"[" * 2000,
    b"1",
    b"9" * 400,
    b"://",
    b"http://[",
]
MARKS = [b",", b";", b"\t", b"|", b"\n", b"\r\n", b"\r", b" ", b""]


def case(rng):
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(200))
    mark = rng.choice(MARKS)
    parts = []
    if rng.random() < 0.5:
        parts.append(mark.join((b"id", b"make", b"model", rng.choice((b"images", b"image_url", b"Bilder")))) + b"\n")
    for _ in range(rng.randrange(30)):
        parts += [rng.choice(PIECES), rng.choice(MARKS) if rng.random() < 0.3 else mark]
    return b"".join(parts)


def run(folder, cases, *, seed):
    rng, read_well = random.Random(seed), 0
    for number in range(cases):
        data = case(rng)
        path = (
            folder / ("t.csv", "t.jsonl", "t.parquet")[0 if (kind := rng.random()) < 0.6 else 1 if kind < 0.95 else 2]
        )
        path.write_bytes(data)
        try:
            found = list(read(TableSettings(path=str(path))))
        except SourceError as error:
            if "\n" in str(error):
                raise AssertionError(f"case {number}: {data!r}") from error
            continue
        except Exception as error:
            raise AssertionError(f"case {number}: {data!r}") from error
        assert all(ad.listing["status"] in ("ok", "no-ad-id", "broken-row") for ad in found), (number, data)
        read_well += 1
    assert read_well > cases / 20  # or nothing but refusals was tried


def test_any_table(tmp_path):
    run(tmp_path, SMALL, seed=1)


@pytest.mark.slow
def test_very_many_tables(tmp_path):
    run(tmp_path, WIDE, seed=2)


def test_a_header_of_several_lines_is_shown_in_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'"\r\nmake\r\n#\r\nhttp://[\r\n"\r\n{}\r\n')
    with pytest.raises(SourceError, match="its first line is neither a header") as raised:
        list(read(TableSettings(path=str(path))))
    assert "\n" not in str(raised.value)
