"""The guarded fetch: every special address and spelling is refused, nothing connects, and answers are bounded.

Servers are real ones on loopback. Which of them count as public is said by `allow_networks`: 127.0.0.2 does, 127.0.0.1
and ::1 stand for the own network. An audit hook of Python sees every connection that this process tries.
"""

import asyncio
import gzip
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter import storage_errors, web
from carspotter.errors import StorageError
from carspotter.web import fetch
from carspotter.web_policy import UrlPolicy, is_public
from carspotter.web_url import Target
from waiting import NEVER_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8")

OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"
PHOTO = b"\xff\xd8 a photo " * 1000
STRICT = UrlPolicy(max_bytes=1 << 20, timeout_s=NEVER_S, ports=None)
OPEN = UrlPolicy(max_bytes=1 << 20, timeout_s=NEVER_S, ports=None, allow_networks=(ip_network(f"{OUTSIDE}/32"),))
NO_ADDRESS = "leads to no public address"

tried: list[object] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        tried.append(arguments[1])


sys.addaudithook(_watch)


class Names:
    """A resolver by table; each question takes the host's next answer, and the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {host.replace("_", "."): list(answer) for host, answer in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if not answers:
            raise OSError("no such host")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Server:
    """A server that answers by path with what a test gave it, and counts who connects."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]] | bytes] = {}
        self.n_accepted = 0
        self.left = asyncio.Semaphore(0)  # once for each connection that has ended
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_accepted += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            answer = self.answers.get(request.split()[1].decode(), reply(PHOTO))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()
            self.left.release()


@asynccontextmanager
async def serving(host: str, port: int = 0) -> AsyncIterator[Server]:
    """Run a server on an address."""
    server = Server()
    listening = await asyncio.start_server(server.serve, host, port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def reply(body: bytes = b"", status: int = 200, **headers: object) -> bytes:
    """Write an HTTP answer; a header's underscores are dashes."""
    fields = {"Content_Length": len(body), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode(errors="surrogateescape") + body


def moved(location: str, status: int = 302) -> bytes:
    """Write a redirect."""
    return reply(status=status, Location=location)


def run(coroutine):
    """Run a coroutine to its end; nothing here may take long."""
    return asyncio.run(asyncio.wait_for(coroutine, NEVER_S))


def refusal(url: str, policy: UrlPolicy = STRICT, resolver: object = None) -> str:
    """Return the message of a fetch that must fail; it is one line, and no connection was tried."""
    tried.clear()
    with pytest.raises(StorageError) as caught:
        run(fetch(url, policy, resolver=resolver))
    assert tried == []
    assert storage_errors.reason(caught.value) == "forbidden"
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    return message


# ---- special addresses

EDGES_4 = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
]
CLOUDS = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd20:ce::254",
]
EDGES_6 = [
    ("::", "::"),
    ("::1", "::1"),
    ("::ffff:0:0", "::ffff:ffff:ffff"),
    ("::808:808", "::808:808"),
    ("64:ff9b::", "64:ff9b::ffff:ffff"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    ("100::", "100::ffff:ffff:ffff:ffff"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:1::1", "2001:1::3"),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
    ("2001:10::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:100::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2600::5efe:a00:1", "2600::200:5efe:a00:1"),
]
SPECIAL = [edge for pair in (*EDGES_4, *EDGES_6) for edge in dict.fromkeys(pair)] + CLOUDS
# The nearest neighbours of special blocks, and resolvers that everybody knows.
PUBLIC = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "8.8.8.8",
    "168.63.129.15",
    "2001:200::",
    "2001:db7:ffff::",
    "2001:db9::",
    "2003::",
    "2606:4700:4700::1111",
    "3ffe::1",
    "2001:4860:4860::8888",
    "3fff:1000::",
]


def bracketed(address: str) -> str:
    """Write an address as a URL's host."""
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_refused_as_itself_and_behind_a_name(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert NO_ADDRESS in refusal(f"http://{bracketed(address)}/a.jpg")
    message = refusal("http://photos.example/a.jpg", resolver=Names(photos_example=[[address]]))
    assert message == f"photos.example {NO_ADDRESS}"  # the address itself stays inside


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert STRICT.allows_address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "answer",
    [["8.8.8.8", "10.0.0.1"], ["2606:4700:4700::1111", "::1"], ["8.8.8.8", "fe80::1%2"], ["8.8.8.8", "nonsense"], []],
    ids=str,
)
def test_one_bad_address_among_good_ones_is_enough(answer: list[str]) -> None:
    assert NO_ADDRESS in refusal("http://photos.example/", resolver=Names(photos_example=[answer]))


def test_an_unknown_host_and_a_private_one_look_alike_from_outside() -> None:
    names = Names(db_internal=[["10.1.2.3"]])
    known, unknown = (refusal(f"http://{host}/", resolver=names) for host in ("db.internal", "xy.internal"))
    assert known.replace("db", "xy") == unknown


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "ip6-localhost.localdomain.invalid"])
def test_the_real_resolver_finds_nothing_public_at_home(host: str) -> None:
    assert NO_ADDRESS in refusal(f"http://{host}/")


@pytest.mark.parametrize("host", ["metadata.google.internal", "metadata", "instance-data.ec2.internal"])
def test_metadata_by_name(host: str) -> None:
    names = Names()
    names.answers[host] = [["169.254.169.254"]]
    assert NO_ADDRESS in refusal(f"http://{host}/latest/meta-data/", resolver=names)


private_4 = st.one_of(
    *(
        st.ip_addresses(v=4, network=block)
        for block in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16")
    )
)


def _nat64_48(v4: int, rest: int) -> int:
    """RFC 6052, 2.2, with the /48 of RFC 8215: the four bytes stand around the 64th bit."""
    return 0x0064FF9B0001 << 80 | (v4 >> 16) << 64 | (v4 & 0xFFFF) << 40 | rest & (1 << 40) - 1


EMBEDDINGS = {
    "mapped": lambda v4, rest: 0xFFFF << 32 | v4,
    "compatible": lambda v4, rest: v4,
    "translated": lambda v4, rest: 0xFFFF << 48 | v4,  # RFC 2765
    "6to4": lambda v4, rest: 0x2002 << 112 | v4 << 80 | rest & (1 << 80) - 1,
    "teredo": lambda v4, rest: 0x2001 << 112 | (rest & (1 << 64) - 1) << 32 | v4 ^ 0xFFFFFFFF,
    "teredo server": lambda v4, rest: 0x2001 << 112 | v4 << 64 | rest & (1 << 64) - 1,
    "nat64": lambda v4, rest: 0x0064FF9B << 96 | v4,
    "local nat64 /96": lambda v4, rest: 0x0064FF9B0001 << 80 | (rest & (1 << 48) - 1) << 32 | v4,
    "local nat64 /48": _nat64_48,
    "isatap": lambda v4, rest: 0x2600 << 112 | (rest & (1 << 48) - 1) << 64 | 0x5EFE << 32 | v4,
}


@pytest.mark.parametrize("embed", EMBEDDINGS.values(), ids=EMBEDDINGS)
@given(v4=private_4, rest=st.integers(0, (1 << 128) - 1))
def test_no_ipv6_address_carries_a_private_ipv4_one(embed, v4: IPv4Address, rest: int) -> None:
    address = IPv6Address(embed(int(v4), rest))
    assert not is_public(address)
    # Nor where the IPv4 network itself is allowed: who reads the embedding is not known.
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, allow_networks=(ip_network("0.0.0.0/0"),))
    assert not policy.allows_address(address)


@given(address=st.ip_addresses())
def test_what_passes_is_never_what_python_calls_special(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not any((address.is_private, address.is_multicast, address.is_reserved, address.is_loopback))


# ---- spellings

ODD = [
    ("http://2130706433:{port}/", "oddly"),
    ("http://0177.0.0.1:{port}/", "oddly"),
    ("http://0x7f.0.0.1:{port}/", "oddly"),
    ("http://0x7f000001:{port}/", "oddly"),
    ("http://017700000001:{port}/", "oddly"),
    ("http://127.1:{port}/", "oddly"),
    ("http://127.0.1:{port}/", "oddly"),
    ("http://127.0.0.01:{port}/", "oddly"),
    ("http://127.0.0.0x1:{port}/", "oddly"),
    ("http://127.0.0.1.:{port}/", NO_ADDRESS),
    ("http://127.0.0.1..:{port}/", "no host name"),
    ("http://0:{port}/", "oddly"),
    ("http://127.0.0.256:{port}/", "oddly"),
    ("http://0x:{port}/", "oddly"),
    ("http://127.0.0.1.0x7f000001:{port}/", "oddly"),
    ("http://LocalHost:{port}/", NO_ADDRESS),
    ("http://localhost.:{port}/", NO_ADDRESS),
    ("http://[::1]:{port}/", NO_ADDRESS),
    ("http://[0:0:0:0:0:0:0:1]:{port}/", NO_ADDRESS),
    ("http://[::ffff:127.0.0.1]:{port}/", NO_ADDRESS),
    ("http://[::ffff:7f00:1]:{port}/", NO_ADDRESS),
    ("http://[::127.0.0.1]:{port}/", NO_ADDRESS),
    ("http://[fe80::1%25lo]:{port}/", "zone"),
    ("http://[::1%lo]:{port}/", "zone"),
    ("http://[::1%]:{port}/", "zone|malformed"),
    ("http://[v1.a]:{port}/", "malformed"),
    ("http://[::1:{port}/", "malformed"),
    ("http://[127.0.0.1]:{port}/", "malformed"),
    ("http://⑫⑦.0.0.1:{port}/", "malformed|ASCII"),
    ("http://１２７.0.0.1:{port}/", "malformed|ASCII"),
    ("http://127。0。0。1:{port}/", "malformed|ASCII"),
    ("http://١٢٧.0.0.1:{port}/", "ASCII"),
    ("http://ⓛocalhost:{port}/", "ASCII"),
    ("http://localhost\u00ad:{port}/", "ASCII"),
    ("http://127.0.0.1%00.photos.example:{port}/", "host name"),
    ("http://127%2e0.0.1:{port}/", "oddly|host name"),
    ("http://photos.example@127.0.0.1:{port}/", "user name"),
    ("http://127.0.0.1:{port}@photos.example/", "user name"),
    ("http://a:b@127.0.0.1:{port}/", "user name"),
    ("http://@127.0.0.1:{port}/", "user name"),
    ("http://photos.example\\@127.0.0.1:{port}/", "backslash"),
    ("http:\\\\127.0.0.1:{port}/", "backslash"),
    ("http://127.0.0.1\\.photos.example:{port}/", "backslash"),
    ("http://127.0.0.1\t:{port}/", "control"),
    ("http://127.0\n.0.1:{port}/", "control"),
    ("ht\ttp://127.0.0.1:{port}/", "control"),
    (" http://127.0.0.1:{port}/", "space"),
    ("http://127.0.0.1:{port}/a b", "space"),
    ("http://127.0.0.1:{port}/\r\nHost: photos.example", "control"),
    ("http://127.0.0.1\x00:{port}/", "control"),
    ("http:///127.0.0.1:{port}/", "names no host"),
    ("http:127.0.0.1:{port}/", "names no host"),
    ("//127.0.0.1:{port}/", "scheme"),
    ("127.0.0.1:{port}/", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("ftp://127.0.0.1:{port}/", "scheme"),
    ("gopher://127.0.0.1:{port}/_GET", "scheme"),
    ("data:,photo", "scheme"),
    ("unix:///var/run/docker.sock", "scheme"),
    ("http+unix://%2fvar%2frun/", "scheme"),
    ("jar:http://x!/", "scheme"),
    ("http://127.0.0.1:+{port}/", "malformed"),
    ("http://127.0.0.1:٨٠/", "malformed|ASCII"),
    ("http://127.0.0.1:99999/", "malformed"),
    ("http://127.0.0.1:0/", "port 0"),
    ("", "scheme"),
    ("http://", "no host"),
    ("http://.:{port}/", "host name"),
    ("http://-a.example/", "host name"),
    ("http://a..b/", "host name"),
    ("http://" + "a" * 64 + ".example/", "host name"),
    ("http://" + "a." * 127 + "example/", "host name"),
    ("http://photos.example/" + "a" * 5000, "5022 characters"),
    ("http://photos.example/\ud800", "malformed"),
]


@pytest.mark.parametrize(("url", "message"), ODD, ids=[ascii(url)[:60] for url, _ in ODD])
def test_an_odd_spelling_reaches_nobody(url: str, message: str) -> None:
    async def attempt() -> int:
        async with serving(INSIDE) as server:
            tried.clear()
            with pytest.raises(StorageError, match=message) as caught:
                await fetch(url.replace("{port}", str(server.port)), STRICT)
            assert storage_errors.reason(caught.value) == "forbidden"
            assert "a:b" not in str(caught.value)
            assert tried == []
            return server.n_accepted

    assert run(attempt()) == 0


ONLY = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, allow_hosts=("nowhere.invalid",))


@given(
    url=st.one_of(
        st.text(),
        st.text(st.characters(categories=["N", "P", "S", "Z", "Cc", "Cs", "Ll"])).map("http://".__add__),
        st.from_regex(r"https?://[0-9a-fx.:%\[\]@\\]{1,30}/?", fullmatch=True),
    )
)
def test_any_text_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        asyncio.run(fetch(url, ONLY))
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


# ---- ports, hosts, policies


@pytest.mark.parametrize(
    "url", ["http://photos.example:8080/", "https://photos.example:22/", "http://photos.example:81/"]
)
def test_other_ports_are_refused(url: str) -> None:
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S)
    assert "allowed: 80, 443" in refusal(url, policy, Names(photos_example=[["8.8.8.8"]]))


def test_a_scheme_can_be_refused() -> None:
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, schemes=("https",))
    assert refusal("http://photos.example/", policy) == "the URL has the scheme 'http'; allowed: https"


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("photos.example", True),
        ("PHOTOS.example.", True),
        ("a.cdn.example", True),
        ("b.a.cdn.example", True),
        ("cdn.example", False),
        ("evilcdn.example", False),
        ("photos.example.evil.invalid", False),
        ("x.photos.example", False),
    ],
)
def test_a_list_of_hosts_is_exact_or_by_suffix(host: str, is_allowed: bool) -> None:
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, allow_hosts=("Photos.example", ".cdn.example"))
    message = refusal(f"http://{host}/", policy, Names())  # nobody is found, so that nobody is asked
    assert message.endswith(NO_ADDRESS if is_allowed else "is not among the hosts that are allowed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"max_redirects": -1},
        {"schemes": ("ftp",)},
        {"schemes": ()},
        {"timeout_s": float("nan")},
    ],
    ids=str,
)
def test_an_impossible_policy_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be above|allowed are"):
        UrlPolicy(**{"max_bytes": 1, "timeout_s": 1, **wrong})


# ---- real answers


def fetched(answer, policy: UrlPolicy = OPEN, path: str = "/a.jpg") -> tuple[bytes, Server]:
    """Fetch from a server that counts as public and gives one answer."""

    async def attempt() -> tuple[bytes, Server]:
        async with serving(OUTSIDE) as server:
            server.answers["/a.jpg"] = answer
            names = Names(photos_example=[[OUTSIDE]])
            data = await fetch(f"http://photos.example:{server.port}{path}", policy, resolver=names)
            assert names.asked == ["photos.example"]
            return data, server

    return run(attempt())


def failed(answer, policy: UrlPolicy = OPEN) -> tuple[str, str]:
    """Return reason and message of an answer that must fail."""
    with pytest.raises(StorageError) as caught:
        fetched(answer, policy)
    message = str(caught.value)
    assert message.startswith("photos.example ")
    assert OUTSIDE not in message
    assert "\n" not in message
    return storage_errors.reason(caught.value), message


def test_a_photo_comes_as_it_is_from_the_address_that_was_checked() -> None:
    tried.clear()
    data, server = fetched(reply(PHOTO, Content_Type="text/html"))
    assert data == PHOTO
    assert tried == [(OUTSIDE, server.port)]  # the audit hook sees what is tried
    assert server.n_accepted == 1


def test_the_request_says_who_asks_and_nothing_else(monkeypatch, tmp_path) -> None:
    (tmp_path / "netrc").write_text("machine photos.example login anna password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{INSIDE}:9")
    monkeypatch.delenv("no_proxy", raising=False)
    _, server = fetched(reply(PHOTO), path="/a%2Fb.jpg?sig=%2B%2F%3D~&x=ü#part")
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a%2Fb.jpg?sig=%2B%2F%3D~&x=%C3%BC HTTP/1.1"  # a signature must arrive as it was written
    names = sorted(line.partition(":")[0] for line in lines[1:] if line)
    assert names == ["Accept", "Accept-Encoding", "Connection", "Host", "User-Agent"]
    assert f"Host: photos.example:{server.port}" in lines
    assert "Accept-Encoding: identity" in lines


@pytest.mark.parametrize("status", [201, 204, 206, 304, 300, 401, 404, 418, 429, 500, 503])
def test_only_200_is_an_answer(status: int) -> None:
    why, message = failed(reply(status=status, Retry_After=7))
    assert message == f"photos.example answered {status}, not 200"
    assert (why == "missing") == (status == 404)
    assert (why == "server-error") == (status in (429, 500, 503))


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(reply(Content_Length=None, Connection="close"))
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()


async def endless_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(reply(Content_Length=None, Transfer_Encoding="chunked"))
    while True:
        writer.write(b"1\r\na\r\n" * 10_000)
        await writer.drain()


@pytest.mark.parametrize(
    "answer",
    [reply(b"a" * 2000), reply(b"", Content_Length=2000), reply(b"", Content_Length=10**18), endless, endless_chunks],
    ids=["sent", "announced", "announced much", "endless", "endless chunks"],
)
def test_too_much_is_stopped(answer) -> None:
    policy = UrlPolicy(max_bytes=1999, timeout_s=NEVER_S, ports=None, allow_networks=OPEN.allow_networks)
    why, message = failed(answer, policy)
    assert why == "too-large"
    assert "sent more than 0.0019" in message


def test_exactly_as_much_as_allowed_passes() -> None:
    policy = UrlPolicy(max_bytes=2000, timeout_s=NEVER_S, ports=None, allow_networks=OPEN.allow_networks)
    assert len(fetched(reply(b"a" * 2000), policy)[0]) == 2000


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()  # for ever; `run` ends what does not end


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(reply(Content_Length=100))
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def dripping_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def never_final(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [silent, dripping, dripping_headers, never_final])
def test_slow_answers_end_with_the_time(answer) -> None:
    policy = UrlPolicy(max_bytes=1000, timeout_s=0.4, ports=None, allow_networks=OPEN.allow_networks)
    assert failed(answer, policy) == ("timeout", "photos.example gave no complete answer within 0.4 s")


def test_a_slow_resolver_is_within_the_time() -> None:
    class Slow:
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return [OUTSIDE]

    with pytest.raises(StorageError, match=r"within 0\.2 s"):
        run(fetch("http://photos.example/", UrlPolicy(max_bytes=1, timeout_s=0.2), resolver=Slow()))


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"half", Content_Length=1000),
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x00" * 5000,
        reply(b"5\r\nab", Content_Length=None, Transfer_Encoding="chunked"),
        reply(b"", X="a" * 100_000),
        reply(b"ab", Content_Length="-5"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["cut", "nothing", "ssh", "status", "zeros", "chunk", "header", "negative", "two lengths"],
)
def test_a_broken_answer_is_an_error(answer: bytes) -> None:
    assert "broke its answer off" in failed(answer)[1]


def test_what_follows_the_announced_length_is_never_in_the_photo() -> None:
    try:  # whether the rest is left or makes the answer a broken one depends on the packets
        assert fetched(reply(b"photo and more", Content_Length=5))[0] == b"photo"
    except StorageError as error:
        assert "broke its answer off" in str(error)  # noqa: PT017


def test_nothing_is_unpacked() -> None:
    bomb = gzip.compress(b"\x00" * 10_000_000)
    assert "compressed" in failed(reply(bomb, Content_Encoding="gzip"))[1]
    assert fetched(reply(bomb))[0] == bomb


def test_a_host_that_is_down_is_told_by_name_only() -> None:
    async def attempt() -> None:
        async with serving(OUTSIDE) as server:
            port = server.port
        await fetch(f"http://photos.example:{port}/", OPEN, resolver=Names(photos_example=[[OUTSIDE]]))

    with pytest.raises(StorageError, match=r"^photos\.example cannot be reached$") as caught:
        run(attempt())
    assert storage_errors.reason(caught.value) == "unreachable"


# ---- redirects and names that change


async def both(start: bytes, resolver: Names, policy: UrlPolicy = OPEN) -> tuple[object, Server, Server]:
    """Fetch from the public server, whose `/a.jpg` answers with `start`; the private one has the same port."""
    async with serving(OUTSIDE) as outside, serving(INSIDE, outside.port) as inside:
        outside.answers["/a.jpg"] = start.replace(b"{port}", str(outside.port).encode())
        try:
            result: object = await fetch(f"http://photos.example:{outside.port}/a.jpg", policy, resolver=resolver)
        except StorageError as error:
            result = error
        return result, outside, inside


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/b.jpg", "b.jpg", "//photos.example:{port}/b.jpg", f"http://{OUTSIDE}:{{port}}/b.jpg"]
)
def test_a_redirect_to_the_public_is_followed(location: str, status: int) -> None:
    start = reply(status=status, Location=location, Set_Cookie="id=1; Path=/")
    result, outside, inside = run(both(start, Names(photos_example=[[OUTSIDE]])))
    assert result == PHOTO
    assert (outside.n_accepted, inside.n_accepted) == (2, 0)
    second = outside.requests[1].lower()
    assert b"cookie" not in second
    assert b"referer" not in second
    assert second.startswith(b"get /b.jpg")


REDIRECTS = [
    ("http://127.0.0.1:{port}/", NO_ADDRESS),
    ("http://[::1]:{port}/", NO_ADDRESS),
    ("//127.0.0.1:{port}/", NO_ADDRESS),
    ("http://[::ffff:127.0.0.1]:{port}/", NO_ADDRESS),
    ("http://2130706433:{port}/", "oddly"),
    ("http://169.254.169.254/latest/meta-data/", NO_ADDRESS),
    ("http://inside.example:{port}/", NO_ADDRESS),
    ("http://unknown.example:{port}/", NO_ADDRESS),
    ("file:///etc/passwd", "scheme 'file'"),
    ("data:,a", "scheme 'data'"),
    ("ftp://photos.example/", "scheme 'ftp'"),
    ("gopher://127.0.0.1:{port}/", "scheme 'gopher'"),
    ("", "not where to"),
    ("http://a:b@photos.example:{port}/", "user name"),
    ("http://photos.example:{port}@127.0.0.1/", "user name"),
    ("http://127.0.0.1:{port}\\@photos.example/", "backslash"),
    ("http://127.0\t.0.1:{port}/", "control"),
    ("http://[::1", "malformed"),
    ("http://photos.example:99999/", "malformed"),
    ("ftp:", "scheme"),
    ("http://１２７.0.0.1:{port}/", "malformed|ASCII"),
    ("http://127.0.0.1\udc80:{port}/", "malformed|ASCII|no host name"),
    ("/a.jpg", "more than 5 times"),
]


@pytest.mark.parametrize(("location", "message"), REDIRECTS, ids=[ascii(url) for url, _ in REDIRECTS])
def test_a_redirect_inside_is_refused_where_it_stands(location: str, message: str) -> None:
    names = Names(photos_example=[[OUTSIDE]], inside_example=[[INSIDE]])
    result, outside, inside = run(both(moved(location), names))
    assert inside.n_accepted == 0
    assert isinstance(result, StorageError)
    assert re.search(message, str(result))
    assert storage_errors.reason(result) == "forbidden"
    assert "a:b" not in str(result)
    assert outside.n_accepted == (6 if location == "/a.jpg" else 1)


def test_a_chain_of_public_redirects_may_not_end_inside() -> None:
    async def attempt() -> tuple[int, int]:
        async with serving(OUTSIDE) as outside, serving(INSIDE, outside.port) as inside:
            for step in range(4):
                outside.answers[f"/{step}"] = moved(f"/{step + 1}")
            outside.answers["/4"] = moved(f"http://localhost:{outside.port}/")
            with pytest.raises(StorageError, match=NO_ADDRESS):
                await fetch(f"http://{OUTSIDE}:{outside.port}/0", OPEN)
            return outside.n_accepted, inside.n_accepted

    assert run(attempt()) == (5, 0)


@pytest.mark.parametrize("n_redirects", [0, 1, 5])
def test_as_many_redirects_as_allowed(n_redirects: int) -> None:
    async def attempt(limit: int) -> bytes:
        policy = UrlPolicy(
            max_bytes=1 << 20, timeout_s=NEVER_S, ports=None, max_redirects=limit, allow_networks=OPEN.allow_networks
        )
        async with serving(OUTSIDE) as server:
            server.answers |= {f"/{step}": moved(f"/{step + 1}") for step in range(n_redirects)}
            return await fetch(f"http://{OUTSIDE}:{server.port}/0", policy)

    assert run(attempt(n_redirects)) == PHOTO
    if n_redirects:
        with pytest.raises(StorageError, match=f"more than {n_redirects - 1} times"):
            run(attempt(n_redirects - 1))


def test_a_list_of_hosts_holds_for_redirects() -> None:
    policy = UrlPolicy(
        max_bytes=1 << 20,
        timeout_s=NEVER_S,
        ports=None,
        allow_networks=OPEN.allow_networks,
        allow_hosts=("photos.example",),
    )
    names = Names(photos_example=[[OUTSIDE]], other_example=[[OUTSIDE]])
    result, outside, _ = run(both(moved("http://other.example:{port}/"), names, policy))
    assert str(result) == "other.example is not among the hosts that are allowed"
    assert outside.n_accepted == 1


def test_a_name_that_changes_after_the_check_changes_nothing() -> None:
    names = Names(photos_example=[[OUTSIDE], [INSIDE]])
    result, outside, inside = run(both(reply(PHOTO), names))
    assert result == PHOTO
    assert (outside.n_accepted, inside.n_accepted) == (1, 0)
    assert names.asked == ["photos.example"]  # asked once: what was checked is what is reached


def test_a_name_that_changes_between_redirects_is_checked_again() -> None:
    names = Names(photos_example=[[OUTSIDE], [INSIDE]])
    result, outside, inside = run(both(moved("/b.jpg"), names))
    assert str(result) == f"photos.example {NO_ADDRESS}"
    assert (outside.n_accepted, inside.n_accepted) == (1, 0)


def test_without_the_guard_the_private_server_does_answer() -> None:
    """The negative control: what the tests above count is reachable, and only the policy keeps us from it."""
    policy = UrlPolicy(max_bytes=1 << 20, timeout_s=NEVER_S, ports=None, allow_networks=(ip_network("127.0.0.0/8"),))
    names = Names(photos_example=[[OUTSIDE], [INSIDE]])
    result, outside, inside = run(both(moved("/b.jpg"), names, policy))
    assert result == PHOTO
    assert (outside.n_accepted, inside.n_accepted) == (1, 1)


def test_another_address_that_answers_is_left_before_anything_is_said() -> None:
    """The second line of defence, reached only past the first: aiohttp resolves no address."""

    async def attempt() -> tuple[int, list[bytes]]:
        async with serving(INSIDE) as server:
            target = Target(scheme="http", host=INSIDE, port=server.port, path="/")
            async with aiohttp.ClientSession(connector=web._pinned(target, [IPv4Address(OUTSIDE)])) as session:
                with pytest.raises(aiohttp.ClientConnectionError, match="another address answered"):
                    await session.get(target.url)
            # The server has read to the end of the connection: had anything been sent, it would be here.
            await server.left.acquire()
            return server.n_accepted, server.requests

    assert run(attempt()) == (1, [])


# ---- TLS, in a process of its own: which authorities are trusted is read once

SECURE = """
import asyncio, ssl, sys
sys.path[:0] = [sys.argv[3]]
from test_web import OPEN, OUTSIDE, Names, fetch, reply, moved, Server, PHOTO
from carspotter.errors import StorageError

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = Server()
    listening = await asyncio.start_server(server.serve, OUTSIDE, 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    server.answers["/down"] = moved(f"http://photos.example:{port}/a.jpg")
    for host, path in (("photos", "/a.jpg"), ("photos", "/down"), ("other", "/a.jpg")):
        names = Names(photos_example=[[OUTSIDE]], other_example=[[OUTSIDE]])
        try:
            data = await fetch(f"https://{host}.example:{port}{path}", OPEN, resolver=names)
            print(data == PHOTO)
        except StorageError as error:
            print(error)
    listening.close()

asyncio.run(main())
"""


def test_a_certificate_is_verified_and_https_never_becomes_http(tmp_path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    _certify("photos.example", certificate, key)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SECURE, certificate, key, Path(__file__).parent],
        env={**os.environ, "SSL_CERT_FILE": str(certificate)},
        capture_output=True,
        text=True,
        timeout=NEVER_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True",
        "the redirect of photos.example leads from https to http",
        "other.example has a certificate that cannot be verified",
    ]


def _certify(host: str, certificate, key) -> None:
    """Write a certificate that signs itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


# ---- the owner's own sources: spelled as people spell, and still kept out of the own network

LENIENT = UrlPolicy(
    max_bytes=1 << 20, timeout_s=NEVER_S, ports=None, is_strict=False, allow_networks=OPEN.allow_networks
)


def why(url: str, policy: UrlPolicy = LENIENT, resolver: object = None) -> str:
    """Return the reason of a fetch that must fail."""
    with pytest.raises(StorageError) as caught:
        run(fetch(url, policy, resolver=resolver))
    return storage_errors.reason(caught.value)


@pytest.mark.parametrize("address", [*CLOUDS, "127.0.0.1", "10.0.0.1", "::1", "fe80::1", "::ffff:127.0.0.1", "fd00::1"])
def test_a_private_address_is_told_as_such(address: str) -> None:
    tried.clear()
    assert why(f"http://{bracketed(address)}/a.jpg") == "private-address"
    assert why("http://photos.example/", resolver=Names(photos_example=[[address]])) == "private-address"
    assert tried == []
    assert why("http://photos.example/", resolver=Names()) == "unreachable"


@pytest.mark.parametrize("address", [*CLOUDS, "169.254.0.1", "0.0.0.0", "fe80::1", "224.0.0.1", "::ffff:127.0.0.1"])
def test_no_name_makes_a_clouds_secrets_or_another_link_a_photo_server(address: str) -> None:
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, is_strict=False, allow_private=("nas.example", address))
    found = ipaddress.ip_address(address)
    assert not policy.allows_address(found, "nas.example", 80)
    assert not policy.allows_address(found, address, 80)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "100.64.0.1", "::1", "fd12::1"]
)
def test_a_host_that_is_named_may_be_private_at_its_port(address: str) -> None:
    found = ipaddress.ip_address(address)
    policy = UrlPolicy(
        max_bytes=1, timeout_s=NEVER_S, is_strict=False, allow_private=("nas.example:8080", "any.example")
    )
    assert policy.allows_address(found, "nas.example", 8080)
    assert policy.allows_address(found, "any.example", 1)
    assert not policy.allows_address(found, "nas.example", 80)
    assert not policy.allows_address(found, "other.example", 8080)


def test_where_a_network_has_ipv6_alone_the_address_inside_counts() -> None:
    policy = UrlPolicy(max_bytes=1, timeout_s=NEVER_S, is_strict=False)
    assert policy.allows_address(ipaddress.ip_address("64:ff9b::808:808"))
    assert not policy.allows_address(ipaddress.ip_address("64:ff9b::7f00:1"))
    assert not policy.allows_address(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/", "http://inside.example:{port}/", "//[::1]:{port}/a"])
def test_a_redirect_inside_is_refused_for_the_owners_sources_too(location: str) -> None:
    names = Names(photos_example=[[OUTSIDE]], inside_example=[[INSIDE]])
    result, _, inside = run(both(moved(location), names, LENIENT))
    assert storage_errors.reason(result) == "private-address"
    assert inside.n_accepted == 0


def test_a_name_that_changes_between_redirects_is_checked_again_for_the_owner() -> None:
    result, _, inside = run(both(moved("/b c\\d.jpg"), Names(photos_example=[[OUTSIDE], [INSIDE]]), LENIENT))
    assert storage_errors.reason(result) == "private-address"
    assert inside.n_accepted == 0


def test_a_host_in_other_letters_is_asked_by_its_ascii_name() -> None:
    names = Names()
    for host in ("bücher.example", "BÜCHER.Example"):
        assert why(f"http://{host}/ä.jpg", resolver=names) == "unreachable"
    assert names.asked == ["xn--bcher-kva.example"] * 2


def test_a_proxy_asks_for_what_is_known_to_it_alone(monkeypatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def attempt() -> list[bytes]:
        async with serving(INSIDE) as proxy:
            monkeypatch.setenv("http_proxy", f"http://{INSIDE}:{proxy.port}")
            proxy.answers["http://photos.example:80/a.jpg"] = proxy.answers["http://photos.example/a.jpg"] = reply(
                PHOTO
            )
            assert await fetch("http://photos.example/a.jpg", LENIENT, resolver=Names()) == PHOTO
            for url in ("http://10.0.0.1/a.jpg", "http://inside.example/a.jpg"):
                with pytest.raises(StorageError, match=NO_ADDRESS):
                    await fetch(url, LENIENT, resolver=Names(inside_example=[[INSIDE]]))
            return proxy.requests

    assert len(run(attempt())) == 1
