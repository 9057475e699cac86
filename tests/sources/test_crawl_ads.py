"""Ads out of a crawl's pages: each has an id of its own, and nothing is dropped without a word."""

from typing import Any

import pytest

from carspotter.sources.crawl.ads import ads_of
from carspotter.sources.listing import Ad

HOST = "https://cars.example"
CARS = [("Audi", "A4", 17), ("BMW", "320d", 18), ("Seat", "Leon", 19), ("Opel", "Astra", 20)]


def found(path: str, *, sku: str | None = None, address: str | None = None, **words: object) -> dict[str, Any]:
    """Return a page of the journal; its car has a photo of its own unless `photos` says otherwise."""
    photos = words.pop("photos", [f"{HOST}/img/{words.get('make')}-{words.get('model')}-{path[-2:]}.jpg"])
    offer = {"ad_id": sku, "address": address, "words": {"url": HOST + path, **words}, "photos": photos}
    return {"url": HOST + path, "asked": HOST + path, "offers": [offer], "listings": [], "pages": []}


def statuses(ads: list[Ad]) -> list[str]:
    return [ad.listing["status"] for ad in ads]


@pytest.mark.parametrize(
    "template",
    [
        "/dealer/123456/car/{n}",
        "/used/10115-berlin/{make}-{n}",
        "/vehicle?dealer=123456&id={n}",
        "/{make}/2015-{n}/",
        "/car/{n}/10115",
    ],
)
@pytest.mark.parametrize("sku", [None, "123456", "N/A"])
@pytest.mark.parametrize("address", [None, f"{HOST}/", f"{HOST}/dealer/123456"])
def test_cars_that_share_a_number_or_an_address_stay_apart(template: str, sku: str | None, address: str | None) -> None:
    pages = [
        found(template.format(make=make, n=n), sku=sku, address=address, make=make, model=model)
        for make, model, n in CARS
    ]
    ads = list(ads_of(pages, source="crawl"))
    assert statuses(ads) == ["ok"] * 4
    assert len({ad.listing["ad_id"] for ad in ads}) == 4
    assert [len(ad.photos) for ad in ads] == [1] * 4


def test_cars_of_one_model_and_number_stay_apart() -> None:
    ads = list(
        ads_of([found(f"/dealer/123456/car/{n}", sku="7", make="VW", model="Golf") for n in range(10, 14)], source="c")
    )
    assert statuses(ads) == ["ok"] * 4


def test_a_number_of_its_own_names_an_ad_and_its_address_otherwise() -> None:
    pages = [found("/car/17", sku="A-17", make="Audi"), found("/car/18?id=9", make="BMW"), found("/", make="Seat")]
    names = [ad.listing["ad_id"] for ad in ads_of(pages, source="crawl")]
    assert names[0] == "A-17"
    assert names[1].startswith("id-9-")
    assert names == [ad.listing["ad_id"] for ad in reversed(list(ads_of(pages[::-1], source="crawl")))]


@pytest.mark.parametrize("sku", [None, "A-17"])
def test_an_ad_under_two_addresses_is_one_and_the_other_says_so(sku: str | None) -> None:
    same = {"make": "Audi", "model": "A4", "photos": [f"{HOST}/a.jpg"], "address": f"{HOST}/car/17", "sku": sku}
    ads = list(ads_of([found("/car/17", **same), found("/car/17?from=mail", **same)], source="crawl"))  # type: ignore[arg-type]
    assert statuses(ads) == ["ok", "repeated-ad"]
    assert ads[0].listing["ad_id"] in ads[1].listing["message"]
    assert not ads[1].photos


def test_a_page_that_was_led_to_twice_is_one() -> None:
    page = found("/car/17", make="Audi")
    assert len(list(ads_of([page, {**page, "asked": f"{HOST}/moved"}], source="crawl"))) == 1


def test_an_ad_without_photos_or_words_is_no_ad_that_is_ok() -> None:
    ads = list(ads_of([found("/car/17", make="Audi", photos=[]), found("/car/18", price="5")], source="crawl"))
    assert statuses(ads) == ["no-photo", "no-words"]
