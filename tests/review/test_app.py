"""The review's server: whom it answers, what it takes, and that nothing it acknowledged is lost."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from carspotter.errors import LabelError, ProjectError
from carspotter.project.folder import Project
from carspotter.review.app import review_app
from carspotter.review.decisions import DecisionStore
from review_project import call, review_process, review_project, served
from waiting import until


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Make a project that all tests of this file decide about."""
    return review_project(tmp_path_factory.mktemp("review") / "project")


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    """Serve it to Ann."""
    with served(review_app(project.folder, person="Ann")) as found:
        yield found


@pytest.fixture(scope="module")
def token(address: str) -> str:
    """Ask for the token as the page does."""
    status, session = call(address, "/v1/session")
    assert status == 200
    assert (session["project"], session["person"]) == ("to review", "Ann")
    return str(session["token"])


def kind(photo: str, says: str = "other") -> dict[str, object]:
    """Return what the page sends."""
    return {"id": uuid4().hex, "task": "kind", "photo": photo, "says": says}


@pytest.mark.parametrize("path", ["/", "/review.css", "/review.js"])
def test_the_page_comes_with_strict_headers(path: str, address: str) -> None:
    connection = HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert (answer.status, len(body) > 1000) == (200, True)
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")  # nothing comes from elsewhere
    connection.close()


def test_items_pictures_decisions_and_undo(address: str, token: str, project: Project) -> None:
    _, work = call(address, "/v1/items?queue=kind")
    first = work["items"][0]
    status, data = call(address, "/v1/picture?" + urllib.parse.urlencode({"photo": first["photo"]}))
    assert status == 200
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (320, 240)
    assert "path" not in first
    said = kind(first["photo"], "interior")
    status, answer = call(address, "/v1/decisions", said, token=token)
    assert (status, answer["saved"]["by"], answer["saved"]["says"]) == (200, "Ann", "interior")
    lines = [json.loads(line) for line in (project.labels / "decisions.jsonl").read_text().splitlines()]
    assert lines[-1]["id"] == said["id"]
    assert call(address, "/v1/decisions", said, token=token)[0] == 200  # sent again, since the answer was lost
    _, after = call(address, "/v1/items?queue=kind")
    assert (after["done"], after["items"][0]["photo"]) == (work["done"] + 1, work["items"][1]["photo"])
    status, undone = call(address, "/v1/undo", {"id": said["id"]}, token=token)
    assert (status, undone["item"]["photo"]) == (200, first["photo"])
    assert call(address, "/v1/items?queue=kind")[1]["items"][0]["photo"] == first["photo"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 421, "wrong-host"),
        ({"Host": "evil.example:8765"}, 421, "wrong-host"),
        ({"Host": "127.0.0.1.evil.example"}, 421, "wrong-host"),
        ({"Host": ""}, 421, "wrong-host"),
        ({"Origin": "http://evil.example"}, 403, "wrong-origin"),
        ({"Origin": "null"}, 403, "wrong-origin"),
        ({"Origin": "http://127.0.0.1:1"}, 403, "wrong-origin"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "wrong-origin"),
        ({"Sec-Fetch-Site": "same-site"}, 403, "wrong-origin"),
        ({"X-Review-Token": ""}, 403, "wrong-token"),
        ({"X-Review-Token": "é"}, 403, "wrong-token"),
        ({"Content-Type": "text/plain"}, 415, "wrong-type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "wrong-type"),
    ],
)
def test_only_its_own_page_may_decide(
    headers: dict[str, str], status: int, code: str, address: str, token: str, project: Project
) -> None:
    store = DecisionStore(project.labels / "decisions.jsonl")
    before = len(store.decisions())
    found, answer = call(address, "/v1/decisions", kind("0/0"), token=token, headers=headers)
    assert (found, answer["code"]) == (status, code)
    assert len(store.decisions()) == before


@pytest.mark.parametrize("path", ["/", "/v1/session", "/v1/items?queue=kind", "/v1/picture?photo=0/0"])
def test_other_sites_may_not_even_read(path: str, address: str) -> None:
    assert call(address, path, headers={"Host": "rebound.example"})[0] == 421
    assert call(address, path, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403


@pytest.mark.parametrize(
    "photo",
    [
        "../carspotter.toml",
        "/etc/passwd",
        "photos/0/0.jpg",
        "..%2f..%2fetc/passwd",
        "0/0\x00",
        "",
        "\udce4",
        "0" * 5000,
    ],
)
def test_a_photo_is_shown_by_its_id_alone(photo: str, address: str) -> None:
    query = urllib.parse.urlencode({"photo": photo}, errors="surrogateescape")
    status, answer = call(address, f"/v1/picture?{query}")
    assert (status, answer["code"]) == (422, "label")


@pytest.mark.parametrize(
    "path", ["/../carspotter.toml", "/review.js/../../../errors.py", "/static/review.js", "/docs", "/openapi.json"]
)
def test_no_other_file_is_served(path: str, address: str) -> None:
    assert call(address, path)[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 422, "no JSON"),
        (b"[]", 422, "must be a JSON object"),
        (b"[" * 16_000, 422, "no JSON"),
        (b"x" * 20_000, 413, "at most 16384 bytes"),
        ({"task": "kind"}, 422, "must be a text"),
        ({**kind("0/0"), "says": "exteriour"}, 422, "did you mean 'exterior'"),
        ({**kind("0/0"), "task": "shape"}, 422, "task 'shape'"),
        (kind("77/0"), 422, "no such photo"),
        ({**kind("0/0"), "photo": ["0/0"]}, 422, "must be a text"),
        ({**kind("0/0"), "id": "x"}, 422, "8 to 40"),
        (
            {**kind("0/0"), "task": "class", "says": "relabel", "becomes": {"make": 1}},
            422,
            "make: expected a text, got 1",
        ),
    ],
)
def test_what_is_no_decision_is_refused(
    body: object, status: int, message: str, address: str, token: str, project: Project
) -> None:
    found, answer = call(address, "/v1/decisions", body, token=token)
    assert (found, message in answer["detail"]) == (status, True), answer


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["id", "task", "says", "photo", "ad", "words", "becomes", "by", "at", "given", "shown"]), JSON
    )
)
def test_no_body_makes_it_fail(address: str, token: str, body: dict[str, object]) -> None:
    assert call(address, "/v1/decisions", body, token=token)[0] in (200, 422)


def test_whoever_decides_is_said_by_the_server(address: str, token: str) -> None:
    sent = {**kind("2/0"), "by": "Mallory", "at": "1999"}
    saved = call(address, "/v1/decisions", sent, token=token)[1]["saved"]
    assert saved["by"] == "Ann"
    assert saved["at"] > "2020"
    assert call(address, "/v1/undo", {"id": "f" * 32}, token=token)[0] == 422


def test_other_questions(address: str) -> None:
    assert call(address, "/v1/items?queue=kinds")[1]["detail"].startswith("queue 'kinds' is unknown")
    assert call(address, "/v1/items?queue=doubts")[1]["detail"].endswith(
        "carspotter doubts " + call(address, "/v1/items?queue=doubts")[1]["detail"].rsplit(" ", 1)[1]
    )
    assert call(address, "/v1/agreement?task=kind")[1]["method"] == "cohen"
    assert call(address, "/v1/agreement?task=colour")[0] == 422
    assert call(address, "/v1/learn")[1]["running"] is False
    assert call(address, "/v1/items?queue=kind&limit=1000000")[0] == 200


def test_two_people_at_once_lose_nothing(project: Project, address: str, token: str) -> None:
    with served(review_app(project.folder, person="Bob", queue="random")) as other:
        bobs = call(other, "/v1/session")[1]["token"]
        sent: dict[str, list[object]] = {"Ann": [], "Bob": []}

        def decide(where: str, key: str, person: str) -> None:
            for number in range(24):
                content = kind(f"{number // 4}/{number % 4}")
                assert call(where, "/v1/decisions", content, token=key)[0] == 200
                sent[person].append(content["id"])

        threads = [
            threading.Thread(target=decide, args=args) for args in ((address, token, "Ann"), (other, bobs, "Bob"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store = DecisionStore(project.labels / "decisions.jsonl")
        for person, ids in sent.items():
            assert len(ids) == 24
            assert set(ids) <= {decision.id for decision in store.decisions("kind", by=person)}
        agreed = call(other, "/v1/agreement?task=kind")[1]
        assert (agreed["people"], agreed["targets"]) == (["Ann", "Bob"], 24)


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    project = review_project(tmp_path / "project", size=(32, 24))
    acknowledged: list[object] = []
    with review_process(project.folder) as (process, address):
        key = call(address, "/v1/session")[1]["token"]
        killer = threading.Timer(0.05, process.send_signal, [signal.SIGKILL])
        with suppress(OSError, HTTPException):  # refused, reset or cut off, as it comes
            while True:
                content = kind(f"{len(acknowledged) % 6}/{len(acknowledged) % 4}")
                assert call(address, "/v1/decisions", content, token=key)[0] == 200
                acknowledged.append(content["id"])
                if len(acknowledged) == 10:  # it strikes in the middle of one of the next
                    killer.start()
        killer.join()
        assert process.wait() == -signal.SIGKILL
    assert len(acknowledged) >= 10
    kept = {decision.id for decision in DecisionStore(project.labels / "decisions.jsonl").decisions()}
    assert set(acknowledged) <= kept
    with served(review_app(project.folder, person="Ann")) as again:
        assert call(again, "/v1/items?queue=kind")[1]["done"] > 0


def test_wrong_beginnings(tmp_path: Path, project: Project) -> None:
    with pytest.raises(ProjectError, match="carspotter init"):
        review_app(tmp_path, person="Ann")
    with pytest.raises(LabelError, match="one line of 1 to 80"):
        review_app(project.folder, person="")
    with pytest.raises(ProjectError, match="queue random does not ask for 'words'"):
        review_app(project.folder, person="Ann", queue="random", task="words")


def test_a_name_that_is_no_utf8_stops_no_folders_review(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for name in (b"a.jpg", b"caf\xe9.jpg"):
        Image.new("RGB", (64, 48)).save(folder / os.fsdecode(name))
    with served(review_app(folder, person="Ann")) as address:
        assert call(address, "/v1/session")[1]["project"] == "caf?"
        assert [item["photo"] for item in call(address, "/v1/items?queue=kind")[1]["items"]] == ["a.jpg"]
        (folder / "a.jpg").unlink()
        assert call(address, "/v1/picture?photo=a.jpg")[1]["code"] == "storage"
    assert r"1 photos are left out, since their names are no UTF-8: 'caf\udce9.jpg'; rename them" in caplog.text


def test_learning_from_the_page(tmp_path: Path) -> None:
    project = review_project(tmp_path / "project", ads=12, size=(32, 24))
    with served(review_app(project.folder, person="Ann")) as address:
        key = call(address, "/v1/session")[1]["token"]
        with project.catalog() as catalog, catalog.writer():
            assert call(address, "/v1/learn", {}, token=key)[0] == 202
            state = _learned(address)
        assert "is being built by" in state["error"]
        assert call(address, "/v1/learn", {}, token=key)[0] == 202
        state = _learned(address)
        assert "classes" in (state["said"] or ""), state["error"]


def _learned(address: str) -> dict[str, str]:
    until(lambda: not call(address, "/v1/learn")[1]["running"])
    state: dict[str, str] = call(address, "/v1/learn")[1]
    return state
