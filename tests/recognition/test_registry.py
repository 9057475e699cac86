"""The registry: downloads from a real HTTP server on loopback that breaks off, refuses ranges, or sends other bytes."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carspotter.errors import DetectorError
from carspotter.recognition import registry
from carspotter.recognition.registry import (
    DETECTORS,
    DetectorSource,
    InputForm,
    RemoteFile,
    cache_folder,
    download,
    fetch,
)

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(http.server.ThreadingHTTPServer):
    """Serve `content` at any path; breaks off, refuses or ignores ranges as told; remembers the ranges asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cut_after: list[int] = []  # per request, bytes of the body that are sent; all when used up
        self.status: list[int] = []  # per request, an error to answer with
        self.knows_ranges = True
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        body = self.server.content
        if wanted and self.server.knows_ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut_after:
            body = body[: self.server.cut_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client hung up, which some tests want
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", registry.WEIGHTS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, name: str = "model.xml", content: bytes = CONTENT, algorithm: str = "sha256") -> RemoteFile:
    checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    return RemoteFile(url=f"{server.url}/{name}", n_bytes=len(content), checksum=checksum)


def source(*files: RemoteFile) -> DetectorSource:
    return DetectorSource(files=files, licence="none", input_form=InputForm())


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, algorithm: str) -> None:
    wanted = source(remote(server, "a.xml", algorithm=algorithm), remote(server, "a.bin", algorithm=algorithm))
    for _ in range(2):
        assert fetch(wanted, cache=tmp_path / "new" / "cache") == tmp_path / "new" / "cache" / "a.xml"
    assert server.ranges == [None, None]
    assert sorted(path.name for path in (tmp_path / "new" / "cache").iterdir()) == ["a.bin", "a.xml"]
    assert (tmp_path / "new" / "cache" / "a.xml").read_bytes() == CONTENT


def test_a_download_that_breaks_off_goes_on_by_itself(server: Server, tmp_path: Path) -> None:
    server.cut_after = [len(CONTENT) // 2]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_after_three_breaks_the_part_stays_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 200_000, 100_000]
    with pytest.raises(DetectorError, match=r"got 600000 of 1048576 bytes.*run again to go on"):
        download(remote(server), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.xml.part"]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-", "bytes=600000-"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=2), ranges=st.booleans())
def test_wherever_it_breaks_off_the_file_is_whole(
    server: Server, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], ranges: bool
) -> None:
    server.cut_after, server.knows_ranges = list(cuts), ranges
    assert download(remote(server), tmp_path_factory.mktemp("cut")).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "model.xml.part").write_bytes(CONTENT[:1000])
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_removes_the_file(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DetectorError, match=r"not the published file, its checksum is sha256:.*removed: try again"):
        download(remote(server), tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_longer_file_is_not_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT * 20
    with pytest.raises(DetectorError, match="it has 1048577 bytes, not 1048576"):
        download(remote(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_shorter_file_is_told(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:1000]
    with pytest.raises(DetectorError, match="got 1000 of 1048576 bytes"):
        download(remote(server), tmp_path)


def test_a_part_of_an_older_file_is_found_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.xml.part").write_bytes(b"old" * 1000)
    with pytest.raises(DetectorError, match="checksum"):
        download(remote(server), tmp_path)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, status: int) -> None:
    server.status = [status] * 9
    with pytest.raises(DetectorError, match=rf"answers {status} .*CARSPOTTER_WEIGHTS"):
        download(remote(server), tmp_path)
    assert len(server.ranges) == 1


def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.status = [503, 500]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_no_server_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    gone = replace(remote(server), url="http://127.0.0.1:9/model.xml")  # port 9 discards, and nobody listens
    with pytest.raises(DetectorError, match="got 0 of 1048576 bytes"):
        download(gone, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/model.xml", "model.xml"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DetectorError, match="only http and https"):
        download(RemoteFile(url=url, n_bytes=1, checksum="sha256:0"), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DetectorError, match="cannot be kept in"):
        download(remote(server), tmp_path / "file")


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_bytes(CONTENT[:-1] + b"!")
    assert fetch(source(remote(server)), cache=tmp_path).read_bytes() == CONTENT


def test_the_named_folder_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = source(remote(server, "a.xml"), remote(server, "a.bin"))
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(named))
    (named / "a.xml").write_bytes(CONTENT)
    assert fetch(wanted, cache=tmp_path / "cache").parent == tmp_path / "cache"  # one of two files is no detector
    (named / "a.bin").write_bytes(CONTENT)
    server.ranges.clear()
    assert fetch(wanted, cache=tmp_path / "other") == named / "a.xml"
    assert server.ranges == []
    (named / "a.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DetectorError, match=r"a\.bin .*is not the published file, it has 1048575 bytes"):
        fetch(wanted, cache=tmp_path / "other")


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_what_is_registered_is_complete(name: str) -> None:
    entry = DETECTORS[name]
    assert [file.name for file in entry.files] == [f"{name}.xml", f"{name}.bin"]
    for file in entry.files:
        algorithm, _, digest = file.checksum.partition(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
        assert file.url.startswith("https://storage.openvinotoolkit.org/")
        assert file.n_bytes > 0


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/carspotter"),
        ("linux", {"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/carspotter"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/carspotter"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/carspotter/Cache"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str) -> None:
    monkeypatch.setattr(registry.sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder().as_posix() == expected
