"""Fetching against real servers on loopback: HTTP that fails in every way, WebDAV and S3, and from local disks."""

import hashlib
import os
import pickle
import socket
import subprocess
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from carspotter import storage
from carspotter.catalog.catalog import Catalog
from carspotter.photos.fetch import LASTING, Fetch, sweep
from carspotter.photos.hosts import Hosts
from carspotter.photos.names import folder_name, photo_name, save
from carspotter.photos.rules import FetchSettings, SourceRules
from hostile import encoded, photo
from remote_servers import PASSWORD, USER, lift_guard, make_bucket, s3_server, webdav_server
from waiting import NEVER_S

PHOTO = encoded(photo(), "JPEG", quality=90)
# Of one look and so of one hash, but of other bytes: a comment before the picture.
TWIN = PHOTO[:2] + b"\xff\xfe\x00\x06twin" + PHOTO[2:]
MIRRORED = encoded(photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG")
HTML = b"\n<!doctype html><title>Sorry</title>"


class Handler(BaseHTTPRequestHandler):
    """Answer by path; `server.asked` counts, so that a path may fail at first."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        word = self.path.strip("/").partition("/")[0].partition(".")[0]
        with self.server.lock:
            self.server.asked[self.path] += 1
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
            turn = self.server.asked[self.path]
        try:
            getattr(self, f"answer_{word}", lambda _: self.send(status=404))(turn)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def send(self, data=b"", *, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def answer_good(self, turn):
        self.send(PHOTO)

    def answer_twin(self, turn):
        self.send(TWIN)

    def answer_mirrored(self, turn):
        self.send(MIRRORED)

    def answer_html(self, turn):
        self.send(HTML)

    def answer_empty(self, turn):
        self.send()

    def answer_broken(self, turn):
        self.send(PHOTO[: len(PHOTO) // 2])

    def answer_forbidden(self, turn):
        self.send(status=403)

    def answer_gone(self, turn):
        self.send(status=410)

    def answer_unsteady(self, turn):
        self.send(*([PHOTO] if turn > 2 else []), status=200 if turn > 2 else 500)

    def answer_dying(self, turn):
        self.send(PHOTO if turn > 2 else PHOTO[:100], length=len(PHOTO))
        self.close_connection = turn <= 2

    def answer_dead(self, turn):
        self.send(PHOTO[:100], length=len(PHOTO))
        self.close_connection = True

    def answer_failing(self, turn):
        self.send(status=503)

    def answer_busy(self, turn):
        if turn == 1:
            self.send(status=429, Retry_After="1")
        else:
            self.send(PHOTO)

    def answer_hours(self, turn):
        self.send(status=503, Retry_After="7200")

    def answer_slow(self, turn):
        self.server.stop.wait(NEVER_S)

    def answer_gently(self, turn):
        self.server.stop.wait(0.05)
        self.send(PHOTO)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.daemon_threads, one.block_on_close = True, False
    one.stop, one.lock, one.asked, one.now, one.most = threading.Event(), threading.Lock(), Counter(), 0, 0
    one.url = f"http://127.0.0.1:{one.server_address[1]}"
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield one
    one.stop.set()
    one.shutdown()
    one.server_close()
    thread.join()


def stage(project, *, first_wait_s=0.01, hosts=None, attempt="1", again=(), rules=None, **settings):
    return Fetch(
        project=project,
        settings=FetchSettings(**settings),
        first_wait_s=first_wait_s,
        hosts=hosts or Hosts(short_rest_s=0.01),
        attempt=attempt,
        again=again,
        rules=rules or {},
        other_rules=SourceRules(is_own=True),
    )


def rows_of(urls, ad_id="7"):
    return [{"photo_id": f"{ad_id}/{n}", "ad_id": ad_id, "url": url, "lacks": ["files"]} for n, url in enumerate(urls)]


def fetch(project, *urls, ad_id="7", **settings):
    rows = rows_of(urls, ad_id)
    done = stage(project, **settings).process(rows)["files"]
    assert [row["photo_id"] for row in done] == [row["photo_id"] for row in rows]
    return done


def test_a_photo_lies_under_its_hash(server, tmp_path):
    first, second, twin, other = fetch(
        tmp_path, *(server.url + path for path in ("/good.jpg", "/good/again", "/twin", "/mirrored.jpg")), per_host=1
    )
    stem, suffix = photo_name(PHOTO)
    assert len(stem) == 16
    assert int(stem, 16) >= 0
    assert first == {
        "photo_id": "7/0",
        "path": f"photos/7/{stem}.jpg",
        "bytes": len(PHOTO),
        "status": "ok",
        "sha256": hashlib.sha256(PHOTO).hexdigest(),
    }
    assert second["path"] == first["path"]
    assert twin["path"] == f"photos/7/{stem}-{hashlib.sha256(TWIN).hexdigest()[:8]}.jpg"
    assert other["path"] == f"photos/7/{photo_name(MIRRORED)[0]}.png"
    for row, data in ((first, PHOTO), (twin, TWIN), (other, MIRRORED)):
        assert (tmp_path / row["path"]).read_bytes() == data
    assert len(list((tmp_path / "photos" / "7").iterdir())) == 3
    assert suffix == ".jpg"


@pytest.mark.parametrize(
    ("path", "status", "message", "asked"),
    [
        ("/unsteady", "ok", None, 3),
        ("/dying", "ok", None, 3),
        ("/broken", "ok", None, 1),
        ("/none", "missing", "answered 404", 1),
        ("/forbidden", "forbidden", "answered 403", 1),
        ("/failing", "server-error", "answered 503", 5),
        ("/dead", "server-error", "cannot be read", 5),
        ("/html", "not-a-photo", "the answer is a web page, not a photo", 1),
        ("/empty", "not-a-photo", "empty (0 bytes)", 1),
    ],
)
def test_answers(server, tmp_path, path, status, message, asked):
    (row,) = fetch(tmp_path, server.url + path)
    assert row["status"] == status
    assert message in row["message"] if message else "message" not in row
    assert server.asked[path] == asked
    assert list(tmp_path.rglob("*.part")) == []
    if path == "/broken":
        half = PHOTO[: len(PHOTO) // 2]
        assert row["path"] == f"photos/7/unreadable-{hashlib.sha256(half).hexdigest()[:16]}.jpg"


def test_limits(server, tmp_path):
    (row,) = fetch(tmp_path, server.url + "/good", max_bytes=100)
    assert row["status"] == "too-large"
    (row,) = fetch(tmp_path, server.url + "/slow", timeout_s=0.2, retries=1)
    assert row["status"] == "timeout"
    assert "no complete answer within 0.2 s" in row["message"]
    assert server.asked["/slow"] == 2


def test_a_pause_is_kept(server, tmp_path):
    start = time.monotonic()
    (row,) = fetch(tmp_path, server.url + "/busy")
    assert row["status"] == "ok"
    assert time.monotonic() - start >= 1  # at least as long as the server said
    one = stage(tmp_path)
    rows = one.process(rows_of([server.url + "/hours", server.url + "/good"]))["files"]
    assert rows[0]["status"] == "server-error"
    assert one.process(rows_of([server.url + "/good/2"]))["files"][0]["message"].endswith("asked for a pause of 7200 s")
    assert (server.asked["/hours"], server.asked["/good/2"]) == (1, 0)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_host_that_is_down_is_left_alone(server, tmp_path):
    dead = f"http://127.0.0.1:{free_port()}"
    urls = [f"{dead}/{n}.jpg" for n in range(40)] + [f"{server.url}/failing/{n}" for n in range(80)]
    one = stage(tmp_path)
    rows = one.process(rows_of([*urls, "memory://nowhere/x.jpg"]))["files"]
    count = Counter(row["status"] for row in rows)
    assert count["not-asked"] == 120 - count["unreachable"] - count["server-error"]
    assert count["missing"] == 1
    # Eight photos of the one, four times as many of the other, a few after each short rest, and those under way.
    assert 8 <= count["unreachable"] <= 8 + 3 * 4 + 3
    assert 32 <= count["server-error"] <= 32 + 3 * 4 + 3
    assert "left alone after failures in a row (unreachable)" in rows[39]["message"]
    asked = sum(server.asked.values())
    assert asked <= count["server-error"] + 8 + 3  # no photo is worth a second request by then
    assert one.process(rows_of([server.url + "/good"]))["files"][0]["status"] == "not-asked"
    assert sum(server.asked.values()) == asked


def test_a_host_rests_shortly_then_long_and_is_asked_again(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("carspotter.photos.hosts.time.monotonic", lambda: now[0])
    hosts = Hosts(max_failures=2, rest_s=300, short_rest_s=5)
    hosts.failed("h", "unreachable")
    assert (hosts.why_left("h"), hosts.pause_left_s("h"), hosts.is_doubtful("h")) == (None, 0, False)
    for wait in (5, 10, 20):
        for _ in range(3):  # those under way beside the first one do not lengthen the rest
            hosts.failed("h", "unreachable")
        assert (hosts.why_left("h"), hosts.pause_left_s("h"), hosts.is_doubtful("h")) == (None, wait, True)
        now[0] += wait
    hosts.failed("h", "unreachable")
    assert hosts.why_left("h") == "unreachable"
    assert hosts.why_left("other") is None
    now[0] += 300
    assert [hosts.why_left("h"), hosts.why_left("h")] == [None, "unreachable"]  # one may ask
    hosts.answered("h")
    assert (hosts.why_left("h"), hosts.is_doubtful("h")) == (None, False)


def test_further_requests_for_one_photo_and_answers_are_no_reason_to_rest():
    hosts = Hosts(max_failures=2)
    for _ in range(20):
        hosts.failed("h", "unreachable", is_first=False)
    assert hosts.pause_left_s("h") == 0
    for _ in range(20):
        hosts.failed("h", "timeout")
        hosts.answered("h")
    assert hosts.pause_left_s("h") == 0
    assert hosts.why_left("h") is None


@pytest.mark.parametrize("path", ["/forbidden", "/none", "/gone", "/failing"])
def test_photos_that_fail_for_good_do_not_starve_the_others(server, tmp_path, path):
    urls = [f"{server.url}{path}/{n}" for n in range(20)] + [f"{server.url}/good/{n}" for n in range(60)]
    files = {}
    build(tmp_path, urls, files, attempt="1")
    assert sum(row["status"] == "ok" for row in files.values()) == 60
    assert not any(row["status"] == "not-asked" for row in files.values())


def test_those_that_were_never_tried_come_first(server, tmp_path):
    urls = [f"{server.url}/failing/{n}" for n in range(60)] + [f"{server.url}/good/{n}" for n in range(4)]
    files = {}
    hosts = Hosts(max_failures=1, short_rest_s=0)
    build(tmp_path, urls, files, attempt="1", hosts=hosts, retries=0, per_host=1)
    unasked = {photo for photo, row in files.items() if row["status"] == "not-asked"}
    assert len(unasked) >= 40
    with Catalog.open(tmp_path) as catalog:
        one = stage(tmp_path, attempt="2")
        order = [row["photo_id"] for row in catalog.pending(one.reads, one.writes, order=one.order)]
    assert set(order[: len(unasked)]) == unasked
    for attempt in "2345678":
        # each build comes further, whatever fails
        build(
            tmp_path, urls, files, attempt=attempt, hosts=Hosts(max_failures=4, short_rest_s=0), retries=0, per_host=1
        )
    assert [files[f"7/{n}"]["status"] for n in range(60, 64)] == ["ok"] * 4


def test_requests_at_once(server, tmp_path):
    urls = [f"{server.url}/gently/{n}" for n in range(24)]
    fetch(tmp_path, *urls, per_host=3)
    # The server counts a request until its thread ends, a moment after the client has the answer.
    assert 2 <= server.most <= 4
    server.most = 0
    fetch(tmp_path, *urls, per_host=9, parallel=2)
    assert server.most <= 3


def test_one_url_of_many_photos_is_read_once(server, tmp_path):
    rows = rows_of([server.url + "/good"] * 3, "a") + rows_of([server.url + "/good"], "b")
    done = stage(tmp_path).process(rows)["files"]
    assert server.asked["/good"] == 1
    assert {row["path"].split("/")[1] for row in done} == {"a", "b"}


# ---- what a second build asks


def build(project, urls, files, *, attempt, **options):
    """Do what the project does: ask for the rows that lack a file, fetch them, append what came of it."""
    one = stage(project, attempt=attempt, **options)
    with Catalog.open(project) as catalog:
        photos = [
            {name: row[name] for name in ("photo_id", "ad_id", "url")} | {"status": "ok"} for row in rows_of(urls)
        ]
        stopped = [{"photo_id": "7/none", "ad_id": "7", "status": "no-url"}]
        stopped += [{"photo_id": "7/gone", "ad_id": "7", "url": urls[0], "status": "retired"}]
        stopped += [{"photo_id": "8/0", "ad_id": "8", "url": urls[0], "status": "ok"}]  # of an ad that is retired
        catalog.append("listing_photos", photos + stopped)
        catalog.append("listings", [{"ad_id": "7", "status": "ok"}, {"ad_id": "8", "status": "retired"}])
        rows = list(catalog.pending(one.reads, one.writes, order=one.order))
        if rows:
            catalog.append("files", one.process(rows)["files"], version=one.writes["files"])
        files |= {row["photo_id"]: row for row in catalog.rows("SELECT * FROM files")}
    return len(rows)


def test_a_second_build_asks_for_what_did_not_last(server, tmp_path):
    paths = ("/good", "/none", "/html", "/twin", "/forbidden", "/unsteady")
    urls = [server.url + path for path in paths]
    files = {}
    assert build(tmp_path, urls, files, attempt="1", retries=0) == len(urls)
    assert server.asked["/unsteady"] == 1
    assert files["7/5"]["status"] == "server-error"
    before = server.asked.copy()
    assert build(tmp_path, urls, files, attempt="2", retries=0) == 2
    assert build(tmp_path, urls, files, attempt="3", retries=0) == 2
    assert files["7/5"]["status"] == "ok"
    assert {path for path in paths if server.asked[path] > before[path]} == {"/forbidden", "/unsteady"}
    before = server.asked.copy()
    assert build(tmp_path, urls, files, attempt="4", again=("missing",)) == 2
    assert server.asked["/none"] == before["/none"] + 1
    assert set(LASTING) == {"ok", "missing", "gone", "too-large", "not-a-photo", "quarantined"}


def test_nothing_is_downloaded_twice(server, tmp_path):
    urls = [f"{server.url}/good/{n}" for n in range(20)]
    files = {}
    build(tmp_path, urls, files, attempt="1")
    assert sum(server.asked.values()) == 20
    assert build(tmp_path, urls, files, attempt="2") == 0
    assert sum(server.asked.values()) == 20


def test_a_fetch_that_was_killed_leaves_the_same_files(server, tmp_path):
    urls = [server.url + path for path in ("/good", "/twin", "/mirrored")]
    fetch(tmp_path, *urls, per_host=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*.*")}
    fetch(tmp_path, *urls, per_host=1)  # no fact was written: all are fetched again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*.*")} == before


# ---- local files


def test_local_photos_stay_where_they_are(tmp_path):
    path = tmp_path / "mine" / "ä b.jpg"
    storage.write(path, PHOTO)
    project = tmp_path / "project"
    project.mkdir()
    for url in (str(path), path.as_uri()):
        (row,) = fetch(project, url)
        assert (row["path"], row["bytes"]) == (str(path), len(PHOTO))
    assert list(project.iterdir()) == []
    (row,) = fetch(project, str(path), copy_local=True)
    assert row["path"] == f"photos/7/{photo_name(PHOTO)[0]}.jpg"
    assert (project / row["path"]).read_bytes() == PHOTO


def test_local_failures(tmp_path):
    (tmp_path / "folder").mkdir()
    rows = fetch(
        tmp_path, str(tmp_path / "none.jpg"), str(tmp_path / "folder"), "file://[a", "quux://a/b", "http://[::1/a"
    )
    assert [row["status"] for row in rows] == ["missing", "failed", "failed", "failed", "failed"]
    assert "no such file" in rows[0]["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_photo_that_may_not_be_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(PHOTO)
    path.chmod(0)
    assert fetch(tmp_path, str(path))[0]["status"] == "forbidden"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk of our own cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(server, small_disk, tmp_path):
    (tmp_path / "large.jpg").write_bytes(PHOTO + bytes(3 << 20))
    (row,) = fetch(small_disk, str(tmp_path / "large.jpg"), copy_local=True)
    assert row["status"] == "no-space"
    assert "cannot be written: No space left on device" in row["message"]
    assert fetch(small_disk, server.url + "/good")[0]["status"] == "ok"  # what was half written is gone
    assert [path.name for path in (small_disk / "photos" / "7").iterdir()] == [photo_name(PHOTO)[0] + ".jpg"]
    (small_disk / "filling").write_bytes(bytes(3 << 19))
    (row,) = fetch(small_disk, server.url + "/good/2")
    assert (row["status"], server.asked["/good/2"]) == ("no-space", 0)


def test_a_file_where_the_folder_should_be(server, tmp_path):
    (tmp_path / "photos").write_bytes(b"")
    (row,) = fetch(tmp_path, server.url + "/good")
    assert row["status"] == "failed"
    assert "the photo cannot be written" in row["message"]


# ---- WebDAV and S3


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(wsgidav|cheroot)")
def test_webdav(tmp_path, monkeypatch):
    pytest.importorskip("wsgidav")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    storage.write(tmp_path / "dav" / "a b.jpg", PHOTO)
    with webdav_server(tmp_path / "dav") as address:
        (url,) = storage.list_files(f"webdav://{USER}:s3cret%2Fword@{address}/", (".jpg",))
        monkeypatch.setenv("CARSPOTTER_WEBDAV_USER", USER)
        monkeypatch.setenv("CARSPOTTER_WEBDAV_PASSWORD", "wrong")
        url = url.replace(url[url.index("anna") : url.index("@") + 1], "")
        (row,) = fetch(tmp_path, url)
        assert row["status"] == "forbidden"
        assert "check CARSPOTTER_WEBDAV_USER" in row["message"]
        monkeypatch.setenv("CARSPOTTER_WEBDAV_PASSWORD", PASSWORD)
        (row, none) = fetch(tmp_path, url, f"webdav://{address}/none.jpg")
    assert (row["status"], none["status"]) == ("ok", "missing")
    assert (tmp_path / row["path"]).read_bytes() == PHOTO


@pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|werkzeug|flask)")
def test_s3(tmp_path, monkeypatch):
    pytest.importorskip("moto")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with s3_server() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        key, secret = make_bucket(endpoint, "ads")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        (row,) = fetch(tmp_path, "s3://ads/7/a.jpg")
        assert row["status"] == "forbidden"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        storage.write("s3://ads/7/a.jpg", PHOTO)
        urls = storage.list_files("s3://ads", (".jpg",))
        rows = fetch(tmp_path, *urls, "s3://ads/7/none.jpg")
        lift_guard(endpoint)
    assert [row["status"] for row in rows] == ["ok", "missing"]
    assert (tmp_path / rows[0]["path"]).read_bytes() == PHOTO


# ---- names, settings


@given(st.text(min_size=1, max_size=300))
def test_folder_names(ad_id):
    name = folder_name(ad_id)
    assert name == Path(name).name
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert name.isascii()
    assert len(name) <= 120
    assert not set(name) & set('<>:"/\\|?* ')
    assert not name.endswith(".")
    assert not PureWindowsPath(name).is_reserved()


DEVICES = ("CON", "con", "Nul", "AUX.jpg", "prn.", "com1", "LPT9.tar.gz", "CON.", "nul..", "COM\N{SUPERSCRIPT ONE}")
NAMES = (
    ".",
    "..",
    "...",
    "a.",
    "a..",
    " a",
    "a ",
    "a b",
    "a:b",
    "a\\b",
    "a/b",
    'a?*<>|"b',
    "%41",
    "ä",
    "a\u0308",
    "-a",
    "~",
)


@pytest.mark.parametrize("ad_id", [*DEVICES, *NAMES, *(f"ad {name}" for name in DEVICES)])
def test_an_ad_of_any_name_has_a_folder_on_every_system(tmp_path, ad_id):
    name = folder_name(ad_id)
    assert not PureWindowsPath(name).is_reserved()
    assert not name.endswith((".", " "))
    assert unquote(name) == ad_id
    assert (tmp_path / save(tmp_path, ad_id, PHOTO)).read_bytes() == PHOTO


def test_ads_that_differ_in_case_alone_lose_nothing_where_case_is_none(tmp_path):
    """A system that folds case is a folder that two names lead to."""
    (tmp_path / "photos" / "ab1").mkdir(parents=True)
    (tmp_path / "photos" / "AB1").symlink_to("ab1")
    saved = [(save(tmp_path, ad_id, data), data) for ad_id in ("ab1", "AB1") for data in (PHOTO, TWIN, MIRRORED)]
    assert len({path.casefold() for path, _ in saved}) == 3
    assert all((tmp_path / path).read_bytes() == data for path, data in saved)


@given(st.lists(st.text(min_size=1, max_size=150), unique=True, max_size=5))
def test_folder_names_differ(ad_ids):
    assert len({folder_name(ad_id) for ad_id in ad_ids}) == len(ad_ids)


def test_hostile_bytes_have_a_name(tmp_path):
    for data in (b"\xff\xd8\xff\xe0", b"BM\0\0", b"\x89PNG\r\n\x1a\n", b"\0\1\2", b"PK\3\4"):
        path = save(tmp_path, "7", data)
        assert "unreadable-" in path
        assert (tmp_path / path).read_bytes() == data
        assert save(tmp_path, "7", data) == path


def test_two_writers_of_one_name(tmp_path):
    # Threads that save two photos of one hash at once lose neither.
    found = []
    threads = [
        threading.Thread(target=lambda data=data: found.append((save(tmp_path, "7", data), data)))
        for data in (PHOTO, TWIN) * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all((tmp_path / path).read_bytes() == data for path, data in found)
    assert len(list((tmp_path / "photos" / "7").iterdir())) == 2


def test_settings():
    for wrong in ({"timeout_s": 0}, {"retries": -1}, {"parallel": 0}, {"per_host": 0}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match="it must be at least"):
            FetchSettings(**wrong)


def test_a_stage_travels(tmp_path):
    one = stage(tmp_path, attempt="2026")
    one.hosts.failed("h", "timeout")
    other = pickle.loads(pickle.dumps(one))
    assert other == one
    assert (other.name, other.writes) == ("fetch", {"files": "1.2026"})
    assert other.setup() is None


def test_what_a_kill_left_half_written_is_swept(tmp_path):
    path = save(tmp_path, "7", PHOTO)
    (tmp_path / "photos" / ".incoming" / "1f.part").write_bytes(PHOTO[:100])
    sweep(tmp_path)
    sweep(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()] == [path]
    assert save(tmp_path, "8", PHOTO) == path.replace("/7/", "/8/")
