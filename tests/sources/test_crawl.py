"""Crawls of a served site: what is found, what is never asked for, and that a killed crawl goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from waiting import until

pytest.importorskip("scrapy")
sys.path.insert(0, str(Path(__file__).parent))
from crawl_site import PAGES, PER_PAGE, Site, served

from carspotter.errors import SourceError
from carspotter.sources import crawl
from carspotter.sources.crawl_settings import JOURNAL, CrawlSettings

N = PAGES * PER_PAGE
CARS = {f"/car/{100000 + 100 * page + k}" for page in range(1, PAGES + 1) for k in range(PER_PAGE)}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with served(delay_s=0.01) as found:
        yield found


def settings(site: Site, path: str = "/search", **more: object) -> CrawlSettings:
    return CrawlSettings(start=(site.url + path,), contact="tests@example.com", **{"delay_s": 0.0, **more})  # type: ignore[arg-type]


def test_a_crawl_finds_every_listing_and_stays_polite(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    heard: list[tuple[int, int]] = []
    ads = list(crawl.read(settings(site, per_host=2), tmp_path, progress=lambda *pair: heard.append(pair)))
    assert {ad.listing["ad_id"] for ad in ads} == {path.removeprefix("/car/") for path in CARS}
    ad = next(ad for ad in ads if ad.listing["ad_id"] == "100102")
    words = {name: ad.listing[name] for name in ("make", "model", "year", "body", "price", "currency", "url")}
    assert words == {
        "make": "BMW", "model": "3 Series", "year": 2012, "body": "Estate", "price": 9000.0, "currency": "EUR",
        "url": f"{site.url}/car/100102",
    }  # fmt: skip
    # Relative addresses are made whole, and a local file that a site names is not taken.
    assert [photo["url"] for photo in ad.photos] == [f"{site.url}/img/100102-{k}.jpg" for k in (1, 2)]
    assert heard[-1] == (N, 1000)
    # A page that failed once was asked again; no other was; nothing that is forbidden, no file, no photo.
    asked = {path: count for path, count in site.asked.items() if path != "/robots.txt"}
    assert asked.pop("/car/100101") == 2
    assert set(asked.values()) == {1}
    assert not [path for path in asked if path.startswith(("/private", "/img", "/a.pdf"))]
    assert site.most_at_once <= 2
    assert all(agent.startswith("carspotter/") and "tests@example.com" in agent for agent in site.agents)
    # Done is done: the journal is read, the site is not asked.
    before = site.asked.copy()
    assert len(list(crawl.read(settings(site, per_host=2), tmp_path))) == N
    assert site.asked == before


def test_a_dry_run_asks_for_start_pages_alone(site: Site) -> None:
    site.asked.clear()
    rows = crawl.plan(settings(site, listings=r"/car/\d+", follow="page="))
    assert set(site.asked) == {"/robots.txt", "/search"}
    kinds = {row["url"].removeprefix(site.url): (row["verdict"], row["kind"]) for row in rows}
    assert kinds["/search"] == ("read", "page")
    assert kinds["/car/100100"] == ("fetch", "listing")
    assert kinds["/search?page=2"] == ("fetch", "page")
    assert not [path for path in kinds if "private" in path or "other.example" in path]
    rows = crawl.plan(settings(site))
    verdicts = {row["url"].removeprefix(site.url): row["verdict"] for row in rows}
    assert verdicts["/private/1"] == "refused"


@pytest.mark.slow
def test_a_limit_ends_a_crawl(site: Site, tmp_path: Path) -> None:
    assert len(list(crawl.read(settings(site, limit=5), tmp_path))) == 5


def test_a_trap_without_end_is_left(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    with pytest.raises(SourceError, match="12 pages, but no listing among them"):
        list(crawl.read(settings(site, "/calendar/1", max_pages=12), tmp_path))
    assert sum(count for path, count in site.asked.items() if path.startswith("/calendar")) <= 12 + 4


@pytest.mark.slow
def test_depth_bounds_a_crawl(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    with pytest.raises(SourceError):
        list(crawl.read(settings(site, "/calendar/1", depth=2), tmp_path))
    assert {path for path in site.asked if path.startswith("/calendar")} == {f"/calendar/{n}" for n in range(1, 6)}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("/nothing", r"no start page could be read \(1 HTTP 404\)", marks=pytest.mark.slow),
        pytest.param("/empty", "1 pages, but no listing among them", marks=pytest.mark.slow),
        ("/private/1", "robots.txt forbids it"),
    ],
)
def test_nothing_found_says_why(site: Site, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(crawl.read(settings(site, path), tmp_path))


@pytest.mark.slow
def test_a_site_that_does_not_answer_is_told(tmp_path: Path) -> None:
    closed = CrawlSettings(start=("http://127.0.0.1:9/",), contact="tests@example.com", delay_s=0.0)
    with pytest.raises(SourceError, match="no start page could be read"):
        list(crawl.read(closed, tmp_path))


def test_without_a_contact_nothing_is_asked(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    with pytest.raises(SourceError, match="contact is empty"):
        list(crawl.read(CrawlSettings(start=(site.url,), contact=" "), tmp_path))
    assert not site.asked


PROGRAM = """
import sys
from carspotter.sources import crawl
from carspotter.sources.crawl_settings import CrawlSettings
if __name__ == "__main__":
    settings = CrawlSettings(start=(sys.argv[1],), contact="tests@example.com", delay_s=0.0, per_host=1)
    list(crawl.read(settings, sys.argv[2]))
"""


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who lives")
def test_a_killed_crawl_goes_on(tmp_path: Path) -> None:
    with served(delay_s=0.08) as site:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        folder = tmp_path / "crawl"
        process = subprocess.Popen([sys.executable, str(program), f"{site.url}/search", str(folder)])

        def lines() -> int:
            return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"*/{JOURNAL}"))

        until(lambda: lines() >= 5, "the crawl writes")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not any(_lives(pid) for pid in children), "the crawling process notices that its parent is gone")
        journal = next(folder.glob(f"*/{JOURNAL}"))
        done = {json.loads(line)["asked"].removeprefix(site.url) for line in journal.read_text().splitlines()}
        assert 5 <= len(done) < N + PAGES
        with journal.open("a") as file:
            file.write('{"url": "torn')
        site.asked.clear()
        site.delay_s = 0.0
        start = CrawlSettings(start=(f"{site.url}/search",), contact="tests@example.com", delay_s=0.0, per_host=1)
        ads = list(crawl.read(start, folder))
        assert len(ads) == len({ad.listing["ad_id"] for ad in ads}) == N
        assert not done & {path for path in site.asked if path != "/robots.txt"}


def test_again_asks_anew_and_keeps_the_journal(site: Site, tmp_path: Path) -> None:
    asked = settings(site)
    place = crawl._place(asked, tmp_path)
    place.mkdir(parents=True)
    (place / JOURNAL).write_text("")
    (place / crawl.REPORT).write_text("{}")
    crawl.forget(asked, tmp_path)
    assert [path.name[:6] for path in place.iterdir()] == ["pages-"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("start", (), "start is empty"),
        ("start", ("ftp://x/",), "is no http"),
        ("listings", "(", "listings is no regular expression"),
        ("site", "autoscout", "did you mean 'autoscout24'"),
        ("limit", 0, "limit is 0; it must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrawlSettings(**{"start": ("http://x/",), "contact": "x", name: value})  # type: ignore[arg-type]
