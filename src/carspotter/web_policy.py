"""Which URLs may be asked, and which addresses may answer: the rules of `web`, which asks.

In: addresses and hosts. Out: whether they are public, or named by somebody who may name private ones. It resolves no
name and opens no connection.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from carspotter.errors import StorageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS = {"http": 80, "https": 443}

# IANA's special-purpose registry (RFC 6890) whole, also the blocks that it calls reachable: no photo lives in them.
_SPECIAL_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # looks public, but is Azure's own service to its virtual machines
    )
)
# Only 2000::/3 is given out to hosts: loopback, link-local, unique-local, multicast, mapped and NAT64 lie outside.
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocols; Teredo, which embeds IPv4, and benchmarking among them
        "2001:db8::/32",
        "3fff::/20",  # documentation
        "2002::/16",  # 6to4, which embeds IPv4
        "2620:4f:8000::/48",  # AS112
    )
)
# RFC 5214, 6.1: an ISATAP address ends in 0000:5efe or 0200:5efe and an IPv4 address.
_ISATAP = (0x00005EFE, 0x02005EFE)
_NAT64 = IPv6Network("64:ff9b::/96")
# What people's own machines and photo servers have; 100.64.0.0/10 also where a provider or a VPN gives it out.
_OWN_4 = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_OWN_6 = (IPv6Network("fc00::/7"), IPv6Network("::1/128"))
# Inside of those, where clouds give secrets to their machines: no photo server, whoever names it.
_CLOUDS = tuple(map(ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """Which URLs are fetched, and how much of them.

    `timeout_s` is for all of it: resolving, redirects, the last byte. `ports` None allows any. `allow_hosts`, where it
    is not empty, are the only hosts: `photos.example` itself, `.example` all hosts below it. `allow_networks` are
    networks that count as public, for an intranet whose photo server has a private address; `allow_private` are hosts,
    "nas.example" at any port or "nas.example:8080", that may have an address of the own machine or network.

    `is_strict` is for strangers' URLs: odd spellings, redirects from https to http and compressed answers are refused,
    no proxy is used, and unknown hosts look like private ones. `is_open` is for URLs of the machine's owner: any
    address may be reached. `headers` are sent along, `Authorization` to the first host only.
    """

    max_bytes: int
    timeout_s: float
    max_redirects: int = 5
    schemes: tuple[str, ...] = ("https", "http")
    ports: tuple[int, ...] | None = (80, 443)
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    allow_private: tuple[str, ...] = ()
    is_strict: bool = True
    is_open: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or not 0 < self.timeout_s < float("inf") or self.max_redirects < 0:
            limits = f"max_bytes={self.max_bytes}, timeout_s={self.timeout_s}, max_redirects={self.max_redirects}"
            raise ValueError(f"{limits}: the first two must be above 0 and finite, the last at least 0")
        unknown = set(self.schemes) - set(DEFAULT_PORTS)
        if unknown or not self.schemes:
            raise ValueError(f"schemes {self.schemes}: allowed are some of {', '.join(DEFAULT_PORTS)}")
        object.__setattr__(self, "allow_hosts", tuple(host.casefold().rstrip(".") for host in self.allow_hosts))

    def allows_host(self, host: str) -> bool:
        """Return whether the list of hosts, where there is one, has this host or a suffix of it."""
        return not self.allow_hosts or any(
            host == name or (name.startswith(".") and host.endswith(name)) for name in self.allow_hosts
        )

    def allows_address(self, address: Address, host: str = "", port: int = 0) -> bool:
        """Return whether an address of a host is public, in one of `allow_networks`, or of one of `allow_private`."""
        if getattr(address, "scope_id", None) is not None:
            return False  # the same address is another machine on each link
        if not self.is_strict and isinstance(address, IPv6Address) and address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)  # where a network has IPv6 alone, every host is there
        if is_public(address) or any(address in network for network in self.allow_networks):
            return True
        is_named = host in self.allow_private or f"{host}:{port}" in self.allow_private
        return is_named and is_of_own_network(address)


def is_public(address: Address) -> bool:
    """Return whether an address may belong to a public host.

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


def is_of_own_network(address: Address) -> bool:
    """Return whether an address is this machine's or a private network's, and none where a cloud gives out secrets."""
    networks = _OWN_4 if isinstance(address, IPv4Address) else _OWN_6
    return address not in _CLOUDS and any(address in network for network in networks)


# ---- what `storage_errors.reason` reads


class PrivateAddressError(PermissionError):
    """A host whose addresses are not public, where only those are allowed."""


class RedirectedError(PermissionError):
    """One redirect more than a policy allows; `redirect_of` reads where it leads."""

    def __init__(self, url: str) -> None:
        super().__init__(errno.EACCES, "refused by the policy for URLs")
        self.url = url


class BrokenOffError(Exception):
    """An answer that ended before its end, or that is no HTTP."""


class AnswerError(Exception):
    """A status that was not hoped for; `storage_errors.reason` and `retry_after_s` read it."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


def status_of(error: StorageError) -> int | None:
    """Return the status that a server answered where that is the error, else None."""
    return error.__cause__.status if isinstance(error.__cause__, AnswerError) else None


def redirect_of(error: StorageError) -> str | None:
    """Return the URL of the first redirect that a policy no longer allowed where that is the error, else None."""
    return error.__cause__.url if isinstance(error.__cause__, RedirectedError) else None
