"""Listings from a site: start pages in, ads out, fetched politely by Scrapy in a process of its own.

Every page that was read stands in a journal, `pages.jsonl`, with what it offers and links to: a crawl that is killed
goes on from it and neither loses nor repeats a page. A crawl that is done is read from the journal alone. Photos are
not fetched here; their addresses are part of the ads.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from carspotter.errors import MissingExtraError, SourceError
from carspotter.sources.ad import Ad, listing_row, photo_row
from carspotter.sources.crawl_settings import JOURNAL, CrawlSettings

REPORT = "done.json"
_LOOK_EVERY_S = 0.2
_DIGITS = re.compile(r"\d{5,}")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlReport:
    """Say what a crawl did; `failed` maps a reason to pages."""

    pages: int = 0
    listings: int = 0
    photos: int = 0
    refused_by_robots: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)


def read(settings: CrawlSettings, folder: str | Path, *, progress: Progress | None = None) -> Iterator[Ad]:
    """Crawl what is not crawled yet, and yield an ad for each listing found; raises SourceError, MissingExtraError."""
    place = _place(settings, Path(folder))
    if not (place / REPORT).exists():
        crawl(settings, folder, progress=progress)
    yield from _ads(settings, place)


def crawl(settings: CrawlSettings, folder: str | Path, *, progress: Progress | None = None) -> CrawlReport:
    """Crawl a site, or go on with a crawl that was killed; returns what it did in all.

    `progress` hears listings found and the limit. Raises SourceError where nothing could be found, and says why.
    """
    _check_contact(settings)
    place = _place(settings, Path(folder))
    place.mkdir(parents=True, exist_ok=True)
    outcome = _run(settings, place, dry=False, progress=progress)
    records = _records(place)
    report = _report(records, outcome)
    if not report.listings:
        raise SourceError(_nothing(settings, report))
    (place / REPORT).write_text(json.dumps(asdict(report)) + "\n", encoding="utf-8")
    return report


def forget(settings: CrawlSettings, folder: str | Path) -> None:
    """Let a finished crawl be crawled anew: its pages are asked again, what they said before stays with the project."""
    place = _place(settings, Path(folder))
    (place / REPORT).unlink(missing_ok=True)
    if (place / JOURNAL).exists():
        (place / JOURNAL).replace(place / f"pages-{time.strftime('%Y%m%dT%H%M%S')}.jsonl")


def plan(settings: CrawlSettings) -> list[dict[str, str]]:
    """Fetch the start pages alone and say what a crawl would go on with: rows of verdict, kind and url.

    A verdict is "read" (a start page), "fetch" or "refused" (by robots.txt); a kind "page", "listing" or "photo".
    """
    _check_contact(settings)
    with TemporaryDirectory(prefix="carspotter-crawl-") as folder:
        place = Path(folder)
        outcome = _run(settings, place, dry=True, progress=None)
        records = _records(place)
        if not records:
            raise SourceError(_nothing(settings, _report(records, outcome)))
    rows = [{"verdict": "read", "kind": "page", "url": record["url"]} for record in records]
    verdicts = outcome.get("verdicts", {})
    for record in records:
        for kind, urls in (("listing", record["listings"]), ("page", record["pages"])):
            rows += [{"verdict": verdicts.get(url, "fetch"), "kind": kind, "url": url} for url in urls]
        photos = [photo for offer in record["offers"] for photo in offer["photos"]]
        rows += [{"verdict": "fetch", "kind": "photo", "url": url} for url in photos]
    return list({row["url"]: row for row in rows}.values())


def _check_contact(settings: CrawlSettings) -> None:
    if not settings.contact.strip():
        raise SourceError("crawl: contact is empty; set your e-mail address or web page, which sites are told")


def _place(settings: CrawlSettings, folder: Path) -> Path:
    """Return the folder of one crawl: other start pages or rules are another crawl, another limit or pace is not."""
    rules = (settings.start, settings.hosts, settings.listings, settings.follow, settings.site)
    return folder / blake2b(json.dumps(rules).encode(), digest_size=6).hexdigest()


def _run(settings: CrawlSettings, place: Path, *, dry: bool, progress: Progress | None) -> dict[str, Any]:
    """Let a process of its own crawl: Twisted's reactor runs once in a process."""
    try:
        from carspotter.sources.crawl_spider import crawl_here
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "scrapy").split(".")[0], "crawl") from error
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=crawl_here, args=(settings, str(place), dry, theirs), daemon=True)
    process.start()
    theirs.close()
    outcome: dict[str, Any] | None = None
    try:
        while outcome is None:
            if ours.poll(_LOOK_EVERY_S):
                message = ours.recv()
                if "found" in message and progress is not None:
                    progress(min(message["found"], settings.limit), settings.limit)
                outcome = message.get("outcome")
    except EOFError as error:
        process.join()
        raise SourceError(f"the crawl ended with exit code {process.exitcode}; run it again, it goes on") from error
    finally:
        ours.close()
        process.join(_LOOK_EVERY_S)
        if process.is_alive():
            process.terminate()
            process.join()
    return outcome


def _records(place: Path) -> list[dict[str, Any]]:
    """Return the pages of the journal; a last line that a kill has cut is left out."""
    try:
        lines = (place / JOURNAL).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def _report(records: list[dict[str, Any]], outcome: Mapping[str, Any]) -> CrawlReport:
    failed = Counter(outcome.get("failed", {}))
    refused = failed.pop("robots.txt", 0)
    offers = [offer for record in records for offer in record["offers"]]
    return CrawlReport(
        pages=len(records), listings=len(offers), photos=sum(len(offer["photos"]) for offer in offers),
        refused_by_robots=refused, failed=dict(failed.most_common()),
    )  # fmt: skip


def _nothing(settings: CrawlSettings, report: CrawlReport) -> str:
    start = settings.start[0]
    if not report.pages:
        why = ", ".join(f"{count} {reason}" for reason, count in report.failed.items())
        if report.refused_by_robots:
            return f"crawl of {start}: robots.txt forbids it; ask the site's owner, or take another source"
        return f"crawl of {start}: no start page could be read ({why or 'no answer'}); check the address"
    return (
        f"crawl of {start}: {report.pages} pages, but no listing among them: none says schema.org's Car, Vehicle or "
        "Product; set `listings` to the pattern of their addresses, or look at one page's source"
    )


def _ads(settings: CrawlSettings, place: Path) -> Iterator[Ad]:
    seen: set[str] = set()
    for record in _records(place):
        for offer in record["offers"]:
            ad_id = offer["ad_id"] or _id_of(record["url"])
            if ad_id in seen:
                continue
            seen.add(ad_id)
            photos = tuple(photo_row(ad_id, url, number) for number, url in enumerate(offer["photos"]))
            yield Ad(listing_row(ad_id=ad_id, source=settings.name, **offer["words"]), photos)


def _id_of(url: str) -> str:
    """Name an ad by the longest number in its address, which sites count their listings with, or by the address."""
    numbers = sorted(_DIGITS.findall(urlsplit(url).path), key=len)
    return numbers[-1] if numbers else blake2b(url.encode(), digest_size=6).hexdigest()
