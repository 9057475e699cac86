"""Hold how sellers' words become taxa: spellings, scripts, engine designations, typos, and what a person corrected."""

import csv
import os
import random
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.catalog.tables import TABLES
from carspotter.errors import LabelError
from carspotter.labels.corrections import (
    BECOMES,
    NOTES,
    WORDS,
    Corrections,
    keep_filled,
    rows_of,
    to_csv,
    unresolved,
    unresolved_csv,
)
from carspotter.labels.known import Known
from carspotter.labels.resolve import OFTEN, Resolver, label_rows
from carspotter.labels.words import key, tokens
from carspotter.taxonomy import Taxon, Taxonomy

SHARED = Path(os.environ.get("CARSPOTTER_SHARED", Path(__file__).parents[3] / "shared"))
ADS = SHARED / "data" / "used-car-ads"


@pytest.fixture(scope="module")
def resolver():
    return Resolver()


def said(found):
    return found.make, found.model, found.method


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Volkswagen", "Golf", ("Volkswagen", "Golf", "exact")),
        ("VW", "Golf VII", ("Volkswagen", "Golf", "prefix")),
        ("vw", "golf-plus", ("Volkswagen", "Golf Plus", "exact")),
        ("VW", "Passat Variant", ("Volkswagen", "Passat", "alias")),
        ("VW", "Golf7", ("Volkswagen", "Golf", "prefix")),
        ("VW", "Golf Sportvan", ("Volkswagen", "Golf Sportsvan", "fuzzy")),
        ("Mercedes-Benz", "E220 CDI", ("Mercedes-Benz", "E-Class", "pattern")),
        ("Мерседес-Бенц", "Е-класс", ("Mercedes-Benz", "E-Class", "exact")),
        ("Merc", "C 180", ("Mercedes-Benz", "C-Class", "pattern")),
        ("Mercedes", "GLE 350d Coupe", ("Mercedes-Benz", "GLE-Class Coupe", "pattern")),
        ("Mercedes-Bnz", "EQV", ("Mercedes-Benz", "EQV", "exact")),
        ("Audi", "A3 Sportback", ("Audi", "A3", "prefix")),
        ("БМВ", "320d", ("BMW", "3 Series", "pattern")),
        ("BMW", "X5 xDrive", ("BMW", "X5", "pattern")),
        ("BMW", "Х5", ("BMW", "X5", "exact")),  # a Cyrillic letter
        ("BMW", "3 серия", ("BMW", "3 Series", "exact")),
        ("BMW 320d", None, ("BMW", "3 Series", "pattern")),
        ("Citroen", "С4", ("Citroën", "C4", "exact")),  # a Cyrillic letter
        ("ВАЗ (Lada)", "2114", ("Lada", "2114", "exact")),
        ("ВАЗ", " Lada 2172 Priora", ("Lada", "Priora", "prefix")),
        ("vaz-lada", "21099", ("Lada", "21099", "exact")),
        ("Тойота", "Камри", ("Toyota", "Camry", "sound")),
        ("Chevy", "Silverado 1500 LT", ("Chevrolet", "Silverado", "prefix")),
        ("Landrover", "Range Rover Sport", ("Land Rover", "Range Rover Sport", "exact")),
        ("Skoda", "OCTAVIA Combi", ("Škoda", "Octavia", "prefix")),
        ("Lexus", "RX450h", ("Lexus", "RX", "pattern")),
        ("Ford", "F 150", ("Ford", "F-150", "exact")),
        ("Ford", "Focs C-Max", ("Ford", "Focus C-Max", "fuzzy")),
        ("Renault", "nouvelle Clio", ("Renault", "Clio", "inside")),
        ("Mazda", "Mazda 3", ("Mazda", "3", "pattern")),
        ("Doge", "RAM 1500", ("Dodge", "Ram 1500", "alias")),
        ("Adi", "A4", ("Audi", "A4", "exact")),
        (None, "Volkswagen Golf", ("Volkswagen", "Golf", "exact")),
        ("Volkswagen", "Volkswagen Golf", ("Volkswagen", "Golf", "exact")),
        (None, "Octavia 1.6", ("Škoda", "Octavia", "prefix")),
        ("Toyota", "ZZYZX-2 diesel", ("Toyota", "Zzyzx 2", "seller")),
        ("Toyota", "zzyzx 1.6 diesel", ("Toyota", "Zzyzx", "seller")),
    ],
)
def test_words_name_taxa(resolver, make, model, expected):
    found = resolver.resolve(make, model)
    assert said(found) == expected
    assert found.status == "ok"
    assert 0 < found.score <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Foo", "Bar"), r"no known make in 'Foo Bar'; write what it is into labels/words.csv"),
        (("Ford", "Golf"), r"no known model of Ford in 'golf'; near are Volkswagen Golf; write"),
        (("Toyota", ""), r"Toyota without a model; write"),
        (("Toyota", "other"), r"no known model of Toyota in 'other'; write"),
        (("Fiat", "Brav"), r"no known model of Fiat in 'brav'; near are Brava \(0.80\), Bravo \(0.80\)"),
        ((None, None), r"neither make nor model is given, nor a title"),
        (("…", "-"), r"no known make in '… -'"),
    ],
)
def test_what_is_not_known_says_why(resolver, words, message):
    found = resolver.resolve(*words)
    assert found.status == "unresolved"
    assert found.name is None
    assert re.search(message, found.message)


def test_scores_fall_with_what_is_assumed(resolver):
    words = [("VW", "Golf"), ("VW", "Golf VII"), ("VW", "Gotf"), ("VW", "Zzyzx")]
    scores = [resolver.resolve(*pair).score for pair in words]
    assert scores == sorted(set(scores), reverse=True)


def test_a_submodel_makes_a_model_more_exact(resolver):
    assert resolver.resolve("VW", "Golf", "Plus").model == "Golf Plus"
    assert resolver.resolve("VW", "Golf", "1.4 TSI").model == "Golf"
    assert resolver.resolve("BMW", "X5", "M Sportpaket").model == "X5"
    assert resolver.resolve("BMW", None, "X5").model == "X5"


@pytest.mark.parametrize(
    ("title", "make", "model", "year"),
    [
        ("2012 BMW X5 xDrive35i AWD", "BMW", "X5", 2012),
        ("Продам Volkswagen Golf 2008 года", "Volkswagen", "Golf", 2008),
        ("Peugeot 2008 2015 Allure", "Peugeot", "2008", 2015),
        ("Peugeot 2008 Allure", "Peugeot", "2008", None),
        ("Срочно! ВАЗ 2107", "Lada", "2107", None),
    ],
)
def test_a_title_is_read_where_there_is_nothing_else(resolver, title, make, model, year):
    found = resolver.resolve(title=title)
    assert (found.make, found.model, found.year) == (make, model, year)


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("VW Passat 2.0 TDI 1968 ccm 140 PS", None),
        ("VW Passat 1.968 ccm", None),
        ("BMW 320d 1995cc", None),
        ("Toyota Corolla 1998 cm3", None),
        ("Toyota Corolla 1998 см3", None),
        ("Audi A4 1984 cm³ TFSI", None),
        ("Opel Corsa 1950 €", None),
        ("Opel Corsa € 1950", None),
        ("Opel Corsa $1999", None),
        ("Opel Corsa 1950 Euro VB", None),
        ("Skoda Octavia 2000 km", None),
        ("VW Golf bj 2004, nur 1999€", 2004),
        ("VW Golf 2014, 1968ccm", 2014),
        ("2012 Kia Rio", 2012),
        ("2014 Kmart", 2014),
        ("VW Golf 2014 Euro 5", 2014),
        ("Fiat Panda 2019 km 0", 2019),
        ("VW Golf 2012 km 150000", 2012),
        ("VW Golf 2014 €5000", 2014),
        ("VW Golf 5000 € 2014", 2014),
        ("VW Golf 1950 € 2004", None),
    ],
)
def test_a_volume_a_price_or_a_mileage_is_no_year(resolver, title, year):
    assert resolver.resolve("VW", "Golf", title=title).year == year


def test_a_title_helps_where_the_model_is_missing(resolver):
    found = resolver.resolve("BMW", "other", title="BMW X5 2010, one owner")
    assert (found.model, found.year, found.status) == ("X5", 2010, "ok")
    assert found.score < 0.9
    assert resolver.resolve("BMW", "other", title="one owner, low mileage").status == "unresolved"
    assert resolver.resolve("VW", "Golf", title="or would you like a BMW X5?").model == "Golf"
    assert resolver.resolve("VW", "Golf", year=2011, title="model of 2012").year == 2011


def test_a_year_tells_the_generation_where_taxa_do():
    known = Known.bundled()
    spans = {"2003-2012": 2008, "2012-2020": 2016}
    classes = [Taxon(make="Audi", model="A3", generation=span, year=year) for span, year in spans.items()]
    known.add_taxonomy(Taxonomy(tuple(classes), {"Auto Union": "Audi"}))
    resolver = Resolver(known)
    assert resolver.resolve("Auto Union", "a3", year=2005).generation == "2003-2012"
    assert resolver.resolve("Audi", "A3", year=2012).generation is None  # both were built then
    assert resolver.resolve("Audi", "A3", year=1999).generation is None
    assert resolver.resolve("Audi", "A3 8P", year=2005).generation == "2003-2012"  # as the taxonomy spells it
    assert resolver.resolve("Audi", "A3 8P").generation == "8P"
    assert resolver.resolve("Audi", "A3", year=2005).name == "Audi A3 2005"


def test_taxa_of_a_project_are_names_too():
    known = Known.bundled()
    known.add([Taxon(make="Zephyr", model="Comet Turbo"), Taxon(make="Audi", model="Concept Q")])
    resolver = Resolver(known)
    assert said(resolver.resolve("ZEPHYR", "comet-turbo 2.0")) == ("Zephyr", "Comet Turbo", "prefix")
    assert said(resolver.resolve("audi", "concept q")) == ("Audi", "Concept Q", "exact")


def test_what_many_sellers_write_becomes_a_name():
    seen = {
        ("Toyota", "Zzyzx"): OFTEN - 1,
        ("TOYOTA", "zzyzx"): 1,
        ("Ford", "Golf"): OFTEN,
        ("Ford", "Blip"): OFTEN - 1,
    }
    resolver = Resolver(seen=seen)
    often, typo = resolver.resolve("Toyota", "ZZYZX"), resolver.resolve("Toyota", "Zzyzyx")
    assert said(often) == ("Toyota", "Zzyzx", "seller")
    assert often.score > Resolver().resolve("Toyota", "ZZYZX").score
    assert said(typo) == ("Toyota", "Zzyzx", "fuzzy")
    assert resolver.resolve("Ford", "Golf").model == "Golf"  # so many cannot all have chosen the wrong make
    assert resolver.resolve("Ford", "Blip").score == 0.5


@given(
    st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["VW", "БМВ", "Ford"])),
    st.one_of(st.none(), st.text(max_size=20)),
    st.one_of(st.none(), st.text(max_size=20)),
    st.one_of(st.none(), st.text(max_size=30)),
)
def test_any_words_give_a_row_that_fits_the_table(resolver, make, model, submodel, title):
    listing = {"ad_id": "1", "make": make, "model": model, "submodel": submodel, "title": title, "year": 2010}
    row = next(label_rows([listing], resolver))
    assert set(row) <= set(TABLES["labels"].columns)
    assert (row["status"] == "ok") == ("name" in row)
    assert ("message" in row) == (row["status"] == "unresolved")
    assert row == next(label_rows([listing], Resolver(resolver._known)))


def test_only_so_many_answers_are_held(resolver, monkeypatch):
    monkeypatch.setattr("carspotter.labels.resolve.MOST_ANSWERS", 10)
    small = Resolver(resolver._known)
    titles = [f"BMW X{number % 7} number {number}" for number in range(50)]
    found = [small.resolve("BMW", "other", title=title) for title in titles]
    assert len(small._answers) <= 10
    monkeypatch.undo()
    assert found == [resolver.resolve("BMW", "other", title=title) for title in titles]


def test_rows_say_who_said_so(resolver):
    listing = {"ad_id": "7", "make": "VW", "model": "Golf", "year": 2010, "source": "shop"}
    row = next(label_rows([listing], resolver))
    assert row == {
        "ad_id": "7",
        "make": "Volkswagen",
        "model": "Golf",
        "year": 2010,
        "name": "Volkswagen Golf 2010",
        "score": 1.0,
        "method": "exact",
        "said_by": "seller",
        "status": "ok",
    }
    assert next(label_rows([listing], resolver, curated=["shop"]))["said_by"] == "source"


# ---- corrections

HEAD = "make,model,submodel,becomes_make,becomes_model,becomes_generation,becomes_year\n"


def corrected(text, **head):
    return Resolver(corrections=Corrections.parse(text if text.startswith("make") else HEAD + text))


def test_a_person_wins_over_everything():
    resolver = corrected("vw,GOLF,,vw,Polo,,\nFoo,Bar,baz,Foo Motors,Bar X,2001-2005,2003\n")
    found = resolver.resolve("VW", "Golf", "1.4 TSI", year=2012)
    assert (found.make, found.model, found.year, found.said_by) == ("Volkswagen", "Polo", 2012, "person")
    assert (found.score, found.method) == (1.0, "person")
    found = resolver.resolve("foo", "bar", "BAZ", year=2012)
    assert found.name == "Foo Motors Bar X 2003"
    assert found.generation == "2001-2005"
    assert resolver.resolve("foo", "bar").status == "unresolved"


@pytest.mark.parametrize(
    ("make", "model", "generation", "expected"),
    [
        ("Audi", "A4", "B8 Allroad", ("A4", "B8 Allroad")),
        ("Audi", "A4", "B8.5", ("A4", "B8.5")),
        ("BMW", "3er", "F30 LCI", ("3 Series", "F30 LCI")),
        ("VW", "Golf", "Mk7 facelift", ("Golf", "Mk7 facelift")),
        ("VW", "Golf", "Mk7.5", ("Golf", "Mk7.5")),
        ("VW", "golf", "VII", ("Golf", "Mk7")),
        ("VW", "Golf", "Mk VII", ("Golf", "Mk7")),
        ("VW", "Golf", "5G", ("Golf", "Mk7")),
        ("Audi", "A6", "4G", ("A6", "C7")),
        ("Mercedes", "C", "W 205", ("C-Class", "W205")),
        ("VW", "Passat Variant", "3G", ("Passat Variant", "B8")),
        ("Kia", "Ceed SW", "", ("Ceed SW", None)),
        ("Kia", "Cee'd", "", ("Ceed", None)),
        ("MG", "MG4", "", ("4", None)),
        ("Chrysler", "Town and Country", "", ("Town & Country", None)),
    ],
)
def test_only_another_spelling_of_what_a_person_says_is_replaced(make, model, generation, expected):
    found = corrected(f"foo,bar,,{make},{model},{generation},\n").resolve("foo", "bar")
    assert (found.model, found.generation) == expected


def test_a_make_that_a_person_named_is_known_from_the_first_row_on():
    resolver = corrected("Foo,Bar,,Foo Motors,Bar X,,\nFoo,Baz,,foo motors,Baz Y,,\n")
    assert resolver.resolve(title="Foo Motors Baz Y 2.0, one owner").name == "Foo Motors Baz Y"
    assert resolver.resolve("Foo Motors", "Bar X").score == 1.0
    assert resolver.resolve("foo", "bar").name == "Foo Motors Bar X"


def test_the_unresolved_list_comes_back_as_corrections(resolver):
    words = [("Foo", "Bar"), ("Ford", "Golf"), ("ford", "GOLF"), ("VW", "Golf"), (None, None)]
    listings = [{"ad_id": str(n), "make": make, "model": model} for n, (make, model) in enumerate(words)]
    listings.append({"ad_id": "9", "title": "Nice, one owner"})
    rows = unresolved(listings, label_rows(listings, resolver))
    assert [(row["model"], row["ads"]) for row in rows] == [("Golf", 2), ("Nice, one owner", 1), ("Bar", 1)]
    assert Corrections.parse(to_csv(rows)).taxa == {}  # nothing is filled in yet
    for row in rows:
        row |= {"becomes_make": "Ford", "becomes_model": "Focus"}
    filled = Resolver(corrections=Corrections.parse(to_csv(rows)))
    assert unresolved(listings, label_rows(listings, filled)) == []
    assert filled.resolve(title="NICE one owner").name == "Ford Focus"


def test_only_an_unresolved_list_in_which_something_new_was_decided_is_kept(tmp_path):
    path, words = tmp_path / "unresolved.csv", tmp_path / "words.csv"
    words.write_text(HEAD + "=Foo,Bar,,Ford,Focus,,\n")
    open_ = unresolved([{"ad_id": "1", "make": "Ford", "model": "Golf"}], [{"ad_id": "1", "status": "unresolved"}])
    text = unresolved_csv(open_, words)
    filled, changed = text.replace("Ford,Golf,,,", "Ford,Golf,,VW,Golf"), text.replace("Ford,Focus", "Ford,Fiesta")
    assert len({text, filled, changed}) == 3
    # As it was written; held by words.csv; a decision that was taken out of words.csv since.
    for saved, held in ((text, text), (filled, filled), (text, HEAD)):
        path.write_text(saved)
        words.write_text(held)
        assert keep_filled(path, words) == []
    # An open row filled in; one that was decided decided otherwise; half a row; a spreadsheet's own encoding.
    bad = text.replace("Ford,Golf,,,", "Ford,Golf,,,Golf"), text.replace("=Foo", "Citroën")
    words.write_text(text)
    for number, saved in enumerate((filled, changed, *bad), 1):
        path.write_text(saved, encoding="cp1252")
        (warning,) = keep_filled(path, words)
        kept = tmp_path / f"unresolved.csv.filled{f'-{number}' if number > 1 else ''}"
        assert warning.endswith(f"it lies in {kept}")
        assert kept.read_text(encoding="cp1252") == saved
        assert not path.exists()


def test_a_taxon_is_spelled_as_it_is_known():
    known = Known.bundled()
    for make, model, spelled in (
        ("VW", "golf", ("Volkswagen", "Golf")),
        ("Citroen", None, ("Citroën", None)),
        ("vw", "Passat Variant", ("Volkswagen", "Passat Variant")),  # it says more, and may be a class of its own
        ("bmw", "3er", ("BMW", "3 Series")),
        ("Zorblax", "golf", ("Zorblax", "golf")),
    ):
        assert known.spelled(Taxon(make=make, model=model)) == Taxon(make=spelled[0], model=spelled[1])


@pytest.mark.parametrize("cell", ["=1+1", "+49 GOLF", "-x", "@SUM(A1)", "'=x", "''-y", "  =z", "O'Neil", "'80 Golf"])
def test_no_spreadsheet_runs_what_sellers_wrote(cell):
    rows = unresolved([{"ad_id": "1", "make": "Ford", "model": cell}], [{"ad_id": "1", "status": "unresolved"}])
    text = to_csv(rows)
    assert not any(value.lstrip().startswith(tuple("=+-@")) for row in csv.reader(text.splitlines()) for value in row)
    read = rows_of(text, "words.csv", needed=WORDS, known=(*WORDS, *BECOMES, *NOTES))
    assert [row["model"].strip() for _, row in read] == [cell.strip()]


def test_a_spreadsheet_may_write_semicolons_and_a_mark(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("\ufeff" + (HEAD + "VW;Glf;;Volkswagen;Golf;;\n").replace(",", ";"), encoding="utf-8")
    assert Corrections.read(path).find(("vw", "GLF", "1.4")) == Taxon(make="Volkswagen", model="Golf")
    assert Corrections.read(tmp_path / "none.csv").taxa == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "make,model\n",
            r"words.csv line 1: column 'submodel' is missing; it needs make, model, submodel, becomes_make",
        ),
        (HEAD.replace("_year", "_yaer"), r"line 1: unknown column 'becomes_yaer'; did you mean 'becomes_year'\?"),
        (HEAD + "VW,Golf,,,Golf,,\n", r"line 2: becomes \? Golf; becomes_make and becomes_model must be given"),
        (HEAD + "\nVW,Golf,,VW,Golf,,12\n", r"line 3: becomes_year is '12'; it must be a year such as 2012"),
        (HEAD + ",-,,VW,Golf,,\n", r"line 2: make, model and submodel are empty"),
        (HEAD + "VW,a,,VW,Golf,,\nvw,A,,VW,Polo,,\n", r"line 3: 'VW Polo' for words of which line 2 says 'VW Golf'"),
        (HEAD + "VW,a,,VW,Golf,,,1,x,y,z\n", r"line 2: more or fewer cells than the header's 7"),
    ],
)
def test_corrections_are_checked(text, message):
    with pytest.raises(LabelError, match=message):
        Corrections.parse(text)


def test_a_file_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "words.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(LabelError, match=r"words.csv cannot be read: .*; save it as CSV in UTF-8"):
        Corrections.read(tmp_path / "words.csv")


# ---- the bundled list, and real words


def test_each_bundled_name_names_itself(resolver):
    """A name in any case resolves to itself; so does each alias of a make."""
    known = Known.bundled()
    for make in known.makes.values():
        for spelling, model in make.models.items():
            found = resolver.resolve(make.name.upper(), model.upper())
            assert (found.make, found.model) == (make.name, model), spelling


def test_each_pattern_leads_to_a_known_model():
    for make in Known.bundled().makes.values():
        for pattern, template in make.patterns:
            assert pattern.pattern
            if "\\" not in template:
                assert key(tokens(template)) in make.models, (make.name, template)


def words_of_ads():
    rows = []
    for name in ("main.csv", "photos.csv"):
        with (ADS / name).open(encoding="utf-8") as file:
            rows += [(row["make"], row["model"]) for row in csv.DictReader(file)]
    return rows


@pytest.mark.skipif(not ADS.is_dir(), reason="the real advertisements are not here")
def test_real_words_resolve(resolver):
    rows = [row for row in words_of_ads() if row[1]]
    found = [resolver.resolve(make, model) for make, model in rows]
    assert all(one.make for one in found)
    assert sum(one.status == "ok" and one.method != "seller" for one in found) >= 0.99 * len(rows)


@pytest.mark.skipif(not ADS.is_dir(), reason="the real advertisements are not here")
def test_real_words_with_a_typo_are_seldom_taken_for_another_model(resolver):
    generator = random.Random(0)
    right = wrong = n = 0
    for make, model in sorted(set(words_of_ads())):
        truth = resolver.resolve(make, model)
        if truth.status != "ok" or sum(letter.isalpha() for letter in model) < 4:
            continue
        at = generator.choice([k for k, letter in enumerate(model) if k and letter.isalpha()])
        found = resolver.resolve(make, model[:at] + generator.choice(string.ascii_lowercase) + model[at + 1 :])
        n += 1
        right += (found.make, found.model) == (truth.make, truth.model)
        wrong += found.status == "ok" and found.method != "seller" and found.model != truth.model
    assert right >= 0.85 * n
    assert wrong <= 0.04 * n


def test_a_name_that_fell_into_two_columns_is_read_as_one() -> None:
    resolver = Resolver()
    assert resolver.resolve("БМВ", "3", "серия").name == "BMW 3 Series"
    assert resolver.resolve("VOLVO", "XC", "90").name == "Volvo XC90"
    # A trim does not become a part of a model that nobody knows.
    assert resolver.resolve("Ford", "Zzzyx", "qqq").model == resolver.resolve("Ford", "Zzzyx", "vvv").model
