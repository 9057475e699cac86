"""Reading, writing and listing: local files, a real HTTP server on loopback, and every failure in one line."""

import ast
import errno
import gc
import gzip
import os
import socket
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec import filesystem

from carspotter import storage, storage_errors
from carspotter.errors import StorageError
from full_disk import no_room_for
from waiting import NEVER_S


class Handler(BaseHTTPRequestHandler):
    """Answer by path: good, missing, failing, slow, endless, cut off, moved."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        answer = getattr(self, f"answer_{path.strip('/')}", None)
        if answer is None:
            self.send_error(404)
        else:
            answer()

    def begin(self, length=None, status=200, **headers):
        self.send_response(status)
        if length is None:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def answer_good(self):
        self.begin(600_000)
        self.wfile.write(b"photo!" * 100_000)

    def answer_packed(self):
        data = gzip.compress(b"photo!" * 1000)
        self.begin(len(data), **{"Content-Encoding": "gzip"})
        self.wfile.write(data)

    def answer_squeezed(self):
        data = zlib.compress(b"photo!" * 1000)
        self.begin(len(data), **{"Content-Encoding": "deflate"})
        self.wfile.write(data)

    def answer_bomb(self):
        data = gzip.compress(bytes(30_000_000))
        self.begin(len(data), **{"Content-Encoding": "gzip"})
        self.wfile.write(data)

    def answer_torn(self):
        data = gzip.compress(os.urandom(1000))[:-20]
        self.begin(len(data), **{"Content-Encoding": "gzip"})
        self.wfile.write(data)

    def answer_unknown(self):
        self.begin(3, **{"Content-Encoding": "br"})
        self.wfile.write(b"abc")

    def answer_gone(self):
        self.begin(0, 410)

    def answer_moved(self):
        self.begin(0, 302, Location="/good")

    def answer_forbidden(self):
        self.begin(0, 403)

    def answer_broken(self):
        self.begin(0, 500)

    def answer_cut(self):
        self.begin(1000)
        self.wfile.write(b"half")
        self.close_connection = True

    def answer_silent(self):
        self.server.stop.wait(NEVER_S)

    def answer_slow(self):
        self.begin(100)
        self.pour(b"a", 0.1)

    def answer_endless(self):
        self.begin()
        self.pour(b"a" * 65_536, 0)

    def pour(self, piece, pause):
        while not self.server.stop.wait(pause):
            try:
                self.wfile.write(piece)
                self.server.n_poured += len(piece)
            except OSError:
                return

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.daemon_threads = True
    one.stop = threading.Event()
    one.n_poured, one.asked = 0, []
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.stop.set()
    one.shutdown()
    one.server_close()
    thread.join()


@pytest.fixture
def url(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"http://127.0.0.1:{server.server_address[1]}"


def failure(call, *arguments, **options):
    """Return the message of a call that must fail, which is one line."""
    with pytest.raises(StorageError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# ---- local


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.b/c.jpg", True),
        ("s3://b/k", True),
        ("file:///a", True),
        ("S3://b", True),
        ("a.jpg", False),
        ("/a/b.jpg", False),
        (r"C:\a.jpg", False),
        ("C://a.jpg", False),
        ("a b://c", False),
        ("-", False),
    ],
)
def test_is_url(text, expected):
    assert storage.is_url(text) is expected


def test_write_then_read(tmp_path):
    path = tmp_path / "new" / "folder" / "a b#%.bin"
    for data in (b"first", b"second"):
        storage.write(str(path), data)
        assert storage.read(str(path)) == storage.read(path) == storage.read(path.as_uri()) == data
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    assert "folder" in failure(storage.write, str(tmp_path / "folder"), b"data")
    assert "cannot be written" in failure(storage.write, str(_file(tmp_path) / "b.bin"), b"data")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


def test_what_the_system_refuses_to_write_is_said_with_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert storage_errors.refusal(full) == "No space left on device; make room, then run the same command again"
    assert storage_errors.refusal(OSError(errno.EROFS, "Read-only file system")).endswith(
        "; name a folder that may be written"
    )
    assert storage_errors.refusal(OSError("odd")) == "odd"


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path):
    storage.write_together(tmp_path, {"a": b"1", "b": b"1", "last": b"1"})
    with no_room_for(1_000_000):
        said = failure(storage.write_together, tmp_path, {"a": b"2", "b": b"2" * 2_000_000, "last": b"2"}, gone=["a"])
    assert "cannot be written" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(("a", "b", "last"), b"1")
    storage.write_together(tmp_path, {"a": b"3", "last": b"3"}, gone=["b"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"3", "last": b"3"}


def _file(folder):
    path = folder / "file"
    path.write_bytes(b"123456")
    return path


def test_local_failures(tmp_path):
    path = _file(tmp_path)
    assert storage.read(str(path), max_bytes=6) == b"123456"
    assert "over the limit" in failure(storage.read, str(path), max_bytes=5)
    assert "no such file" in failure(storage.read, str(tmp_path / "none.jpg"))
    assert "it is a folder" in failure(storage.read, str(tmp_path))
    assert "cannot be read" in failure(storage.read, "a\0b")
    assert "cannot be read" in failure(storage.read, "x" * 300)
    assert "cannot be read" in failure(storage.read, "file://[a/b.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "no regular file" in failure(storage.read, str(tmp_path / "pipe.jpg"))


def test_list_files(tmp_path):
    for name in ("b.jpg", "a.JPG", "c.txt", ".hidden.jpg", "sub/d.png", ".git/e.jpg", "jpg"):
        storage.write(str(tmp_path / name), b"")
    names = storage.list_files(str(tmp_path), (".jpg", ".PNG"))
    assert names == sorted(str(tmp_path / name) for name in ("b.jpg", "a.JPG", "sub/d.png"))
    assert len(storage.list_files(tmp_path.as_uri(), (".jpg", ".PNG"), recursive=False)) == 2
    assert storage.list_files(str(tmp_path), (".avif",)) == []
    assert "no such" in failure(storage.list_files, str(tmp_path / "none"), (".jpg",))
    assert "it is a file" in failure(storage.list_files, str(tmp_path / "b.jpg"), (".jpg",))


@pytest.mark.parametrize(("error", "listed"), [(PermissionError, False), (FileNotFoundError, True)])
@pytest.mark.parametrize("name", ["", "sub"])
def test_a_folder_that_may_not_be_read_has_no_missing_files(tmp_path, monkeypatch, name, error, listed):
    for path in ("a.jpg", "sub/b.jpg", "lost+found/c.jpg"):
        storage.write(tmp_path / path, b"")
    scandir = os.scandir

    def refusing(folder):
        if folder in (str(tmp_path / name), str(tmp_path / "lost+found")):
            raise error(errno.EACCES, "no", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    if listed:
        assert len(storage.list_files(str(tmp_path), (".jpg",))) == bool(name)
    else:
        said = failure(storage.list_files, str(tmp_path), (".jpg",))
        assert said == f"{tmp_path / name} cannot be listed: permission denied"


# ---- HTTP


def test_http(url):
    for path in ("/good", "/moved", "/good?token=1"):
        assert storage.read(url + path) == b"photo!" * 100_000


@pytest.mark.parametrize(
    ("path", "message"),
    [("/none", "answered 404"), ("/forbidden", "403"), ("/broken", "500"), ("/cut", "cannot be read")],
)
def test_http_failures(url, path, message):
    assert message in failure(storage.read, url + path)


@pytest.mark.parametrize("path", ["/silent", "/slow"])
def test_a_slow_server_is_left(url, path):
    assert "no complete answer within 0.5 s" in failure(storage.read, url + path, timeout_s=0.5)


def test_an_endless_body_is_left_early(server, url):
    server.n_poured = 0
    assert "sent more than 0.953674 MiB" in failure(storage.read, url + "/endless", max_bytes=1_000_000)
    # What stands in buffers between the two sides comes on top, some megabytes.
    assert server.n_poured < 50_000_000


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be read" in failure(storage.read, f"http://127.0.0.1:{port}/a.jpg")


def test_names_without_an_address():
    assert "cannot be read" in failure(storage.read, "http://name.invalid/a.jpg", timeout_s=5)
    assert "cannot be read" in failure(storage.read, "http://")
    assert "cannot be read" in failure(storage.read, "http://[::1/a.jpg")


def test_secrets_are_not_shown(url):
    secret = url.replace("://", "://user:password@") + "/none?signature=hidden"
    message = failure(storage.read, secret)
    assert "127.0.0.1" in message
    assert not any(word in message for word in ("password", "user", "hidden"))
    message = failure(storage.read, secret.replace("/none", "/forbidden"))
    assert "hidden" not in message
    assert "password" not in message


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/good/http%3A%2F%2Fcdn/a.jpg?e=1%2F2", None),
        ("/good/a+b%2Bc.jpg?sig=a%2Bb+c%3D%3D&x=/y:z@", None),
        ("/good/%c3%bc%2e.jpg", None),
        ("/good/a[1](2),b;c=d'!*~|.jpg?q={a}[b]|^`", None),
        ("/good/50%.jpg?50%", None),
        ("/good//a/../b/./c.jpg", None),
        ("/good/a.jpg#part", "/good/a.jpg"),
        ("/good/ü b.jpg?ö= ", "/good/%C3%BC%20b.jpg?%C3%B6="),
        ("/good/a\\b.jpg?c\\d", "/good/a/b.jpg?c%5Cd"),
        ('/good/"<a>".jpg', "/good/%22%3Ca%3E%22.jpg"),
        ("/good/a\n b.jpg", "/good/a%20b.jpg"),
    ],
)
def test_an_address_is_asked_as_it_is_written(server, url, written, asked):
    server.asked.clear()
    failure(storage.read, url + written)
    assert [path for path, _ in server.asked] == [asked or written]


def test_who_asks_says_so_and_gives_a_user_where_one_is_named(server, url):
    server.asked.clear()
    storage.read(url.replace("://", "://anna:s%2Fcret@").replace("http", "HTTP", 1) + "/good")
    ((_, headers),) = server.asked
    assert headers["User-Agent"].startswith("carspotter/")
    assert headers["Authorization"] == "Basic YW5uYTpzL2NyZXQ="


def test_an_answer_is_unpacked_up_to_the_limit(url):
    for path in ("/packed", "/squeezed"):
        assert storage.read(url + path) == b"photo!" * 1000
        assert "sent more than" in failure(storage.read, url + path, max_bytes=5999)
    assert "sent more than" in failure(storage.read, url + "/bomb", max_bytes=1_000_000)
    assert "broke its answer off" in failure(storage.read, url + "/torn")
    assert "compressed" in failure(storage.read, url + "/unknown")


def test_a_photo_that_is_gone(url):
    with pytest.raises(StorageError) as caught:
        storage.read(url + "/gone")
    assert storage_errors.reason(caught.value) == "gone"


def test_http_is_not_written(url):
    assert "http does not allow that" in failure(storage.write, url + "/a.jpg", b"data")
    assert "http does not allow that" in failure(storage.list_files, url + "/", (".jpg",))


def test_connections_are_closed(url):
    # Warnings are errors here: an unclosed session would warn when it is collected.
    for _ in range(3):
        storage.read(url + "/good")
        failure(storage.read, url + "/none")
    gc.collect()


# ---- other schemes


def test_any_file_system_of_fsspec():
    storage.write("memory://box/a.jpg", b"data")
    storage.write("memory://box/sub/b.JPG", b"data")
    for name in ("c.txt", ".d.jpg", ".git/e.jpg", "sub/.f.jpg"):
        storage.write(f"memory://box/{name}", b"data")
    assert storage.read("memory://box/a.jpg") == b"data"
    assert storage.list_files("memory://box", (".jpg",)) == ["memory:///box/a.jpg", "memory:///box/sub/b.JPG"]
    assert storage.list_files("memory://box/", (".jpg",), recursive=False) == ["memory:///box/a.jpg"]
    assert "over the limit" in failure(storage.read, "memory://box/a.jpg", max_bytes=3)
    assert "no such file" in failure(storage.read, "memory://box/none")
    assert "it is a folder" in failure(storage.read, "memory://box/sub")
    assert "no such" in failure(storage.list_files, "memory://nowhere", (".jpg",))


def test_files_are_named_by_the_scheme_that_was_asked(monkeypatch):
    storage.write("memory://alias/a.jpg", b"data")
    monkeypatch.setattr(storage, "_filesystem", lambda _: (filesystem("memory"), "/alias"))
    assert storage.list_files("s3a://alias", (".jpg",)) == ["s3a:///alias/a.jpg"]


def test_unknown_schemes():
    assert "unknown scheme htps://; did you mean 'https'?" in failure(storage.read, "htps://a.b/c")
    assert "unknown scheme" in failure(storage.list_files, "quux://a", (".jpg",))


def test_a_scheme_whose_library_is_missing(monkeypatch):
    # gcsfs stands for any of them: no other test opens one, and fsspec remembers what it has imported.
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert "gs:// needs gcsfs; run: pip install gcsfs" in failure(storage.read, "gs://bucket/key.jpg")


# ---- other systems

# What Python's `errno` has on Linux, macOS and Windows alike: POSIX's names without those of streams and messages.
EVERYWHERE = {
    "E2BIG",
    "EACCES",
    "EADDRNOTAVAIL",
    "EAGAIN",
    "EBADF",
    "EBUSY",
    "ECHILD",
    "EDEADLK",
    "EDOM",
    "EDQUOT",
    "EEXIST",
    "EFAULT",
    "EFBIG",
    "EINTR",
    "EINVAL",
    "EIO",
    "EISDIR",
    "EMFILE",
    "EMLINK",
    "ENAMETOOLONG",
    "ENFILE",
    "ENODEV",
    "ENOENT",
    "ENOEXEC",
    "ENOLCK",
    "ENOMEM",
    "ENOSPC",
    "ENOSYS",
    "ENOTDIR",
    "ENOTEMPTY",
    "ENOTTY",
    "ENXIO",
    "EPERM",
    "EPIPE",
    "ERANGE",
    "EROFS",
    "ESPIPE",
    "ESRCH",
    "EXDEV",
    "EWOULDBLOCK",
    "EINPROGRESS",
    "EALREADY",
    "EADDRINUSE",
    "ETIMEDOUT",
    "ECONNREFUSED",
    "ECONNRESET",
    "ECONNABORTED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENOTCONN",
    "ELOOP",
    "errorcode",
}


def test_only_numbers_of_errors_are_named_that_every_system_has():
    for path in (Path(storage.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "errno":
                assert node.attr in EVERYWHERE, f"{path.name}: errno.{node.attr}"


def test_reasons_where_the_system_has_fewer_numbers(monkeypatch):
    error = StorageError("x")
    error.__cause__ = OSError(errno.EREMOTEIO, "x") if hasattr(errno, "EREMOTEIO") else OSError(errno.EBUSY, "x")
    assert storage_errors.reason(error) == "server-error"
    for name in set(dir(errno)) - EVERYWHERE:
        if name.startswith("E"):
            monkeypatch.delattr(errno, name)
    monkeypatch.setattr(errno, "errorcode", {getattr(errno, name): name for name in EVERYWHERE if name[1:].isupper()})
    for number, why in ((errno.ENOSPC, "no-space"), (errno.EBUSY, "server-error"), (9999, "failed")):
        error.__cause__ = OSError(number, "x")
        assert storage_errors.reason(error) == why


@pytest.mark.parametrize(
    ("url", "windows", "posix"),
    [
        ("file:///C:/cars/a%20b.jpg", r"C:\cars\a b.jpg", "/C:/cars/a b.jpg"),
        ("file:///c|/a.jpg", r"c:\a.jpg", "/c|/a.jpg"),
        ("file://localhost/D:/a.jpg", r"D:\a.jpg", "/D:/a.jpg"),
        ("file://nas/share/a.jpg", r"\\nas\share\a.jpg", "/share/a.jpg"),
        ("FILE:///a%25.jpg", r"\a%.jpg", "/a%.jpg"),
        ("file:///a/b%3F%23.jpg", r"\a\b?#.jpg", "/a/b?#.jpg"),
    ],
)
def test_files_as_urls(url, windows, posix):
    assert storage.file_path(url, is_windows=True) == windows
    assert storage.file_path(url, is_windows=False) == posix


def fail_half_way(path: Path) -> None:
    with storage.replacing(path) as temporary:
        temporary.write_bytes(b"ha")
        raise OSError("no space")


def test_a_file_that_fails_half_way_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.bin"
    storage.write(path, b"before")
    with pytest.raises(OSError, match="no space"):
        fail_half_way(path)
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    place = tmp_path / "site"
    for text in ("first", "second"):
        with storage.replacing_folder(place) as folder:
            assert list(folder.iterdir()) == []
            (folder / f"{text}.txt").write_text(text)
    with pytest.raises(ZeroDivisionError), storage.replacing_folder(place) as folder:
        (folder / "third.txt").write_text(str(1 // 0))
    assert [path.name for path in place.iterdir()] == ["second.txt"]
    assert list(tmp_path.iterdir()) == [place]
