"""The client against a small server of our own that speaks the documented HTTP, and misbehaves where told to."""

import contextlib
import email
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from carspotter import client as client_module
from carspotter.cli.remote import RemoteRecognizer
from carspotter.client import Client, ServerError
from carspotter.errors import CarspotterError, StorageError
from carspotter.records import Prediction
from waiting import NEVER_S

PREDICTION = {
    "photo": "photo",
    "width": 800,
    "height": 600,
    "kind": {"name": "exterior", "probability": 0.99},
    "vehicles": [
        {
            "box": [12.5, 80.0, 760.2, 540.9],
            "score": 0.98,
            "viewpoint": {"name": "front-left", "probability": 0.93},
            "answer": {"level": "make", "name": "Audi", "probability": 0.97},
            "levels": {"make": [{"name": "Audi", "probability": 0.97}], "model": [], "generation": [], "year": []},
            "undecided": None,
        }
    ],
    "error": None,
    "bundles": {"finder": "f", "identifier": "i"},
    "milliseconds": {"queue": 1.0, "total": 9.0},
    "undecided": None,
    "field_of_a_later_version": {"a": 1},
}
AD = {"answer": None, "undecided": "no exterior", "levels": {}, "lead": 0, "photos": [], "declared": None}


class Handler(BaseHTTPRequestHandler):
    """Take a request whole, keep it, and answer with the next thing that the test put down."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.take(b"")

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        if self.server.takes == "all":
            self.take(self.rfile.read(left))
        elif self.server.takes == "nothing":
            self.take(b"")
            self.close_connection = True
        else:
            while left and (piece := self.rfile.read(min(left, 65_536))):
                left -= len(piece)
                self.server.took(piece)
            if not left:
                self.take(b"")

    def take(self, body: bytes) -> None:
        self.server.requests.append((self.command, self.path, self.headers, body))
        status, content, headers = self.server.answers.pop(0) if self.server.answers else (200, PREDICTION, {})
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Service(ThreadingHTTPServer):
    """A service that keeps what it was asked."""

    daemon_threads = True
    takes = "all"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, email.message.Message, bytes]] = []
        self.answers: list[tuple[int, object, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def took(self, piece: bytes) -> None:
        """Forget a piece of a body that is taken by pieces."""

    def handle_error(self, *_: object) -> None:
        pass  # a client that leaves is part of the tests

    def problem(self, status: int, code: str, detail: str, **headers: str) -> None:
        content = {"type": "about:blank", "title": "T", "status": status, "detail": detail, "code": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, content | {"request_id": "r-1"}, named))


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Keep how long the client would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", waited.append)
    return waited


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / 'my "car".jpg'
    path.write_bytes(b"\xff\xd8 photo")
    return path


def failure(call: Callable[[], object]) -> ServerError:
    """Return the error of a call that must fail, in one line."""
    with pytest.raises(ServerError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.code == "server"
    assert isinstance(caught.value, CarspotterError)
    return caught.value


# ---- what is asked


@pytest.mark.parametrize("form", [str, Path, Path.read_bytes])
def test_a_photo_is_sent_as_its_bytes(
    service: Service, photo: Path, form: Callable[[Path], str | Path | bytes]
) -> None:
    given = form(photo)
    prediction = Client(service.url + "/").photo(given)
    command, path, headers, body = service.requests[0]
    assert (command, path, body) == ("POST", "/v1/photos", photo.read_bytes())
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/octet-stream", str(len(body)))
    assert headers["Authorization"] is None
    name = "photo" if isinstance(given, bytes) else str(photo)  # of bytes what the service calls them
    assert prediction == Prediction.from_dict({**PREDICTION, "photo": name})
    assert prediction.vehicles[0].answer.name == "Audi"


def test_options_key_and_a_path_before_the_api(service: Service) -> None:
    Client(service.url + "/cars", key="cs_abc").photo(b"photo", select="all", top=3)
    _, path, headers, _ = service.requests[0]
    assert urlsplit(path).path == "/cars/v1/photos"
    assert parse_qs(urlsplit(path).query) == {"select": ["all"], "top": ["3"]}
    assert headers["Authorization"] == "Bearer cs_abc"


def test_urls_are_left_to_the_service(service: Service, photo: Path) -> None:
    urls = [f"https://photos.example/{number}.jpg" for number in range(2)]
    assert Client(service.url).photo(urls[0]).photo == urls[0]
    service.answers.append((200, AD, {}))
    Client(service.url).ad(urls, declared={"title": "Audi A4"})
    with pytest.raises(ValueError, match="1 of 2 photos are URLs"):
        Client(service.url).ad([photo, urls[0]])
    assert all(request[2]["Content-Type"] == "application/json" for request in service.requests)
    assert [json.loads(request[3]) for request in service.requests] == [
        {"url": urls[0]},
        {"photos": [{"url": url} for url in urls], "declared": {"title": "Audi A4"}},
    ]


def test_an_ad_is_a_form_of_files(service: Service, photo: Path, tmp_path: Path) -> None:
    odd = tmp_path / "ü\nx.jpg"
    odd.write_bytes(b"--boundary\r\n")
    service.answers.append((200, AD, {}))
    answer = Client(service.url).ad([photo, str(odd), b"bytes"], declared={"make": "Audi", "year": 2012})
    assert answer == AD
    _, path, headers, body = service.requests[0]
    assert path == "/v1/ads"
    message = email.message_from_bytes(f"Content-Type: {headers['Content-Type']}\n\n".encode() + body, policy=HTTP)
    parts = [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True).removesuffix(b"\n"))
        for part in message.iter_parts()
    ]
    assert [name for name, _ in parts] == ["photos", "photos", "photos", "declared"]
    assert json.loads(parts[3][1]) == {"make": "Audi", "year": 2012}
    for content in (photo.read_bytes(), odd.read_bytes(), b"bytes"):
        assert b"\r\n\r\n" + content + b"\r\n--" in body
    assert b'filename="my %22car%22.jpg"' in body
    assert 'filename="ü%0Ax.jpg"'.encode() in body
    assert str(tmp_path).encode() not in body  # folders are nobody's business


def test_models_and_ready(service: Service) -> None:
    models = {"bundles": [], "limits": {"bytes": 1, "pixels": 1, "photos": 40}, "urls": False}
    service.answers += [(200, models, {}), (200, {}, {}), (503, {}, {})]
    client = Client(service.url)
    assert client.models() == models
    assert [client.ready(), client.ready()] == [True, False]
    assert [request[1] for request in service.requests] == ["/v1/models", "/readyz", "/readyz"]


def test_forty_files_never_stand_in_memory(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(1 << 20))
    service.takes = "pieces"
    service.answers.append((200, AD, {}))
    client = Client(service.url)
    tracemalloc.start()
    client.ad([path] * 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(service.requests[0][2]["Content-Length"]) > 40 << 20
    assert peak < 4 << 20


# ---- a busy service


def test_a_busy_service_is_asked_again_with_the_same_photo(service: Service, photo: Path, waits: list[float]) -> None:
    service.problem(429, "queue-full", "the queue is full", Retry_After="2")
    service.problem(503, "stopping", "the service stops")
    assert Client(service.url).photo(photo).kind.name == "exterior"
    assert waits == [2, 1.0]  # as asked, then our own growing wait
    assert [request[3] for request in service.requests] == [photo.read_bytes()] * 3


@pytest.mark.parametrize(("asked", "n_requests"), [("1", 4), ("3600", 1)])
def test_patience_ends(service: Service, waits: list[float], asked: str, n_requests: int) -> None:
    for _ in range(9):
        service.problem(429, "queue-full", "the queue is full", Retry_After=asked)
    error = failure(lambda: Client(service.url).photo(b"photo"))
    assert str(error) == f"{service.url}: the queue is full; try again in {asked} s"
    assert (error.status, error.problem, error.request_id) == (429, "queue-full", "r-1")
    assert (len(service.requests), waits) == (n_requests, [1] * (n_requests - 1))


def test_a_rate_is_waited_for_as_long_as_it_says(service: Service, waits: list[float]) -> None:
    for _ in range(6):
        service.problem(429, "rate", "your rate is reached", Retry_After="2")
    assert Client(service.url).photo(b"photo").kind.name == "exterior"
    assert waits == [2] * 6
    for _ in range(99):
        service.problem(429, "rate", "your rate is reached", Retry_After="30")
    assert failure(lambda: Client(service.url).photo(b"photo")).problem == "rate"
    assert len(waits) == 6 + client_module.RATE_WAIT_S / 30 + client_module.TRIES - 1


@pytest.mark.parametrize("text", ["soon", "-5", "1e9", "²", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_a_strange_retry_after_counts_as_none(service: Service, waits: list[float], text: str) -> None:
    service.answers.append((503, {}, {"Retry-After": text.encode().decode("latin-1")}))
    Client(service.url).photo(b"photo")
    assert waits == [0.5]


# ---- refusals


@pytest.mark.parametrize(
    ("status", "code", "detail", "message"),
    [
        (401, "no-key", "an API key is needed", "an API key is needed; give it to this client"),
        (401, "wrong-key", "this key is unknown", "this key is unknown"),
        (413, "too-large", "the photo has 30 MiB", "the photo has 30 MiB"),
        (422, "truncated", "the photo\nends early", "the photo ends early"),
        (504, "deadline", "no answer within 15 s", "no answer within 15 s"),
        (500, "fault", "the service failed", "the service failed"),
    ],
)
def test_a_refusal_is_one_line_and_final(
    service: Service, waits: list[float], status: int, code: str, detail: str, message: str
) -> None:
    service.problem(status, code, detail)
    client = Client(service.url, key=None if code == "no-key" else "cs_secret")
    error = failure(lambda: client.photo(b"photo"))
    assert str(error) == f"{service.url}: {message}"  # and no key
    assert (error.status, error.problem, error.request_id) == (status, code, "r-1")
    assert (len(service.requests), waits) == (1, [])
    assert "cs_secret" not in repr(client)


def test_a_refusal_before_the_body_was_taken_is_heard(service: Service, tmp_path: Path) -> None:
    service.takes = "nothing"
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(64 << 10))
    service.problem(413, "too-large", "the photo is too large")
    assert failure(lambda: Client(service.url).photo(large)).status == 413


def test_a_redirect_is_told_and_not_followed(service: Service) -> None:
    with listening() as other:
        service.answers.append((308, b"", {"Location": f"http://127.0.0.1:{other.getsockname()[1]}/"}))
        error = failure(lambda: Client(service.url, key="cs_secret").photo(b"photo"))
        assert "it has moved to http://127.0.0.1:" in str(error)
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):  # nobody came, so the key stayed here
            other.accept()


@pytest.mark.parametrize("path", ["/missing.jpg", "missing\x00.jpg"])
def test_a_missing_file_asks_nobody(service: Service, tmp_path: Path, path: str) -> None:
    for call in (Client(service.url).photo, lambda name: Client(service.url).ad([name])):
        with pytest.raises(StorageError, match="cannot be read"):
            call(str(tmp_path) + path)
    with pytest.raises(StorageError, match="no regular file"):
        Client(service.url).photo(tmp_path)
    assert service.requests == []


def test_a_file_is_sent_as_long_as_it_was_or_is_an_error(service: Service, tmp_path: Path) -> None:
    photo, size = tmp_path / "large.jpg", 32 << 20  # more than any socket holds
    service.takes = "pieces"
    for call, answer in ((Client(service.url).photo, PREDICTION), (lambda path: Client(service.url).ad([path]), AD)):
        photo.touch()
        os.truncate(photo, size)
        service.took = lambda piece: os.truncate(photo, 2 * size)  # type: ignore[method-assign]
        service.answers.append((200, answer, {}))
        call(photo)
        service.took = lambda piece: os.truncate(photo, 0)  # type: ignore[method-assign]
        with pytest.raises(StorageError, match="became shorter while it was sent"):
            call(photo)
    assert len(service.requests) == 2


# ---- no service, or another one


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Listen on a port and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@contextmanager
def saying(text: bytes) -> Iterator[str]:
    """Answer one connection with some bytes, whatever is asked."""
    with listening() as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_server_that_is_not_there() -> None:
    with listening() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert "connection refused; is `carspotter serve` running there?" in str(failure(lambda: Client(url).photo(b"a")))
    assert not Client(url).ready()
    assert "no such host" in str(failure(lambda: Client("http://cars.invalid").models()))


def test_a_silent_server_ends_with_the_time() -> None:
    with listening() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = failure(lambda: Client(url, timeout_s=0.2).photo(b"a"))
    assert "no answer within 0.2 s" in str(error)


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_server_that_speaks_no_http(text: bytes) -> None:
    with saying(text) as url:
        assert "broke its answer off, or speaks no HTTP" in str(failure(lambda: Client(url).models()))


def test_https_to_a_plain_port_says_so() -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        error = failure(lambda: Client(url.replace("http:", "https:")).models())
    assert "does not speak https" in str(error)
    assert isinstance(error.__cause__, ssl.SSLError)


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        *(
            (200, content, "not as a carspotter service does")
            for content in (
                b"<html>welcome</html>",
                {"detail": "a service of another kind"},
                [1, 2],
                b"\xff\xfe",
                *(
                    PREDICTION | wrong
                    for wrong in (
                        {"vehicles": [{}]},
                        {"kind": {"name": "cat", "probability": 1}},
                        {"kind": 5},
                        {"width": 0},
                    )
                ),
            )
        ),
        (404, b"<html>not found</html>", "404 Not Found; is that a carspotter service?"),
        (502, {"message": "bad gateway"}, "a proxy answered 502 Bad Gateway: the service behind it is not there"),
        (204, b"", "204 No Content"),
    ],
)
def test_a_server_that_is_no_carspotter(service: Service, status: int, content: object, message: str) -> None:
    client = Client(service.url)
    others = (client.models, client.taxonomy, lambda: client.ad([b"a"]))
    for call in (lambda: client.photo(b"a"), *(() if isinstance(content, dict) and "kind" in content else others)):
        service.answers.append((status, content, {}))
        assert message in str(failure(call))


def test_an_endless_answer_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_ANSWER_BYTES", 1000)
    service.answers.append((200, b"[" * 5000, {}))
    assert "not as a carspotter service does" in str(failure(lambda: Client(service.url).models()))


@pytest.mark.parametrize(
    "server",
    [
        "localhost:8000",
        "cars.example",
        "",
        "ftp://cars.example",
        "http://",
        "http://a:99999",
        "http://[::1",
        "http://a?b",
        "http://a#b",
        "http://a b",
        "http://a\r\nX: y",
        "http://ü.example",
        "http://user:s3cret@cars.example",
        "http://a:0",
        "http://a..b",
        "http://" + "a" * 70,
    ],
)
def test_a_wrong_address_is_told_at_once(server: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        Client(server)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("key", key) for key in ("", " a", "a\r\nX: y", "schlüssel", "a\n")),
        *(("timeout_s", seconds) for seconds in (0, -1, float("inf"), float("nan"))),
    ],
)
def test_a_wrong_key_or_time_is_told_and_no_key_repeated(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"API key|timeout_s") as caught:
        Client("http://cars.example", **{name: value})
    assert "X: y" not in str(caught.value)


def test_without_httpx_the_command_to_install_it_is_told() -> None:
    program = "import sys; sys.modules['httpx'] = None; sys.argv[1:] = ['identify', 'a.jpg', '--server', 'http://a']; "
    program += "from carspotter.cli.main import app; app()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith('httpx is not installed; run: pip install "carspotter[client]"')


# ---- where `identify` stands


def test_a_remote_recognizer_answers_in_order_and_marks_bad_photos(
    service: Service, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Event()

    def take(handler: Handler, body: bytes) -> None:
        width = int(body or b"0")
        if width == 1:  # answers come in another order than questions
            second.wait(NEVER_S)
        if width == 7:
            content = {"detail": "the photo ends early", "code": "truncated"}
        else:
            content = PREDICTION | {"width": width}
        data = json.dumps(content).encode()
        handler.send_response(422 if width == 7 else 200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        if width == 2:
            second.set()

    monkeypatch.setattr(Handler, "take", take)
    paths: list[str | bytes] = []
    for number in range(1, 12):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(str(number).encode())
        paths.append(str(path))
    recognizer = RemoteRecognizer(Client(service.url), select="largest", top=5)
    predictions = list(recognizer.recognize_batch([*paths, str(tmp_path / "none.jpg"), b"99"]))
    assert second.is_set()
    assert [prediction.width for prediction in predictions] == [1, 2, 3, 4, 5, 6, None, 8, 9, 10, 11, None, 99]
    assert predictions[6].error.type == "truncated"
    assert predictions[6].photo == paths[6]
    assert predictions[11].error.type == "storage"


def test_a_remote_recognizer_ends_where_the_service_refuses_all_or_nobody_asks_on(service: Service) -> None:
    recognizer = RemoteRecognizer(Client(service.url), select="all", top=1)
    predictions = recognizer.recognize_batch(b"photo" for _ in range(1000))
    assert next(predictions).width == 800
    predictions.close()
    for _ in range(20):
        service.problem(401, "no-key", "an API key is needed")
    assert failure(lambda: list(recognizer.recognize_batch(b"photo" for _ in range(1000)))).status == 401
    assert len(service.requests) < 20  # not a thousand times
    assert all("select=all&top=1" in request[1] for request in service.requests)
