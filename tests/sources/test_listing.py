"""Rows of listings and photos: what is cleaned, what gets a status, and when two ads of one id are one."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.catalog.tables import TABLES
from carspotter.records import photo_id
from carspotter.sources.listing import Ad, clean, listing_row, merge, parse_price, parse_year, photo_row


def test_a_listing():
    row = listing_row(
        ad_id=" 4711 ",
        source="x",
        make=" Mercedes \n Benz",
        model="",
        year="05/2012",
        price="12.500,00 €",
        attributes={"color": "röd"},
    )
    assert row == {
        "ad_id": "4711",
        "source": "x",
        "make": "Mercedes Benz",
        "year": 2012,
        "price": 12500.0,
        "attributes": '{"color": "röd"}',
        "status": "ok",
    }
    row = listing_row(ad_id="1", source="x", year="1066", price="call us")
    assert row["message"] == "year '1066' is none; price 'call us' is none"
    assert (row["status"], "year" in row) == ("ok", False)
    with pytest.raises(ValueError, match="colour"):
        listing_row(ad_id="1", source="x", colour="red")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012", 2012),
        ("2012-05", 2012),
        ("05/2012", 2012),
        ("1.5.2012", 2012),
        ("2012-05-31T00:00:00", 2012),
        ("2012.0", 2012),
        ("1886", 1886),
        ("1885", None),
        (str(date.today().year + 3), None),
        ("12", None),
        ("2005-2010", None),
        ("20123", None),
        ("", None),
        ("ca. 2012", None),
    ],
)
def test_years(text, expected):
    assert parse_year(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 500", 12500),
        ("12.500,00 €", 12500),
        ("$12,500", 12500),
        ("12.5", 12.5),
        ("1,234,567", 1234567),
        ("12,500.50", 12500.5),
        ("12'500.-", 12500),
        ("12.500", 12500),
        ("12500.000", 12500),
        ("12500,000", 12500),
        ("12 500.125", 12500.125),
        (12500.125, 12500.125),
        (Decimal("999.125"), 999.125),
        (Decimal("12.500"), 12.5),
        (-5, None),
        (float("inf"), None),
        (10**400, None),
        ("9" * 400, None),
        (True, None),
        ("9999", 9999),
        ("10-20", None),
        ("-5", None),
        ("call", None),
    ],
)
def test_prices(text, expected):
    assert parse_price(text) == expected


def test_photos():
    assert photo_row("1", " https://h/a.jpg ", 0, kind="interior", viewpoint="front-left") == {
        "photo_id": photo_id("1", "https://h/a.jpg"),
        "ad_id": "1",
        "position": 0,
        "url": "https://h/a.jpg",
        "kind": "interior",
        "viewpoint": "front-left",
        "status": "ok",
    }
    assert photo_row("1", "", 2)["status"] == "no-url"
    assert photo_row("1", None, 2)["photo_id"] != photo_row("1", None, 3)["photo_id"]
    row = photo_row("1", "https://anna:s3cret@h/a.jpg", 0, kind="inside")
    assert (row["url"], row["status"]) == ("https://h/a.jpg", "secret-in-url")
    assert "s3cret" not in str(row)
    assert "kind 'inside' is none of exterior" in row["message"]
    assert photo_row("1", "https://h/a@b.jpg", 0)["status"] == "ok"
    assert photo_row("1", "/photos/\udcff.jpg", 0)["url"] == "file:///photos/%FF.jpg"


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.text())))
def test_words_fit_the_catalogue(value):
    row = listing_row(ad_id="1", source="x", make=value, year=value, price=value, url=value)
    assert set(row) <= set(TABLES["listings"].columns)
    for text in (part for part in row.values() if isinstance(part, str)):
        assert text == text.strip()
        text.encode()
    assert clean(clean(value)) == clean(value)


# ---- two ads of one id


def ad(ad_id="1", url="https://h/a.jpg", **words):
    return Ad(listing_row(ad_id=ad_id, source="x", **words), (photo_row(ad_id, url, 0),))


def keyed(*ads):
    return {one.listing["ad_id"]: one.listing for one in ads if one.listing}


def test_a_new_ad_passes():
    one = ad(make="Audi")
    assert merge({}, one) is one


def test_the_same_ad_says_nothing_new():
    one = ad(make="Audi", model="A4", year="2010", price="1000")
    again = merge(keyed(one), ad(make="AUDI", model="A4", year="2010", price="1000", url="https://h/b.jpg"))
    assert again.listing["make"] == "AUDI"  # spelt anew: the newest words count
    same = merge(keyed(one), ad(make="Audi", model="A4", attributes={"view": "back"}, url="https://h/b.jpg"))
    assert same.listing == {}
    assert [photo["status"] for photo in same.photos] == ["ok"]


def test_the_same_ad_adds_words():
    known = keyed(ad(make="Audi", price="1000", title="old")) | {"2": {}}
    news = merge(known, ad(make="Audi", model="A4", price="900")).listing
    assert (news["model"], news["price"], news["title"]) == ("A4", 900, "old")


def test_another_car_under_a_known_id():
    first, second = ad(make="Audi", model="A4"), ad(make="BMW", model="X5", url="https://h/b.jpg")
    other = merge(keyed(first), second)
    assert other.listing["ad_id"] == "1#2"
    assert other.listing["status"] == "duplicate-id"
    assert other.listing["message"] == "ad '1' is already Audi A4; this one is BMW X5"
    assert [(p["ad_id"], p["status"], p["photo_id"]) for p in other.photos] == [
        ("1#2", "duplicate-id", photo_id("1#2", "https://h/b.jpg"))
    ]
    known = keyed(first, other)
    assert merge(known, second) == Ad({}, other.photos)  # read again: nothing new
    assert merge(known, first).listing == {}
    assert merge(known, ad(make="VW", model="Golf")).listing["ad_id"] == "1#3"


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz")), max_size=12))
def test_reading_twice_changes_nothing(cars):
    ads = [ad(make=make, model=model) for make, model in cars]
    known, photos = {}, {}
    for one in ads:
        merged = merge(known, one)
        known |= keyed(merged)
        photos |= {row["photo_id"]: row for row in merged.photos}
    assert len(known) == len(set(cars))
    for one in ads:
        merged = merge(known, one)
        assert merged.listing == {}
        assert all(photos[row["photo_id"]] == row for row in merged.photos if row["status"] == "ok")
