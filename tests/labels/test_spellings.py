"""Hold how words of sellers in many languages are read: a list with right answers, and the kinds that it has."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from carspotter.labels.corrections import Corrections
from carspotter.labels.generations import family, of_make, table
from carspotter.labels.known import Known
from carspotter.labels.resolve import OFTEN, Resolver, label_rows
from carspotter.labels.words import key, tokens

LIST = Path(__file__).parent / "spellings.csv"
SURE = 0.8


@pytest.fixture(scope="module")
def resolver():
    return Resolver()


def said(found):
    return found.make, found.model, found.generation


def test_the_list_is_read_rightly_and_nothing_wrong_is_sure(resolver):
    rows = list(csv.DictReader(LIST.read_text(encoding="utf-8").splitlines()))
    assert len(rows) >= 400
    assert len({row["language"] for row in rows}) >= 12
    wrong, sure, honest = [], [], 0
    for row in rows:
        words = {name: row[name] or None for name in ("make", "model", "submodel", "title", "description")}
        found = resolver.resolve(**words)
        truth = tuple(row[f"becomes_{part}"] or None for part in ("make", "model", "generation"))
        if found.name is None or (said(found)[:2] == truth[:2] and found.generation is None):
            honest += said(found) != truth and truth[1] is not None
        elif said(found) != truth:
            wrong.append((row, said(found)))
            sure += [row] if found.score > SURE else []
    assert not sure
    assert len(wrong) <= 0.02 * len(rows), wrong
    assert honest <= 0.05 * len(rows)  # to say nothing is no way to be right


def test_every_model_of_the_table_is_known_and_every_code_leads_to_it(resolver):
    known = Known.bundled().makes
    for make, generations in table().items():
        for words, codes in generations.codes.items():
            for code in codes:
                assert code.model in known[make].models.values(), (make, code.model)
                found = resolver.resolve(make, f"{code.model} {' '.join(words)}")
                assert found.model == code.model, (make, code, words, found)
                own = {(other.type, other.family) for other in codes if other.model == code.model}
                assert found.generation in {name for pair in own for name in pair} or found.generation is None


def test_a_code_alone_names_model_and_type_or_nothing(resolver):
    known = Known.bundled().makes
    for make, generations in table().items():
        for words, codes in generations.codes.items():
            if words == ("v220",):  # an engine of the V-Class, and a long S-Class
                continue
            found = resolver.resolve(make, " ".join(words))
            alone, models = {code.model for code in codes if code.alone}, {code.model for code in codes}
            is_name = key(words) in known[make].models
            if len(alone) == 1:
                assert is_name or found.model in models, (make, words, found)
            elif found.status == "ok" and len(key(words)) > 2:
                assert is_name or found.score <= SURE or found.model in models, (make, words, found)


@pytest.mark.parametrize("spelling", ["Mk7", "MK VII", "VII", "7", "5G", "7. Generation", "7th gen", "поколение 7"])
def test_all_words_for_a_generation_are_one(resolver, spelling):
    assert said(resolver.resolve("VW", f"Golf {spelling}")) == ("Volkswagen", "Golf", "Mk7")


@pytest.mark.parametrize("counted", ["5 türig", "5 portes", "5 doors", "1.6 16V", "2.0", "3 drzwi", "4 motion", "5 ps"])
def test_what_is_counted_is_no_generation(resolver, counted):
    assert said(resolver.resolve("VW", f"Golf {counted}")) == ("Volkswagen", "Golf", None)


def test_a_code_of_another_model_is_no_guess(resolver):
    strong = resolver.resolve("Mercedes", "E-Class W205")
    assert (strong.make, strong.model, strong.status) == ("Mercedes-Benz", None, "unresolved")
    assert "E-Class beside W205, which is of C-Class" in strong.message
    weak = resolver.resolve("Audi", "A3 B8")
    assert said(weak) == ("Audi", "A3", None)
    assert weak.score <= 0.6
    assert resolver.resolve("VW", "Golf W205").score <= 0.6


@pytest.mark.parametrize("word", ["Clase", "Classe", "Klasse", "Klasa", "Klasė", "Класс", "Třída", "Luokka", "osztály"])
@pytest.mark.parametrize("letter", ["A", "B", "E", "S", "CLA", "GLK"])
def test_a_class_is_read_by_its_letter(resolver, word, letter):
    for text in (f"{word} {letter}", f"{letter} {word}", f"{letter}-{word}", f"{letter}{word}"):
        found = resolver.resolve("Mercedes-Benz", text)
        assert (found.model, found.method) == (f"{letter}-Class", "exact"), text


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", max_size=6))
@hypothesis_settings(deadline=None, max_examples=30)
def test_no_class_is_told_by_the_sound_of_a_general_word(resolver, word):
    found = resolver.resolve("Mercedes-Benz", f"clase {word}")
    assert found.method not in ("sound", "fuzzy") or "-Class" not in (found.model or "")


# ---- title and description


BEHIND_AN_ENGINE = {
    "BMW": {
        "218i Active Tourer": "2 Series Active Tourer",
        "2er Gran Tourer": "2 Series Gran Tourer",
        "220d xDrive Gran Tourer": "2 Series Gran Tourer",
        "Serie 4 420d Gran Coupé": "4 Series Gran Coupe",
        "840i Gran Coupe": "8 Series",
        "320d GT": "3 Series Gran Turismo",
        "535d xDrive Gran Turismo": "5 Series Gran Turismo",
        "X5 3.0d M Sportpaket": "X5",
        "320d Touring": "3 Series",
    },
    "MINI": {
        "Cooper Clubman": "Clubman",
        "One D Countryman": "Countryman",
        "Cooper SD Countryman ALL4": "Countryman",
        "John Cooper Works Countryman": "Countryman",
        "Mini Cooper S Paceman": "Paceman",
        "One Cabrio": "Cabrio",
        "Cooper S 2.0": "Cooper",
    },
    "Mercedes-Benz": {
        "AMG GLC 43 4Matic Coupé": "GLC-Class Coupe",
        "EQS 450+ SUV": "EQS SUV",
        "AMG GT 63 S 4-Door": "AMG GT 4-Door",
        "V 250 d Marco Polo": "Marco Polo",
        "C 220 d T-Modell": "C-Class",
    },
    "Audi": {"Q8 55 e-tron": "Q8 e-tron", "e-tron GT quattro": "e-tron GT", "TT 2.5 TFSI RS": "TT RS"},
    "Volkswagen": {
        "Golf VII Variant Alltrack": "Golf Alltrack",
        "Golf 1.4 TSI Plus": "Golf Plus",
        "Golf Highline Plus": "Golf",
        "Passat 2.0 TDI CC": "CC",
        "T5 2.0 TDI Multivan": "Multivan",
    },
    "Renault": {"Scenic III Grand": "Grand Scenic", "Megane Grand Scenic": "Grand Scenic"},
    "Citroën": {"C3 1.2 PureTech Aircross": "C3 Aircross", "C4 Picasso Grand": "Grand C4 Picasso"},
    "Ford": {"Focus 1.6 TDCi C-Max": "Focus C-Max", "Ka+ 1.2": "Ka+", "Ka 1.2": "Ka"},
    "Toyota": {"Yaris 1.5 Hybrid Cross": "Yaris Cross", "Aygo x-play": "Aygo", "Prius+ 1.8": "Prius V"},
    "Nissan": {"Qashqai 2.0 dCi": "Qashqai", "Qashqai+2 2.0 dCi": "Qashqai+2", "Qashqai 2 1.6": "Qashqai+2"},
    "Chery": {"Tiggo 2.0 4WD": "Tiggo", "Tiggo 7 1.5T": "Tiggo 7"},
    "Land Rover": {"Range Rover P400 Evoque": "Range Rover Evoque", "Range Rover Vogue": "Range Rover"},
    "Jeep": {"Grand Cherokee 3.6 L": "Grand Cherokee", "Grand Cherokee L": "Grand Cherokee L"},
    "Volvo": {"V60 D4 AWD Cross Country": "V60 Cross Country"},
    "Peugeot": {"206+ 1.4": "206+", "206 1.4": "206"},
}


@pytest.mark.parametrize("make", BEHIND_AN_ENGINE)
def test_a_longer_name_wins_over_its_beginning_across_an_engine(resolver, make):
    expected = BEHIND_AN_ENGINE[make]
    assert {words: resolver.resolve(make, words).model for words in expected} == expected


def test_columns_then_title_then_description_each_says_where(resolver):
    text = {"title": "VW Passat Variant B8", "description": "Audi A4 B9"}
    column = resolver.resolve("BMW", "E46", **text)
    title = resolver.resolve(**text)
    description = resolver.resolve(title="one owner", description="Audi A4 B9")
    assert [found.method for found in (column, title, description)] == ["code", "title", "description"]
    assert [found.model for found in (column, title, description)] == ["3 Series", "Passat", "A4"]
    assert column.score > title.score > description.score > 0
    assert description.generation == "B9"


def test_a_title_says_the_type_of_a_model_that_is_clear(resolver):
    assert resolver.resolve("Mercedes", "C 220", title="C 220 d T S205").generation == "S205"
    assert resolver.resolve("Mercedes", "C 220", description="schöner W205").generation == "W205"
    assert resolver.resolve("Mercedes", "C 220", description="statt W211 jetzt X253").generation is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("VW", "Golf"), {"description": "Felgen vom Golf 7 dabei", "year": 2004}),
        (("VW", "Golf"), {"description": "Nice car, would swap for a Golf 7 GTI"}),
        (("VW", "Golf"), {"description": "Winterreifen vom Golf 6 dabei"}),
        (("BMW", "320d"), {"description": "swap for F30 possible"}),
        (("Mercedes", "E 200"), {"title": "Mercedes E 200, tyres from W211"}),
        ((), {"title": "Mercedes E 200, tyres from W211"}),
    ],
)
def test_the_type_of_another_car_is_not_this_ones(resolver, words, text):
    found = resolver.resolve(*words, **text)
    assert (found.status, found.generation) == ("ok", None)


def test_a_type_in_front_of_another_car_counts(resolver):
    assert resolver.resolve("VW", "Golf", description="Golf VI, scheckheft").generation == "Mk6"
    assert resolver.resolve("VW", "Golf", description="Golf VI, Tausch gegen Golf 7").generation == "Mk6"
    assert resolver.resolve(title="VW Golf 7, Winterreifen vom Golf 6").generation == "Mk7"


@pytest.mark.parametrize(
    "text",
    [
        "swap for BMW X5",
        "tyres from an Audi A4",
        "Tausch gegen VW Golf",
        "échange contre Renault Clio",
        "cambio por SEAT Ibiza",
        "обмен на Тойота Камри",
        "zamienię na Opel Astra",
        "VW Golf or VW Polo",
        "",
        "lovely car",
        "will take Nissan Qashqai in part exchange",
        "cerchi di Fiat Panda",
        "passend für Ford Focus",
    ],
)
def test_a_description_that_names_no_car_as_its_own_is_none(resolver, text):
    assert resolver.resolve(description=text).status == "unresolved"
    assert resolver.resolve("VW", "Golf", description=text).model == "Golf"


def test_of_two_cars_the_message_names_both(resolver):
    message = resolver.resolve(description="VW Golf und VW Polo").message
    assert "Volkswagen Golf, Volkswagen Polo" in message


def test_rows_read_the_description():
    row = next(label_rows([{"ad_id": "1", "description": "Verkaufe VW Golf VI"}], Resolver()))
    assert (row["name"], row["method"], row["score"]) == ("Volkswagen Golf Mk6", "description", 0.7)


def test_what_a_person_says_of_a_generation_is_spelled_alike():
    head = "make,model,submodel,becomes_make,becomes_model,becomes_generation\n"
    resolver = Resolver(corrections=Corrections.parse(head + "VW,Rabbit GTI,,VW,Golf,mk 7\nVW,Thing,,VW,Golf,mine\n"))
    assert resolver.resolve("VW", "Rabbit GTI").generation == "Mk7"
    assert resolver.resolve("VW", "Thing").generation == "mine"


def test_a_type_is_of_a_generation():
    assert family("Mercedes-Benz", "C-Class", "S205") == "W205"
    assert family("Mercedes-Benz", "C-Class", "2010-2014") == "2010-2014"
    assert of_make("Nobody").find(tokens("W205")) == []


def test_a_letter_is_a_generation_and_an_electric_car_has_its_hyphen(resolver):
    assert said(resolver.resolve("Opel", "Corsa E 1.4")) == ("Opel", "Corsa", "E")
    assert said(resolver.resolve("Opel", "Corsa-e")) == ("Opel", "Corsa-e", None)


@pytest.mark.parametrize(
    ("make", "model"),
    [
        ("BMW", "BMW"),
        ("VW", "Volkswagen"),
        ("Mercedes-Benz", "mercedes"),
        ("Smart", "smart"),
        ("Lada", "ВАЗ"),
        ("Toyota", "Toyota Diesel"),
        ("BMW", "n/a"),
        ("BMW", "No model"),
        ("BMW", "Modell wählen"),
        ("BMW", "другие модели"),
        ("BMW", "Sonstige Modelle"),
        ("BMW", "inny"),
        ("BMW", "other models"),
        ("BMW", "Pkw"),
        ("BMW", "其他"),
        ("BMW", "black"),
        ("BMW", "schwarz metallic"),
        ("Toyota", "2015"),
        ("Toyota", "2015 diesel"),
        ("Toyota", "0170 123456"),
        ("Toyota", "0170123"),
        ("Toyota", "15000"),
        ("Toyota", "185000"),
        ("Toyota", "Felgen 17 Zoll"),
        ("Toyota", "Motor"),
    ],
)
def test_words_that_name_no_model_make_no_class(make, model):
    seen = {(make, model): OFTEN}
    for resolver in (Resolver(), Resolver(seen=seen)):
        found = resolver.resolve(make, model)
        assert (found.status, found.make is not None, found.model) == ("unresolved", True, None)


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Toyota", "Toyota Foobar", "Foobar"),
        ("Toyota", "Foobar 2015", "Foobar"),
        ("Toyota", "Black Edition", "Black Edition"),
        ("Ora", "Black Cat", "Black CAT"),
        ("Austin", "1800", "1800"),
        ("Zeekr", "001", "001"),
        ("Peugeot", "2008", "2008"),
        ("ZAZ", "110557", "110557"),
        ("Rolls-Royce", "Silver Shadow", "Silver Shadow"),
        ("VW", "New Beetle", "Beetle"),
        ("Tesla", "Model S", "Model S"),
    ],
)
def test_names_that_hold_such_words_stay(make, model, name):
    found = Resolver().resolve(make, model)
    assert (found.status, found.model) == ("ok", name)
