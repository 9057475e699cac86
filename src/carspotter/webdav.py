"""WebDAV over `web`: what lies below a folder, and a file written.

In: http(s) URLs and a policy that holds the credentials. Out: paths as URLs have them, escaped. A folder is asked with
its slash, so that no server needs to redirect; of what a server calls its files the path counts alone, whatever host
and prefix it believes to have. Reading is a plain GET and needs nothing from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit
from xml.etree import ElementTree

from carspotter.errors import StorageError
from carspotter.web import fetch
from carspotter.web_policy import UrlPolicy, status_of

_ASKED = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'  # RFC 4918
)
_MAX_DEPTH = 32
_NO_PARENT = (403, 404, 409)
_HOST = re.compile(r"(?:https?:)?//[^/]*", re.IGNORECASE)
_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str  # as the server writes it, decoded for comparing, without a slash at its end
    name: str  # the last part, escaped
    is_folder: bool


async def list_files(url: str, policy: UrlPolicy, *, recursive: bool) -> list[str]:
    """Return the escaped paths of the files below a folder, without those whose name begins with a dot.

    Raises StorageError, NotADirectoryError for a file.
    """
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    root = parts.path.rstrip("/") + "/"
    folders, found = [root], []
    while folders:
        folder = folders.pop()
        if folder.count("/") - root.count("/") > _MAX_DEPTH:
            raise StorageError(f"folders lie over {_MAX_DEPTH} deep; do they lead into themselves?")
        for entry in await _children(origin + folder, policy):
            if unquote(entry.name).startswith("."):
                continue
            if not entry.is_folder:
                found.append(folder + entry.name)
            elif recursive:
                folders.append(f"{folder}{entry.name}/")
    return found


async def write(url: str, data: bytes, policy: UrlPolicy) -> None:
    """Write a file, and make its folders where the server says that they are not there; raises StorageError."""
    try:
        await fetch(url, policy, method="PUT", body=data)
        return
    except StorageError as error:
        if status_of(error) not in _NO_PARENT:
            raise
    parts = urlsplit(url)
    steps = parts.path.strip("/").split("/")[:-1]
    for number in range(1, len(steps) + 1):
        inner = "/".join(steps[:number])
        await fetch(f"{parts.scheme}://{parts.netloc}/{inner}/", policy, method="MKCOL")
    await fetch(url, policy, method="PUT", body=data)


async def _children(url: str, policy: UrlPolicy) -> list[_Entry]:
    """Return what lies directly in a folder; `url` ends in a slash."""
    try:
        entries = await _entries(url, policy, depth="1")
    except StorageError as error:
        if status_of(error) in (None, 401, 403):
            raise
        entries = await _entries(url.rstrip("/"), policy, depth="0")  # a file has no slash, and its server no patience
    own = min(entries, key=lambda entry: len(entry.path), default=None)
    if own is None or not own.is_folder:
        raise NotADirectoryError(url)
    start = f"{own.path}/"
    inner = [entry for entry in entries if entry.path.startswith(start)]
    return [entry for entry in inner if "/" not in entry.path[len(start) :]]


async def _entries(url: str, policy: UrlPolicy, *, depth: str) -> list[_Entry]:
    headers = {**policy.headers, "Depth": depth, "Content-Type": "application/xml", "Accept": "*/*"}
    answer = await fetch(url, replace(policy, headers=headers), method="PROPFIND", body=_ASKED)
    try:
        return list(_parsed(ElementTree.fromstring(answer)))
    except ElementTree.ParseError as error:
        raise StorageError(f"{urlsplit(url).hostname} answered with a list that is no XML") from error


def _parsed(multistatus: ElementTree.Element) -> Iterator[_Entry]:
    for response in multistatus.iter("{DAV:}response"):
        href = _HOST.sub("", (response.findtext("{DAV:}href") or "").strip(), count=1)
        kind = response.find(".//{DAV:}resourcetype")
        is_folder = href.endswith("/") if kind is None else kind.find("{DAV:}collection") is not None
        href = href.rstrip("/")
        yield _Entry(unquote(href), _escaped(href.rpartition("/")[2]), is_folder)


def _escaped(name: str) -> str:
    """Return a name in one spelling, whatever a server escapes; bytes that are no UTF-8 stay as it wrote them."""
    try:
        return quote(unquote_to_bytes(name).decode())
    except UnicodeDecodeError:
        return quote(_STRAY.sub("%25", name), safe="%")
