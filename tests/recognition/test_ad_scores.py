"""The scores of a project's ads, put together from what the catalogue knows of their photos."""

import shutil
from pathlib import Path

import pytest

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


def test_the_report_shows_the_worst_ads_with_their_faults(project: Project) -> None:
    html = project.report.read_text(encoding="utf-8")
    assert "Ads that a buyer would not click" in html
    assert "no photo shows" in html
