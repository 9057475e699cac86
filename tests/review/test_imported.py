"""A `reviewed.csv` becomes decisions once: as a person made them, with nothing lost and nothing overruled."""

import csv
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import LabelError
from carspotter.labels.doubts import COLUMNS, Doubt, write_doubts
from carspotter.review.decisions import Decision, DecisionStore
from carspotter.review.imported import open_decisions, read_reviewed
from carspotter.taxonomy import Taxon

S4 = Taxon(make="Audi", model="S4", generation="2009-2016", year=2012)
DOUBTS = [
    Doubt(
        photo_id="a/0",
        ad_id="a",
        is_ad=True,
        given="Audi A4 2012",
        score=0.02,
        suggested=S4,
        given_probability=0.01,
        suggested_probability=0.6,
    ),
    Doubt(photo_id="b/1", ad_id="b", given="Audi A4 2012", score=0.2, suggested=S4),
    Doubt(photo_id="c/0", given='Ford <b>"Ka"</b>', score=0.8, why="alone"),
    Doubt(photo_id="d/3", ad_id="d", given="=Audi A4 2012", score=0.7, why="small cluster"),
]
HEAD = "photo_id,ad_id,given,decision,becomes_make,becomes_model,becomes_generation,becomes_year,said_by\n"


def reviewed(folder: Path, rows: str) -> Path:
    """Write a reviewed file of such rows."""
    (folder / "reviewed.csv").write_text(HEAD + rows, encoding="utf-8")
    return folder / "reviewed.csv"


def filled(folder: Path, *actions: str) -> dict[tuple[str, ...], Decision]:
    """Write the doubts, fill in the decisions as a person does in a spreadsheet, and read them."""
    write_doubts(folder / "doubts.csv", DOUBTS)
    rows = list(csv.DictReader(io.StringIO((folder / "doubts.csv").read_text(encoding="utf-8-sig"))))
    for row, action in zip(rows, actions, strict=False):
        row["decision"] = action
    with (folder / "reviewed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return read_reviewed(folder / "reviewed.csv")


def test_rows_are_read_as_a_person_filled_them_in(tmp_path: Path) -> None:
    found = filled(tmp_path, "relabel", "keep", "Drop", "")
    assert {target: (each.says, each.becomes, each.given, each.by) for target, each in found.items()} == {
        ("class", "ad", "a"): ("relabel", S4, "Audi A4 2012", "reviewed.csv"),
        ("class", "photo", "b/1"): ("keep", None, "Audi A4 2012", "reviewed.csv"),
        ("class", "photo", "c/0"): ("drop", None, 'Ford <b>"Ka"</b>', "reviewed.csv"),
    }
    assert filled(tmp_path) == {}


def test_a_row_is_spelled_as_the_class_that_is_known(tmp_path: Path) -> None:
    found = read_reviewed(reviewed(tmp_path, "p,,,relabel,VW,golf,Mk7,2014,\n"))
    golf = Taxon(make="Volkswagen", model="Golf", generation="Mk7", year=2014)
    assert found["class", "photo", "p"].becomes == golf


def test_a_file_is_imported_once_and_kept(tmp_path: Path) -> None:
    content = reviewed(tmp_path, 'p,,,keep,,,,,Ann\nq,9,Audi A4,relabel,BMW,,,,"Lee, Jo"\n,9,,drop,,,,,\n').read_bytes()
    for _ in range(2):
        assert [(each.target[1:], each.said, each.by) for each in open_decisions(tmp_path).decisions()] == [
            (("photo", "p"), "keep", "Ann"),
            (("photo", "q"), "BMW", "Lee, Jo"),
            (("ad", "9"), "drop", "reviewed.csv"),
        ]
        assert not (tmp_path / "reviewed.csv").exists()
        assert (tmp_path / "reviewed.csv.imported").read_bytes() == content
    reviewed(tmp_path, "r,,,drop,,,,,\n")
    assert len(open_decisions(tmp_path).decisions()) == 4
    assert (tmp_path / "reviewed.csv.imported-2").exists()


def test_an_import_that_a_crash_cut_short_is_ended_by_the_next(tmp_path: Path) -> None:
    path = reviewed(tmp_path, "p,,,keep,,,,,Ann\nq,,,drop,,,,,Ann\n")
    DecisionStore(tmp_path / "decisions.jsonl").append(next(iter(read_reviewed(path).values())))  # and then it crashed
    assert [each.photo_id for each in open_decisions(tmp_path).decisions()] == ["p", "q"]


def test_a_review_that_could_not_tell_stands_above_nothing(tmp_path: Path) -> None:
    DecisionStore(tmp_path / "decisions.jsonl").append(
        Decision(task="class", says="undecidable", by="Ann", photo_id="p")
    )
    reviewed(tmp_path, "p,,,drop,,,,,Ann\n")
    assert open_decisions(tmp_path).settled("class")["class", "photo", "p"].says == "drop"


def test_a_review_stands_above_a_row_which_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = DecisionStore(tmp_path / "decisions.jsonl")
    for photo in ("p", "q"):
        store.append(Decision(task="class", says="drop", by="Ann", photo_id=photo))
    reviewed(tmp_path, "p,,,keep,,,,,Bob\nq,,,drop,,,,,Bob\nr,,,keep,,,,,Bob\n")
    with caplog.at_level(logging.WARNING):
        settled = open_decisions(tmp_path).settled("class")
    assert {target[-1]: each.says for target, each in settled.items()} == {"p": "drop", "q": "drop", "r": "keep"}
    assert "reviewed.csv.imported: 1 rows say otherwise than a review did, which holds: p;" in caplog.text


def test_a_later_file_decides_otherwise_than_an_earlier_one(tmp_path: Path) -> None:
    for says in ("keep", "drop", "drop", "keep"):
        reviewed(tmp_path, f"p,,,{says},,,,,\nq,,,keep,,,,,Ann\n")
        settled = open_decisions(tmp_path).settled("class")
        assert {target[-1]: each.says for target, each in settled.items()} == {"p": says, "q": "keep"}


def test_a_wrong_file_imports_nothing(tmp_path: Path) -> None:
    reviewed(tmp_path, "p,,,keep,,,,,Ann\nq,,,perhaps,,,,,Ann\n")
    with pytest.raises(LabelError, match=r"reviewed.csv line 3: decision is 'perhaps'"):
        open_decisions(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["reviewed.csv"]


def test_semicolons_and_a_mark_at_the_start_are_read(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + "p,,,keep,,,,,\n").replace(",", ";").encode())
    assert read_reviewed(path)["class", "photo", "p"].says == "keep"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("p,,,kep,,,,,\n", r"reviewed.csv line 2: decision is 'kep'; did you mean 'keep'\?"),
        (",,,keep,,,,,\n", "line 2: photo_id and ad_id are empty"),
        ("p,,,relabel,,,,,\n", "line 2: relabel needs becomes_make"),
        ("p,,,relabel,,S4,,,\n", "line 2: becomes . S4; becomes_make and becomes_model must be given"),
        ("p,,,relabel,Audi,S4,,12,\n", "line 2: becomes_year is '12'; it must be a year such as 2012"),
        ("p,,,relabel,Audi,,,2012,\n", "line 2: taxon Audi: a generation or a year needs a model"),
        ("p,,Audi S4,relabel,Audi,S4,,,\n", "line 2: 'Audi S4' is relabelled as itself; write keep"),
        ("p,,,keep,,,,,\np,,,drop,,,,,\n", "line 3: p was decided otherwise in line 2; keep one line"),
        (f"p,,,keep,,,,,{'x' * 81}\n", "line 2: person .* one line of 1 to 80"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_its_line(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=message):
        read_reviewed(reviewed(tmp_path, rows))


def test_a_wrong_head_or_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.csv"
    path.write_text("photo_id,ad_id\np,a\n")
    with pytest.raises(LabelError, match="column 'decision' is missing"):
        read_reviewed(path)
    path.write_text("photo_id,ad_id,decision,becomes_make,becomes_model,becomes_maker\n")
    with pytest.raises(LabelError, match="unknown column 'becomes_maker'; did you mean 'becomes_make'"):
        read_reviewed(path)
    path.write_bytes(b"photo_id\xff")
    with pytest.raises(LabelError, match=r"reviewed.csv cannot be read: .*; save it as CSV in UTF-8"):
        read_reviewed(path)


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(photo=_TEXT, ad=_TEXT, model=_TEXT, by=_TEXT)
def test_any_words_survive_the_file(
    photo: str, ad: str, model: str, by: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, taxon = tmp_path_factory.mktemp("words"), Taxon(make="Zorblax", model=model)
    write_doubts(folder / "doubts.csv", [Doubt(photo_id=photo, ad_id=ad, given="x", score=0.5, suggested=taxon)])
    (row,) = csv.DictReader(io.StringIO((folder / "doubts.csv").read_text(encoding="utf-8-sig")))
    with (folder / "reviewed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow({**row, "decision": "relabel", "said_by": by})
    (decision,) = open_decisions(folder).decisions()
    assert (decision.photo_id, decision.ad_id, decision.becomes) == (photo, ad, taxon)
    assert decision.by == by or by.startswith("'")
