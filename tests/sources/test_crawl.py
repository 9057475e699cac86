"""Crawls of a served site: what is found, what is never asked for, and that a killed crawl goes on."""

import errno
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
from crawl_site import PAGES, PER_PAGE, Site, json_ld, served

from carspotter.errors import SourceError
from carspotter.sources.crawl import source as crawl
from carspotter.sources.crawl.journal import JOURNAL, STATE, Journal, read_pages
from carspotter.sources.crawl.report import CrawlReport
from carspotter.sources.crawl.settings import CrawlSettings
from carspotter.sources.listing import Ad

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
    assert {ad.listing["url"].removeprefix(site.url) for ad in ads} == CARS
    assert len({ad.listing["ad_id"] for ad in ads}) == N
    ad = next(ad for ad in ads if ad.listing["ad_id"].startswith("100102-"))
    words = {name: ad.listing[name] for name in ("make", "model", "year", "body", "price", "currency", "url")}
    assert words == {
        "make": "BMW",
        "model": "3 Series",
        "year": 2012,
        "body": "Estate",
        "price": 9000.0,
        "currency": "EUR",
        "url": f"{site.url}/car/100102",
    }
    # Relative addresses are made whole, and a local file that a site names is not taken.
    assert [photo["url"] for photo in ad.photos] == [f"{site.url}/img/100102-{k}.jpg" for k in (1, 2)]
    assert heard[-1] == (N, 0)  # of how many listings, nobody knows
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


def test_the_slowest_host_that_is_named_sets_the_pace() -> None:
    from protego import Protego

    from carspotter.sources.crawl.spider import _delay_s, _origins

    told = CrawlSettings(start=("https://a.b/x", "http://a.b:1/"), hosts=("a.b", "c.d"), contact="tests@example.com")
    assert _origins(told) == ["https://a.b", "http://a.b:1", "https://c.d"]
    slow = Protego.parse("User-agent: *\nCrawl-delay: 7\n")
    assert _delay_s(told, {"https://a.b": None, "https://c.d": slow}) == 7.0
    assert _delay_s(told, {"https://a.b": Protego.parse("")}) == told.delay_s


def test_addresses_beyond_the_depth_are_told(site: Site) -> None:
    page = {"url": "x/2", "asked": "x/1", "offers": [], "listings": ["x/2", "x/3", "x/gone"], "pages": ["x/4"]}
    failed = {"failed": {"HTTP 404": ["x/gone"]}}
    for depth, remarks in ((1, []), (0, ["2 addresses lie beyond `depth`; raise it and run it again to go on"])):
        told = CrawlReport.of([{**page, "depth": 0}], failed, settings(site, depth=depth))
        assert told.remarks()[1:] == remarks


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


def test_a_redirect_leads_to_no_page_that_robots_txt_forbids(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    site.moved["/led"] = "/private/1"
    site.pages["/private/1"] = "a page"
    with pytest.raises(SourceError, match=r"robots\.txt forbids it"):
        list(crawl.read(settings(site, "/led"), tmp_path))
    assert set(site.asked) == {"/robots.txt", "/led"}


@pytest.mark.slow
def test_a_site_that_does_not_answer_is_told(tmp_path: Path) -> None:
    closed = CrawlSettings(start=("http://127.0.0.1:9/",), contact="tests@example.com", delay_s=0.0)
    with pytest.raises(SourceError, match="no start page could be read"):
        list(crawl.read(closed, tmp_path))


def test_without_a_contact_nothing_is_asked(site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    with pytest.raises(SourceError, match=r"contact is empty; under \[\[sources\]\] in carspotter.toml"):
        list(crawl.read(CrawlSettings(start=(site.url,), contact=" "), tmp_path))
    assert not site.asked


PROGRAM = """
import sys
from carspotter.sources.crawl import source as crawl
from carspotter.sources.listing import Ad
from carspotter.sources.crawl.settings import CrawlSettings
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
    with served() as site:
        site.held_from = 10
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
        site.go.set()
        until(lambda: not any(_lives(pid) for pid in children), "the crawling process notices that its parent is gone")
        journal = next(folder.glob(f"*/{JOURNAL}"))
        done = {json.loads(line)["asked"].removeprefix(site.url) for line in journal.read_text().split("\n")[:-1]}
        assert 5 <= len(done) < N + PAGES
        with journal.open("a") as file:
            file.write('{"url": "torn')
        site.asked.clear()
        start = CrawlSettings(start=(f"{site.url}/search",), contact="tests@example.com", delay_s=0.0, per_host=1)
        ads = list(crawl.read(start, folder))
        assert len(ads) == len({ad.listing["ad_id"] for ad in ads}) == N
        assert not done & {path for path in site.asked if path != "/robots.txt"}


def small(site: Site, path: str, **more: object) -> CrawlSettings:
    """Make a site of six cars below a path, and settings to crawl it."""
    site.pages = {f"{path}/car/{n}": car_page(n) for n in range(6)}
    site.pages[path] = "".join(f'<a href="{car}">car</a>' for car in list(site.pages))
    site.statuses.clear()
    site.asked.clear()
    return settings(site, path, **more)


def car_page(number: int) -> str:
    return json_ld({"@type": "Car", "brand": "Audi", "model": "A4", "image": f"/img/{number}.jpg"})


def urls(site: Site, ads: list[Ad]) -> set[str]:
    return {ad.listing["url"].removeprefix(site.url) for ad in ads}


def asked_again(site: Site) -> set[str]:
    return {path for path in site.asked if path != "/robots.txt"}


def test_pages_that_failed_are_asked_again_alone_and_those_that_are_gone_when_a_person_says_so(
    site: Site, tmp_path: Path
) -> None:
    plain = small(site, "/down")
    site.statuses = {"/down/car/5": 404, **{f"/down/car/{n}": 503 for n in (2, 3, 4)}}
    assert len(list(crawl.read(plain, tmp_path))) == 2
    told = crawl.report(plain, tmp_path)
    assert told is not None
    assert f"3 of 6 pages could not be read (3 HTTP 503, such as {site.url}/down/car/" in " ".join(told.problems())
    site.asked.clear()
    del site.statuses["/down/car/2"]
    assert len(list(crawl.read(plain, tmp_path))) == 3
    assert asked_again(site) == {f"/down/car/{n}" for n in (2, 3, 4, 5)}  # while others are asked, so is a gone one
    site.asked.clear()
    site.statuses = {"/down/car/5": 404}
    assert urls(site, list(crawl.read(plain, tmp_path))) == {f"/down/car/{n}" for n in range(5)}
    assert asked_again(site) == {f"/down/car/{n}" for n in (3, 4, 5)}
    site.asked.clear()
    site.statuses.clear()
    assert len(list(crawl.read(plain, tmp_path))) == 5
    assert not site.asked
    crawl.ask_again(plain, tmp_path)
    assert len(list(crawl.read(plain, tmp_path))) == 6
    assert asked_again(site) == {"/down/car/5"}


@pytest.mark.parametrize(
    ("name", "few", "first"),
    [("limit", 2, 2), pytest.param("max_pages", 4, 3, marks=pytest.mark.slow), ("depth", 0, 0)],
)
def test_a_bound_that_was_raised_lets_a_crawl_go_on(
    site: Site, tmp_path: Path, name: str, few: int, first: int
) -> None:
    bounded = small(site, "/bound", **{name: few})
    if first:
        assert len(list(crawl.read(bounded, tmp_path))) == first
        site.asked.clear()
        assert len(list(crawl.read(bounded, tmp_path))) == first
        assert not site.asked
    else:
        with pytest.raises(SourceError, match="no listing"):
            list(crawl.read(bounded, tmp_path))
        assert asked_again(site) == {"/bound"}
    done = {page["asked"].removeprefix(site.url) for page in read_pages(crawl._place(bounded, tmp_path) / JOURNAL)}
    site.asked.clear()
    assert len(list(crawl.read(settings(site, "/bound"), tmp_path))) == 6
    assert not asked_again(site) & done


def test_again_asks_anew_and_counts_what_pages_said_until_they_answer(site: Site, tmp_path: Path) -> None:
    plain = small(site, "/again")
    assert len(list(crawl.read(plain, tmp_path))) == 6
    site.statuses = {"/again/car/0": 503, "/again/car/1": 410}
    site.pages["/again/car/2"] = json_ld({"@type": "Car", "brand": "Audi", "model": "A6", "image": "/img/2.jpg"})
    for _ in range(2):  # a second repetition must not forget what the first had kept
        site.asked.clear()
        crawl.forget(plain, tmp_path)
        ads = list(crawl.read(plain, tmp_path))
        assert asked_again(site) == {"/again", *(f"/again/car/{n}" for n in range(6))}
        assert urls(site, ads) == {f"/again/car/{n}" for n in (0, 2, 3, 4, 5)}
        assert {ad.listing["model"] for ad in ads if ad.listing["url"].endswith("/2")} == {"A6"}
    site.statuses = {"/again/car/0": 404}
    assert urls(site, list(crawl.read(plain, tmp_path))) == {f"/again/car/{n}" for n in (1, 2, 3, 4, 5)}


def test_what_ends_lines_elsewhere_ends_no_line_of_the_journal(site: Site, tmp_path: Path) -> None:
    plain = small(site, "/lines", limit=2)
    ends = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e")
    links = [f'<a href="/lines/car/{n}?q=a&#{ord(end)};b">x</a>' for n, end in enumerate(ends[:3])]
    site.pages["/lines"] = "".join(links) + site.pages["/lines"]
    words = {"brand": "Audi", "model": "A4" + "".join(ends), "image": ["/img/a\u2028b.jpg", "/img/\ud83d.jpg"]}
    site.pages["/lines/car/5"] = json_ld({"@type": "Car", "description": "half \ud83d", **words})
    assert len(list(crawl.read(plain, tmp_path))) == 2
    (crawl._place(plain, tmp_path) / STATE).unlink()  # as if it had been killed
    ads = list(crawl.read(settings(site, "/lines"), tmp_path))
    assert {f"/lines/car/{n}" for n in range(6)} <= urls(site, ads)


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_damaged_line_costs_its_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"url": "http://x/1", "asked": "http://x/1", "offers": [], "listings": [], "pages": []}
    lines = [json.dumps(page), "\0\0", '{"url": 5}', "[]", json.dumps({**page, "url": "http://x/2"}), '{"url": "torn']
    (tmp_path / JOURNAL).write_text("\n".join(lines))
    monkeypatch.setattr(Path, "write_bytes", full)  # the whole lines are not to be written anew
    journal = Journal(tmp_path)
    journal.append({**page, "url": "http://x/3"})
    journal.close()
    assert [page["url"] for page in read_pages(tmp_path / JOURNAL)] == ["http://x/1", "http://x/2", "http://x/3"]


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"failed": 5}', "\xff"])
def test_a_state_that_cannot_be_read_lets_the_crawl_go_on(site: Site, tmp_path: Path, state: str) -> None:
    plain = settings(site)
    place = crawl._place(plain, tmp_path)
    place.mkdir(parents=True)
    (place / STATE).write_text(state, encoding="latin-1")
    assert crawl.report(plain, tmp_path) is None


def test_pages_without_a_photo_or_an_ad_are_told_and_one_that_leads_elsewhere_makes_a_crawl_no_less_done(
    site: Site, tmp_path: Path
) -> None:
    told = small(site, "/lacking", listings="/car/", follow="/moved|/round")
    site.pages["/lacking"] += '<a href="/moved">x</a><a href="/round">x</a>'
    site.moved = {"/moved": "http://other.example/", "/round": "/lacking"}
    lacking = json_ld({"@type": "Car", "brand": "Audi", "model": "A4"})
    site.pages["/lacking/car/3"] = lacking
    site.pages["/lacking/car/4"] = "<title>wait a moment</title>"
    site.pages["/lacking/car/5"] = lacking.replace(":", "=")
    ads = list(crawl.read(told, tmp_path))
    assert [ad.listing["status"] for ad in ads if ad.listing["status"] != "ok"] == ["no-photo"]
    assert urls(site, ads) == {f"/lacking/car/{n}" for n in range(4)}
    report = crawl.report(told, tmp_path)
    assert report is not None
    problems = report.problems()
    for number in (3, 4, 5):
        assert [problem.endswith(f"such as {site.url}/lacking/car/{number}") for problem in problems].count(True) == 1
    assert {reason: [url.removeprefix(site.url) for url in urls] for reason, urls in report.failed.items()} == {
        "leads to a host that is not among `hosts`": ["/moved"],
        "leads to a page that was asked already": ["/round"],
    }
    assert not report.to_ask
    site.asked.clear()
    assert len(list(crawl.read(told, tmp_path))) == 4
    assert not site.asked


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
