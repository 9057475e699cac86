"""WebDAV as Apache, proxies and storage boxes speak it: redirects of folders, odd names, hosts that are not theirs."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import pytest

from carspotter import storage, storage_errors
from carspotter.errors import StorageError

USER, PASSWORD = "u1@cars.example", "p:ss/wö rd@%"
NAMES = ("a b.jpg", "c#d.jpg", "50%.jpg", "e%41.jpg", "f?g.jpg", "ü.jpg", "h&i;j=k+l.jpg", "[m](n).jpg", "o:p.jpg")


class Handler(BaseHTTPRequestHandler):
    """Answer a folder without its slash by 301, refuse unlimited depth, and spell names as `server.spell` does."""

    protocol_version = "HTTP/1.1"

    def do_PROPFIND(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path = unquote(self.path)
        place = self.server.folder / path.removeprefix("/dav").strip("/")
        if self.headers.get("Authorization") != known:
            self.send(401)
        elif not place.exists() or (place.is_file() and path.endswith("/")):
            self.send(404)
        elif place.is_dir() and not path.endswith("/"):
            self.send(301, Location=f"http://elsewhere.invalid{quote(path)}/")
        elif self.command == "GET":
            self.send(200, place.read_bytes())
        elif self.headers["Depth"] == "infinity":
            self.send(403)
        else:
            inner = sorted(place.iterdir()) if place.is_dir() and self.headers["Depth"] == "1" else []
            self.send(207, self.server.listing([place, *inner]).encode())

    def do_GET(self):
        self.do_PROPFIND()

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Serve a folder below /dav."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.spell = folder, [], lambda path: quote(path)

    def listing(self, places):
        responses = []
        for place in places:
            path = f"/dav/{place.relative_to(self.folder).as_posix()}/".replace("/./", "/")
            kind = "<D:collection/>" if place.is_dir() else ""
            href = escape(self.spell(path if place.is_dir() else path.rstrip("/")))
            prop = f"<D:prop><D:resourcetype>{kind}</D:resourcetype></D:prop>"
            responses.append(f"<D:response><D:href>{href}</D:href><D:propstat>{prop}</D:propstat></D:response>")
        return f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(responses)}</D:multistatus>'


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CARSPOTTER_WEBDAV_USER", USER)
    monkeypatch.setenv("CARSPOTTER_WEBDAV_PASSWORD", PASSWORD)
    for number, name in enumerate(NAMES):
        storage.write(tmp_path / "my cars" / "audi-a4_2010" / name, bytes([number]))
    storage.write(tmp_path / "my cars" / "my cars" / "q.jpg", b"q")  # named like its parent
    one = Server(tmp_path)
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


SPELLINGS = {
    "escaped": quote,
    "in lower case": lambda path: quote(path).replace("%C3%BC", "%c3%bc").replace("%3F", "%3f"),
    "with another host": lambda path: f"http://backend.invalid:8080{quote(path)}",
    "with another host alone": lambda path: f"//backend.invalid{quote(path)}",
    "below another path": lambda path: f"/remote.php{quote(path)}",
    "escaped as little as may be": lambda path: quote(path, safe="/&;=+[]():@!$'*,"),
    "escaped more than need be": lambda path: "/".join(
        "".join(f"%{b:02X}" for b in p.encode()) for p in path.split("/")
    ),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_files_are_listed_and_read_whatever_a_server_calls_them(server, spell, slash):
    server.spell = spell
    root = f"webdav://127.0.0.1:{server.server_address[1]}/dav/my%20cars"
    urls = storage.list_files(root + slash, (".jpg",))
    names = [*(f"audi-a4_2010/{name}" for name in NAMES), "my cars/q.jpg"]
    assert urls == sorted(f"{root}/{quote(name)}" for name in names)
    found = {unquote(url.rpartition("/")[2]): storage.read(url) for url in urls}
    assert found == {name: bytes([number]) for number, name in enumerate(NAMES)} | {"q.jpg": b"q"}
    assert storage.list_files(root + slash, (".jpg",), recursive=False) == []


def test_a_user_and_a_password_of_any_letters_in_the_address(server, monkeypatch):
    monkeypatch.delenv("CARSPOTTER_WEBDAV_USER")
    secret = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"
    (url,) = storage.list_files(f"webdav://{secret}127.0.0.1:{server.server_address[1]}/dav/my%20cars/my%20cars", "g")
    assert storage.read(url) == b"q"


def test_a_password_does_not_follow_a_redirect_to_another_host(server):
    with pytest.raises(StorageError, match=r"elsewhere\.invalid"):
        storage.read(f"webdav://127.0.0.1:{server.server_address[1]}/dav/my%20cars")  # a folder, read as a file
    assert {path for _, path in server.asked} == {"/dav/my%20cars"}


def test_a_file_is_no_folder_and_a_list_is_xml(server):
    place = f"webdav://127.0.0.1:{server.server_address[1]}/dav/my%20cars"
    with pytest.raises(StorageError, match="it is a file, not a folder"):
        storage.list_files(f"{place}/my%20cars/q.jpg", (".jpg",))
    with pytest.raises(StorageError, match="answered 404") as caught:
        storage.list_files(f"{place}/none", (".jpg",))
    assert storage_errors.reason(caught.value) == "missing"
    server.listing = lambda places: "<html>sorry"
    with pytest.raises(StorageError, match="no XML"):
        storage.list_files(place, (".jpg",))


@pytest.mark.parametrize("url", ["webdav://anna:s3/cret@127.0.0.1/a", "https://anna:s3?cret@127.0.0.1/a b"])
def test_a_password_whose_slash_was_not_escaped_is_not_shown(url):
    with pytest.raises(StorageError, match=r"127\.0\.0\.1/a") as caught:
        storage.read(url)
    assert not any(word in str(caught.value) for word in ("anna", "s3", "cret"))


def test_folders_that_lead_into_themselves_end(server):
    (server.folder / "loop").mkdir()
    Path(server.folder / "loop" / "again").symlink_to(server.folder / "loop")
    storage.write(server.folder / "loop" / "a.jpg", b"a")
    with pytest.raises(StorageError, match="folders"):
        storage.list_files(f"webdav://127.0.0.1:{server.server_address[1]}/dav/loop", (".jpg",))
