"""What a client may not do to the others: fill the memory, hold places, stall, or be told what is not true."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from carspotter.pixels import decode
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Prediction
from carspotter.serving import feedback, protocol
from carspotter.serving.keys import add_key, read_keys
from carspotter.serving.settings import ServeSettings
from serving.conftest import Held, Running
from serving.test_ads import ask
from serving.test_app import PHOTO, problem, send
from waiting import NEVER_S, until


def connect(service: Running) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=NEVER_S)


def is_closed(raw: socket.socket) -> bool:
    """Wait for the service to close a connection, reading what it may still say."""
    try:
        while raw.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def whole_answer(raw: socket.socket) -> bytes:
    """Read one answer to its end: head and body may come in pieces."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += raw.recv(65_536) or pytest.fail(f"closed after {read!r}")
    head, _, body = read.partition(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < int(length.partition(b":")[2]):
        body += raw.recv(65_536) or pytest.fail(f"closed after {body!r}")
    return head


# ---- connections


def send_often(raw: socket.socket, piece: bytes) -> None:
    for _ in range(2000):  # 120 MB: more than any buffer holds, so that this waits for the service to read or to end
        raw.sendall(piece)


@pytest.mark.parametrize("piece", [b"x: " + b"a" * 60_000, b"a:\r\n" * 20_000])
def test_a_head_without_end_is_cut_off(piece: bytes, service: Running) -> None:
    with connect(service) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_often(raw, piece)
    assert service.http.get("/livez").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nhost:"])
def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    with connect(service) as raw:
        raw.sendall(sent)
        assert is_closed(raw)


def test_the_rest_of_an_unwanted_body_is_not_read_for_ever(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    with connect(service) as raw:
        raw.sendall(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\nabc")
        assert is_closed(raw)


def test_a_long_body_and_a_second_request_on_one_connection_pass(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 1.0)
    padded = PHOTO + b"\0" * 300_000
    with connect(service) as raw:
        for _ in range(2):
            head = f"POST /v1/photos HTTP/1.1\nhost: x\ncontent-type: image/jpeg\ncontent-length: {len(padded)}\n\n"
            raw.sendall(head.replace("\n", "\r\n").encode() + padded[:1000])
            time.sleep(1.2)  # what is tested: time goes by, more than a head may take
            raw.sendall(padded[1000:])
            assert whole_answer(raw).startswith(b"HTTP/1.1 200")


def test_a_request_sent_behind_another_has_its_own_time(
    serve: Callable[..., Running], recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_S", 0.2)
    held = Held(recognizer)
    head = f"POST /v1/photos HTTP/1.1\nhost: x\ncontent-type: image/jpeg\ncontent-length: {len(PHOTO)}\n\n"
    with connect(serve(held, workers=1)) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" + head.replace("\n", "\r\n").encode() + PHOTO)
        assert whole_answer(raw).startswith(b"HTTP/1.1 200")
        time.sleep(0.5)  # longer than a connection may stand without a request
        held.gate.set()
        assert whole_answer(raw).startswith(b"HTTP/1.1 200")


def test_each_piece_is_sent_at_once(service: Running) -> None:
    with connect(service) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert whole_answer(raw).startswith(b"HTTP/1.1 200")
        (here,) = (one for one in service.server.server_state.connections if one.client == raw.getsockname())
        there = here.transport.get_extra_info("socket")
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- bodies


def test_a_length_that_is_no_number_python_reads(service: Running) -> None:
    with connect(service) as raw:
        head = (
            b"POST /v1/photos HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\nconnection: close\r\ncontent-length: "
        )
        raw.sendall(head + b"0" * 5000 + b"3\r\n\r\nabc")
        assert b" 415 " in whole_answer(raw).split(b"\r\n")[0]


def test_the_limit_that_is_told_is_the_limit(serve: Callable[..., Running]) -> None:
    http = serve(max_bytes=1 << 20, uploads=2 << 20).http
    for body in (b"\xff" * (3 << 20), (b"\xff" * (1 << 19) for _ in range(6))):
        answer = http.post("/v1/photos", content=body, headers={"content-type": "image/jpeg"})
        assert problem(answer, 413, "too-large") == "over the limit of 1 MiB"
    # What could never be held at once is too large, and not "busy" for ever.
    assert problem(ask(http, [b"\xff" * (1 << 20)] * 3), 413, "too-large") == "over the limit of 2 MiB"


@pytest.mark.parametrize("count", [41, 45])
def test_too_many_photos_by_any_count(count: int, service: Running) -> None:
    problem(ask(service.http, [b"x"] * count), 413, "too-many")


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape"])
def test_a_name_of_half_characters_is_written_all_the_same(charset: str, service: Running) -> None:
    name = "+2AA-" if charset == "utf-7" else "\\ud800"
    body = f'--b\r\ncontent-disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode()
    kind = f"multipart/form-data; boundary=b; charset={charset}"
    answer = service.http.post("/v1/photos", content=body + PHOTO + b"\r\n--b--\r\n", headers={"content-type": kind})
    assert answer.status_code in (200, 422)
    answer.json()


def test_words_may_come_as_a_file_and_other_files_are_not_dropped(service: Running) -> None:
    files = [("photos", PHOTO), ("declared", ("d.json", b'{"make": "Xyzzy"}'))]
    assert service.http.post("/v1/ads", files=files).json()["declared"]["verdict"] == "cannot-tell"
    files[1] = ("declared", ("d.json", b"no json"))
    problem(service.http.post("/v1/ads", files=files), 422, "wrong-value")
    files[1] = ("photo", ("2.jpg", PHOTO))
    assert "'photos'" in problem(service.http.post("/v1/ads", files=files), 422, "no-photo")


def test_an_ad_of_one_photo_at_most(serve: Callable[..., Running]) -> None:
    http = serve(max_photos=1).http
    assert ask(http, [PHOTO]).status_code == 200
    problem(http.post("/v1/ads", content=PHOTO, headers={"content-type": "image/jpeg"}), 415, "unsupported-body")
    problem(http.post("/v1/ads", json={"photos": [{"url": "https://example.com/a.jpg"}]}), 403, "no-urls")


@pytest.mark.parametrize("value", ["nan", "inf", "-5", "0", "soon"])
def test_a_wrong_deadline(value: str, service: Running) -> None:
    headers = {"content-type": "image/jpeg", "x-timeout-s": value}
    problem(service.http.post("/v1/photos", content=PHOTO, headers=headers), 422, "wrong-value")


# ---- rates


def test_who_waits_as_told_gets_the_ad_in(serve: Callable[..., Running]) -> None:
    http = serve(rate=4, burst=3, max_photos=3).http
    # On a busy machine answers may take as long as the rate needs to refill, but not each time.
    refused = next(answer for answer in (ask(http, [PHOTO] * 3) for _ in range(20)) if answer.status_code != 200)
    problem(refused, 429, "rate")
    time.sleep(int(refused.headers["retry-after"]))  # what is tested: who waits as told
    assert ask(http, [PHOTO] * 3).status_code == 200


def test_a_rate_by_address_is_not_passed_by_naming_another(serve: Callable[..., Running]) -> None:
    http = serve(rate=0.001, burst=3, max_photos=3).http
    named = [{"X-Forwarded-For": f"1.2.3.{number}"} for number in range(4)]
    answers = [http.post("/v1/photos", content=PHOTO, headers=headers) for headers in named]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


@pytest.mark.parametrize("origin", ["https://shop.example/", "shop.example", ""])
def test_an_origin_that_no_browser_sends_is_no_setting(origin: str) -> None:
    with pytest.raises(ValueError, match=r"cors has .*; write https://shop\.example"):
        ServeSettings(cors=("*", "http://localhost:3000", origin))


def test_a_burst_that_no_ad_fits_into_is_no_setting() -> None:
    with pytest.raises(ValueError, match="an ad of 40 photos"):
        ServeSettings(rate=1, burst=10)


def test_a_file_of_keys_without_a_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = add_key(file, "one")
    file.write_text(file.read_text().strip())
    second = add_key(file, "two")
    assert read_keys(file).find(first)
    assert read_keys(file).find(second)


# ---- the queue


def test_who_left_holds_no_place(serve: Callable[..., Running], recognizer: Recognizer) -> None:
    held = Held(recognizer)
    service = serve(held, queue=3, max_photos=3, batch=1, workers=1)

    def is_held(value: bool) -> bool:
        return ("carspotter_upload_bytes 0.0" not in service.http.get("/metrics").text) is value

    head = f"POST /v1/photos HTTP/1.1\nhost: x\ncontent-type: image/jpeg\ncontent-length: {len(PHOTO)}\n\n"
    for _ in range(4):
        with connect(service) as raw:
            raw.sendall(head.replace("\n", "\r\n").encode() + PHOTO)
            until(lambda: is_held(True))
        until(lambda: is_held(False))
    text = service.http.get("/metrics").text
    assert "carspotter_queue_photos 0.0" in text
    assert "carspotter_upload_bytes 0.0" in text
    held.gate.set()
    assert send(service.http, "form").status_code == 200


def test_a_recognizer_that_miscounts_kills_no_worker(serve: Callable[..., Running], recognizer: Recognizer) -> None:
    class Short(Held):
        def recognize_together(self, photos: Any, selects: Any = None) -> list[Prediction]:
            return super().recognize_together(photos, selects) if self.gate.is_set() else []

    short = Short(recognizer)
    http = serve(short, workers=1).http
    problem(send(http, "form"), 500, "fault")
    short.gate.set()
    assert send(http, "form").status_code == 200
    assert http.get("/readyz").status_code == 200


# ---- URLs


class Hanging(BaseHTTPRequestHandler):
    """Answer nothing before the end of the test."""

    def do_GET(self) -> None:
        type(self).server_hits.append(self.path)  # type: ignore[attr-defined]
        type(self).end.wait(NEVER_S)  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass


def test_urls_are_fetched_within_deadline_and_rate(serve: Callable[..., Running]) -> None:
    hits: list[str] = []
    end = threading.Event()
    handler = type("H", (Hanging,), {"server_hits": hits, "end": end})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as shop:
        shop.daemon_threads = True
        thread = threading.Thread(target=shop.serve_forever)
        thread.start()
        urls = {"photos": [{"url": f"http://127.0.0.1:{shop.server_address[1]}/{n}"} for n in range(20)]}
        service = serve(allow_urls=True, allow_networks=("127.0.0.0/8",), rate=0.01, burst=40)
        problem(service.http.post("/v1/ads", json=urls, headers={"x-timeout-s": "0.3"}), 504, "deadline")
        assert len(hits) <= 4  # what was not begun is never asked
        until(lambda: "carspotter_upload_bytes 0.0" in service.http.get("/metrics").text)
        assert service.http.post("/v1/ads", json=urls, headers={"x-timeout-s": "0.2"}).status_code == 504
        problem(service.http.post("/v1/ads", json=urls), 429, "rate")
        assert len(hits) <= 8
        end.set()
        shop.shutdown()
        thread.join()


# ---- feedback


def test_feedback_is_small_and_its_trouble_is_the_services(serve: Callable[..., Running], tmp_path: Path) -> None:
    folder = tmp_path / "feedback"
    service = serve(feedback=folder)
    problem(service.http.post("/v1/feedback", content=(b" " * 5000 for _ in range(3))), 413, "too-large")
    for wrong in (b"", b"{}", b"[]", b'{"request_id": "x", "right": true}'):
        problem(service.http.post("/v1/feedback", content=wrong), 422, "wrong-value")
    said = {"request_id": send(service.http, "form").headers["x-request-id"], "right": True}
    folder.write_text("a file stands where the folder should be")
    detail = problem(service.http.post("/v1/feedback", json=said), 500, "fault")
    assert str(tmp_path) not in detail
    folder.unlink()
    assert service.http.post("/v1/feedback", json=said).status_code == 204  # it was not lost
    assert len(list(folder.iterdir())) == 2


def test_the_same_feedback_at_once_is_kept_once(serve: Callable[..., Running], tmp_path: Path) -> None:
    service = serve(feedback=tmp_path)
    said = {"request_id": send(service.http, "form").headers["x-request-id"], "right": True}
    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(lambda _: service.http.post("/v1/feedback", json=said).status_code, range(4)))
    assert codes == [204, 404, 404, 404]
    assert len((tmp_path / "feedback.jsonl").read_text().splitlines()) == 1


def test_feedback_takes_photos_as_large_as_the_service_does(
    serve: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, int]] = []
    monkeypatch.setattr(feedback, "decode", lambda data, **limits: asked.append(limits) or decode(data, **limits))
    http = serve(feedback=tmp_path, max_pixels=90_000_000).http
    said = {"request_id": send(http, "form").headers["x-request-id"], "right": True}
    assert http.post("/v1/feedback", json=said).status_code == 204
    assert asked == [{"max_pixels": 90_000_000}]


# ---- what else is told


def test_an_unforeseen_error_passes_the_gate(recognizer: Recognizer, serve: Callable[..., Running]) -> None:
    class Odd(Held):
        @property
        def bundles(self) -> dict[str, str]:
            raise KeyError("secret")

        @bundles.setter
        def bundles(self, value: dict[str, str]) -> None:
            pass

    odd = Odd(recognizer)
    odd.gate.set()
    service = serve(odd)
    answer = ask(service.http, [PHOTO])
    problem(answer, 500, "fault")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 'carspotter_errors_total{code="fault"} 1.0' in service.http.get("/metrics").text


@pytest.mark.parametrize("path", ["/metrics/", "/static", "/v1/photos/"])
def test_nothing_is_redirected(path: str, service: Running) -> None:
    answer = service.http.request("GET", path, headers={"host": "evil.example"})
    assert answer.status_code in (404, 405)
    assert "location" not in answer.headers


def test_a_page_may_read_why_it_was_not_let_in(serve: Callable[..., Running], tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "shop")
    http = serve(keys=tmp_path / "keys", cors=("https://shop.example",)).http
    answer = http.post("/v1/photos", content=PHOTO, headers={"origin": "https://shop.example"})
    problem(answer, 401, "no-key")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    content = json.loads(http.get("/openapi.json").text)
    assert set(content["components"]["securitySchemes"]) == {"bearer", "key"}


@pytest.mark.parametrize("path", ["/", "/ad", "/livez", "/readyz"])
def test_heads_are_answered(path: str, service: Running) -> None:
    answer = service.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_page_of_review_is_not_published(service: Running) -> None:
    problem(service.http.get("/static/review.html"), 404, "not-found")
