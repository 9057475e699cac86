"""Pages in several ways of writing, and what is read out of them."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("extruct")
sys.path.insert(0, str(Path(__file__).parent))
from crawl_site import CAR, json_ld

from carspotter.sources.crawl_pages import Page, links, offers
from carspotter.sources.crawl_sites import Found, read_page

URL = "https://cars.example/a/b"
PLAIN = {"@type": "Car", "brand": "Audi", "model": "A4", "image": "a.jpg"}


def page(*parts: str, url: str = URL) -> Page:
    return Page(url=url, text=f"<html><body>{''.join(parts)}</body></html>")


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        {**PLAIN, "@type": ["Product", "Car"]},
        {**PLAIN, "@type": "http://schema.org/Vehicle"},
        [PLAIN],
        {"@context": "https://schema.org", "@graph": [{"@type": "WebPage", "name": "x"}, PLAIN]},
        {"@type": "WebPage", "mainEntity": PLAIN},
        {"@type": "Offer", "itemOffered": PLAIN},
        {**PLAIN, "@type": "Product", "model": {"@type": "ProductModel", "name": "A4"}},
        {**PLAIN, "brand": {"@type": "Brand", "name": " Audi "}, "model": ["A4"]},
    ],
)
def test_json_ld_is_read(content: object) -> None:
    (offer,) = offers(page(json_ld(content)))
    assert (offer.words["make"], offer.words["model"]) == ("Audi", "A4")
    assert offer.photos == ("https://cars.example/a/a.jpg",)


def test_microdata_is_read() -> None:
    text = """<div itemscope itemtype="https://schema.org/Car"><span itemprop="name">Audi A4 Avant</span>
    <div itemprop="brand" itemscope itemtype="https://schema.org/Brand"><span itemprop="name">Audi</span></div>
    <span itemprop="model">A4</span><img itemprop="image" src="/x.jpg"><meta itemprop="vehicleModelDate" content="2014">
    </div>"""
    (offer,) = offers(page(text))
    assert (offer.words["make"], offer.words["model"], offer.words["year"]) == ("Audi", "A4", "2014")
    assert offer.photos == ("https://cars.example/x.jpg",)


def test_broken_data_does_not_hide_the_good() -> None:
    assert offers(page("<script type='application/ld+json'>{oops</script>", json_ld(PLAIN)))


def test_open_graph_stands_in_for_missing_photos() -> None:
    data = json_ld({"@type": "Car", "brand": "Audi", "model": "A4"})
    (offer,) = offers(page('<meta property="og:image" content="/og.jpg?a=1&amp;b=2">', data))
    assert offer.photos == ("https://cars.example/og.jpg?a=1&b=2",)


@pytest.mark.parametrize(
    "content",
    [
        {"@type": "Product", "brand": "Audi", "name": "a cap with a badge", "image": "c.jpg"},
        {"@type": "Organization", "name": "dealer"},
        {"@type": "WebPage"},
    ],
)
def test_other_things_are_no_cars(content: object) -> None:
    assert offers(page(json_ld(content))) == []


def test_a_page_of_several_cars_is_a_page_of_results() -> None:
    assert offers(page(json_ld(PLAIN), json_ld({**PLAIN, "model": "A6"}))) == []
    assert len(offers(page(json_ld(PLAIN), json_ld(PLAIN)))) == 1


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
        "make": "BMW", "model": "320", "modelVersionInput": "320d Touring", "bodyType": "Estate",
        "firstRegistrationDateRaw": "2012-05-01",
    },
    "prices": {"public": {"priceRaw": 9000}},
    "images": ["https://img.example/a.jpg/250x188.webp", "https://img.example/b.jpg"],
}  # fmt: skip


def test_autoscout24_listing() -> None:
    found = read_page(next_page({"listingDetails": DETAILS}, f"{SCOUT}/angebote/bmw-320-ab-12"))
    (offer,) = found.offers
    assert offer.ad_id == "ab-12"
    assert dict(offer.words) == {
        "url": f"{SCOUT}/angebote/bmw-320-ab-12", "make": "BMW", "model": "320", "submodel": "320d Touring",
        "year": "2012-05-01", "body": "Estate", "price": "9000", "currency": "EUR",
    }  # fmt: skip
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
