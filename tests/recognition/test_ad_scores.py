"""The scores of a project's ads, put together from what the catalogue knows of their photos."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from carspotter.catalog.catalog import Catalog
from carspotter.project.folder import Project
from carspotter.recognition.ad_scores import scored_ads


@pytest.fixture(scope="module")
def project(tiny_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.open(Path(shutil.copytree(tiny_built, tmp_path_factory.mktemp("scores") / "project")))


def test_each_ad_with_a_file_has_a_score_the_worst_first(project: Project) -> None:
    with project.catalog() as catalog:
        ads = scored_ads(catalog)
        n_ads = catalog.rows(
            """SELECT count(DISTINCT ad_id) AS n FROM listing_photos p JOIN listings l USING (ad_id)
            JOIN files f USING (photo_id) WHERE f.status = 'ok' AND l.status = 'ok' AND p.status = 'ok'"""
        )[0]["n"]
    totals = [ad.score.total for ad in ads]
    assert len(ads) == n_ads
    assert totals == sorted(totals)
    assert ads[0].photos[0]["ad_id"] == ads[0].ad_id


def test_a_black_car_planted_among_red_ones_is_found(project: Project) -> None:
    with project.catalog() as catalog, catalog.writer():
        photos = [
            row["photo_id"]
            for row in catalog.rows("SELECT photo_id FROM listing_photos WHERE ad_id = '1000' ORDER BY position")
        ]
        facts = [
            {"photo_id": name, "status": "ok", "colour": colour, "colour_probability": 0.95}
            for name, colour in zip(photos, ("red", "black", "red"), strict=True)
        ]
        catalog.append("embeddings", facts, version="planted")
        (ad,) = [ad for ad in scored_ads(catalog) if ad.ad_id == "1000"]
    assert {part.why for part in ad.score.parts if part.name == "this car"} == {"photo 2 does not show this car"}


class Rows:
    """A catalogue of one ad with a photo a row, each changed from a red car's outside."""

    def __init__(self, *changed: dict[str, Any]) -> None:
        box = {"x1": 10, "y1": 10, "x2": 90, "y2": 50, "score": 0.9, "viewpoint": "front", "viewpoint_probability": 0.9}
        size = {"width": 100, "height": 60, "brightness": 0.5, "sharpness": 500.0, "readable": "ok", "message": None}
        seen = {"kind": "exterior", "kind_probability": 1.0, "colour": "red", "colour_probability": 0.95}
        own = [{"ad_id": "1", "photo_id": str(at), "group_id": None, "kept": True} for at in range(len(changed))]
        self._rows = [each | box | size | seen | change for each, change in zip(own, changed, strict=True)]

    def rows(self, _: str) -> list[dict[str, Any]]:
        return self._rows


def test_a_copy_has_no_vote_on_the_colour_and_loses_points_once() -> None:
    black: dict[str, Any] = {"colour": "black", "group_id": "a"}
    no_vehicle: dict[str, Any] = {"colour": None, "x1": None}
    toy = no_vehicle | {"kind": "other", "group_id": "b"}
    after = [black | {"kept": False}, black | {"kept": False}, toy, toy | {"kept": False}]
    (ad,) = scored_ads(cast(Catalog, Rows({}, {}, black, *after, no_vehicle)))
    assert {part.name: part.why for part in ad.score.parts if part.name in ("copies", "this car")} == {
        "copies": "photos 4, 5 and 7 repeat other photos",
        "this car": "photos 3, 6 and 8 do not show this car",
    }


def test_the_report_shows_the_worst_ads_with_their_faults(project: Project) -> None:
    html = project.report.read_text(encoding="utf-8")
    assert "Ads that a buyer would not click" in html
    assert "no photo shows" in html
