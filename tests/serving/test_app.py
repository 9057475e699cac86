"""The API over real HTTP: what it answers, what it refuses, and how it says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

from alike import alike
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Prediction
from carspotter.serving import schemas
from carspotter.serving.keys import add_key
from carspotter.taxonomy import Taxonomy
from hostile import hostile_files
from photo_drawings import encoded
from plate_drawings import drawn_plate
from serving.conftest import RED, Held, Running, jpeg
from tiny_bundles import ATTRIBUTES
from waiting import NEVER_S, until

PHOTO = jpeg(RED)


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Check that an answer is a problem of this status and code; return its words."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = schemas.ProblemShape.model_validate_json(answer.text)
    assert content.status == status
    assert content.request_id == answer.headers["x-request-id"]
    return content.detail


def send(http: httpx.Client, form: str, photo: bytes = PHOTO) -> httpx.Response:
    if form == "form":
        return http.post("/v1/photos", files={"photo": ("car.jpg", photo, "image/jpeg")})
    return http.post("/v1/photos", content=photo, headers={"content-type": form})


@pytest.mark.parametrize("form", ["form", "image/jpeg", "application/octet-stream"])
def test_a_photo_is_answered_in_every_form(form: str, service: Running, recognizer: Recognizer) -> None:
    answer = send(service.http, form)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    schemas.PredictionShape.model_validate(content)
    here = recognizer.recognize(PHOTO).to_dict()
    assert content["vehicles"][0]["answer"] == alike(here["vehicles"][0]["answer"])
    assert content["photo"] == ("car.jpg" if form == "form" else "photo")
    assert content["undecided"] is None
    assert set(content["milliseconds"]) == {"decode", "find", "identify", "queue", "total"}
    assert content["bundles"] == {"finder": "tiny-finder", "identifier": "tiny-identifier"}
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_top_and_select_are_the_requests_own(service: Running) -> None:
    two = jpeg(RED, ("blue", (600, 100, 780, 250)))

    def ask(**params: Any) -> Any:
        return service.http.post(
            "/v1/photos", params=params, content=two, headers={"content-type": "image/jpeg"}
        ).json()

    assert [len(ask(select=how)["vehicles"]) for how in ("largest", "all")] == [1, 2]
    assert [len(ask(top=top)["vehicles"][0]["levels"]["make"]) for top in (1, 2)] == [1, 2]


def test_a_photo_without_a_vehicle_says_why(service: Running) -> None:
    content = send(service.http, "form", jpeg()).json()
    assert content["vehicles"] == []
    assert content["undecided"] == "no vehicle found"


@pytest.mark.parametrize(
    ("params", "words"),
    [({"top": 0}, "top"), ({"top": 21}, "top"), ({"top": "x"}, "top"), ({"select": "most"}, "select")],
)
def test_wrong_parameters(params: dict[str, Any], words: str, service: Running) -> None:
    answer = service.http.post("/v1/photos", params=params, content=PHOTO, headers={"content-type": "image/jpeg"})
    assert words in problem(answer, 422, "wrong-value")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "image/jpeg", 422, "empty"),
        (b"plain words", "image/jpeg", 415, "unsupported-format"),
        (PHOTO[:2000], "image/jpeg", 422, "truncated"),
        (PHOTO, "text/plain", 415, "unsupported-body"),
        (b"--x\r\n", "multipart/form-data", 422, "wrong-form"),
        (b"--x\r\n", "multipart/form-data; boundary=y", 422, "wrong-form"),
        (b"{", "application/json", 422, "wrong-json"),
        (b"[1]", "application/json", 422, "wrong-json"),
        (b'{"url": 4}', "application/json", 422, "wrong-json"),
        (b"[" * 100_000, "application/json", 422, "wrong-json"),
        (b'{"url": "http://127.0.0.1/a.jpg"}', "application/json", 403, "no-urls"),
    ],
)
def test_bodies_that_are_no_photo(body: bytes, kind: str, status: int, code: str, service: Running) -> None:
    problem(service.http.post("/v1/photos", content=body, headers={"content-type": kind}), status, code)


def test_a_form_without_the_photo_or_with_two(service: Running) -> None:
    assert "'photo'" in problem(service.http.post("/v1/photos", files={"file": PHOTO}), 422, "no-photo")
    two = [("photo", PHOTO), ("photo", PHOTO)]
    problem(service.http.post("/v1/photos", files=two), 413, "too-many")


def test_hostile_files_are_refused_one_by_one_and_the_service_goes_on(service: Running, tmp_path: Path) -> None:
    seen = set()
    for file in hostile_files(tmp_path):
        name, data = file.name, file.read_bytes()
        answer = send(service.http, "image/jpeg", data)
        assert answer.status_code in (200, 413, 415, 422), (name, answer.text)
        if answer.status_code != 200:
            seen.add(problem(answer, answer.status_code, answer.json()["code"]))
    assert len(seen) > 5
    assert send(service.http, "form").status_code == 200


def test_paths_and_methods_that_are_not_there(service: Running) -> None:
    problem(service.http.get("/nothing"), 404, "not-found")
    problem(service.http.get("/v1/photos"), 405, "method-not-allowed")
    problem(service.http.get("/static/../app.py"), 404, "not-found")
    problem(service.http.get("/static/%2e%2e/app.py"), 404, "not-found")
    problem(service.http.post("/v1/feedback", json={}), 404, "not-found")


def test_limits_of_bytes_pixels_and_formats(serve: Callable[..., Running], bundles: dict[str, Path]) -> None:
    small = Recognizer.open(**bundles, threads=1, max_pixels=10_000)  # type: ignore[arg-type]
    http = serve(small, max_bytes=200_000, max_pixels=10_000, formats=("JPEG",)).http
    problem(send(http, "image/jpeg", PHOTO), 413, "too-large")  # pixels
    problem(send(http, "image/jpeg", b"\xff" * 300_000), 413, "too-large")
    problem(send(http, "form", b"\xff" * 300_000), 413, "too-large")
    pieces = (b"\xff" * 50_000 for _ in range(10))  # chunked: no length is told
    problem(http.post("/v1/photos", content=pieces, headers={"content-type": "image/jpeg"}), 413, "too-large")
    assert "PNG" in problem(send(http, "image/png", png()), 415, "unsupported-format")


def png() -> bytes:
    return encoded(Image.fromarray(np.zeros((20, 20, 3), np.uint8)), "PNG")


# ---- keys and rates


def test_keys(serve: Callable[..., Running], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = add_key(file, "shop")
    http = serve(keys=file).http
    assert "Bearer" in problem(send(http, "form"), 401, "no-key")
    for wrong, code in (("", "no-key"), ("cs_wrong", "wrong-key"), (key[:-1], "wrong-key")):
        problem(http.post("/v1/photos", content=PHOTO, headers={"x-api-key": wrong}), 401, code)
    for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}):
        answer = http.post("/v1/photos", content=PHOTO, headers={"content-type": "image/jpeg", **headers})
        assert answer.status_code == 200
    for path, status in (("/livez", 200), ("/readyz", 200), ("/v1/models", 401), ("/metrics", 401)):
        assert http.get(path).status_code == status
    assert http.get("/metrics", headers={"x-api-key": key}).status_code == 200


def test_rates_of_a_key(serve: Callable[..., Running], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    fast, slow = add_key(file, "fast"), add_key(file, "slow")
    lines = file.read_text().splitlines()
    file.write_text(f"{lines[0]}\n{lines[1]} rate=0.01\n")
    http = serve(keys=file, burst=2, max_photos=2).http

    def ask(key: str) -> httpx.Response:
        return http.post("/v1/photos", content=PHOTO, headers={"content-type": "image/jpeg", "x-api-key": key})

    assert [ask(slow).status_code for _ in range(2)] == [200, 200]
    refused = ask(slow)
    problem(refused, 429, "rate")
    assert 90 <= int(refused.headers["retry-after"]) <= 100
    assert [ask(fast).status_code for _ in range(4)] == [200] * 4


# ---- the queue


def test_a_full_queue_refuses_at_once_and_says_when(serve: Callable[..., Running], recognizer: Recognizer) -> None:
    held = Held(recognizer)
    service = serve(held, queue=2, max_photos=2, batch=1, workers=1)
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=service.url, timeout=NEVER_S) as http:
        asked = [pool.submit(send, http, "form") for _ in range(8)]
        until(lambda: sum(one.done() for one in asked) >= 3, "three are refused while nobody is served")
        held.gate.set()
        answers = [one.result() for one in asked]
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) >= 2
    assert codes.count(429) >= 3
    refused = next(answer for answer in answers if answer.status_code == 429)
    problem(refused, 429, "queue-full")
    assert int(refused.headers["retry-after"]) >= 1
    assert send(service.http, "form").status_code == 200


def test_a_deadline_passes(serve: Callable[..., Running], recognizer: Recognizer) -> None:
    held = Held(recognizer)
    http = serve(held, workers=1, batch=1).http
    headers = {"content-type": "image/jpeg", "x-timeout-s": "0.1"}
    problem(http.post("/v1/photos", content=PHOTO, headers=headers), 504, "deadline")
    problem(http.post("/v1/photos", content=PHOTO, headers={**headers, "x-timeout-s": "soon"}), 422, "wrong-value")
    held.gate.set()
    assert http.post("/v1/photos", content=PHOTO, headers={**headers, "x-timeout-s": "9"}).status_code == 200


def test_a_photo_whose_client_left_is_not_worked_on(serve: Callable[..., Running], recognizer: Recognizer) -> None:
    held = Held(recognizer)
    service = serve(held, workers=1, batch=1)
    other = jpeg(("blue", (100, 200, 500, 500)))
    host, port = service.url.removeprefix("http://").split(":")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, service.http, "image/jpeg", PHOTO)
        until(lambda: held.seen)
        with socket.create_connection((host, int(port))) as raw:
            head = f"POST /v1/photos HTTP/1.1\nhost: x\ncontent-type: image/jpeg\ncontent-length: {len(other)}\n\n"
            raw.sendall(head.replace("\n", "\r\n").encode() + other)
            until(lambda: "carspotter_queue_photos 1.0" in service.http.get("/metrics").text)
        until(lambda: 'carspotter_errors_total{code="gone"} 1.0' in service.http.get("/metrics").text)
        held.gate.set()
        assert first.result().status_code == 200
    assert send(service.http, "image/jpeg", PHOTO).status_code == 200
    assert held.seen == [len(PHOTO)] * 2  # what came between was not looked at


def test_an_engine_that_fails_is_one_error_and_the_service_goes_on(
    serve: Callable[..., Running], recognizer: Recognizer
) -> None:
    class Failing:
        finder, identifier, bundles = recognizer.finder, recognizer.identifier, recognizer.bundles
        attributes = recognizer.attributes
        is_broken = True

        def recognize(self, photo: Any) -> Prediction:
            return recognizer.recognize(photo)

        def recognize_together(self, photos: Any, selects: Any = None) -> list[Prediction]:
            if Failing.is_broken:
                raise LookupError("secret of the engine")
            return recognizer.recognize_together(photos, selects)

    http = serve(Failing(), workers=1).http
    answer = send(http, "form")
    assert "secret" not in answer.text
    problem(answer, 500, "fault")
    Failing.is_broken = False
    assert send(http, "form").status_code == 200


def test_many_at_once_are_answered_each_for_itself(service: Running, recognizer: Recognizer) -> None:
    photos = [jpeg((color, (100, 200, 500, 500))) for color in ("red", "blue", "green")] * 8
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=service.url, timeout=NEVER_S) as http:
        answers = list(pool.map(lambda photo: send(http, "image/jpeg", photo).json(), photos))
    for photo, answer in zip(photos, answers, strict=True):
        here = recognizer.recognize(photo).to_dict()
        assert answer["vehicles"][0]["answer"] == alike(here["vehicles"][0]["answer"])


# ---- what else it tells


def test_models_probes_and_metrics(service: Running) -> None:
    found = schemas.ModelsShape.model_validate(service.http.get("/v1/models").json())
    assert [bundle.task for bundle in found.bundles] == ["finder", "identifier"]
    finder, identifier = found.bundles
    assert (finder.knows, finder.attributes) == (None, {})
    assert identifier.knows == schemas.ExtentShape(makes=3, models=5, years=[2012, 2018])
    assert identifier.attributes == {name: list(ATTRIBUTES[name]) for name in ("colour", "body")}
    assert found.limits["photos"] == 40
    assert not found.feedback
    assert service.http.get("/livez").json() == service.http.get("/readyz").json() == {"status": "ok"}
    send(service.http, "form")
    text = service.http.get("/metrics").text
    for name in (
        "request_seconds_bucket",
        "queue_seconds_count",
        "batch_photos_sum",
        "queue_photos",
        "upload_bytes 0.0",
    ):
        assert f"carspotter_{name}" in text
    assert 'carspotter_photos_total{kind="exterior"}' in text


def test_all_that_can_be_named_is_told(service: Running, recognizer: Recognizer) -> None:
    content = service.http.get("/v1/taxonomy").json()
    schemas.TaxonomyShape.model_validate(content)
    assert Taxonomy.from_dict(content) == recognizer.identifier.taxonomy
    assert 'route="/v1/taxonomy"' in service.http.get("/metrics").text


def test_feedback_keeps_a_photo_only_when_asked(serve: Callable[..., Running], tmp_path: Path) -> None:
    folder = tmp_path / "feedback"
    http = serve(feedback=folder).http
    answer = send(http, "form", with_gps(PHOTO))
    assert not folder.exists()
    said = {"request_id": answer.headers["x-request-id"], "right": False, "said": "Rubin Beta"}
    assert http.post("/v1/feedback", json=said).status_code == 204
    (line,) = (folder / "feedback.jsonl").read_text().splitlines()
    assert json.loads(line)["said"] == "Rubin Beta"
    kept = folder / f"{said['request_id']}.jpg"
    with Image.open(kept) as image:
        assert not image.getexif()
    assert b"GPS" not in kept.read_bytes()
    problem(http.post("/v1/feedback", json=said), 404, "not-found")
    problem(http.post("/v1/feedback", json={**said, "request_id": "../../x"}), 422, "wrong-value")
    assert http.get("/v1/models").json()["feedback"]


def with_gps(photo: bytes) -> bytes:
    from io import BytesIO

    image = Image.open(BytesIO(photo))
    exif = Image.Exif()
    exif[0x010F] = "GPS camera"
    exif.get_ifd(0x8825)[1] = "N"
    data = encoded(image, exif=exif)
    assert b"GPS" in data
    return data


def test_cors_is_off_unless_an_origin_is_named(service: Running, serve: Callable[..., Running]) -> None:
    origin = {"origin": "https://shop.example"}
    assert "access-control-allow-origin" not in service.http.get("/livez", headers=origin).headers
    named = serve(cors=("https://shop.example",)).http
    assert named.get("/livez", headers=origin).headers["access-control-allow-origin"] == "https://shop.example"
    other = named.get("/livez", headers={"origin": "https://other.example"}).headers
    assert "access-control-allow-origin" not in other


def test_openapi_tells_the_bodies_and_the_problems(service: Running) -> None:
    content = service.http.get("/openapi.json").json()
    photos = content["paths"]["/v1/photos"]["post"]
    assert set(photos["requestBody"]["content"]) >= {"multipart/form-data", "application/json", "image/*"}
    assert set(photos["responses"]) >= {"200", "413", "415", "422", "429", "503", "504"}
    assert "ProblemShape" in content["components"]["schemas"]
    assert content["components"]["schemas"]["PredictionShape"]["examples"]


ENCODED = b"filename*=UTF-8''%E5%A5%87%E7%91%9E%20%F0%9F%9A%97.jpg"
NAMED = "奇瑞 🚗.jpg"


@pytest.mark.parametrize(
    "name",
    [ENCODED, b'filename="car.jpg"; ' + ENCODED, ENCODED + b'; filename="car.jpg"', b'filename="%s"' % NAMED.encode()],
)
def test_a_file_name_of_any_script_comes_back(name: bytes, service: Running) -> None:
    head = b'--X\r\nContent-Disposition: form-data; name="photo"; ' + name + b"\r\nContent-Type: image/jpeg\r\n\r\n"
    form = {"content": head + PHOTO + b"\r\n--X--\r\n", "headers": {"content-type": "multipart/form-data; boundary=X"}}
    assert service.http.post("/v1/photos", **form).json()["photo"] == NAMED
    blurred = service.http.post("/v1/blur", **form)
    assert blurred.headers["content-disposition"] == f"inline; filename*=UTF-8''{quote(NAMED, safe='')}"


def test_a_photo_comes_back_without_its_plate(service: Running) -> None:
    pixels = drawn_plate()
    answer = service.http.post("/v1/blur", content=encoded(Image.fromarray(pixels), quality=95))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    assert int(answer.headers["x-plates"]) >= 1
    assert answer.headers["x-faces"] == "0"
    with Image.open(BytesIO(answer.content)) as picture:
        assert picture.size == (480, 320)
        assert np.asarray(picture.convert("L"), float)[206:220, 206:288].std() < 20 < pixels[206:220, 206:288].std()
    problem(service.http.post("/v1/blur", content=b"no photo"), 415, "unsupported-format")


@pytest.mark.parametrize("blur", [True, False])
def test_kept_photos_are_blurred_unless_asked(blur: bool, serve: Callable[..., Running], tmp_path: Path) -> None:
    http = serve(feedback=tmp_path, blur=blur).http
    pixels = drawn_plate()
    request_id = http.post("/v1/photos", content=encoded(Image.fromarray(pixels))).headers["x-request-id"]
    assert http.post("/v1/feedback", json={"request_id": request_id, "right": True}).status_code == 204
    with Image.open(tmp_path / f"{request_id}.jpg") as picture:
        assert (np.asarray(picture.convert("L"), float)[206:220, 206:288].std() < 20) == blur
