"""Read the things that a page describes, its meta tags, headings and links out of its text.

JSON-LD is read as sites write it, with what browsers and search engines forgive; microdata and RDFa by extruct. All
three end in one shape: mappings with short names ("brand", not "schema:brand"), "@type" a list of short names, and
references to another thing of the page replaced by that thing. It is the door of lxml
and extruct.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from carspotter.errors import MissingExtraError
from carspotter.sources.crawl.json_text import MAX_FORGIVEN, forgiving, in_a_row, loads, strict
from carspotter.sources.crawl.things import Described, plain_microdata, things

_MAX_NESTED = 64  # elements with "itemscope" within each other; extruct's time grows with the third power
_JSON_LD = ("ld+json", "json+ld", "ldjson")
_NAMES_A_CAR = re.compile(r"\b(?:Car|Vehicle|Product)\b")


@dataclass(frozen=True)
class Document:
    """A parsed page; `url` is its address. Nothing that a page holds raises an error."""

    url: str
    text: str = field(repr=False)

    @cached_property
    def tree(self) -> Any:
        """Return the root element, or None where there is nothing to parse."""
        try:
            from lxml import etree
            from lxml import html as lxml_html
        except ModuleNotFoundError as error:
            raise MissingExtraError("lxml", "crawl") from error
        parser = lxml_html.HTMLParser(encoding="utf-8", huge_tree=True)
        data = self.text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
        try:
            return lxml_html.document_fromstring(data, parser=parser)
        except (etree.LxmlError, ValueError, AssertionError):  # no element at all
            return None

    def elements(self, *tags: str) -> Iterator[Any]:
        """Yield the elements of some tags in their order."""
        return iter(()) if self.tree is None else self.tree.iter(*tags)

    @cached_property
    def base(self) -> str:
        """Return what relative addresses count from."""
        bases = (element.get("href") for element in self.elements("base"))
        return next((joined for href in bases if href and (joined := join(self.url, href))), self.url)

    def address(self, value: str) -> str | None:
        """Return a whole http(s) address without its fragment, or None: no page may make us read a local file."""
        return join(self.base, value.replace("&amp;", "&"))

    @cached_property
    def links(self) -> list[str]:
        """Return the addresses that the page links to, each once, in their order."""
        found = [element.get("href") for element in self.elements("a", "area")]
        found += [element.get("href") for element in self.elements("link") if element.get("rel") == "next"]
        whole = (self.address(href) for href in found if href and not href.strip().startswith("#"))
        return list(dict.fromkeys(url for url in whole if url))

    @cached_property
    def canonical(self) -> str | None:
        """Return the address that the page calls its own, if it is one of its host."""
        for element in self.elements("link"):
            if "canonical" in (element.get("rel") or "").casefold().split():
                url = self.address(element.get("href") or "")
                return url if url and urlsplit(url).hostname == urlsplit(self.url).hostname else None
        return None

    @cached_property
    def meta(self) -> Mapping[str, list[str]]:
        """Return what the meta tags say by property or name, such as "og:title", in small letters."""
        found: dict[str, list[str]] = {}
        for element in self.elements("meta"):
            name, content = (
                element.get("property") or element.get("name"),
                " ".join((element.get("content") or "").split()),
            )
            if name and content:
                found.setdefault(name.strip().casefold(), []).append(content)
        return found

    def said(self, *names: str) -> str | None:
        """Return the first thing that meta tags of some names say."""
        return next((self.meta[name][0] for name in names if name in self.meta), None)

    def heading(self, tag: str) -> str | None:
        """Return the words of the first element of a tag that has any: "h1", "title"."""
        words = (" ".join("".join(element.itertext()).split()) for element in self.elements(tag))
        return next((text for text in words if text), None)

    @cached_property
    def _blocks(self) -> list[tuple[str, Any]]:
        """Return each block of JSON-LD with its data, or None for one that nobody could read."""
        scripts = (element for element in self.elements("script") if _is_json_ld(element.get("type") or ""))
        texts = ("".join(script.itertext()) for script in scripts)
        blocks, left = [], MAX_FORGIVEN
        for text in filter(str.strip, texts):
            data = loads(text, readers=(strict, in_a_row))
            if data is None and len(text) <= left:
                data = loads(text, readers=(forgiving,))
                left -= len(text)
            blocks.append((text, data))
        return blocks

    @property
    def has_unreadable_car(self) -> bool:
        """Return whether there is JSON-LD that nobody could read, and that names a car or a product."""
        return any(data is None and _NAMES_A_CAR.search(text) for text, data in self._blocks)

    @cached_property
    def things(self) -> list[Described]:
        """Return all described things, nested ones after those that hold them."""
        found = things("json-ld", [data for _, data in self._blocks if data is not None])
        lower = self.text.casefold()
        if "itemscope" in lower and self._nesting("itemscope") <= _MAX_NESTED:
            found += things("microdata", plain_microdata(self._extracted("microdata"), 0))
        if "typeof" in lower and "schema.org" in lower:
            found += things("rdfa", self._extracted("rdfa"))
        return found

    def _nesting(self, attribute: str) -> int:
        depths: dict[Any, int] = {}
        for element in self.elements():
            depths[element] = depths.get(element.getparent(), 0) + (element.get(attribute) is not None)
        return max(depths.values(), default=0)

    def _extracted(self, syntax: str) -> list[Any]:
        try:
            import extruct
        except ModuleNotFoundError as error:
            raise MissingExtraError("extruct", "crawl") from error
        if self.tree is None:
            return []
        source = self.text.encode(errors="replace") if syntax == "rdfa" else self.tree
        found = extruct.extract(source, base_url=self.base, syntaxes=[syntax], errors="ignore")
        return list(found.get(syntax, []))


@lru_cache(maxsize=2)
def document(url: str, text: str) -> Document:
    """Return a page parsed; the last pages are kept, since offers and links are asked for apart."""
    return Document(url=url, text=text)


def join(base: str, value: str) -> str | None:
    """Return a whole http(s) address without its fragment, or None for anything else."""
    value = re.sub(r"[\t\r\n]", "", value).strip().encode(errors="ignore").decode()
    try:
        url = urldefrag(urljoin(base, value)).url if value else ""
        parts = urlsplit(url)
        return url if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _is_json_ld(kind: str) -> bool:
    return "".join(kind.casefold().split()).partition(";")[0].rpartition("/")[2] in _JSON_LD


# ---- JSON as sites write it


# ---- one shape for all syntaxes
