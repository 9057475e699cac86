"""Photos by URL: fetched through the guard, from a real server on loopback that a test allows, and else refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.conftest import RED, Running, jpeg
from serving.test_app import problem

PHOTO = jpeg(RED)


class Shop(ThreadingHTTPServer):
    """Serve one photo, and count who asks."""

    asked = 0


class Handler(BaseHTTPRequestHandler):
    """Answer /car.jpg."""

    server: Shop

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200 if self.path.partition("?")[0] == "/car.jpg" else 404)
        self.send_header("content-length", str(len(PHOTO)))
        self.end_headers()
        self.wfile.write(PHOTO)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[tuple[Shop, str]]:
    """A server with a photo, and its URL."""
    with Shop(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_url_is_answered_where_it_is_allowed(serve: Callable[..., Running], shop: tuple[Shop, str]) -> None:
    http = serve(allow_urls=True, allow_networks=("127.0.0.0/8",)).http
    answer = http.post("/v1/photos", json={"url": f"{shop[1]}/car.jpg"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"
    problem(http.post("/v1/photos", json={"url": f"{shop[1]}/other.jpg"}), 422, "storage")
    ad = http.post("/v1/ads", json={"photos": [{"url": f"{shop[1]}/{name}.jpg"} for name in ("car", "other")]}).json()
    assert [photo["role"] for photo in ad["photos"]] == ["view", "unreadable"]
    assert ad["photos"][1]["prediction"]["error"]["type"] == "storage"


def test_an_ad_of_photos_that_may_be_large_is_fetched_as_it_fits(
    serve: Callable[..., Running], shop: tuple[Shop, str]
) -> None:
    http = serve(allow_urls=True, allow_networks=("127.0.0.0/8",), max_bytes=1 << 20, uploads=3 << 20).http
    ad = http.post("/v1/ads", json={"photos": [{"url": f"{shop[1]}/car.jpg?{number}"} for number in range(4)]})
    assert ad.status_code == 200, ad.text
    small = serve(allow_urls=True, allow_networks=("127.0.0.0/8",), max_bytes=3 * len(PHOTO), uploads=3 * len(PHOTO))
    assert small.http.post("/v1/photos", json={"url": f"{shop[1]}/car.jpg"}).status_code == 200
    ad = small.http.post("/v1/ads", json={"photos": [{"url": f"{shop[1]}/car.jpg?{number}"} for number in range(4)]})
    problem(ad, 413, "too-large")  # to try again is in vain


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_an_address_of_the_own_network_is_refused_and_not_asked(
    host: str, serve: Callable[..., Running], shop: tuple[Shop, str]
) -> None:
    http = serve(allow_urls=True).http
    for port in (80, shop[0].server_address[1]):
        answer = http.post("/v1/photos", json={"url": f"http://{host}:{port}/car.jpg"})
        problem(answer, 422, "storage")
    assert shop[0].asked == 0


def test_only_hosts_of_the_list_are_asked(serve: Callable[..., Running], shop: tuple[Shop, str]) -> None:
    http = serve(allow_urls=True, allow_networks=("127.0.0.0/8",), allow_hosts=(".example.com",)).http
    problem(http.post("/v1/photos", json={"url": f"{shop[1]}/car.jpg"}), 422, "storage")
    assert shop[0].asked == 0
