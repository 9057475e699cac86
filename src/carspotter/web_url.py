"""Take a URL apart, and refuse whatever two parsers could read differently.

In: a URL and a policy. Out: scheme, host, port and path, checked, of which the URL is put together again. No name is
resolved here, and nothing is asked.
"""

from __future__ import annotations

import errno
import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from carspotter.errors import StorageError
from carspotter.web_policy import DEFAULT_PORTS, UrlPolicy

# What browsers and servers agree on; a signed URL of an object store has some 1500 characters.
_MAX_URL = 4096
_MAX_HOST = 253  # RFC 1035: 255 octets with lengths and root


# What may stand in a path or query beside letters and digits: all that browsers leave alone there, too.
_PATH, _QUERY = "/%:@!$&'()*+,;=~[]|", "/?%:@!$&'()*+,;=~[]|{}^`"
# Characters that parsers of URLs drop, or read as another character.
TREACHEROUS = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# WHATWG URL, "ends in a number": libraries read such a host as an IPv4 address, each in its own way.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that was parsed and checked, except its host's addresses; `host` is ASCII in lower case."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL put together again from checked parts: no second parser can find another host in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse(url: str, policy: UrlPolicy, name: str) -> Target:
    """Take a URL apart, refusing whatever two parsers could read differently; `name` is the URL's in messages."""
    if len(url) > _MAX_URL:
        raise refused(f"{name} has {len(url)} characters; at most {_MAX_URL} are allowed")
    if not policy.is_strict:
        url = tidied(url)
    if TREACHEROUS.search(url):
        raise refused(f"{name} holds a space, a backslash or a control character; write them as %20, %5C and so on")
    parts = _split(url, name)
    scheme = parts.scheme
    if scheme not in policy.schemes:
        raise refused(f"{name} has the scheme {scheme[:20]!r}; allowed: {', '.join(policy.schemes)}")
    if "@" in parts.netloc and policy.is_strict:
        raise refused(f"{name} holds a user name or a password; give one without")
    host = _host(parts, name)
    port = DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    if not policy.allows_host(host):
        raise refused(f"{host} is not among the hosts that are allowed")
    if not port or (policy.ports is not None and port not in policy.ports):
        allowed = "1 to 65535" if policy.ports is None else ", ".join(map(str, policy.ports))
        raise refused(f"{host}: port {port} is not allowed; allowed: {allowed}")
    # The escapes of a redirect's raw bytes are given back as those bytes; the fragment is the browser's.
    path = quote(parts.path or "/", safe=_PATH, errors="surrogateescape")
    query = quote(parts.query, safe=_QUERY, errors="surrogateescape")
    return Target(scheme=scheme, host=host, port=port, path=f"{path}?{query}" if query else path)


def ascii_host(host: str) -> str:
    """Return a host in any letters as DNS knows it ("xn--…"); raises ValueError where it can be none."""
    from yarl import URL

    return URL.build(scheme="http", host=host).raw_host or ""


def tidied(url: str) -> str:
    """Return a URL as people and sites write it in the spelling that `parse` takes: what browsers do as well."""
    before, mark, query = re.sub(r"[\t\r\n]", "", url.strip()).replace(" ", "%20").partition("?")
    url = before.replace("\\", "/") + mark + query.replace("\\", "%5C")
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        if not host.isascii():
            url = urlunsplit(parts._replace(netloc=parts.netloc.lower().replace(host, ascii_host(host))))
    return url


def _split(url: str, name: str) -> SplitResult:
    with suppress(ValueError):
        url.encode(errors="surrogateescape")  # JSON may hold half a pair, which no server can be sent
        parts = urlsplit(url)
        if parts.port is None or parts.port >= 0:  # reading the port may raise as well
            return parts
    raise refused(f"{name} is no URL: its host or its port is malformed")


def _host(parts: SplitResult, name: str) -> str:
    """Return the host, an address in its one normal spelling or a name; raises for every other spelling."""
    host = parts.hostname or ""
    if not host:
        raise refused(f"{name} names no host")
    if not host.isascii():
        raise refused(f"{name} has a host that is not ASCII; write its xn-- form")
    if parts.netloc.startswith("["):
        with suppress(ValueError):
            address = IPv6Address(host)
            if address.scope_id is None:
                return str(address)
        raise refused(f"{name} has an IPv6 address that is malformed or has a zone")
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        with suppress(ValueError):
            return str(IPv4Address(host))  # four decimal numbers without leading zeros, or ValueError
        raise refused(f"{name} spells an IPv4 address oddly; write four decimal numbers")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise refused(f"{name} has a host that is no host name")
    return host


def refused(text: str) -> StorageError:
    """Return the error of a URL that the policy refuses; `storage_errors.reason` reads its cause."""
    error = StorageError(text)
    error.__cause__ = PermissionError(errno.EACCES, "refused by the policy for URLs")
    return error
