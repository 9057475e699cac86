"""Pages in several ways of writing, and what is read out of them."""

import json
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("extruct")
sys.path.insert(0, str(Path(__file__).parent))
from crawl_site import CAR, json_ld
from crawl_variants import NO_AD, OPEN_GRAPH, PHOTO, READ, URL
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from carspotter.sources.crawl.pages import Page, links, notes, offers
from carspotter.sources.crawl.sites import Found, read_page
from carspotter.sources.listing import listing_row

PLAIN = {"@type": "Car", "brand": "Audi", "model": "A4", "image": "a.jpg"}


def page(*parts: str, url: str = URL, is_listing: bool = False) -> Page:
    return Page(url=url, text=f"<html><body>{''.join(parts)}</body></html>", is_listing=is_listing)


@pytest.mark.parametrize("name", READ)
def test_a_car_is_read_however_a_site_writes_it(name: str) -> None:
    (offer,) = offers(page(READ[name]))
    assert [offer.words.get(word) for word in ("make", "model", "year")] == ["Audi", "A4", "2014"]
    assert offer.photos == (PHOTO,)


@pytest.mark.parametrize("name", NO_AD)
def test_what_is_no_ad_gives_none(name: str) -> None:
    assert offers(page(NO_AD[name])) == []


def test_the_price_of_an_offer_around_its_car_is_the_cars() -> None:
    data = json_ld({"@type": "Offer", "price": 9000, "priceCurrency": "EUR", "itemOffered": PLAIN})
    (offer,) = offers(page(data))
    assert (offer.words["price"], offer.words["currency"]) == ("9000", "EUR")


def test_descriptions_are_plain_text_from_the_data_or_from_open_graph() -> None:
    (offer,) = offers(page(json_ld({**PLAIN, "description": "<p>one owner,<br/>new &amp; tidy</p>\n"})))
    assert offer.words["description"] == "one owner, new & tidy"
    (offer,) = offers(page('<meta property="og:description" content="one owner">', json_ld(PLAIN)))
    assert offer.words["description"] == "one owner"


def test_open_graph_stands_in_for_missing_photos() -> None:
    data = json_ld({"@type": "Car", "brand": "Audi", "model": "A4"})
    (offer,) = offers(page('<meta property="og:image" content="/og.jpg?a=1&amp;b=2">', data))
    assert offer.photos == ("https://cars.example/og.jpg?a=1&b=2",)


def test_open_graph_alone_makes_an_ad() -> None:
    (offer,) = offers(page(OPEN_GRAPH))
    assert offer.words == {
        "url": URL,
        "title": "Audi A4 2014",
        "description": "one owner",
        "price": "9000",
        "currency": "EUR",
    }
    assert offer.photos == (PHOTO,)


def test_a_page_that_is_known_to_be_a_listing_needs_a_picture_and_a_title() -> None:
    picture, title = '<meta property="og:image" content="a.jpg">', "<title>Audi A4</title>"
    assert offers(page(picture, title)) == []
    (offer,) = offers(page(picture, title, is_listing=True))
    assert (offer.words["title"], offer.photos) == ("Audi A4", (PHOTO,))
    challenge = page("<title>Just a moment...</title>", is_listing=True)
    assert (offers(challenge), notes(challenge)) == ([], ["no ad"])
    product = json_ld({"@type": "Product", "name": "Audi A4", "image": "a.jpg"})
    assert (len(offers(page(product))), len(offers(page(product, is_listing=True)))) == (0, 1)


def test_a_page_of_results_whose_address_looks_like_a_listing_is_none() -> None:
    cars = [json_ld({**PLAIN, "model": name, "url": f"/c/{name}"}) for name in ("A4", "A6")]
    anchors = '<a href="/c/A4">1</a><a href="/c/A6">2</a>'
    assert offers(page(*cars, anchors, is_listing=True)) == []
    assert offers(page(*cars, is_listing=True))[0].words["model"] == "A4"


@pytest.mark.parametrize(
    ("parts", "noted"),
    [
        (['<script type=\'application/ld+json\'>{"@type": "Car", oops</script>'], ["data that cannot be read"]),
        (['<script type=\'application/ld+json\'>{"@type": "Car", oops</script>', json_ld(PLAIN)], []),
        (['<script type=\'application/ld+json\'>{"@type": "WebSite", oops</script>'], []),
        ([json_ld(PLAIN), json_ld({**PLAIN, "model": "A6"})], ["several cars"]),
        ([json_ld(PLAIN)], []),
    ],
)
def test_a_page_without_an_offer_tells_why(parts: list[str], noted: list[str]) -> None:
    assert notes(page(*parts)) == noted


def test_links_are_read_as_browsers_do() -> None:
    text = """<base href="/x/"><a href=1>a</a><A HREF='2?a=1&amp;b=2'>b</A><a
    href = "3">c</a><a href="4&#8232;5">d</a><!-- <a href="6">e</a> --><area href=7><link rel=next href="?page=2">
    <a href="http://[">bad</a><a href="//other.example/8">f</a>"""
    assert links(page(text)) == [
        "https://cars.example/x/1",
        "https://cars.example/x/2?a=1&b=2",
        "https://cars.example/x/3",
        "https://cars.example/x/4\u20285",
        "https://cars.example/x/7",
        "https://other.example/8",
        "https://cars.example/x/?page=2",
    ]


# ---- nothing that a page holds may raise an error

BITS = [
    *READ.values(),
    *NO_AD.values(),
    OPEN_GRAPH,
    "<script",
    "</script>",
    "<!--",
    "-->",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "&",
    "\x00",
    "\ud800",
    "\u2028",
    "http://[",
    "<base href='http://['>",
    "<div itemscope itemtype='",
    "<div typeof='Car'>",
    '"@id": "#x"',
    '{"@type": "Car", "isSimilarTo": {"@id": "#x"}, "@id": "#x"}',
    "<a href='http://x:99999/'>",
    "<link rel=canonical href='//['>",
    "<?xml version='1.0' encoding='utf-7'?>",
    "1e999",
    "-",
    "\\u00",
]
TYPES = ["Car", "Product", "Offer", "ItemList", "schema:Car", "", None, 5, ["Car", None, {}]]
NAMES = [
    "@type",
    "@id",
    "@graph",
    "@value",
    "@list",
    "@context",
    "name",
    "brand",
    "model",
    "image",
    "offers",
    "price",
    "sku",
    "itemOffered",
    "itemListElement",
    "isSimilarTo",
    "url",
    "description",
    "vehicleModelDate",
    "contentUrl",
    "type",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*TYPES, "#x", "a.jpg"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


def cut(parts: list[str], start: int, length: int) -> str:
    return "".join(parts)[start : start + length]


TEXTS = st.builds(
    cut, st.lists(st.sampled_from(BITS) | st.text(max_size=5), max_size=6), st.integers(0, 400), st.integers(0, 4000)
)
PAGES = TEXTS | st.builds(lambda data, text: f"<html>{text}" + json_ld(data), VALUES, TEXTS)


def read_any(text: str, is_listing: bool) -> None:
    found = read_page(Page(url=URL, text=text, is_listing=is_listing))
    written = json.loads(json.dumps([[offer.words, offer.photos] for offer in found.offers]))
    for words, photos in written:
        listing_row(ad_id="x", source="crawl", **words)
        assert all(photo.startswith(("http://", "https://")) for photo in photos)
    read_page(Page(url=URL, text=text), site="autoscout24")
    links(Page(url=URL, text=text))


@seed(20261127)
@settings(max_examples=60, deadline=None, database=None)
@given(PAGES, st.booleans())
def test_no_page_raises_an_error(text: str, is_listing: bool) -> None:
    read_any(text, is_listing)


@pytest.mark.slow
@seed(20261128)
@settings(max_examples=int(os.environ.get("CARSPOTTER_FUZZ", "20000")), deadline=None, database=None)
@given(PAGES, st.booleans())
def test_no_page_of_many_raises_an_error(text: str, is_listing: bool) -> None:
    read_any(text, is_listing)


@pytest.mark.parametrize("opening", ["[", '{"@type": "Car", "isSimilarTo": ', '{"a": ['])
@pytest.mark.parametrize("closing", ["]", "}"])
def test_deep_data_is_left(opening: str, closing: str) -> None:
    assert offers(page(f"<script type='application/ld+json'>{opening * 5000}{closing * 5000}</script>")) == []


@pytest.mark.parametrize(
    "tag", ["<div>", "<div itemscope itemtype='https://schema.org/Car' itemprop='isSimilarTo'>", "<a>"]
)
def test_a_deep_page_is_read(tag: str) -> None:
    assert isinstance(offers(page(tag * 3000, "<script type='application/ld+json'>{}</script>")), list)


def test_things_that_hold_each_other_are_read() -> None:
    data = {
        "@graph": [
            {"@type": "WebPage", "@id": "#p", "mainEntity": {"@id": "#c"}},
            {**PLAIN, "@id": "#c", "mainEntityOfPage": {"@id": "#p"}, "isSimilarTo": {"@id": "#c"}},
        ]
    }
    assert len(offers(page(json_ld(data)))) == 1


def test_only_addresses_of_the_web_are_taken() -> None:
    (offer,) = offers(page(json_ld({**PLAIN, "image": ["file:///etc/passwd", "javascript:x", "data:x", "/a.jpg"]})))
    assert offer.photos == ("https://cars.example/a.jpg",)
    assert links(page('<a href="mailto:x@y">m</a><a href="c?x=1&amp;y=2#top">c</a><a href="#a">a</a>')) == [
        "https://cars.example/a/c?x=1&y=2"
    ]


@pytest.mark.parametrize("text", ["", "<", "\x00", "<script type='application/ld+json'></script>", "[" * 2000])
def test_garbage_is_no_offer(text: str) -> None:
    assert offers(page(text)) == []


def next_page(props: object, url: str) -> Page:
    data = json.dumps({"props": {"pageProps": props}})
    return page(f'<script id="__NEXT_DATA__" type="application/json">{data}</script>', url=url)


SCOUT = "https://www.autoscout24.de"
DETAILS = {
    "id": "ab-12",
    "vehicle": {
        "make": "BMW",
        "model": "320",
        "modelVersionInput": "320d Touring",
        "bodyType": "Estate",
        "firstRegistrationDateRaw": "2012-05-01",
    },
    "prices": {"public": {"priceRaw": 9000}},
    "images": ["https://img.example/a.jpg/250x188.webp", "https://img.example/b.jpg"],
}


def test_autoscout24_listing() -> None:
    found = read_page(next_page({"listingDetails": DETAILS}, f"{SCOUT}/angebote/bmw-320-ab-12"))
    (offer,) = found.offers
    assert offer.ad_id == "ab-12"
    assert dict(offer.words) == {
        "url": f"{SCOUT}/angebote/bmw-320-ab-12",
        "make": "BMW",
        "model": "320",
        "submodel": "320d Touring",
        "year": "2012-05-01",
        "body": "Estate",
        "price": "9000",
        "currency": "EUR",
    }
    assert offer.photos == ("https://img.example/a.jpg", "https://img.example/b.jpg")


@pytest.mark.parametrize(
    ("url", "following"),
    [
        (f"{SCOUT}/lst/bmw", (f"{SCOUT}/lst/bmw?page=2",)),
        (f"{SCOUT}/lst/bmw?sort=age", (f"{SCOUT}/lst/bmw?sort=age&page=2",)),
        (f"{SCOUT}/lst/bmw?page=2&sort=age", (f"{SCOUT}/lst/bmw?page=3&sort=age",)),
        (f"{SCOUT}/lst/bmw?page=3", ()),
    ],
)
def test_autoscout24_results(url: str, following: tuple[str, ...]) -> None:
    found = read_page(next_page({"listings": [{"url": "/angebote/a"}, {"id": 1}, "x"], "numberOfPages": 3}, url))
    assert found == Found(listings=(f"{SCOUT}/angebote/a",), pages=following)


@pytest.mark.parametrize("props", [{}, {"listingDetails": None}, {"listings": "x"}, []])
def test_autoscout24_pages_of_another_structure_are_read_like_any_other(props: object) -> None:
    assert read_page(next_page(props, SCOUT)) == Found(pages=None)


def test_an_adapter_can_be_asked_for_by_name() -> None:
    text = next_page({"listingDetails": DETAILS}, "http://127.0.0.1:8000/x")
    assert read_page(text).offers == ()
    assert read_page(text, site="autoscout24").offers[0].ad_id == "ab-12"


def test_the_sites_own_car_is_read_like_its_pages_say() -> None:
    (offer,) = offers(page(json_ld(CAR)))
    assert offer.words["title"] == "BMW 320d Touring"
    assert offer.ad_id is None
