"""Listings from a site: start pages in, ads out, fetched politely by Scrapy in a process of its own.

Every page that was read stands in a journal, `pages.jsonl`, with what it offers and links to: a crawl that is killed
goes on from it and neither loses nor repeats a page. A crawl that is done is read from the journal alone; one of which
pages failed, or whose limit was raised, is not done. Photos are not fetched here; their addresses are part of the ads.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from carspotter.errors import MissingExtraError, SourceError
from carspotter.sources.crawl.ads import ads_of
from carspotter.sources.crawl.journal import JOURNAL, STATE, former, read_pages, read_state, set_aside, write_state
from carspotter.sources.crawl.report import ROBOTS, CrawlReport, reasons
from carspotter.sources.crawl.settings import CrawlSettings
from carspotter.sources.listing import Ad

_LOOK_EVERY_S = 0.2

Progress = Callable[[int, int], None]


def read(settings: CrawlSettings, folder: str | Path, *, progress: Progress | None = None) -> Iterator[Ad]:
    """Crawl what is not crawled yet, and yield an ad for each listing found; raises SourceError, MissingExtraError.

    `report` lists pages that failed and ads without photos.
    """
    found = report(settings, folder)
    if found is None or not found.is_done(settings):
        crawl(settings, folder, progress=progress)
    yield from read_journal(settings, folder)


def read_journal(settings: CrawlSettings, folder: str | Path) -> Iterator[Ad]:
    """Yield an ad for each listing that a crawl has found so far; nothing is asked, and nothing written."""
    yield from ads_of(_pages(_place(settings, Path(folder))), source=settings.name)


def crawl(settings: CrawlSettings, folder: str | Path, *, progress: Progress | None = None) -> CrawlReport:
    """Crawl a site, or go on with a crawl that is not done; returns what it did in all.

    `progress` hears listings found, and 0, since nobody knows of how many. Raises SourceError where nothing could be
    found, and says why.
    """
    _check_contact(settings)
    place = _place(settings, Path(folder))
    place.mkdir(parents=True, exist_ok=True)
    (place / STATE).unlink(missing_ok=True)
    outcome = _run(settings, place, dry=False, progress=progress)
    found = CrawlReport.of(list(read_pages(place / JOURNAL)), outcome, settings)
    write_state(place, found.state())
    if not any(page["offers"] for page in _pages(place)):
        (place / STATE).unlink(missing_ok=True)
        raise SourceError(_nothing(settings, found))
    return found


def report(settings: CrawlSettings, folder: str | Path) -> CrawlReport | None:
    """Return what a crawl did in all, or None where it is not at an end."""
    return CrawlReport.from_state(read_state(_place(settings, Path(folder))))


def ask_again(settings: CrawlSettings, folder: str | Path) -> None:
    """Make the next crawl ask again for all pages that it could not read, gone and forbidden ones among them."""
    found = report(settings, folder)
    if found is not None and found.failed:
        (_place(settings, Path(folder)) / STATE).unlink(missing_ok=True)


def forget(settings: CrawlSettings, folder: str | Path) -> None:
    """Make the next crawl start over: its pages are asked again, and what they said before counts until they answer."""
    place = _place(settings, Path(folder))
    set_aside(place, _pages(place))


def _pages(place: Path) -> list[dict[str, Any]]:
    """Return the pages of a crawl; while pages of a repeated crawl are missing, what they said the last time."""
    pages = list(read_pages(place / JOURNAL))
    found, before = CrawlReport.from_state(read_state(place)), former(place)
    if before is None or (found is not None and not found.to_ask):
        return pages
    known = {url for page in pages for url in (page["url"], page["asked"])} | (found.answered_no if found else set())
    return pages + [page for page in read_pages(before) if not {page["url"], page["asked"]} & known]


def plan(settings: CrawlSettings) -> list[dict[str, str]]:
    """Fetch the start pages alone and say what a crawl would go on with: rows of verdict, kind and url.

    A verdict is "read" (a start page), "fetch" or "refused" (by robots.txt); a kind "page", "listing" or "photo".
    """
    _check_contact(settings)
    with TemporaryDirectory(prefix="carspotter-crawl-") as folder:
        outcome = _run(settings, Path(folder), dry=True, progress=None)
        records = list(read_pages(Path(folder) / JOURNAL))
        if not records:
            raise SourceError(_nothing(settings, CrawlReport.of(records, outcome, settings)))
    rows = [{"verdict": "read", "kind": "page", "url": record["url"]} for record in records]
    verdicts = outcome.get("verdicts", {})
    for record in records:
        for kind, urls in (("listing", record["listings"]), ("page", record["pages"])):
            rows += [{"verdict": verdicts.get(url, "fetch"), "kind": kind, "url": url} for url in urls]
        photos = [photo for offer in record["offers"] for photo in offer["photos"]]
        rows += [{"verdict": verdicts.get(url, "fetch"), "kind": "photo", "url": url} for url in photos]
    return list({row["url"]: row for row in rows}.values())


def _check_contact(settings: CrawlSettings) -> None:
    if not settings.contact.strip():
        raise SourceError(
            f"crawl of {settings.start[0]}: contact is empty; under [[sources]] in carspotter.toml set it to your "
            'e-mail address or web page, which sites are told: contact = "crawler@your-company.example"'
        )


def _place(settings: CrawlSettings, folder: Path) -> Path:
    """Return the folder of one crawl: other start pages or rules are another crawl, another limit or pace is not."""
    rules = (settings.start, settings.hosts, settings.listings, settings.follow, settings.site)
    return folder / blake2b(json.dumps(rules).encode(), digest_size=6).hexdigest()


def _run(settings: CrawlSettings, place: Path, *, dry: bool, progress: Progress | None) -> dict[str, Any]:
    """Crawl in a process of its own: Twisted's reactor runs once in a process."""
    try:
        from carspotter.sources.crawl.spider import crawl_here
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
                    progress(min(message["found"], settings.limit), 0)
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


def _nothing(settings: CrawlSettings, found: CrawlReport) -> str:
    start = settings.start[0]
    if not found.pages:
        if set(found.failed) == {ROBOTS}:
            return f"crawl of {start}: robots.txt forbids it; ask the site's owner, or take another source"
        why = ", ".join(f"{len(urls)} {reason}" for reason, urls in found.failed.items())
        return f"crawl of {start}: no start page could be read ({why or 'no answer'}); check the address"
    said = [f"{len(urls)} with {note}" for note, urls in found.notes.items()]
    if found.failed:
        said.append(f"not read: {reasons(found.failed)}")
    return (
        f"crawl of {start}: {found.pages} pages, but no listing among them"
        f"{' (' + '; '.join(said) + ')' if said else ''}: none says schema.org's Car, Vehicle or Product, or Open "
        "Graph's product; set `listings` to the pattern of their addresses, or look at one page's source"
    )
