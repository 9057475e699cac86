"""Whose photographs may be where, and how they are asked for: the rules of each source.

In: what a project's settings say of a source and of fetching. Out: for each photo's place the policy by which it is
asked, or the reason why it is not. A table or folder on this machine is its owner's own word; a site that was crawled
and a table that came from elsewhere are strangers', who may name the public internet and their own host alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal, get_args
from urllib.parse import urlsplit

from carspotter import storage
from carspotter.errors import suggestion
from carspotter.web_policy import DEFAULT_PORTS, Network, UrlPolicy

PRIVATE = "private-address"
"""The status of a photo that lies where its source may not name it: in the own network, or on this machine's disk."""

Private = Literal["never", "own", "always"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How photos are fetched; raises ValueError for a wrong value."""

    timeout_s: float = storage.TIMEOUT_S
    """Seconds for a whole answer."""
    retries: int = 4
    """How often a timeout, 429, 5xx or a broken connection is asked again."""
    parallel: int = 8
    """Requests at once, in one worker process."""
    per_host: int = 4
    """Requests at once to one host, in one worker process."""
    max_bytes: int = storage.MAX_BYTES
    """A longer file is `too-large`."""
    copy_local: bool = False
    """Copy photos from local disks into the project, too."""
    private: Private = "own"
    """Whose photos may have an address of the own network: those of a table on this machine (own), none, or all."""
    allow: tuple[str, ...] = ()
    """Networks, hosts and hosts with a port that any source may name, such as 192.168.0.0/16."""
    user_agent: str = ""
    """What servers are told in place of the project's own name."""

    def __post_init__(self) -> None:
        if self.private not in get_args(Private):
            raise ValueError(f"private is {self.private!r}; {suggestion(self.private, get_args(Private))}")
        if not self.user_agent.isprintable() or not self.user_agent.isascii():
            raise ValueError(f"user_agent is {self.user_agent!r}; it must be one line of ASCII")
        allowed_places(self.allow)
        for name, least in (("timeout_s", 0.01), ("retries", 0), ("parallel", 1), ("per_host", 1), ("max_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRules:
    """How the photographs of one source are asked for; the default is a stranger's.

    `is_own` says that the source lies on this machine. `places` are URLs and folders that the settings themselves name:
    photographs may lie below them, whoever lists them. A crawl's are asked with its `contact`, as robots.txt allows,
    `delay_s` apart and `per_host` at once.
    """

    is_own: bool = False
    places: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    contact: str = ""
    obeys_robots: bool = False
    delay_s: float = 0.0
    per_host: int | None = None

    def why_not(self, url: str) -> str | None:
        """Return why a place that is no http(s) address may not be read, or None."""
        if self.is_own or scheme_of(url) in DEFAULT_PORTS:
            return None
        if is_local(url):
            allowed = any(_is_below(url, place) for place in self.places if is_local(place))
            return None if allowed else "a site or a table from elsewhere may not name a file on this machine"
        root = _root(url)
        allowed = any(_root(place) == root for place in self.places if not is_local(place))
        return None if allowed else f"a site or a table from elsewhere may name http and https only, not {root[0]}"

    def policy(self, url: str, settings: FetchSettings) -> UrlPolicy:
        """Return the policy by which an http(s) address is asked."""
        networks, hosts = allowed_places(settings.allow)
        if self.is_own and settings.private == "own":
            hosts += (_host_of(url),)
        return UrlPolicy(
            max_bytes=settings.max_bytes,
            timeout_s=settings.timeout_s,
            ports=None,
            is_strict=False,
            is_open=settings.private == "always",
            allow_networks=networks,
            allow_private=hosts + self.own_hosts(),
            headers=self.headers(settings),
        )

    def headers(self, settings: FetchSettings) -> Mapping[str, str]:
        """Name who asks: as the settings say for all sources, or the project with the contact of a crawl."""
        from carspotter.web import user_agent

        return {"User-Agent": settings.user_agent or user_agent(self.contact)}

    def own_hosts(self) -> tuple[str, ...]:
        """Return "host:port" of the places on HTTP; a machine's names for itself are one."""
        found: dict[str, None] = {}
        origins = [_origin(place) for place in self.places if scheme_of(place) in DEFAULT_PORTS]
        ports = {port for _, port in origins} | set(DEFAULT_PORTS.values())
        for host, port in (*origins, *((host, port) for host in self.hosts for port in sorted(ports))):
            names = _LOOPBACK if host in _LOOPBACK else (host,)
            found |= dict.fromkeys(f"{name}:{port}" for name in names)
        return tuple(found)


def merged(one: SourceRules, other: SourceRules) -> SourceRules:
    """Return rules for two sources of one name: what either allows by name, the slower pace, the stricter trust."""
    limits = [limit for limit in (one.per_host, other.per_host) if limit is not None]
    return SourceRules(
        is_own=one.is_own and other.is_own,
        places=one.places + other.places,
        hosts=one.hosts + other.hosts,
        contact=one.contact or other.contact,
        obeys_robots=one.obeys_robots or other.obeys_robots,
        delay_s=max(one.delay_s, other.delay_s),
        per_host=min(limits, default=None),
    )


def allowed_places(allow: tuple[str, ...]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """Return networks and hosts that a setting names; raises ValueError for what is neither."""
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in allow:
        try:
            networks.append(ip_network(entry))
            continue
        except ValueError:
            host, port = _origin(f"//{entry}")
        if not host or "/" in entry or (port and f":{port}" not in entry):
            raise ValueError(f"allow: {entry!r} is no network, such as 192.168.0.0/16, and no host, such as nas:8080")
        hosts.append(f"{host}:{port}" if port else host)
    return tuple(networks), tuple(hosts)


def scheme_of(url: str) -> str:
    """Return a URL's scheme in lower case, "" for a path."""
    return url.partition("://")[0].casefold() if storage.is_url(url) else ""


def is_local(url: str) -> bool:
    """Return whether a place is on a disk: a path, or any `file:` however it is written."""
    return not storage.is_url(url) or scheme_of(url) == "file"


def _is_below(url: str, folder: str) -> bool:
    """Return whether a file lies below a folder, whatever steps up its path has."""
    try:
        path, root = (os.path.realpath(storage.local_path(text) or text) for text in (url, folder))
    except ValueError:
        return False
    return path.startswith(root.rstrip(os.sep) + os.sep)


def _root(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    return scheme.casefold(), rest.partition("/")[0].rpartition("@")[2].casefold()


def _host_of(url: str) -> str:
    return _origin(url)[0]


def _origin(url: str) -> tuple[str, int]:
    """Return host and port of a URL as `web` knows them; ("", 0) where it has none."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
        if not host.isascii():
            from carspotter.web_url import ascii_host

            host = ascii_host(host)
    except ValueError:
        return "", 0
    return host, port or DEFAULT_PORTS.get(parts.scheme, 0)
