"""CSV of labels as spreadsheets save it: marks, separators, blanks, rows of a wrong length."""

from pathlib import Path

import pytest

from carspotter.csv_rows import header, parse_csv, read_csv
from carspotter.errors import LabelError

ROWS = [(2, {"path": "a.jpg", "make": "Audi, NSU"}), (4, {"path": "b.jpg", "make": ""})]


@pytest.mark.parametrize(
    "text",
    [
        'path,make\na.jpg,"Audi, NSU"\n\nb.jpg,\n',
        "path;make\r\na.jpg;Audi, NSU\r\n;\r\nb.jpg;\r\n",
        "\ufeffpath\t make \na.jpg \t Audi, NSU\n\t\nb.jpg\t\n",
    ],
)
def test_rows_are_the_same_however_they_were_saved(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert read_csv(tmp_path / "labels.csv", ("path",), error=LabelError) == ROWS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'path' is missing; it needs path, and has none"),
        ("make,model\nAudi,A4\n", "column 'path' is missing; it needs path, and has make, model"),
        ("path,make\n", "has no row"),
        ("path,make\na.jpg,Audi\nb.jpg\n", "line 3: more or fewer cells than the header's 2"),
        ("path,make\na.jpg,Audi,A4\n", "line 2: more or fewer cells than the header's 2"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LabelError, match=message) as caught:
        read_csv(tmp_path / "labels.csv", ("path",), error=LabelError)
    assert "labels.csv" in str(caught.value)


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelError, match=r"cannot be read: .*; save it as CSV in UTF-8"):
        read_csv(tmp_path / "labels.csv", ("path",), error=LabelError)


def test_rows_that_may_be_short_are_filled() -> None:
    rows = parse_csv("make;model;note\nAudi;A4\n", ("make",), error=LabelError, where="x", may_be_short=True)
    assert rows == [(2, {"make": "Audi", "model": "A4", "note": ""})]
    assert header("make; model\nAudi;A4") == ["make", "model"]
