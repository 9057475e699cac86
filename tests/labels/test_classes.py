"""Hold the choice of classes: levels, merges, what is left out and why, and suggestions from confusions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.catalog.tables import TABLES
from carspotter.errors import LabelError
from carspotter.labels.classes import ClassSettings, Merge, classes, parse_merges, read_merges
from carspotter.settings import read_section

HEAD = "taxon,becomes\n"


def photos_of(*taxa):
    """Return the columns of photos: each taxon is (make, model, generation, year, ads), four photos to an ad."""
    columns = {name: [] for name in ("photo_id", "ad_id", "make", "model", "generation", "year")}
    for number, (make, model, generation, year, ads) in enumerate(taxa):
        for ad in range(ads):
            for n in range(4):
                values = (f"{number}-{ad}/{n}", f"{number}-{ad}", make, model, generation, year)
                for name, value in zip(columns, values, strict=True):
                    columns[name].append(value)
    return columns


GARAGE = photos_of(
    ("Audi", "A4", None, 2008, 10),
    ("Audi", "A4", None, 2010, 10),
    ("Audi", "A4 Allroad", None, 2010, 2),
    ("VW", "Golf", None, 2010, 20),
    ("VW", "Polo", None, None, 20),
    ("Lada", "2107", None, 1999, 1),
)
SMALL = ClassSettings(min_photos=40, min_ads=3)


def status_of(found):
    return {row["taxon"]: (row["status"], row.get("class_name")) for row in found.rows}


def test_years_of_a_model_are_one_class():
    found = classes(GARAGE, settings=SMALL)
    assert status_of(found) == {
        "Audi A4 2008": ("merged", "Audi A4"),
        "Audi A4 2010": ("merged", "Audi A4"),
        "Audi A4 Allroad 2010": ("too-few", "Audi A4 Allroad"),
        "Lada 2107 1999": ("too-few", "Lada 2107"),
        "VW Golf 2010": ("merged", "VW Golf"),
        "VW Polo": ("ok", "VW Polo"),
    }
    assert found.class_of["Audi A4 2008"] == "Audi A4"
    assert list(found.taxa) == ["Audi A4", "VW Golf", "VW Polo"]
    assert (found.taxa["VW Golf"].make, found.taxa["VW Golf"].model, found.taxa["VW Golf"].year) == ("VW", "Golf", None)
    few = next(row for row in found.rows if row["taxon"] == "Lada 2107 1999")
    assert few["message"] == "Lada 2107 has 4 photos, fewer than min_photos = 40 and 1 ads, fewer than min_ads = 3"
    assert (few["photos"], few["ads"]) == (4, 1)
    assert all(set(row) <= set(TABLES["classes"].columns) for row in found.rows)


def test_at_level_year_a_label_needs_a_year():
    found = classes(GARAGE, settings=ClassSettings(min_photos=40, level="year"))
    assert status_of(found)["Audi A4 2008"] == ("ok", "Audi A4 2008")
    assert status_of(found)["VW Polo"] == ("too-vague", None)
    vague = next(row for row in found.rows if row["taxon"] == "VW Polo")
    assert vague["message"] == "its label has no year"


def test_generations_are_classes_at_their_level():
    garage = photos_of(("Audi", "A4", "2007-2015", 2008, 10), ("Audi", "A4", "2007-2015", 2010, 5))
    found = classes(garage, settings=ClassSettings(min_photos=60, level="generation"))
    assert set(found.class_of.values()) == {"Audi A4 2007-2015"}


def test_types_are_classes_and_those_of_a_generation_are_one():
    garage = photos_of(
        ("Mercedes-Benz", "C-Class", "W205", 2015, 5),
        ("Mercedes-Benz", "C-Class", "S205", 2015, 5),
        ("Mercedes-Benz", "C-Class", "S205", None, 5),
        ("Mercedes-Benz", "C-Class", None, 2015, 5),
    )
    named = {level: classes(garage, settings=ClassSettings(min_photos=4, level=level)) for level in ("type", "year")}
    named["generation"] = classes(garage, settings=ClassSettings(min_photos=4, level="generation"))
    names = {level: set(found.class_of.values()) for level, found in named.items()}
    assert names["type"] == {"Mercedes-Benz C-Class W205", "Mercedes-Benz C-Class S205"}
    assert names["generation"] == {"Mercedes-Benz C-Class W205"}
    assert names["year"] == {"Mercedes-Benz C-Class 2015"}
    assert named["type"].taxa["Mercedes-Benz C-Class S205"].generation == "S205"
    assert status_of(named["type"])["Mercedes-Benz C-Class 2015"] == ("too-vague", None)
    merged = classes(garage, settings=SMALL, merges=parse_merges(HEAD + "Mercedes-Benz C-Class 2015,\n"))
    assert status_of(merged)["Mercedes-Benz C-Class S205 2015"] == ("ignored", None)


def test_merges_reach_down_and_the_deepest_decides():
    merges = parse_merges(HEAD + "Audi A4 Allroad,Audi A4\nVW,\nVW Golf,Audi A4\nLada 2107 1999,\n")
    found = classes(GARAGE, settings=SMALL, merges=merges)
    assert status_of(found) == {
        "Audi A4 2008": ("merged", "Audi A4"),
        "Audi A4 2010": ("merged", "Audi A4"),
        "Audi A4 Allroad 2010": ("merged", "Audi A4"),
        "Lada 2107 1999": ("ignored", None),
        "VW Golf 2010": ("merged", "Audi A4"),
        "VW Polo": ("ignored", None),
    }
    assert {row["taxon"]: row.get("message") for row in found.rows}["VW Polo"] == "VW is left out"


def test_merges_may_go_by_way_of_others():
    merges = parse_merges(HEAD + "Lada 2107,VW Polo\nVW Polo,VW Golf\n")
    assert classes(GARAGE, settings=SMALL, merges=merges).class_of["Lada 2107 1999"] == "VW Golf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Audi A4,Audi A4\n", r"line 2: Audi A4 → Audi A4 goes in a circle"),
        ("VW Golf,VW Polo\nVW Polo,VW Golf\n", r"line 2: VW Golf → VW Polo → VW Golf goes in a circle; take one out"),
        ("Audi A44,\n", r"line 2: no photo is labelled 'Audi A44'; did you mean 'Audi A4'\?"),
        ("Audi A4,VW Gulf\n", r"line 2: no photo is labelled 'VW Gulf'; did you mean 'VW Golf'\?"),
        (",VW Golf\n", r"line 2: taxon is empty; name one such as 'Audi A4'"),
        ("VW Golf,\nVW  Golf,VW Polo\n", r"line 3: 'VW Golf' stands in line 2 too; keep one"),
    ],
)
def test_merges_are_checked(text, message):
    with pytest.raises(LabelError, match=message):
        classes(GARAGE, settings=SMALL, merges=parse_merges(HEAD + text))


def test_a_merge_file_needs_its_columns(tmp_path):
    assert read_merges(tmp_path / "classes.csv") == []
    (tmp_path / "classes.csv").write_text("taxon;becmoes\n")
    with pytest.raises(LabelError, match=r"classes.csv line 1: column 'becomes' is missing; it needs taxon, becomes"):
        read_merges(tmp_path / "classes.csv")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"level": "modle"}, r"'modle' is not possible; did you mean 'model'\?"),
        ({"min_photos": 0}, r"min_photos is 0; it must be at least 1"),
        ({"only": "BMW"}, r"only: expected a list, got .BMW."),
        ({"min_adds": 1}, r"unknown key 'min_adds'; did you mean 'min_ads'\?"),
    ],
)
def test_settings_are_checked(section, message):
    with pytest.raises(LabelError, match=message):
        read_section(ClassSettings, section, where="[classes]", error=LabelError)


def test_columns_of_a_catalogue_may_be_arrays_with_nulls():
    garage = photos_of(("VW", "Golf", None, 2010, 5), ("VW", "Golf", None, None, 5))
    year = np.ma.masked_array([value or 0 for value in garage["year"]], mask=[not value for value in garage["year"]])
    found = classes(garage | {"year": year}, settings=ClassSettings(min_photos=40))
    assert set(status_of(found)) == {"VW Golf", "VW Golf 2010"}


NAMES = st.sampled_from(["Audi", "Audi A4", "VW Golf", "VW", "Audi A4 2008", "VW Polo", "Lada 2107"])


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        (("VW",), {"VW Golf", "VW Polo"}),
        (("VW Golf", "Audi A4"), {"VW Golf", "Audi A4"}),
        (("Audi A4 2008",), {"Audi A4"}),  # a year of a model: the others of the model are left out
        ((), {"VW Golf", "VW Polo", "Audi A4"}),
    ],
)
def test_only_some_makes_or_models_become_classes(only, kept):
    found = classes(GARAGE, settings=ClassSettings(min_photos=40, min_ads=3, only=only))
    assert set(found.taxa) == kept
    left = [row for row in found.rows if row["status"] == "ignored"]
    assert all(row["message"] == f"none of only = {list(only)}" for row in left)
    assert bool(left) == bool(only)


def test_what_a_person_merges_into_one_of_only_stays():
    settings = ClassSettings(min_photos=40, min_ads=3, only=("Audi",))
    merged = classes(GARAGE, settings=settings, merges=[Merge(taxon="VW Polo", becomes="Audi A4")])
    assert merged.class_of["VW Polo"] == "Audi A4"
    assert status_of(merged)["VW Golf 2010"] == ("ignored", None)


def test_an_unknown_name_in_only_is_an_error_that_offers_the_nearest():
    with pytest.raises(LabelError, match=r"\[classes\] only: no photo is labelled 'Aud'; did you mean 'Audi'\?"):
        classes(GARAGE, settings=ClassSettings(only=("VW", "Aud")))
    assert classes({name: [] for name in GARAGE}, settings=ClassSettings(only=("VW",))).rows == ()


def goes_in_a_circle(merges):
    """Return whether some name still has a merge after as many steps as there are merges."""
    for start in merges:
        name = start
        for _ in merges:
            name = merges.get(name)
        if name in merges:
            return True
    return False


@given(st.dictionaries(NAMES, st.one_of(st.none(), NAMES), max_size=5), st.sampled_from(["make", "model", "year"]))
def test_any_merges_keep_every_taxon_or_are_refused(merges, level):
    """Every taxon has a row; classes have photos enough; only a taxon with a class is mapped to one."""
    settings = ClassSettings(min_photos=40, min_ads=1, level=level)
    chosen = [Merge(taxon=a, becomes=b) for a, b in merges.items()]
    if goes_in_a_circle(merges):
        with pytest.raises(LabelError, match="goes in a circle"):
            classes(GARAGE, settings=settings, merges=chosen)
        return
    found = classes(GARAGE, settings=settings, merges=chosen)
    assert sum(row["photos"] for row in found.rows) == len(GARAGE["photo_id"])
    sizes = {}
    for row in found.rows:
        assert (row["status"] in ("ok", "merged")) == (row["taxon"] in found.class_of)
        assert ("class_name" in row) == (row["status"] in ("ok", "merged", "too-few"))
        if row["status"] in ("ok", "merged"):
            sizes[row["class_name"]] = sizes.get(row["class_name"], 0) + row["photos"]
    assert all(size >= 40 for size in sizes.values())
    assert set(sizes) == set(found.taxa)
