"""Read the things that a page describes, its meta tags, headings and links out of its text.

JSON-LD is read as sites write it, with what browsers and search engines forgive; microdata and RDFa by extruct. All
three end in one shape: mappings with short names ("brand", not "schema:brand"), "@type" a list of short names, and
references to another thing of the page replaced by that thing. The door of lxml, extruct and json5.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin, urlsplit

from carspotter.errors import MissingExtraError

Item = Mapping[str, Any]

_MAX_DEPTH = 24  # of nested data; a page that nests deeper is a trap
_MAX_NESTED = 64  # elements with "itemscope" within each other; extruct's time grows with the third power
_MAX_FORGIVEN = 128 << 10  # characters of a page that the slow reader of JSON takes, some seconds
_JSON_LD = ("ld+json", "json+ld", "ldjson")
_TYPE_KEYS = ("@type", "type", "additionalType", "http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_NAME = re.compile(r"(?:https?://(?:\w+\.)*schema\.org/|(?!https?:)[\w-]+:)([A-Za-z]\w*)/?")
_NAMES_A_CAR = re.compile(r"\b(?:Car|Vehicle|Product)\b")
_BETWEEN = re.compile(r"[\s,;]*")
_SCRIPT = re.compile(r"</?script\b[^<>]*>|<!--|-->|(?://|/\*)?\s*(?:<!\[CDATA\[|\]\]>)\s*(?:\*/)?", re.IGNORECASE)


class Described(NamedTuple):
    """A thing that a page describes: the syntax, the properties and types it is nested in, and the thing."""

    syntax: str
    within: frozenset[str]
    item: Item


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
        blocks, left = [], _MAX_FORGIVEN
        for text in filter(str.strip, texts):
            data = loads(text, readers=(_strict, _in_a_row))
            if data is None and len(text) <= left:
                data = loads(text, readers=(_forgiving,))
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
        found = _things("json-ld", [data for _, data in self._blocks if data is not None])
        lower = self.text.casefold()
        if "itemscope" in lower and self._nesting("itemscope") <= _MAX_NESTED:
            found += _things("microdata", _plain_microdata(self._extracted("microdata"), 0))
        if "typeof" in lower and "schema.org" in lower:
            found += _things("rdfa", self._extracted("rdfa"))
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


def loads(text: str, *, readers: Sequence[Callable[[str], Any]]) -> Any:
    """Return the data of a block of JSON-LD by the first reader that can read it, or None.

    Comments and CDATA around it, a byte order mark, a last semicolon, entities, line ends inside texts and several
    values in a row are forgiven by all; comments inside, trailing commas, single quotes and names without quotes by
    `_forgiving`.
    """
    texts = [text.strip().strip("\ufeff").strip()]
    texts += [_trimmed(texts[0]), _trimmed(html.unescape(texts[0])), _trimmed(_SCRIPT.sub(" ", texts[0]))]
    for read in readers:
        for candidate in dict.fromkeys(filter(None, texts)):
            try:
                data = read(candidate)
            except (ValueError, RecursionError):
                continue
            if isinstance(data, str) and len(data) < len(text):
                return loads(data, readers=readers)  # JSON in a text of JSON
            if isinstance(data, list | dict):
                return data
    return None


def _trimmed(text: str) -> str:
    """Return what stands between the first and the last bracket."""
    starts = [place for mark in "{[" if (place := text.find(mark)) >= 0]
    return text[min(starts) : max(text.rfind("}"), text.rfind("]")) + 1] if starts else ""


def _strict(text: str) -> Any:
    return json.loads(text, strict=False)


def _in_a_row(text: str) -> Any:
    decoder, place, found = json.JSONDecoder(strict=False), 0, []
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        match = _BETWEEN.match(text, place)
        place = match.end() if match else place
    return found


def _forgiving(text: str) -> Any:
    try:
        import json5
    except ModuleNotFoundError as error:
        raise MissingExtraError("json5", "crawl") from error
    return json5.loads(text, strict=False)


# ---- one shape for all syntaxes


def _plain_microdata(value: Any, depth: int) -> Any:
    """Return extruct's microdata in the shape of JSON-LD."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_plain_microdata(entry, depth + 1) for entry in value]
    if isinstance(value, Mapping) and isinstance(value.get("properties", {}), Mapping):
        if not value.get("properties"):
            return value.get("value") or None
        inner = {name: _plain_microdata(entry, depth + 1) for name, entry in value.get("properties", {}).items()}
        return inner | {"@type": value.get("type") or []} | ({"@id": value["id"]} if value.get("id") else {})
    return value


def _things(syntax: str, data: Any) -> list[Described]:
    known: dict[str, dict[str, Any]] = {}
    linked = _linked(_plain(data, 0, known), known, set())
    held: set[int] = set()
    roots = list(_roots(linked))
    for root in roots:
        held.update(id(inner) for value in root.values() for inner in _parts(value))
    roots.sort(key=lambda root: id(root) in held)  # what another thing holds is met there, so that its place is known
    seen: set[int] = set()
    return [Described(syntax, *found) for root in roots for found in _walk(root, frozenset(), seen)]


def _roots(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for entry in value:
            yield from _roots(entry)
    elif isinstance(value, dict):
        yield from _roots(value.pop("@graph", []))
        yield value


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value, or the values of a list."""
    if isinstance(value, list):
        for entry in value:
            yield from _parts(entry)
    else:
        yield value


def _plain(value: Any, depth: int, known: dict[str, dict[str, Any]]) -> Any:
    """Return data with short names, and note in `known` what has an "@id": parts of one thing become one."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_plain(entry, depth + 1, known) for entry in value]
    if not isinstance(value, Mapping):
        return value
    for wrapper in ("@value", "@list", "@set"):
        if wrapper in value:
            return _plain(value[wrapper], depth + 1, known)
    types = [name for key in _TYPE_KEYS for name in _names(value.get(key))]
    item: dict[str, Any] = {"@type": types} if types else {}
    for key, inner in value.items():
        if key not in (*_TYPE_KEYS, "@context"):
            item.setdefault(_short(key), _plain(inner, depth + 1, known))
    own = value.get("@id") or value.get("id")
    if not isinstance(own, str) or not own:
        return item
    item["@id"] = own
    if set(item) - {"@id", "id"}:
        first = known.setdefault(own, item)
        if first is not item and first.get("@type", types) == types:  # a page and its car may share an "@id"
            first.update({name: inner for name, inner in item.items() if name not in first})
            return first
    return item


def _names(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    values = [entry.get("@id") if isinstance(entry, Mapping) else entry for entry in values]
    return [
        re.split(r"[/#:]", name.strip().rstrip("/"))[-1]
        for entry in values
        if isinstance(entry, str)
        for name in entry.split()
    ]


def _short(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match[1] if match else name


def _linked(value: Any, known: Mapping[str, dict[str, Any]], seen: set[int]) -> Any:
    """Put the things of a page in the place of references to them."""
    if isinstance(value, list):
        return [_linked(entry, known, seen) for entry in value]
    if not isinstance(value, dict):
        return value
    own = value.get("@id")
    if isinstance(own, str) and own in known and not set(value) - {"@id", "id"}:
        return known[own]
    if id(value) not in seen:
        seen.add(id(value))
        for name, inner in value.items():
            value[name] = _linked(inner, known, seen)
    return value


def _walk(value: Any, within: frozenset[str], seen: set[int]) -> Iterator[tuple[frozenset[str], Item]]:
    if isinstance(value, list):
        for entry in value:
            yield from _walk(entry, within, seen)
    elif isinstance(value, dict) and id(value) not in seen:
        seen.add(id(value))
        if "@type" in value:
            yield within, value
        for name, inner in value.items():
            if name == "itemOffered" and isinstance(inner, dict):
                inner.setdefault("@type", ["Product"])
                inner.setdefault("offers", {key: word for key, word in value.items() if key != name})
            yield from _walk(inner, within | {name, *value.get("@type", ())}, seen)
