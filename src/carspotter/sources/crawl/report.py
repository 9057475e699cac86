"""What a crawl did, as figures and as sentences: what failed, what is asked again, what a page lacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from carspotter.sources.crawl.pages import NO_AD, SEVERAL, UNREADABLE
from carspotter.sources.crawl.settings import CrawlSettings

ROBOTS, NO_TEXT = "robots.txt", "no page of text"
ELSEWHERE, KNOWN = "leads to a host that is not among `hosts`", "leads to a page that was asked already"
# Answers that another request would not change by itself: they make a crawl no less done.
_ANSWERS = (ROBOTS, NO_TEXT, ELSEWHERE, KNOWN, "HTTP 404", "HTTP 410")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlReport:
    """What a crawl did in all."""

    pages: int = 0
    listings: int = 0
    photos: int = 0
    without_photo: Sequence[str] = ()
    """Addresses of ads that show no photo."""
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Reason → addresses of pages that were not read, "robots.txt" and "HTTP 404" among the reasons."""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What was noted of pages → their addresses: "several cars", "no ad", "data that cannot be read"."""
    stopped_by: str = ""
    """The setting that ended it before its end: "limit", "max_pages", or none."""
    depth: int = 0
    too_deep: int = 0
    """Addresses that were left, since they lie more than `depth` links from a start page."""

    @classmethod
    def of(cls, pages: Sequence[Mapping[str, Any]], outcome: Mapping[str, Any], settings: CrawlSettings) -> CrawlReport:
        """Count the pages of a crawl and what its process reported of the others."""
        offers = [(page["url"], offer) for page in pages for offer in page["offers"]]
        notes: dict[str, list[str]] = {}
        for page in pages:
            for note in page.get("notes", ()):
                notes.setdefault(note, []).append(page["url"])
        stopped = "limit" if len(offers) >= settings.limit else "max_pages" if len(pages) >= settings.max_pages else ""
        read = {url for page in pages for url in (page["url"], page["asked"])}
        last = [page for page in pages if int(page.get("depth", 0)) >= settings.depth]
        left = {url for page in last for url in (*page["listings"], *page["pages"])} - read
        failed = outcome.get("failed", {})
        return cls(
            pages=len(pages),
            listings=len(offers),
            photos=sum(len(offer["photos"]) for _, offer in offers),
            without_photo=[url for url, offer in offers if not offer["photos"]],
            failed=failed,
            notes=notes,
            stopped_by=stopped,
            depth=settings.depth,
            too_deep=len(left.difference(*failed.values())),
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None) -> CrawlReport | None:
        """Read a report back, or None where it is not of this version: the crawl then goes on."""
        if state is None or set(state) != {entry.name for entry in fields(cls)}:
            return None
        return cls(**state)

    def state(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return asdict(self)

    @property
    def to_ask(self) -> dict[str, Sequence[str]]:
        """Return the failures that another request may mend."""
        return {reason: urls for reason, urls in self.failed.items() if reason not in _ANSWERS}

    @property
    def answered_no(self) -> set[str]:
        """Return the addresses whose answer is final: gone, forbidden, no page."""
        return {url for reason, urls in self.failed.items() if reason in _ANSWERS for url in urls}

    def is_done(self, settings: CrawlSettings) -> bool:
        """Return whether there is nothing to ask: no failed page, no limit that was raised since."""
        if self.stopped_by:
            most = {"limit": settings.limit, "max_pages": settings.max_pages}
            return self._had[self.stopped_by] >= most[self.stopped_by]
        return not self.to_ask and settings.depth <= self.depth

    @property
    def _had(self) -> dict[str, int]:
        return {"limit": self.listings, "max_pages": self.pages}

    def problems(self) -> list[str]:
        """Return what a person should look at, a sentence each; nothing where all went well."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.to_ask and not self.stopped_by:
            n_failed = sum(map(len, self.to_ask.values()))
            total = self.pages + n_failed
            why = reasons(self.to_ask)
            yield f"{n_failed} of {total} pages could not be read ({why}); run it again, these are asked again"
        if self.without_photo:
            yield f"{len(self.without_photo)} of {self.listings} ads show no photo, such as {self.without_photo[0]}"
        if broken := self.notes.get(UNREADABLE):
            yield f"{len(broken)} of {self.pages} pages describe a car in JSON-LD that is broken, such as {broken[0]}"
        if lacking := self.notes.get(NO_AD):
            share = f"{len(lacking)} of {self.pages} pages"
            yield f"{share} match `listings`, but no ad could be read in them, such as {lacking[0]}"

    def remarks(self) -> list[str]:
        """Return what is no fault, but good to know."""
        said = []
        others = {reason: urls for reason, urls in self.failed.items() if self.stopped_by or reason in _ANSWERS}
        if others:
            said.append(f"not read: {reasons(others)}")
        if several := self.notes.get(SEVERAL):
            said.append(f"{len(several)} pages of several cars, such as {several[0]}")
        if self.stopped_by:
            said.append(f"stopped by `{self.stopped_by}`; raise it and run it again to go on")
        elif self.too_deep:
            said.append(f"{self.too_deep} addresses lie beyond `depth`; raise it and run it again to go on")
        return said


def reasons(failed: Mapping[str, Sequence[str]]) -> str:
    """Write failures as "6 HTTP 503, such as http://…"."""
    ordered = sorted(failed.items(), key=lambda pair: -len(pair[1]))
    return ", ".join(f"{len(urls)} {reason}, such as {urls[0]}" for reason, urls in ordered if urls)
