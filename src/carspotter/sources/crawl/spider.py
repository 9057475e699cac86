"""The crawl itself, in a process of its own: Scrapy asks, `crawl.sites` reads, the journal keeps.

The door of Scrapy and Twisted. robots.txt is obeyed with its crawl-delay, each host has few requests at once, and the
pace follows the site's answers (AutoThrottle).
"""

from __future__ import annotations

import http.client
import math
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import scrapy
from protego import Protego
from scrapy import signals
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.http import Response, TextResponse

from carspotter.compute.workers import end_with_parent
from carspotter.sources.crawl.journal import JOURNAL, Journal, read_pages
from carspotter.sources.crawl.pages import Page, links
from carspotter.sources.crawl.report import ELSEWHERE, KNOWN, NO_TEXT, ROBOTS
from carspotter.sources.crawl.settings import CrawlSettings
from carspotter.sources.crawl.sites import Found, read_page

_MAX_PAGE_BYTES = 8 << 20
_MAX_ROBOTS_BYTES = 512 << 10  # as much as RFC 9309 asks crawlers to read
_LISTING_FIRST = 10
# Scrapy 2.19 holds to the number of requests at once only where there is some delay between them.
_LEAST_DELAY_S = 0.001
# What is no page, whatever links to it.
_FILES = re.compile(r"\.(?:jpe?g|png|webp|gif|svg|css|js|pdf|zip|mp4|xml|ico|woff2?)(?:$|\?)", re.IGNORECASE)


def crawl_here(settings: CrawlSettings, folder: str, dry: bool, pipe: Connection) -> None:
    """Crawl in this process, which ends with it; sends `pipe` how many listings were found, and at last the outcome."""
    end_with_parent()
    robots = {origin: _robots(origin, settings) for origin in _origins(settings)}
    process = CrawlerProcess(_scrapy_settings(settings, _delay_s(settings, robots)))
    state: dict[str, Any] = {"failed": {}, "verdicts": {}}
    process.crawl(ListingSpider, rules=settings, place=Path(folder), dry=dry, pipe=pipe, state=state, robots=robots)
    process.start()
    pipe.send({"outcome": state})


def _scrapy_settings(settings: CrawlSettings, delay_s: float) -> dict[str, Any]:
    return {
        "USER_AGENT": settings.user_agent,
        "ROBOTSTXT_OBEY": True,
        "ROBOTSTXT_USER_AGENT": settings.user_agent,
        "AUTOTHROTTLE_ENABLED": settings.delay_s > 0,
        "AUTOTHROTTLE_START_DELAY": delay_s,
        "DOWNLOAD_DELAY": delay_s,
        "AUTOTHROTTLE_TARGET_CONCURRENCY": float(settings.per_host),
        "RANDOMIZE_DOWNLOAD_DELAY": delay_s > 0,
        "CONCURRENT_REQUESTS_PER_DOMAIN": settings.per_host,
        "DOWNLOAD_TIMEOUT": settings.timeout_s,
        "DOWNLOAD_MAXSIZE": _MAX_PAGE_BYTES,
        "DOWNLOAD_WARNSIZE": 0,
        "COOKIES_ENABLED": False,
        "RETRY_TIMES": 3,
        "RETRY_HTTP_CODES": [429, 500, 502, 503, 504, 522, 524, 408],
        "TELNETCONSOLE_ENABLED": False,
        "LOG_ENABLED": False,
        "REFERER_ENABLED": False,
    }


def _origins(settings: CrawlSettings) -> list[str]:
    """Return the origins that are known ahead: those of the start pages, and the hosts under the first one's scheme."""
    first = urlsplit(settings.start[0]).scheme
    return list(dict.fromkeys([*map(_origin, settings.start), *(f"{first}://{host}" for host in settings.hosts)]))


def _delay_s(settings: CrawlSettings, robots: Mapping[str, Protego | None]) -> float:
    """Return the pace for all hosts: the slowest that any of them asks for."""
    delays = [float(rules.crawl_delay(settings.user_agent) or 0) for rules in robots.values() if rules is not None]
    return max([settings.delay_s, _LEAST_DELAY_S, *filter(math.isfinite, delays)])


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _robots(origin: str, settings: CrawlSettings) -> Protego | None:
    """Read a host's robots.txt for its crawl-delay and for dry runs; Scrapy reads it for itself once more."""
    request = urllib.request.Request(f"{origin}/robots.txt", headers={"User-Agent": settings.user_agent})
    try:
        with urllib.request.urlopen(request, timeout=settings.timeout_s) as answer:
            return Protego.parse(answer.read(_MAX_ROBOTS_BYTES).decode(errors="replace"))
    except (OSError, ValueError, http.client.HTTPException):
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
        """Open the journal and take up what is there."""
        super().__init__(**kwargs)
        self.allowed_domains = list(rules.allowed_hosts)
        self._rules, self._dry, self._pipe, self._outcome, self._robots_of = rules, dry, pipe, state, robots
        self._visited: set[str] = set()
        self._frontier: dict[str, tuple[bool, int]] = {}  # address → whether it is a listing, and its depth
        self._n_pages = self._n_offers = 0
        for record in read_pages(place / JOURNAL):
            self._take_up(record)
        self._journal = Journal(place)

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **kwargs: Any) -> ListingSpider:
        """Make the spider, and get notice of what reaches neither `parse` nor `failed`."""
        spider: ListingSpider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.broken, signal=signals.spider_error)
        crawler.signals.connect(spider.led_on, signal=signals.request_scheduled)
        crawler.signals.connect(spider.led_back, signal=signals.request_dropped)
        return spider

    def _take_up(self, record: dict[str, Any]) -> None:
        self._visited.update((record["url"], record["asked"]))
        self._n_pages += 1
        self._n_offers += len(record["offers"])
        depth = int(record.get("depth", 0)) + 1
        for urls, is_listing in ((record["pages"], False), (record["listings"], True)):
            for url in urls:
                was_listing, least = self._frontier.get(url, (is_listing, depth))
                self._frontier[url] = (was_listing or is_listing, min(least, depth))

    async def start(self) -> AsyncIterator[Any]:
        """Ask for the start pages, and for what was found but not read."""
        if self._has_enough:
            return
        for url in self._rules.start:
            if url not in self._visited:
                yield self._request(url, is_listing=False, depth=0)
        for url, (is_listing, depth) in list(self._frontier.items()):
            if url not in self._visited and depth <= self._rules.depth:
                yield self._request(url, is_listing=is_listing, depth=depth)

    @property
    def _has_enough(self) -> bool:
        return self._n_offers >= self._rules.limit or self._n_pages >= self._rules.max_pages

    def _request(self, url: str, *, is_listing: bool, depth: int) -> scrapy.Request:
        return scrapy.Request(
            url,
            callback=self.parse,
            errback=self.failed,
            priority=_LISTING_FIRST if is_listing else 0,
            cb_kwargs={"asked": url, "depth": depth},
        )

    def parse(self, response: Response, asked: str = "", depth: int = 0, **_: Any) -> Iterator[scrapy.Request]:
        """Read one page, keep what it says, and go on with its links."""
        if self._has_enough:
            raise CloseSpider("enough")
        if not isinstance(response, TextResponse):
            self._fail(asked, NO_TEXT)
            return
        is_listing = bool(self._rules.listings) and any(
            re.search(self._rules.listings, u) for u in (asked, response.url)
        )
        page = Page(url=response.url, text=response.text, is_listing=is_listing)
        found = read_page(page, site=self._rules.site)
        listings, pages = self._links(page, found)
        self._keep(page, asked, found, links={"listings": listings, "pages": pages, "depth": depth})
        if self._dry:
            photos = (photo for offer in found.offers for photo in offer.photos)
            self._outcome["verdicts"] |= {url: self._verdict(url) for url in (*listings, *pages, *photos)}
            return
        for url in (*listings, *pages):
            if url not in self._visited and depth < self._rules.depth:
                yield self._request(url, is_listing=url in listings, depth=depth + 1)

    def _links(self, page: Page, found: Found) -> tuple[list[str], list[str]]:
        """Return the listings and the further pages that a page links to."""
        rules = self._rules
        listings, pages = list(found.listings), list(found.pages or ())
        if found.pages is None:
            others = [url for url in links(page) if not _FILES.search(url) and self._is_ours(url)]
            listings += [url for url in others if rules.listings and re.search(rules.listings, url)]
            wanted = rules.follow or ("" if not rules.listings else r"(?!)")
            pages += [url for url in others if url not in listings and re.search(wanted, url)]
        return list(dict.fromkeys(listings)), list(dict.fromkeys(pages))

    def _is_ours(self, url: str) -> bool:
        host = urlsplit(url).hostname or ""
        return any(host == allowed or host.endswith(f".{allowed}") for allowed in self._rules.allowed_hosts)

    def _keep(self, page: Page, asked: str, found: Found, *, links: dict[str, Any]) -> None:
        """Write a page into the journal, safe from a power cut, before anything else is asked."""
        offers = [
            {"ad_id": o.ad_id, "address": o.address, "words": dict(o.words), "photos": list(o.photos)}
            for o in found.offers
        ]
        self._journal.append({"url": page.url, "asked": asked, "offers": offers, "notes": list(found.notes), **links})
        self._visited.update((page.url, asked))
        self._n_pages += 1
        self._n_offers += len(offers)
        self._pipe.send({"found": self._n_offers})

    def _verdict(self, url: str) -> str:
        rules = self._robots_of.get(_origin(url))
        return "fetch" if rules is None or rules.can_fetch(url, self._rules.user_agent) else "refused"

    def failed(self, failure: Any) -> None:
        """Note why a page could not be read; it is asked again when the crawl is run again."""
        error = failure.value
        status = getattr(getattr(error, "response", None), "status", None)
        reason = f"HTTP {status}" if status else type(error).__name__
        if isinstance(error, IgnoreRequest) and not status:
            reason = ROBOTS if "robots.txt" in str(error) else str(error)
        self._fail(failure.request.cb_kwargs["asked"], reason)

    def broken(self, failure: Any, response: Response, **_: Any) -> None:
        """Note a page on which reading raised an error; without it, the page would be lost silently."""
        self._fail(response.cb_kwargs["asked"], f"{type(failure.value).__name__} on reading it")

    def led_on(self, request: scrapy.Request, **_: Any) -> None:
        """Note a page that leads to a host that is not ours: Scrapy does not follow it."""
        if "redirect_urls" in request.meta and not self._is_ours(request.url):
            self._fail(request.cb_kwargs["asked"], ELSEWHERE)

    def led_back(self, request: scrapy.Request, **_: Any) -> None:
        """Note a page that leads to one that was asked already, as listings that were sold do."""
        if "redirect_urls" in request.meta:
            self._fail(request.cb_kwargs["asked"], KNOWN)

    def _fail(self, url: str, reason: str) -> None:
        self._outcome["failed"].setdefault(reason, []).append(url)

    def closed(self, _reason: str) -> None:
        """Close the journal."""
        self._journal.close()
