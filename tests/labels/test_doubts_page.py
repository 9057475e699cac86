"""The page of doubts is whole and safe; what is written as CSV is read back as a person decided it."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import LabelError
from carspotter.labels.doubts_page import (
    COLUMNS,
    Decision,
    Decisions,
    Review,
    parse_decisions,
    read_decisions,
    write_csv,
    write_page,
)
from carspotter.taxonomy import Taxon

S4 = Taxon(make="Audi", model="S4", generation="2009-2016", year=2012)
REVIEWS = [
    Review(photo_id="a/0", ad_id="a", is_ad=True, given="Audi A4 2012", score=0.02, suggested=S4,
           given_probability=0.01, suggested_probability=0.6),
    Review(photo_id="b/1", ad_id="b", given="Audi A4 2012", score=0.2, suggested=S4, given_probability=0.1,
           suggested_probability=0.4),
    Review(photo_id="c/0", given='Ford <b>"Ka"</b>', score=0.8, why="alone"),
    Review(photo_id="d/3", ad_id="d", given="Audi A4 2012", score=0.7, why="small cluster"),
]  # fmt: skip
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
HEAD = "photo_id,ad_id,given,decision,becomes_make,becomes_model,becomes_generation,becomes_year,said_by\n"


def decided(tmp_path, *actions):
    """Write the reviews, fill in the decisions as a person would, and read them back."""
    path = tmp_path / "doubts.csv"
    write_csv(path, REVIEWS)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    for row, action in zip(rows, actions, strict=False):
        row["decision"] = action
    reviewed = tmp_path / "reviewed.csv"
    with reviewed.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return read_decisions(reviewed)


def test_decisions_are_read_back_as_they_were_made(tmp_path) -> None:
    found = decided(tmp_path, "relabel", "keep", "Drop", "")
    assert found.of_ads == {"a": Decision(action="relabel", ad_id="a", becomes=S4)}
    assert found.of_photos == {
        "b/1": Decision(action="keep", photo_id="b/1", ad_id="b"),
        "c/0": Decision(action="drop", photo_id="c/0"),
    }
    assert len(found) == 3
    assert found.find("a/7", "a") == found.of_ads["a"]
    assert found.find("d/3", "d") is None
    assert found.pending(REVIEWS) == [REVIEWS[3]]


def test_a_photo_decided_by_itself_leaves_its_ad_open() -> None:
    found = parse_decisions(HEAD + "a/0,a,,drop,,,,,\n")
    assert found.find("a/0", "a").action == "drop"
    assert found.find("a/1", "a") is None
    assert found.pending(REVIEWS[:1]) == REVIEWS[:1]


def test_every_decision_says_who_said_it() -> None:
    found = parse_decisions(HEAD + 'p,,,keep,,,,,Ann\nq,,,relabel,BMW,,,,"Lee, Jo"\nr,,,drop,,,,,\n')
    assert [each.said_by for each in found.of_photos.values()] == ["Ann", "Lee, Jo", "person"]
    assert found.of_photos["q"].becomes == Taxon(make="BMW")


def test_a_file_that_is_not_there_or_not_filled_in_decides_nothing(tmp_path) -> None:
    assert len(read_decisions(tmp_path / "reviewed.csv")) == 0
    assert len(decided(tmp_path)) == 0
    assert Decisions().pending(REVIEWS) == REVIEWS


def test_semicolons_and_a_mark_at_the_start_are_read(tmp_path) -> None:
    path = tmp_path / "reviewed.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + "p,,,keep,,,,,\n").replace(",", ";").encode())
    assert read_decisions(path).of_photos["p"].action == "keep"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("p,,,kep,,,,,\n", r"reviewed.csv line 2: decision is 'kep'; did you mean 'keep'\?"),
        (",,,keep,,,,,\n", "line 2: photo_id and ad_id are empty"),
        ("p,,,relabel,,,,,\n", "line 2: relabel needs becomes_make"),
        ("p,,,relabel,Audi,S4,,12,\n", "line 2: becomes_year is '12'; it must be a year such as 2012"),
        ("p,,,relabel,Audi,,,2012,\n", "line 2: taxon Audi: a generation or a year needs a model"),
        ("p,,Audi S4,relabel,Audi,S4,,,\n", "line 2: 'Audi S4' is relabelled as itself; write keep"),
        ("p,,,keep,,,,,\np,,,drop,,,,,\n", "line 3: p was decided otherwise in reviewed.csv line 2; keep one line"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_its_line(rows, message) -> None:
    with pytest.raises(LabelError, match=message):
        parse_decisions(HEAD + rows)


def test_a_wrong_head_or_file_is_an_error(tmp_path) -> None:
    with pytest.raises(LabelError, match="column 'decision' is missing"):
        parse_decisions("photo_id,ad_id\np,a\n")
    with pytest.raises(LabelError, match="unknown column 'becomes_maker'; did you mean 'becomes_make'"):
        parse_decisions("photo_id,ad_id,decision,becomes_make,becomes_model,becomes_maker\n")
    path = tmp_path / "reviewed.csv"
    path.write_bytes(b"photo_id\xff")
    with pytest.raises(LabelError, match=r"reviewed.csv cannot be read: .*; save it as CSV in UTF-8"):
        read_decisions(path)


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=12)


@given(photo=_TEXT, ad=_TEXT, model=_TEXT, by=_TEXT)
def test_any_words_survive_the_file(photo, ad, model, by) -> None:
    taxon = Taxon(make="Audi", model=model)
    cells = Review(photo_id=photo, ad_id=ad, given="x", score=0.5, suggested=taxon).cells()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerow({**cells, "decision": "relabel", "said_by": by})
    wanted = Decision(action="relabel", photo_id=photo, ad_id=ad, becomes=taxon, said_by=by)
    assert parse_decisions(text.getvalue()).of_photos == {photo: wanted}


def page(tmp_path, reviews, **options):
    path = tmp_path / "doubts.html"
    options = {"title": "lot <1>", "thumbnail": {"a/0": PIXEL, "c/0": PIXEL}.get, **options}
    write_page(path, reviews, **options)
    return path.read_text(encoding="utf-8")


def test_the_page_shows_doubts_pairs_and_outliers_in_one_file(tmp_path) -> None:
    pair = {"true": "Audi S4 2012", "given": "Audi A4 2012", "count": 12, "share": 0.07, "low": 0.04, "high": 0.12}
    html = page(tmp_path, REVIEWS, pairs=[{**pair, "unit": "ad"}], judged=812)
    assert html.count('<article class="card"') == 4
    assert html.count(PIXEL) == 2
    assert html.count("no picture can be shown") == 2
    for text in ("812", "Audi S4 2012", "7.0 %", "4.0–12.0 %", "ads</th>", "60 %", "whole ad a", "small cluster"):
        assert text in html
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)  # nothing is fetched


def test_sellers_words_cannot_become_markup(tmp_path) -> None:
    html = page(tmp_path, [*REVIEWS, Review(photo_id="'><script>", given="</script><img>", score=0.1, why="alone")])
    assert "<b>" not in html.split("<main>")[1].split('<section id="doubts">')[1]
    assert html.count("<script>") == 1
    assert "<img>" not in html
    assert "lot &lt;1&gt;" in html


def test_a_page_without_doubts_says_so(tmp_path) -> None:
    html = page(tmp_path, [])
    assert "No label is to be doubted." in html
    assert "<article" not in html


def test_a_long_page_stops_and_says_how_many_there_are(tmp_path) -> None:
    many = [Review(photo_id=str(i), given="A", score=0.1, suggested=S4) for i in range(305)]
    odd = [Review(photo_id=f"o{i}", given="A", score=0.9, why="alone") for i in range(14)]
    html = page(tmp_path, [*many, *odd])
    assert html.count('<article class="card"') == 312
    assert "The first 300 of 305" in html
    assert "14, the first 12" in html
