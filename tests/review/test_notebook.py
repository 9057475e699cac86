"""The notebook: a widget whose messages are real ones, in a page that speaks its protocol, and shown answers."""

from __future__ import annotations

import base64
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import comm
import numpy as np
import pytest
from PIL import Image

import carspotter
from carspotter.errors import LabelError, ProjectError, StorageError
from carspotter.geometry import BoundingBox
from carspotter.labels.doubts import Doubt, write_doubts
from carspotter.notebook import Labeller, show
from carspotter.project.folder import Project
from carspotter.records import Answer, Candidate, Kind, PhotoError, Prediction, Vehicle, Viewpoint
from carspotter.review import decisions as store_of
from carspotter.review.decisions import DecisionStore
from review_project import review_project
from waiting import NEVER_S


class Wire(comm.BaseComm):  # type: ignore[misc]
    """The comm of a kernel whose messages are kept for whoever reads them next."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__(*args, **kwargs)

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        self.sent.append({"type": msg_type, "data": data or {}, "buffers": list(buffers or [])})


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give widgets such a comm, as a kernel gives them its own."""
    monkeypatch.setattr(comm, "create_comm", Wire)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project of 24 photos."""
    return review_project(tmp_path / "project")


def hear(labeller: Labeller, content: Any) -> list[dict[str, Any]]:
    """Send what the page sends, by the widget's protocol; return what the kernel sends back."""
    labeller.comm.sent.clear()
    labeller.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    return list(labeller.comm.sent)


def custom(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the custom messages."""
    return [message["data"]["content"] for message in messages if message["data"].get("method") == "custom"]


def test_decisions_by_messages(project: Project) -> None:
    labeller = Labeller(project, person="Ann")
    first = labeller.items[0]
    (picture,) = hear(labeller, {"type": "picture", "photo": first["photo"]})
    assert picture["data"]["content"] == {"type": "picture", "photo": first["photo"], "small": False}
    with Image.open(io.BytesIO(picture["buffers"][0])) as image:
        assert image.size == (320, 240)
    said = {"type": "decide", "id": uuid4().hex, "task": "kind", "photo": first["photo"], "says": "detail"}
    states = [message["data"]["state"] for message in hear(labeller, said)]
    assert states[0]["done"] == 1
    assert first["key"] not in [item["key"] for item in states[0]["items"]]
    assert [decision["says"] for decision in labeller.decisions] == ["detail"]
    assert [decision.by for decision in DecisionStore(project.labels / "decisions.jsonl").decisions()] == ["Ann"]
    (undone,) = custom(hear(labeller, {"type": "undo", "id": said["id"]}))
    assert undone["item"]["key"] == first["key"]
    assert (labeller.done, labeller.decisions) == (0, [])
    labeller.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "message None; it must be picture, decide, undo or taxa"),
        ({"type": "picture", "photo": "../x"}, "in no queue"),
        ({"type": "decide", "says": "detail"}, "must be a text"),
        ({"type": "undo", "id": "f" * 32}, "made none of this id"),
    ],
)
def test_what_is_wrong_is_told_to_the_page(content: Any, message: str, project: Project) -> None:
    labeller = Labeller(project.folder, person="Ann")
    (told,) = custom(hear(labeller, content))
    assert told["type"] == "error"
    assert message in told["text"]
    labeller.close()


def test_taxa_come_when_they_are_asked_for(project: Project) -> None:
    labeller = Labeller(project, "viewpoint", person="Ann")
    assert labeller.total == 18
    (told,) = custom(hear(labeller, {"type": "taxa"}))
    assert {"make": "Audi", "model": "A4"} in [row["taxon"] for row in told["taxa"]]
    labeller.close()


def test_a_plain_folder_of_photos(tmp_path: Path) -> None:
    for name in ("a.jpg", "below/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (90, 20, 20)).save(tmp_path / name)
    labeller = Labeller(tmp_path, person="Ann")
    assert {item["photo"] for item in labeller.items} == {"a.jpg", "below/b.png"}
    hear(labeller, {"type": "decide", "id": uuid4().hex, "task": "kind", "photo": "below/b.png", "says": "other"})
    assert len(hear(labeller, {"type": "picture", "photo": "a.jpg"})[0]["buffers"]) == 1
    (told,) = custom(hear(labeller, {"type": "picture", "photo": "../a.jpg"}))
    assert "in no queue" in told["text"]
    assert DecisionStore(tmp_path / "decisions.jsonl").decisions()[0].photo_id == "below/b.png"
    assert Labeller(tmp_path, person="Bob").done == 1


def test_wrong_beginnings(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="is no folder"):
        Labeller(tmp_path / "absent", person="Ann")
    with pytest.raises(ProjectError, match="holds no photo"):
        Labeller(tmp_path, person="Ann")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ProjectError, match="make a project of it"):
        Labeller(tmp_path, "class", person="Ann")
    with pytest.raises(ProjectError, match="no queue doubts that asks for class; it has random, kind, viewpoint"):
        Labeller(tmp_path, "class", queue="doubts", person="Ann")
    with pytest.raises(LabelError, match="one line of 1 to 80"):
        Labeller(tmp_path, person=" ")


# ---- shown predictions

EVIL = '<img src=x onerror="alert(1)">'


def prediction(**changes: Any) -> Prediction:
    """Make one of a vehicle whose name is hostile."""
    vehicle = Vehicle(
        box=BoundingBox(10, 10, 90, 60),
        score=0.9,
        viewpoint=Viewpoint(name="front", probability=0.8),
        answer=Answer(level="make", name=EVIL, probability=0.91),
        levels={"make": (Candidate(name=EVIL, probability=0.91), Candidate(name="Audi", probability=0.05))},
    )
    said = {
        "photo": "a.jpg",
        "width": 100,
        "height": 80,
        "kind": Kind(name="exterior", probability=0.99),
        "vehicles": (vehicle,),
    }
    return Prediction(**{**said, **changes})


def test_a_prediction_is_shown_with_its_bars(tmp_path: Path) -> None:
    html = show(prediction(), np.full((80, 100, 3), 120, np.uint8))._repr_html_()
    assert EVIL not in html
    assert "&lt;img src=x" in html
    assert "width:91.0%" in html
    assert "seen from front 80%" in html
    data = base64.b64decode(html.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture)
    assert pixels.std() > 5  # the box is drawn
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg")
    assert "data:image/jpeg" in show(prediction(photo=str(tmp_path / "a.jpg"))).html
    assert "data:image/jpeg" in show(prediction(), (tmp_path / "a.jpg").read_bytes()).html


def test_what_is_undecided_or_unreadable_is_said() -> None:
    pixels = np.zeros((80, 100, 3), np.uint8)
    inside = prediction(kind=Kind(name="interior", probability=0.9), vehicles=())
    assert "an interior: no whole vehicle to identify" in show(inside, pixels).html
    broken = Prediction(photo="b.jpg", error=PhotoError(type="truncated", message="<b>cut</b>"))
    assert "&lt;b&gt;cut" in show(broken).html
    with pytest.raises(StorageError):
        show(prediction(photo="absent.jpg"))


# ---- in a page

HOST = """<!doctype html><meta charset="utf-8"><div id="here"></div><script type="module">
import widget from "/labeller.js";
const state = JSON.parse(await window.kernel(JSON.stringify({start: true}))).state, heard = {};
const model = {
  get: name => state[name],
  on: (name, call) => { (heard[name] ??= []).push(call); },
  send: async content => {
    for (const message of JSON.parse(await window.kernel(JSON.stringify({content})))) {
      if (message.state) {
        Object.assign(state, message.state);
        for (const name of Object.keys(message.state)) (heard[`change:${name}`] ?? []).forEach(call => call());
      } else {
        const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
        const buffers = message.buffers.map(bytes);
        (heard["msg:custom"] ?? []).forEach(call => call(message.content, buffers));
      }
    }
  },
};
widget.render({model, el: document.getElementById("here")});
</script>"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """Serve a page that plays the notebook."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "index.html").write_text(HOST)
    shutil.copy(Path(carspotter.__file__).parent / "review" / "page" / "labeller.js", folder)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def kernel(labeller: Labeller, text: str) -> str:
    """Answer a message of the page as a kernel does."""
    import json

    asked = json.loads(text)
    if asked.get("start"):
        names = ("task", "items", "total", "done", "last")
        return json.dumps({"state": {name: getattr(labeller, name) for name in names}})
    answers = []
    for message in hear(labeller, asked["content"]):
        data = message["data"]
        if data["method"] == "update":
            answers.append({"state": data["state"]})
        else:
            answers.append(
                {"content": data["content"], "buffers": [base64.b64encode(b).decode() for b in message["buffers"]]}
            )
    return json.dumps(answers)


def opened(browser: Any, host: str, answer: Callable[[str], str]) -> Any:
    """Open the page of a labeller, whose kernel gives these answers."""
    page = browser.new_page()
    page.set_default_timeout(1000 * NEVER_S)
    page.expose_function("kernel", answer)
    page.goto(host)
    return page


def test_ten_photos_by_keyboard_in_a_page(host: str, project: Project, browser: Any) -> None:
    labeller = Labeller(project, person="Ann")
    page = opened(browser, host, partial(kernel, labeller))
    photos = []
    for key in "eidoeidoei":
        page.wait_for_selector(".photo img")
        photos.append(page.get_attribute(".photo", "data-photo"))
        page.press(".spot", key)
    page.wait_for_selector(".top:has-text('10 of 24')")
    page.press(".spot", "z")
    page.wait_for_selector(".top:has-text('9 of 24')")
    page.wait_for_selector(f".photo[data-photo='{photos[-1]}']")
    page.close()
    assert len(set(photos)) == 10
    decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
    assert [decision.photo_id for decision in decisions] == photos[:-1]
    assert [decision.says for decision in decisions][:4] == ["exterior", "interior", "detail", "other"]
    labeller.close()


def test_a_doubt_is_decided_beside_all_photos_of_its_ad(host: str, project: Project, browser: Any) -> None:
    write_doubts(project.labels / "doubts.csv", [Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="x", score=0.1)])
    labeller = Labeller(project, "class", queue="doubts", person="Ann")
    page = opened(browser, host, partial(kernel, labeller))
    page.wait_for_selector(".photo[data-photo='1/0']")
    for number in range(4):
        page.click(f".album button[title='1/{number}']:has(img)")
        page.wait_for_selector(f".photo[data-photo='1/{number}']")
    page.press(".spot", "u")
    page.wait_for_selector(".top:has-text('All decided')")
    page.wait_for_selector(".top:has-text('1 of 1')")
    page.close()
    assert [(each["ad"], each["says"]) for each in labeller.decisions] == [("1", "undecidable")]
    labeller.close()


def test_a_known_class_is_no_new_one_however_it_is_typed(host: str, project: Project, browser: Any) -> None:
    doubted = [Doubt(photo_id=f"{ad}/0", ad_id=str(ad), is_ad=True, given="x", score=0.1) for ad in (1, 2)]
    write_doubts(project.labels / "doubts.csv", doubted)
    labeller, held = Labeller(project, "class", queue="doubts", person="Ann"), ["the first question for classes"]

    def slow(text: str) -> str:
        return "[]" if '"taxa"' in text and held and held.pop() else kernel(labeller, text)

    page = opened(browser, host, slow)
    page.wait_for_selector(".photo img")
    page.fill(".spot input", "citroen c4")
    page.press(".spot input", "Enter")
    page.wait_for_selector(".soft:has-text('The classes are on their way')")
    page.locator(".spot input").blur()
    page.focus(".spot input")
    page.wait_for_selector("datalist option", state="attached")
    page.press(".spot input", "Enter")
    page.wait_for_selector(".top:has-text('1 of 2')")
    page.fill(".spot input", "alfa romeo qqzzx")
    page.press(".spot input", "Enter")
    page.wait_for_selector(".soft:has-text('You said Alfa Romeo qqzzx')")
    page.wait_for_selector(".top:has-text('2 of 2')")
    page.close()
    decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
    assert [each.becomes.to_dict() for each in decisions if each.becomes] == [
        {"make": "Citroën", "model": "C4"},
        {"make": "Alfa Romeo", "model": "qqzzx"},
    ]
    labeller.close()


def test_a_decision_of_an_ad_that_was_not_saved_is_asked_again(
    host: str, project: Project, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_doubts(project.labels / "doubts.csv", [Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="x", score=0.1)])
    labeller = Labeller(project, "class", queue="doubts", person="Ann")
    page = opened(browser, host, partial(kernel, labeller))
    page.wait_for_selector(".photo[data-photo='1/0']")
    with monkeypatch.context() as full:
        full.setattr(store_of, "_append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        page.press(".spot", "u")
        page.wait_for_selector(".soft:has-text('the decision was not saved')")
    assert page.text_content(".top b") != "All decided"
    page.press(".spot", "u")
    page.wait_for_selector(".top:has-text('All decided')")
    page.wait_for_selector(".soft:has-text('You said undecidable')")
    page.close()
    assert labeller.done == 1
    labeller.close()
