"""Settings of a crawl: where it begins, how far it goes, how politely. It fetches nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from carspotter.errors import suggestion
from carspotter.sources.crawl.sites import SITES


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlSettings:
    """Where a crawl begins, how far it goes, and how politely."""

    start: tuple[str, ...]
    """The pages to begin with."""
    contact: str
    """Your e-mail address or web page, sent to every site, so that its owner can reach you."""
    name: str = "crawl"
    """What the column `source` says."""
    hosts: tuple[str, ...] = ()
    """Hosts that may be asked; by default those of the start pages."""
    listings: str = ""
    """Regular expression for the addresses of listings; without it every page of the hosts is looked at."""
    follow: str = ""
    """Regular expression for the addresses of further pages of results."""
    site: str | None = None
    """The adapter for a site with a structure of its own."""
    limit: int = 1000
    """Most listings."""
    max_pages: int = 20_000
    """Most pages."""
    depth: int = 20
    """Most links from a start page."""
    delay_s: float = 1.0
    """Seconds between two requests to one host; a longer `Crawl-delay` counts."""
    per_host: int = 2
    """Requests to one host at once."""
    timeout_s: float = 30.0
    """Seconds for a whole answer."""

    def __post_init__(self) -> None:
        if not self.start:
            raise ValueError("start is empty; name at least one page")
        for url in self.start:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ValueError(f"start page {url!r} is no http(s) address")
        if self.site is not None and self.site not in SITES:
            raise ValueError(f"site {self.site!r} has no adapter; {suggestion(self.site, SITES)}")
        for name, least in (("limit", 1), ("max_pages", 1), ("depth", 0), ("delay_s", 0), ("per_host", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("listings", "follow"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ValueError(f"{name} is no regular expression: {error}") from error

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Return the hosts that may be asked."""
        return self.hosts or tuple(dict.fromkeys(urlsplit(url).hostname or "" for url in self.start))

    @property
    def user_agent(self) -> str:
        """Return the name under which every page and photo of the crawl is asked for: who asks, with a contact."""
        from carspotter.web import user_agent

        return user_agent(" ".join(self.contact.split()))
