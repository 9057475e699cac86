"""The crawl itself, in a process of its own: Scrapy asks, `crawl_sites` reads, the journal keeps.

The door of Scrapy and Twisted. robots.txt is obeyed with its crawl-delay, each host has few requests at once, and the
pace follows the site's answers (AutoThrottle).
"""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import scrapy
from protego import Protego
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.http import Response, TextResponse

from carspotter import web
from carspotter.sources.crawl_pages import Page
from carspotter.sources.crawl_settings import JOURNAL, CrawlSettings
from carspotter.sources.crawl_sites import Found, candidates, read_page

_MAX_PAGE_BYTES = 8 << 20
_MAX_ROBOTS_BYTES = 512 << 10  # as much as RFC 9309 asks crawlers to read
_LISTING_FIRST = 10
# Scrapy 2.19 holds to the number of requests at once only where there is some delay between them.
_LEAST_DELAY_S = 0.001
# What is no page, whoever links to it.
_FILES = re.compile(r"\.(?:jpe?g|png|webp|gif|svg|css|js|pdf|zip|mp4|xml|ico|woff2?)(?:$|\?)", re.IGNORECASE)


def user_agent(settings: CrawlSettings) -> str:
    """Name who crawls, with a contact."""
    return web.user_agent(settings.contact)


def crawl_here(settings: CrawlSettings, folder: str, dry: bool, pipe: Connection) -> None:
    """Crawl in this process, which ends with it; tells `pipe` how many listings were found, and at last the outcome."""
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    robots = {origin: _robots(origin, settings) for origin in dict.fromkeys(_origin(url) for url in settings.start)}
    delays = [rules.crawl_delay(user_agent(settings)) or 0 for rules in robots.values() if rules is not None]
    process = CrawlerProcess(_scrapy_settings(settings, max([settings.delay_s, _LEAST_DELAY_S, *map(float, delays)])))
    state: dict[str, Any] = {"failed": Counter(), "verdicts": {}}
    process.crawl(ListingSpider, rules=settings, place=Path(folder), dry=dry, pipe=pipe, state=state, robots=robots)
    process.start()
    pipe.send({"outcome": {"failed": dict(state["failed"]), "verdicts": state["verdicts"]}})


def _end_with_parent(pipe: Connection) -> None:
    """End this process when the parent is gone: nobody would stop the crawl any more."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)


def _scrapy_settings(settings: CrawlSettings, delay_s: float) -> dict[str, Any]:
    return {
        "USER_AGENT": user_agent(settings), "ROBOTSTXT_OBEY": True, "ROBOTSTXT_USER_AGENT": user_agent(settings),
        "AUTOTHROTTLE_ENABLED": settings.delay_s > 0, "AUTOTHROTTLE_START_DELAY": delay_s, "DOWNLOAD_DELAY": delay_s,
        "AUTOTHROTTLE_TARGET_CONCURRENCY": float(settings.per_host), "RANDOMIZE_DOWNLOAD_DELAY": delay_s > 0,
        "CONCURRENT_REQUESTS_PER_DOMAIN": settings.per_host, "DOWNLOAD_TIMEOUT": settings.timeout_s,
        "DOWNLOAD_MAXSIZE": _MAX_PAGE_BYTES, "DOWNLOAD_WARNSIZE": 0, "COOKIES_ENABLED": False, "RETRY_TIMES": 3,
        "RETRY_HTTP_CODES": [429, 500, 502, 503, 504, 522, 524, 408], "TELNETCONSOLE_ENABLED": False,
        "LOG_ENABLED": False, "DEPTH_LIMIT": settings.depth, "REFERER_ENABLED": False,
    }  # fmt: skip


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _robots(origin: str, settings: CrawlSettings) -> Protego | None:
    """Read a host's robots.txt for its crawl-delay and for dry runs; Scrapy reads it for itself once more."""
    request = urllib.request.Request(f"{origin}/robots.txt", headers={"User-Agent": user_agent(settings)})
    try:
        with urllib.request.urlopen(request, timeout=settings.timeout_s) as answer:
            return Protego.parse(answer.read(_MAX_ROBOTS_BYTES).decode(errors="replace"))
    except (OSError, ValueError):
        return None  # none, or not to be had: the start page will say more


class ListingSpider(scrapy.Spider):
    """Read pages, write each into the journal, and follow what leads to listings."""

    name = "listings"

    def __init__(  # what Scrapy hands on from `process.crawl`
        self,
        *,
        rules: CrawlSettings,
        place: Path,
        dry: bool,
        pipe: Connection,
        state: dict[str, Any],
        robots: dict[str, Protego | None],
        **kwargs: Any,
    ) -> None:
        """Open the journal and take up what a killed crawl had read."""
        super().__init__(**kwargs)
        self.allowed_domains = list(rules.allowed_hosts)
        self._rules, self._dry, self._pipe, self._outcome, self._robots_of = rules, dry, pipe, state, robots
        self._visited: set[str] = set()
        self._frontier: dict[str, bool] = {}  # address → whether it is a listing
        self._n_pages = self._n_offers = 0
        path = place / JOURNAL
        if path.exists():
            _drop_cut_line(path)
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take_up(json.loads(line))
        self._journal = path.open("a", encoding="utf-8")

    def _take_up(self, record: dict[str, Any]) -> None:
        self._visited.update((record["url"], record["asked"]))
        self._n_pages += 1
        self._n_offers += len(record["offers"])
        self._frontier |= dict.fromkeys(record["pages"], False) | dict.fromkeys(record["listings"], True)

    async def start(self) -> AsyncIterator[Any]:
        """Ask for the start pages, and for what was found but not read."""
        for url in self._rules.start:
            if url not in self._visited:
                yield self._request(url, is_listing=False)
        for url, is_listing in list(self._frontier.items()):
            if url not in self._visited:
                yield self._request(url, is_listing=is_listing)

    def _request(self, url: str, *, is_listing: bool) -> scrapy.Request:
        return scrapy.Request(
            url, callback=self.parse, errback=self.failed, priority=_LISTING_FIRST if is_listing else 0,
            cb_kwargs={"asked": url},
        )  # fmt: skip

    def parse(self, response: Response, asked: str = "", **_: Any) -> Iterator[scrapy.Request]:
        """Read one page, keep what it says, and go on with its links."""
        if self._n_offers >= self._rules.limit or self._n_pages >= self._rules.max_pages:
            raise CloseSpider("enough")
        if not isinstance(response, TextResponse):
            self._outcome["failed"]["no page of text"] += 1
            return
        page = Page(url=response.url, text=response.text)
        found = read_page(page, site=self._rules.site)
        listings, pages = self._links(page, found)
        self._keep(page, asked, found, listings=listings, pages=pages)
        if self._dry:
            self._outcome["verdicts"] |= {url: self._verdict(url) for url in (*listings, *pages)}
            return
        for url in (*listings, *pages):
            if url not in self._visited:
                yield self._request(url, is_listing=url in listings)

    def _links(self, page: Page, found: Found) -> tuple[list[str], list[str]]:
        """Return the listings and the further pages that a page links to."""
        rules = self._rules
        listings, pages = list(found.listings), list(found.pages or ())
        if found.pages is None:
            others = [url for url in candidates(page) if not _FILES.search(url) and self._is_ours(url)]
            listings += [url for url in others if rules.listings and re.search(rules.listings, url)]
            wanted = rules.follow or ("" if not rules.listings else r"(?!)")
            pages += [url for url in others if url not in listings and re.search(wanted, url)]
        return list(dict.fromkeys(listings)), list(dict.fromkeys(pages))

    def _is_ours(self, url: str) -> bool:
        host = urlsplit(url).hostname or ""
        return any(host == allowed or host.endswith(f".{allowed}") for allowed in self._rules.allowed_hosts)

    def _keep(self, page: Page, asked: str, found: Found, *, listings: list[str], pages: list[str]) -> None:
        """Write a page into the journal, safe from a power cut, before anything else is asked."""
        offers = [{"ad_id": o.ad_id, "words": dict(o.words), "photos": list(o.photos)} for o in found.offers]
        offers = offers[: self._rules.limit - self._n_offers]
        record = {"url": page.url, "asked": asked, "offers": offers, "listings": listings, "pages": pages}
        self._journal.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._visited.update((page.url, asked))
        self._n_pages += 1
        self._n_offers += len(offers)
        self._pipe.send({"found": self._n_offers})

    def _verdict(self, url: str) -> str:
        rules = self._robots_of.get(_origin(url))
        return "fetch" if rules is None or rules.can_fetch(url, user_agent(self._rules)) else "refused"

    def failed(self, failure: Any) -> None:
        """Count why a page could not be read; it is asked again when the crawl is run again."""
        error = failure.value
        if isinstance(error, IgnoreRequest) and "robots.txt" in str(error):
            reason = "robots.txt"
        else:
            status = getattr(getattr(error, "response", None), "status", None)
            reason = f"HTTP {status}" if status else type(error).__name__
        self._outcome["failed"][reason] += 1

    def closed(self, _reason: str) -> None:
        """Close the journal."""
        self._journal.close()


def _drop_cut_line(path: Path) -> None:
    """Cut off a last line without its end: a kill has torn it, and the page will be read again."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])
