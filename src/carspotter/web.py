"""Ask for a URL over HTTP: the one way out, for a stranger's URL, a crawl's photographs and the owner's own files.

In: a URL and a policy. Out: bytes, or a StorageError of one line that names the host and nothing behind it. Unless the
policy is open, the host is resolved once a hop, the addresses are checked, and the connection is pinned to them;
redirects are followed by hand and checked alike. No cookies, and no second try. A URL is asked as it is written: only
what HTTP cannot carry is escaped. What the bytes mean is not looked at.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin
from urllib.request import getproxies, proxy_bypass

from carspotter.errors import StorageError
from carspotter.web_policy import Address, AnswerError, BrokenOffError, PrivateAddressError, RedirectedError, UrlPolicy
from carspotter.web_url import TREACHEROUS, Target, parse, refused, tidied

if TYPE_CHECKING:
    from aiohttp import ClientResponse, TCPConnector

_log = logging.getLogger(__name__)

# What each method may be answered: a photo, a listing, a file that was made or replaced, a folder that was or is there.
_EXPECTED: Mapping[str, tuple[int, ...]] = {
    "GET": (200,),
    "PROPFIND": (207,),
    "PUT": (200, 201, 204),
    "MKCOL": (200, 201, 301, 405),
}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 1 << 16


class Resolver(Protocol):
    """Find the addresses of a host."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return every address of a host, as text; raise OSError where it has none."""
        ...


# Threads of its own: a name server that does not answer must not keep the loop's other work waiting.
_ASKING = ThreadPoolExecutor(16, thread_name_prefix="resolve")


class SystemResolver:
    """Ask the operating system, as every other program does; its threads do not block the loop."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return every address of a host; raises OSError where it has none."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_ASKING, ask)
        return [str(entry[4][0]) for entry in found]


def user_agent(contact: str = "") -> str:
    """Return the User-Agent, with a contact where there is one."""
    version = sys.modules["carspotter"].__version__  # not imported: the package's face stands above everything
    return f"carspotter/{version}" + (f" (+{contact.strip()})" if contact.strip() else "")


async def fetch(
    url: str, policy: UrlPolicy, *, method: str = "GET", body: bytes = b"", resolver: Resolver | None = None
) -> bytes:
    """Return the bytes behind a URL, on the caller's event loop.

    Raises StorageError; `storage_errors.reason` says why in a word: "private-address" for an address that the policy
    refuses, "forbidden" for what else it refuses, and for every refusal of a strict one.
    """
    target = parse(url, policy, "the URL")
    first = (target.scheme, target.host, target.port)
    try:
        async with asyncio.timeout(policy.timeout_s):
            for _ in range(policy.max_redirects + 1):
                if (target.scheme, target.host, target.port) != first:
                    policy = _without_password(policy)
                content = await _hop(target, policy, resolver or SystemResolver(), method=method, body=body)
                if isinstance(content, bytes):
                    return content
                target = content
    except TimeoutError as error:
        raise StorageError(f"{target.host} gave no complete answer within {policy.timeout_s:g} s") from error
    raise StorageError(f"{target.host} redirects more than {policy.max_redirects} times") from RedirectedError(
        target.url
    )


def _without_password(policy: UrlPolicy) -> UrlPolicy:
    return replace(policy, headers={name: value for name, value in policy.headers.items() if name != "Authorization"})


# ---- what may be asked


async def _addresses(target: Target, policy: UrlPolicy, resolver: Resolver) -> list[Address]:
    """Resolve a host once and return its addresses that are allowed; for a strict policy all must be.

    To a stranger, unknown hosts and private addresses are one message: the difference would tell the names inside.
    """
    try:
        is_literal = ":" in target.host or target.host.rpartition(".")[2].isdecimal()  # see `_host`
        texts = [target.host] if is_literal else await resolver.resolve(target.host, target.port)
        found = [ip_address(text) for text in dict.fromkeys(texts)]
    except (OSError, ValueError) as error:
        _log.debug("%s was not resolved: %s", target.host, error)
        if not policy.is_strict:
            raise StorageError(f"{target.host} is no host that is known here") from socket.gaierror(str(error))
        found = []
    allowed = [address for address in found if policy.allows_address(address, target.host, target.port)]
    if allowed and (not policy.is_strict or len(allowed) == len(found)):
        return allowed
    _log.debug("%s has addresses that are refused, of %d", target.host, len(found))
    if policy.is_strict:
        raise refused(f"{target.host} leads to no public address")
    raise StorageError(f"{target.host} leads to no public address") from PrivateAddressError(errno.EACCES, "private")


# ---- asking


async def _hop(target: Target, policy: UrlPolicy, resolver: Resolver, *, method: str, body: bytes) -> bytes | Target:
    """Ask one URL; return the answer, or where it has gone."""
    connector, is_proxied = await _connector(target, policy, resolver)
    from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ClientError, ClientSession, ClientTimeout
    from yarl import URL

    accept = "image/*" if policy.is_strict else "image/*,*/*;q=0.8"
    headers = {"User-Agent": user_agent(), "Accept": accept, "Accept-Encoding": "identity", **policy.headers}
    try:
        async with (  # a session for one hop, so that no cookie is carried on
            ClientSession(
                connector=connector,
                trust_env=is_proxied,
                skip_auto_headers=("Content-Type",),
                auto_decompress=False,
                timeout=ClientTimeout(total=None),
                headers=headers,
            ) as session,
            session.request(
                method, URL(target.url, encoded=True), data=body or None, allow_redirects=False
            ) as response,
        ):
            return await _read(response, target, policy, method)
    except ClientConnectorCertificateError as error:
        raise StorageError(f"{target.host} has a certificate that cannot be verified") from error
    except (ClientConnectorError, ConnectionRefusedError) as error:
        raise StorageError(f"{target.host} cannot be reached") from error
    except TimeoutError:
        raise
    except (ClientError, OSError, ValueError, zlib.error) as error:  # their own texts hold addresses
        words = f"{target.host} broke its answer off, or gave one that is no HTTP"
        raise StorageError(words) from BrokenOffError(type(error).__name__)


async def _connector(target: Target, policy: UrlPolicy, resolver: Resolver) -> tuple[TCPConnector | None, bool]:
    """Return what connects to a host, None for any address, and whether a proxy of the environment is asked.

    Behind a proxy names are its business: one that is known here and private is refused, but nothing can be pinned.
    """
    is_proxied = not policy.is_strict and target.scheme in getproxies() and not proxy_bypass(target.host)
    if policy.is_open:
        return None, is_proxied
    try:
        addresses = await _addresses(target, policy, resolver)
    except StorageError as error:
        if is_proxied and isinstance(error.__cause__, socket.gaierror):
            return None, True
        raise
    return (None, True) if is_proxied else (_pinned(target, addresses), False)


async def _read(response: ClientResponse, target: Target, policy: UrlPolicy, method: str) -> bytes | Target:
    status = response.status
    if status in _REDIRECTS and status not in _EXPECTED[method]:
        return _next(response.headers.get("Location", ""), target, policy)
    if status not in _EXPECTED[method]:
        wanted = _EXPECTED[method][0]
        raise StorageError(f"{target.host} answered {status}, not {wanted}") from AnswerError(status, response.headers)
    encoding = response.headers.get("Content-Encoding", "").strip().casefold()
    unpacker = None if encoding in ("", "identity") else _unpacker(encoding, target, policy)
    if (response.content_length or 0) > policy.max_bytes:
        raise _too_long(target, policy)
    data = bytearray()
    async for piece in response.content.iter_chunked(_CHUNK_BYTES):
        data += piece if unpacker is None else unpacker.decompress(piece, policy.max_bytes + 1 - len(data))
        if len(data) > policy.max_bytes:
            raise _too_long(target, policy)
    if unpacker is not None and not unpacker.eof:
        raise ValueError("the packed answer has no end")
    return bytes(data)


def _unpacker(encoding: str, target: Target, policy: UrlPolicy) -> Any:
    """Return what unpacks an answer that was packed although nobody asked for it: some servers do."""
    if policy.is_strict or encoding not in ("gzip", "x-gzip", "deflate"):
        raise refused(f"{target.host} sent a compressed answer, which was not asked for")
    return zlib.decompressobj(wbits=47)  # gzip or zlib, as its first bytes say


def _next(location: str, target: Target, policy: UrlPolicy) -> Target:
    """Return where a redirect leads, checked like the first URL; the answer's other headers are forgotten."""
    name = f"the redirect of {target.host}"
    if not location:
        raise refused(f"{name} says not where to")
    url = location
    if not TREACHEROUS.search(location):  # urljoin would drop such characters, and hide them from `parse`
        with suppress(ValueError):
            url = urljoin(target.url, location)
    elif not policy.is_strict:
        url = urljoin(target.url, tidied(location))
    following = parse(url, policy, name)
    if policy.is_strict and target.scheme == "https" and following.scheme == "http":
        raise refused(f"{name} leads from https to http")
    return following


def _too_long(target: Target, policy: UrlPolicy) -> StorageError:
    error = StorageError(f"{target.host} sent more than {policy.max_bytes / 2**20:g} MiB; is it a photo?")
    error.__cause__ = OSError(errno.EFBIG, "over the limit")  # what `storage_errors.reason` reads
    return error


def _pinned(target: Target, addresses: Sequence[Address]) -> TCPConnector:
    """Make a connector that reaches these addresses only, whatever the name has come to mean meanwhile."""
    from aiohttp import ClientConnectionError, TCPConnector

    class Pinned(TCPConnector):
        async def connect(self, *arguments: Any, **options: Any) -> Any:
            """Connect, and check the peer's address before the request is written."""
            connection = await super().connect(*arguments, **options)
            peer = connection.transport.get_extra_info("peername") if connection.transport else None
            if peer is None or ip_address(peer[0]) not in addresses:
                connection.close()
                raise ClientConnectionError("another address answered than was checked")
            return connection

    return Pinned(resolver=_Checked(target, addresses), use_dns_cache=False, force_close=True)  # type: ignore[arg-type]


class _Checked:
    """Answer aiohttp's questions about one host with the addresses that were checked; implements its resolver."""

    def __init__(self, target: Target, addresses: Sequence[Address]) -> None:
        self._target = target
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        if (host, port) != (self._target.host, self._target.port):
            raise OSError(errno.EACCES, "another host is asked for than was checked")
        return [
            {
                "hostname": host,
                "host": str(address),
                "port": port,
                "proto": 0,
                "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self._addresses
            if family in (0, socket.AF_INET if address.version == 4 else socket.AF_INET6)
        ]

    async def close(self) -> None:
        """Do nothing: no socket is held open."""
