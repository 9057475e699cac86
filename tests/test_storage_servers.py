"""Storage against real servers with passwords: WebDAV (wsgidav) and S3 (moto), by URL and environment alone."""

import re
import socket

import pytest

from carspotter import storage, storage_errors
from carspotter.errors import StorageError
from remote_servers import PASSWORD, USER, lift_guard, make_bucket, s3_server, webdav_server

pytest.importorskip("moto")
pytest.importorskip("wsgidav")
# moto and botocore use names that Python is about to drop; wsgidav leaves sockets to the collector.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|wsgidav|werkzeug|cheroot|flask)")]

NAMES = ("a.jpg", "sub/b c#%41.JPG", "sub/deep/ü.png", "c.txt", ".hidden.jpg", "sub/.git/d.jpg")
PHOTOS = {".jpg", ".png"}


def failure(call, *arguments, **options):
    """Return reason and message of a call that must fail; no secret may stand in the message."""
    with pytest.raises(StorageError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert not re.search(r"s3cret|wrong-word", message)
    return storage_errors.reason(caught.value), message


@pytest.fixture(scope="module")
def dav(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dav")
    for name in NAMES:
        storage.write(folder / "my photos" / name, name.encode() * 1000)
    with webdav_server(folder) as address:
        yield address, folder


@pytest.fixture
def dav_url(dav, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CARSPOTTER_WEBDAV_USER", USER)
    monkeypatch.setenv("CARSPOTTER_WEBDAV_PASSWORD", PASSWORD)
    return f"webdav://{dav[0]}"


def test_webdav_lists_and_reads(dav_url):
    urls = storage.list_files(f"{dav_url}/my%20photos", PHOTOS)
    assert urls == [
        f"{dav_url}/my%20photos/a.jpg",
        f"{dav_url}/my%20photos/sub/b%20c%23%2541.JPG",
        f"{dav_url}/my%20photos/sub/deep/%C3%BC.png",
    ]
    assert [storage.read(url) for url in urls] == [name.encode() * 1000 for name in NAMES[:3]]
    assert storage.list_files(f"{dav_url}/my%20photos/", PHOTOS, recursive=False) == urls[:1]
    assert storage.list_files(f"{dav_url}/", PHOTOS) == urls
    assert storage.list_files(dav_url, PHOTOS) == urls


def test_webdav_writes(dav, dav_url):
    storage.write(f"{dav_url}/new/deep/x%20y.jpg", b"first")
    storage.write(f"{dav_url}/new/deep/x%20y.jpg", b"second")
    assert (dav[1] / "new" / "deep" / "x y.jpg").read_bytes() == b"second"


def test_webdav_user_in_the_url(dav, dav_url, monkeypatch):
    monkeypatch.delenv("CARSPOTTER_WEBDAV_USER")
    url = dav_url.replace("://", "://anna:s3cret%2Fword@")
    (found,) = storage.list_files(f"{url}/my%20photos", (".txt",))
    assert storage.read(found) == b"c.txt" * 1000
    assert failure(storage.read, f"{url}/none.jpg")[0] == "missing"


def test_webdav_refuses(dav_url, monkeypatch):
    for user, password in (("", ""), (USER, "wrong-word")):
        monkeypatch.setenv("CARSPOTTER_WEBDAV_USER", user)
        monkeypatch.setenv("CARSPOTTER_WEBDAV_PASSWORD", password)
        for call, rest in ((storage.read, ()), (storage.list_files, (PHOTOS,)), (storage.write, (b"x",))):
            why, message = failure(call, f"{dav_url}/my%20photos/a.jpg", *rest)
            assert why == "forbidden"
            assert "401" in message
            assert "check CARSPOTTER_WEBDAV_USER and CARSPOTTER_WEBDAV_PASSWORD" in message


def test_webdav_failures(dav_url):
    assert failure(storage.read, f"{dav_url}/none.jpg")[0] == "missing"
    assert failure(storage.list_files, f"{dav_url}/none", PHOTOS)[0] == "missing"
    assert "it is a file" in failure(storage.list_files, f"{dav_url}/my%20photos/a.jpg", PHOTOS)[1]
    assert failure(storage.read, f"{dav_url}/my%20photos/a.jpg", max_bytes=10)[0] == "too-large"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_nobody_answers_by_webdav(dav_url):
    url = f"webdav://127.0.0.1:{free_port()}/a"
    assert failure(storage.read, url)[0] == "unreachable"
    assert failure(storage.list_files, url, PHOTOS)[0] == "unreachable"


# ---- S3


@pytest.fixture(scope="module")
def s3():
    with pytest.MonkeyPatch.context() as patch, s3_server() as endpoint:
        patch.setenv("NO_PROXY", "127.0.0.1")
        key, secret = make_bucket(endpoint, "cars")
        yield endpoint, key, secret
        lift_guard(endpoint)


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    endpoint, key, secret = s3
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's own ~/.aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return "s3://cars"


def test_s3_writes_lists_and_reads(bucket):
    for name in ("odd/a::b.jpg", "odd/c::s3::d.jpg", "odd/e//f.jpg"):  # no chains of file systems
        storage.write(f"{bucket}/{name}", name.encode())
    odd = storage.list_files(f"{bucket}/odd", PHOTOS)
    assert [storage.read(url).decode() for url in odd] == [url.removeprefix(f"{bucket}/") for url in odd]
    assert len(odd) == 3
    for name in NAMES:
        storage.write(f"{bucket}/my photos/{name}", name.encode() * 1000)
    urls = storage.list_files(f"{bucket}/my photos", PHOTOS)
    assert urls == [f"{bucket}/my photos/{name}" for name in NAMES[:3]]
    assert [storage.read(url) for url in urls] == [name.encode() * 1000 for name in NAMES[:3]]
    assert storage.list_files(f"{bucket}/my photos/", PHOTOS, recursive=False) == urls[:1]
    assert storage.list_files(bucket, PHOTOS) == sorted(urls + odd)
    assert failure(storage.read, urls[0], max_bytes=10)[0] == "too-large"
    assert "it is a folder" in failure(storage.read, f"{bucket}/my photos/sub")[1]
    assert "it is a file" in failure(storage.list_files, urls[0], PHOTOS)[1]


def test_s3_failures(bucket):
    assert failure(storage.read, f"{bucket}/none.jpg")[0] == "missing"
    assert failure(storage.read, "s3://other-bucket/none.jpg")[0] == "missing"
    assert failure(storage.list_files, f"{bucket}/none", PHOTOS)[0] == "missing"


def test_s3_refuses(bucket, monkeypatch):
    storage.write(f"{bucket}/guarded.jpg", b"data")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-word")
    for call, rest in ((storage.read, ()), (storage.list_files, (PHOTOS,)), (storage.write, (b"x",))):
        why, message = failure(call, f"{bucket}/guarded.jpg", *rest)
        assert why == "forbidden"
        assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert failure(storage.read, f"{bucket}/guarded.jpg")[0] == "forbidden"


def test_nobody_answers_by_s3(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert failure(storage.read, f"{bucket}/a.jpg")[0] == "unreachable"
    assert failure(storage.list_files, bucket, PHOTOS)[0] == "unreachable"


def test_a_silent_s3_is_left(bucket, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        why, message = failure(storage.read, f"{bucket}/a.jpg", timeout_s=0.3)
    assert why == "timeout"
    assert "no complete answer within 0.3 s" in message
