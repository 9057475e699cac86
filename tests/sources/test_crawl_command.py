"""`carspotter crawl` as people type it: what it says, what it asks again, and what its exit code tells."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("scrapy")
sys.path.insert(0, str(Path(__file__).parent))
from crawl_site import Site, json_ld, served

from carspotter.catalog.lock import ProjectLock
from carspotter.cli.building import WARNED
from carspotter.errors import CatalogError
from carspotter.project.folder import Project
from carspotter.project.pipeline import crawl_project, preview
from carspotter.sources.crawl import source as crawl
from carspotter.sources.crawl.journal import JOURNAL, STATE
from carspotter.sources.crawl.report import CrawlReport
from commands import call

CARS = [f"/car/9000{n}" for n in range(4)]


def make_project(folder: Path, site: Site, **more: object) -> Path:
    """Make a project of one site with four cars, which nobody but its pages describes."""
    for number, car in enumerate(CARS):
        site.pages[car] = json_ld({"@type": "Car", "brand": "Mazda", "model": str(number), "image": f"/{number}.jpg"})
    site.pages["/"] = "".join(f"<a href={car}>car</a>" for car in CARS)
    folder.mkdir()
    settings = {"kind": "crawl", "start": [f"{site.url}/"], "contact": "tests@example.com", "delay_s": 0.0, **more}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (folder / "carspotter.toml").write_text("[[sources]]\n" + "\n".join(lines) + "\n")
    return folder


def n_listings(project: Path) -> int:
    _, out, _ = call("sql", "SELECT count(*) AS n FROM listings WHERE status = 'ok'", "--project", project, "--json")
    return int(json.loads(out)[0]["n"])


def test_failed_pages_cost_the_exit_code_and_are_asked_again(tmp_path: Path) -> None:
    with served() as site:
        project = make_project(tmp_path / "p", site)
        site.statuses = dict.fromkeys(CARS[1:], 503)
        code, out, err = call("crawl", project, "--json")
        (told,) = json.loads(out)["sites"]
        assert (code, told["listings"], list(told["failed"])) == (WARNED, 1, ["HTTP 503"])
        assert "3 of 5 pages could not be read" in err
        site.statuses.clear()
        site.asked.clear()
        assert call("crawl", project)[0] == 0
        assert {path for path in site.asked if path != "/robots.txt"} == set(CARS[1:])
        assert n_listings(project) == 4
        site.asked.clear()
        assert call("crawl", project)[0] == 0
        assert not site.asked
        assert call("crawl", project, "--again")[0] == 0
        assert set(CARS) < set(site.asked)
        assert n_listings(project) == 4


@pytest.mark.slow
def test_a_limit_is_told_and_costs_no_exit_code(tmp_path: Path) -> None:
    with served() as site:
        code, _, err = call("crawl", make_project(tmp_path / "p", site, limit=2))
        assert code == 0
        assert "stopped by `limit`; raise it" in err


@pytest.mark.slow
def test_ads_without_photos_cost_the_exit_code(tmp_path: Path) -> None:
    with served() as site:
        project = make_project(tmp_path / "p", site)
        site.pages[CARS[0]] = json_ld({"@type": "Car", "brand": "Mazda", "model": "3"})
        code, _, err = call("crawl", project)
        assert code == WARNED
        assert f"1 of 4 ads show no photo, such as {site.url}{CARS[0]}" in err


def test_a_site_without_an_ad_is_an_error(tmp_path: Path) -> None:
    with served() as site:
        project = make_project(tmp_path / "p", site)
        site.pages = {"/": "<p>nothing here</p>"}
        code, _, err = call("crawl", project)
        assert code != 0
        assert "no listing among them" in err


def test_a_crawl_that_is_refused_forgets_nothing_of_the_one_that_runs(tmp_path: Path) -> None:
    with served() as site:
        project = Project.open(make_project(tmp_path / "p", site))
    place = crawl._place(project.settings.sources[0].settings, project.crawl)
    place.mkdir(parents=True)
    page = {"url": "http://x/1", "asked": "http://x/1", "offers": [], "listings": [], "pages": []}
    (place / JOURNAL).write_text(json.dumps(page) + "\n")
    (place / STATE).write_text(json.dumps(CrawlReport(failed={"HTTP 503": ["http://x/2"]}).state()))
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    for again in (True, False):
        with ProjectLock(project.folder), pytest.raises(CatalogError, match="is being built by"):
            crawl_project(project, again=again)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_dry_import_asks_no_site_and_takes_nothing_for_gone(tmp_path: Path) -> None:
    with served() as site:
        folder = make_project(tmp_path / "p", site)
        project = Project.open(folder)
        stats = preview(project)
        assert (stats["listings"], len(site.asked), project.crawl.exists()) == (0, 0, False)
        assert stats["warnings"] == [f"crawl of {site.url}/: not crawled to its end: `carspotter crawl` goes on"]
        crawl_project(project)
        site.asked.clear()
        assert "warnings" not in preview(project)
        place = crawl._place(project.settings.sources[0].settings, project.crawl)
        for name in (JOURNAL, STATE):
            (place / name).unlink()
        assert preview(project)["ads"] == {"changed": 0, "new": 0, "gone": 0}
        assert not site.asked
