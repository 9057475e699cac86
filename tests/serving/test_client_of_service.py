"""The client against the real service: what both sides agree on is tried, not only written down."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from carspotter.cli.remote import RemoteRecognizer
from carspotter.client import Client, ServerError
from carspotter.recognition.recognizer import Recognizer
from carspotter.serving.keys import add_key
from carspotter.taxonomy import Taxonomy
from serving.conftest import RED, Running, Serve, jpeg


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn photo of a red car."""
    path = tmp_path_factory.mktemp("photos") / "red.jpg"
    path.write_bytes(jpeg(RED))
    return path


def test_the_service_says_what_the_recognizer_says(service: Running, recognizer: Recognizer, photo: Path) -> None:
    client = Client(service.url)
    assert client.ready()
    assert {bundle["task"] for bundle in client.models()["bundles"]} == {"finder", "identifier"}
    assert Taxonomy.from_dict(client.taxonomy()) == recognizer.identifier.taxonomy
    there, here = client.photo(photo), recognizer.recognize(photo)
    assert there.photo == here.photo == str(photo)
    assert [vehicle.to_dict()["answer"] for vehicle in there.vehicles] == [
        vehicle.to_dict()["answer"] for vehicle in here.vehicles
    ]
    assert there.vehicles[0].look == here.vehicles[0].look == "red Sedan"
    assert there.vehicles[0].box.iou(here.vehicles[0].box) > 0.99


def test_an_ad(service: Running, photo: Path) -> None:
    answer = Client(service.url).ad([photo, photo.read_bytes()], declared={"title": "red"})
    assert [entry["role"] for entry in answer["photos"]] == ["view", "duplicate"]


def test_a_photo_that_ends_early_is_told_by_its_code(service: Running, photo: Path) -> None:
    with pytest.raises(ServerError) as caught:
        Client(service.url).photo(photo.read_bytes()[:-2000])
    assert (caught.value.status, caught.value.problem) == (422, "truncated")
    assert caught.value.request_id


def test_a_key_is_needed_and_taken(serve: Serve, photo: Path, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", "anna")
    service = serve(keys=tmp_path / "keys")
    assert Client(service.url, key=key).photo(photo).kind is not None
    with pytest.raises(ServerError, match="give your key") as caught:
        Client(service.url).photo(photo)
    assert caught.value.status == 401


def test_a_url_inside_is_refused_by_the_service_and_reaches_nobody(serve: Serve) -> None:
    service = serve(allow_urls=True)
    with socket.create_server(("127.0.0.1", 0)) as forbidden:
        forbidden.settimeout(0.1)
        url = f"http://127.0.0.1:{forbidden.getsockname()[1]}/a.jpg"
        with pytest.raises(ServerError) as caught:
            Client(service.url).photo(url)
        assert caught.value.status in (403, 422)
        with pytest.raises(TimeoutError):
            forbidden.accept()


def test_identify_can_stand_on_the_service(service: Running, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:-2000])
    remote = RemoteRecognizer(Client(service.url), select="largest", top=5)
    good, broken, again = remote.recognize_batch([str(photo), str(tmp_path / "broken.jpg"), photo.read_bytes()])
    assert good.vehicles == again.vehicles
    assert good.vehicles
    assert broken.error is not None
    assert broken.error.type == "truncated"
