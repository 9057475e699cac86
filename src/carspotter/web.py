"""Fetch a photo from a URL that a stranger named, without becoming the stranger's way into the own network.

In: a URL and a policy. Out: bytes, or a StorageError of one line that names the host and nothing behind it. The host is
resolved once a hop, every address found must be public, and the connection is pinned to those addresses; redirects are
followed by hand and checked alike. No proxies, cookies, credentials, compression, and no second try. What the bytes
mean is not looked at. URLs that the owner of the machine names are `storage`'s, which has no such guard.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from carspotter import __version__
from carspotter.errors import StorageError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, TCPConnector

_log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
# What browsers and servers agree on; a signed URL of an object store has some 1500 characters.
_MAX_URL = 4096
_MAX_HOST = 253  # RFC 1035: 255 octets with lengths and root
_CHUNK_BYTES = 1 << 16

# IANA's special-purpose registry (RFC 6890) whole, also the blocks that it calls reachable: no photo lives in them.
_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # looks public, but is Azure's own service to its virtual machines
    )
)  # fmt: skip
# Only 2000::/3 is given out to hosts: loopback, link-local, unique-local, multicast, mapped and NAT64 lie outside.
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocols; Teredo, which embeds IPv4, and benchmarking among them
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4, which embeds IPv4
        "2620:4f:8000::/48",  # AS112
    )
)  # fmt: skip
# RFC 5214, 6.1: an ISATAP address ends in 0000:5efe or 0200:5efe and an IPv4 address.
_ISATAP = (0x00005EFE, 0x02005EFE)

# Characters that parsers of URLs drop, or read as another character.
_TREACHEROUS = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# WHATWG URL, "ends in a number": libraries read such a host as an IPv4 address, each in its own way.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """Say which URLs are fetched, and how much of them.

    `timeout_s` is for all of it: resolving, redirects, the last byte. `ports` None allows any. `allow_hosts`, where it
    is not empty, are the only hosts: `photos.example` itself, `.example` all hosts below it. `allow_networks` are
    networks that count as public, for an intranet whose photo server has a private address.
    """

    max_bytes: int
    timeout_s: float
    max_redirects: int = 5
    schemes: tuple[str, ...] = ("https", "http")
    ports: tuple[int, ...] | None = (80, 443)
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or not 0 < self.timeout_s < float("inf") or self.max_redirects < 0:
            limits = f"max_bytes={self.max_bytes}, timeout_s={self.timeout_s}, max_redirects={self.max_redirects}"
            raise ValueError(f"{limits}: the first two must be above 0 and finite, the last at least 0")
        unknown = set(self.schemes) - set(_DEFAULT_PORTS)
        if unknown or not self.schemes:
            raise ValueError(f"schemes {self.schemes}: allowed are some of {', '.join(_DEFAULT_PORTS)}")
        object.__setattr__(self, "allow_hosts", tuple(host.casefold().rstrip(".") for host in self.allow_hosts))

    def allows_host(self, host: str) -> bool:
        """Say whether the list of hosts, where there is one, has this host or a suffix of it."""
        return not self.allow_hosts or any(
            host == name or (name.startswith(".") and host.endswith(name)) for name in self.allow_hosts
        )

    def allows_address(self, address: Address) -> bool:
        """Say whether an address is public or lies in one of `allow_networks`."""
        if getattr(address, "scope_id", None) is not None:
            return False  # the same address is another machine on each link
        return is_public(address) or any(address in network for network in self.allow_networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A URL that was taken apart and checked, but for its host's addresses; `host` is ASCII in lower case."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL put together again from checked parts: no second parser can find another host in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class _AnswerError(Exception):
    """A status other than 200; `storage.reason` and `storage.retry_after_s` read it."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


def is_public(address: Address) -> bool:
    """Say whether an address may belong to a public host.

    False for the whole of IANA's special-purpose registries, multicast and reserved addresses, the addresses by which
    clouds tell secrets to their machines, and every IPv6 address that embeds an IPv4 one, whatever that is: mapped,
    compatible, 6to4, Teredo, NAT64 (RFC 6052, 8215) and ISATAP.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_4)
    if address.scope_id is not None or address not in _GLOBAL_6:
        return False
    is_isatap = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    return not is_isatap and not any(address in network for network in _SPECIAL_6)


async def fetch_photo(url: str, policy: UrlPolicy, *, resolver: Resolver | None = None) -> bytes:
    """Return the bytes behind a public URL, on the caller's event loop.

    Raises StorageError; `storage.reason` says why in a word, "forbidden" also for what the policy refuses.
    """
    target = _parse(url, policy, "the URL")
    try:
        async with asyncio.timeout(policy.timeout_s):
            for _ in range(policy.max_redirects + 1):
                content = await _hop(target, policy, resolver or SystemResolver())
                if isinstance(content, bytes):
                    return content
                target = content
    except TimeoutError as error:
        raise StorageError(f"{target.host} gave no complete answer within {policy.timeout_s:g} s") from error
    raise _refused(f"{target.host} redirects more than {policy.max_redirects} times")


# ---- what may be asked


def _parse(url: str, policy: UrlPolicy, name: str) -> _Target:
    """Take a URL apart, refusing whatever two parsers could read differently; `name` is the URL's in messages."""
    if len(url) > _MAX_URL:
        raise _refused(f"{name} has {len(url)} characters; at most {_MAX_URL} are allowed")
    if _TREACHEROUS.search(url):
        raise _refused(f"{name} holds a space, a backslash or a control character; write them as %20, %5C and so on")
    parts = _split(url, name)
    scheme = parts.scheme
    if scheme not in policy.schemes:
        raise _refused(f"{name} has the scheme {scheme[:20]!r}; allowed: {', '.join(policy.schemes)}")
    if "@" in parts.netloc:
        raise _refused(f"{name} holds a user name or a password; give one without")
    host = _host(parts, name)
    port = _DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    if not policy.allows_host(host):
        raise _refused(f"{host} is not among the hosts that are allowed")
    if not port or (policy.ports is not None and port not in policy.ports):
        allowed = "1 to 65535" if policy.ports is None else ", ".join(map(str, policy.ports))
        raise _refused(f"{host}: port {port} is not allowed; allowed: {allowed}")
    # The escapes of a redirect's raw bytes are given back as those bytes; the fragment is the browser's.
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~", errors="surrogateescape")
    return _Target(scheme=scheme, host=host, port=port, path=f"{path}?{query}" if query else path)


def _split(url: str, name: str) -> SplitResult:
    with suppress(ValueError):
        url.encode(errors="surrogateescape")  # JSON may hold half a pair, which no server can be sent
        parts = urlsplit(url)
        if parts.port is None or parts.port >= 0:  # reading the port may raise as well
            return parts
    raise _refused(f"{name} is no URL: its host or its port is malformed")


def _host(parts: SplitResult, name: str) -> str:
    """Return the host, an address in its one normal spelling or a name; raises for every other spelling."""
    host = parts.hostname or ""
    if not host:
        raise _refused(f"{name} names no host")
    if not host.isascii():
        raise _refused(f"{name} has a host that is not ASCII; write its xn-- form")
    if parts.netloc.startswith("["):
        with suppress(ValueError):
            address = IPv6Address(host)
            if address.scope_id is None:
                return str(address)
        raise _refused(f"{name} has an IPv6 address that is malformed or has a zone")
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        with suppress(ValueError):
            return str(IPv4Address(host))  # four decimal numbers without leading zeros, or ValueError
        raise _refused(f"{name} spells an IPv4 address oddly; write four decimal numbers")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(f"{name} has a host that is no host name")
    return host


async def _addresses(target: _Target, policy: UrlPolicy, resolver: Resolver) -> list[Address]:
    """Resolve a host once and return its addresses, all of them checked.

    Unknown hosts and private addresses are one message: the difference would tell a stranger the names inside.
    """
    try:
        is_literal = ":" in target.host or target.host.rpartition(".")[2].isdecimal()  # see `_host`
        texts = [target.host] if is_literal else await resolver.resolve(target.host, target.port)
        found = [ip_address(text) for text in dict.fromkeys(texts)]
    except (OSError, ValueError) as error:
        _log.debug("%s was not resolved: %s", target.host, error)
        found = []
    if not found or not all(policy.allows_address(address) for address in found):
        _log.debug("%s has addresses that are refused, of %d", target.host, len(found))
        raise _refused(f"{target.host} leads to no public address")
    return found


def _refused(text: str) -> StorageError:
    error = StorageError(text)
    error.__cause__ = PermissionError(errno.EACCES, "refused by the policy for URLs")  # what `storage.reason` reads
    return error


# ---- asking


async def _hop(target: _Target, policy: UrlPolicy, resolver: Resolver) -> bytes | _Target:
    """Ask one URL; return the photo, or where it has gone."""
    addresses = await _addresses(target, policy, resolver)
    from aiohttp import (
        ClientConnectorCertificateError,
        ClientConnectorError,
        ClientError,
        ClientSession,
        ClientTimeout,
    )
    from yarl import URL

    headers = {"User-Agent": f"carspotter/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
    try:
        async with (  # a session for one hop, so that no cookie is carried on
            ClientSession(
                connector=_pinned(target, addresses), trust_env=False,
                auto_decompress=False, timeout=ClientTimeout(total=None), headers=headers,
            ) as session,
            session.get(URL(target.url, encoded=True), allow_redirects=False) as response,
        ):  # fmt: skip
            return await _read(response, target, policy)
    except ClientConnectorCertificateError as error:
        raise StorageError(f"{target.host} has a certificate that cannot be verified") from error
    except (ClientConnectorError, ConnectionRefusedError) as error:
        raise StorageError(f"{target.host} cannot be reached") from error
    except TimeoutError:
        raise
    except (ClientError, OSError, ValueError) as error:  # their own texts hold addresses
        raise StorageError(f"{target.host} broke its answer off, or gave one that is no HTTP") from error


async def _read(response: ClientResponse, target: _Target, policy: UrlPolicy) -> bytes | _Target:
    if response.status in _REDIRECTS:
        return _next(response.headers.get("Location", ""), target, policy)
    if response.status != 200:
        status = response.status
        raise StorageError(f"{target.host} answered {status}, not 200") from _AnswerError(status, response.headers)
    encoding = response.headers.get("Content-Encoding", "identity").strip().casefold()
    if encoding not in ("", "identity"):
        raise _refused(f"{target.host} sent a compressed answer, which was not asked for")
    if (response.content_length or 0) > policy.max_bytes:
        raise _too_long(target, policy)
    data = bytearray()
    async for piece in response.content.iter_chunked(_CHUNK_BYTES):
        data += piece
        if len(data) > policy.max_bytes:
            raise _too_long(target, policy)
    return bytes(data)


def _next(location: str, target: _Target, policy: UrlPolicy) -> _Target:
    """Return where a redirect leads, checked like the first URL; the answer's other headers are forgotten."""
    name = f"the redirect of {target.host}"
    if not location:
        raise _refused(f"{name} says not where to")
    url = location
    if not _TREACHEROUS.search(location):  # urljoin would drop such characters, and hide them from `_parse`
        with suppress(ValueError):
            url = urljoin(target.url, location)
    following = _parse(url, policy, name)
    if target.scheme == "https" and following.scheme == "http":
        raise _refused(f"{name} leads from https to http")
    return following


def _too_long(target: _Target, policy: UrlPolicy) -> StorageError:
    error = StorageError(f"{target.host} sent more than {policy.max_bytes / 2**20:g} MiB; is it a photo?")
    error.__cause__ = OSError(errno.EFBIG, "over the limit")  # what `storage.reason` reads
    return error


def _pinned(target: _Target, addresses: Sequence[Address]) -> TCPConnector:
    """Make a connector that reaches these addresses only, whatever the name has come to mean meanwhile."""
    from aiohttp import ClientConnectionError, TCPConnector

    class Pinned(TCPConnector):
        async def connect(self, *arguments: Any, **options: Any) -> Any:
            """Connect, and look who is there before the request is written."""
            connection = await super().connect(*arguments, **options)
            peer = connection.transport.get_extra_info("peername") if connection.transport else None
            if peer is None or ip_address(peer[0]) not in addresses:
                connection.close()
                raise ClientConnectionError("another address answered than was checked")
            return connection

    return Pinned(resolver=_Checked(target, addresses), use_dns_cache=False, force_close=True)  # type: ignore[arg-type]


class _Checked:
    """Answer aiohttp's questions about one host with the addresses that were checked; implements its resolver."""

    def __init__(self, target: _Target, addresses: Sequence[Address]) -> None:
        self._target = target
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        if (host, port) != (self._target.host, self._target.port):
            raise OSError(errno.EACCES, "another host is asked for than was checked")
        return [
            {
                "hostname": host, "host": str(address), "port": port, "proto": 0,
                "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self._addresses
            if family in (0, socket.AF_INET if address.version == 4 else socket.AF_INET6)
        ]  # fmt: skip

    async def close(self) -> None:
        """Hold nothing open."""
