"""Bring what JSON-LD, microdata and RDFa say into one shape: things with types and plain values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Item = Mapping[str, Any]

_MAX_DEPTH = 24  # of nested data; a page that nests deeper is a trap


_TYPE_KEYS = ("@type", "type", "additionalType", "http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
_NAME = re.compile(r"(?:https?://(?:\w+\.)*schema\.org/|(?!https?:)[\w-]+:)([A-Za-z]\w*)/?")


class Described(NamedTuple):
    """A thing that a page describes: the syntax, the properties and types it is nested in, and the thing."""

    syntax: str
    within: frozenset[str]
    item: Item


def plain_microdata(value: Any, depth: int) -> Any:
    """Return extruct's microdata in the shape of JSON-LD."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [plain_microdata(entry, depth + 1) for entry in value]
    if isinstance(value, Mapping) and isinstance(value.get("properties", {}), Mapping):
        if not value.get("properties"):
            return value.get("value") or None
        inner = {name: plain_microdata(entry, depth + 1) for name, entry in value.get("properties", {}).items()}
        return inner | {"@type": value.get("type") or []} | ({"@id": value["id"]} if value.get("id") else {})
    return value


def things(syntax: str, data: Any) -> list[Described]:
    """Return the things of a page in one syntax, those that others hold after these; references are resolved."""
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
