"""The review in a real browser: ten photos by keyboard, a reload, an undo, a taxon typed, a server that comes back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import CHROMIUM
from carspotter.labels.doubts import Doubt, write_doubts
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.review.app import review_app
from carspotter.review.decisions import DecisionStore
from carspotter.review.session import ReviewSession
from carspotter.taxonomy import Taxon
from review_project import review_process, review_project, served
from waiting import NEVER_S

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Open a page that must make no errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(1000 * NEVER_S)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project whose words were resolved, the last ad's in vain."""
    made = review_project(tmp_path / "project")
    build(made, only=("resolve", "classes", "split"))
    return made


def said(project: Project) -> list[str]:
    """Read what was said, as it stands on the disk."""
    return [decision.says for decision in DecisionStore(project.labels / "decisions.jsonl").decisions()]


def named(project: Project) -> list[str]:
    """Read the names that labels and words became."""
    decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
    return [decision.becomes.name() for decision in decisions if decision.becomes]


def shown(page: Any) -> str:
    """Wait for a photo and name it."""
    return str(page.wait_for_selector("#photo[data-photo]").get_attribute("data-photo"))


def saved(page: Any) -> None:
    """Wait until the page says that all is saved."""
    page.wait_for_selector("#saved:text-is('saved')")


def test_ten_photos_by_keyboard_a_reload_and_an_undo(page: Any, project: Project) -> None:
    with served(review_app(project.folder, person="Ann")) as address:
        page.goto(address)
        photos = []
        for key in "eidoeidoei":
            photos.append(shown(page))
            page.keyboard.press(key)
        saved(page)
        assert len(set(photos)) == 10
        assert said(project) == ["exterior", "interior", "detail", "other"] * 2 + ["exterior", "interior"]
        decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
        assert [decision.photo_id for decision in decisions] == photos
        assert len(page.evaluate("performance.getEntriesByName('next photo')")) == 10
        eleventh = shown(page)
        page.reload()
        assert shown(page) == eleventh
        assert page.text_content("#count") == "10 of 24"
        page.keyboard.press("z")
        page.wait_for_selector(f"#photo[data-photo='{photos[-1]}']")
        saved(page)
        assert said(project)[-2:] == ["other", "exterior"]
        page.keyboard.press("s")
        assert shown(page) == eleventh
        assert len(said(project)) == 9


def test_every_key_of_the_dial(page: Any, project: Project) -> None:
    keys = {
        "8": "front",
        "o": "front-right",
        "6": "right",
        ".": "back-right",
        "2": "back",
        "m": "back-left",
        "4": "left",
        "u": "front-left",
        "0": "unknown",
    }
    with served(review_app(project.folder, person="Ann", queue="viewpoint")) as address:
        page.goto(address)
        for key in keys:
            shown(page)
            page.keyboard.press(key)
        saved(page)
        assert said(project) == list(keys.values())


def test_the_machine_is_asked_by_a_key_alone(page: Any, project: Project) -> None:
    with served(review_app(project.folder, person="Ann")) as address:
        page.goto(address)
        shown(page)
        assert page.text_content("#hint") == "what the machine says"
        page.keyboard.press("e")
        shown(page)
        assert "machine" in page.text_content("#last")
        page.keyboard.press("h")
        assert page.text_content("#hint").startswith("machine: ")
        page.keyboard.press("e")
        saved(page)
        decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
        assert [decision.shown for decision in decisions] == [False, True]


def test_enter_before_the_classes_have_come_makes_no_new_class(page: Any, project: Project) -> None:
    asked: list[Any] = []
    page.route("**/v1/taxa*", lambda route: asked.append(route))
    with served(review_app(project.folder, person="Ann", queue="random", task="class")) as address:
        page.goto(address)
        shown(page)
        page.keyboard.press("a")
        page.keyboard.type("opel as")
        page.keyboard.press("Enter")
        assert page.query_selector("#taxa li") is None
        asked[0].continue_()
        page.wait_for_selector("#taxa li")
        page.keyboard.press("Enter")
        saved(page)
    assert named(project) == ["Opel Astra"]


def test_another_class_is_typed_and_words_too(page: Any, project: Project) -> None:
    with served(review_app(project.folder, person="Ann", queue="random", task="class")) as address:
        page.goto(address)
        shown(page)
        page.keyboard.press("a")
        page.keyboard.type("opel as")
        page.wait_for_selector("#taxa li")
        page.keyboard.press("Enter")
        saved(page)
        page.select_option("#queue", "unresolved/words")
        page.wait_for_selector("#question:has-text('Qqzzx')")
        page.keyboard.type("citroen c4")
        page.wait_for_selector("#taxa li")
        page.keyboard.press("Enter")
        saved(page)
        page.wait_for_selector("#question:text-is('Done')")
        page.reload()
        page.wait_for_selector("#message:has-text('Well done')")
    assert named(project) == ["Opel Astra", "Citroën C4"]
    build(project, only=("resolve",))
    with project.catalog() as catalog:
        assert catalog.rows("SELECT name FROM labels WHERE ad_id = '5'") == [{"name": "Citroën C4 2012"}]


def test_a_new_model_of_a_known_make_of_two_words(page: Any, project: Project) -> None:
    with served(review_app(project.folder, person="Ann", queue="unresolved")) as address:
        page.goto(address)
        page.wait_for_selector("#question:has-text('Qqzzx')")
        page.keyboard.type("alfa romeo qqzzx")
        page.wait_for_selector("#taxa li:has-text('Alfa Romeo · qqzzx')")
        page.keyboard.press("Enter")
        saved(page)
    assert named(project) == ["Alfa Romeo qqzzx"]


def test_generations_of_one_year_are_two_classes(page: Any, project: Project) -> None:
    golf = {"make": "Volkswagen", "model": "Golf", "year": 2020, "status": "ok"}
    with project.catalog() as catalog, catalog.writer():
        catalog.append("labels", [{"ad_id": ad, **golf, "generation": g} for ad, g in (("3", "Mk7"), ("4", "Mk8"))])
    with served(review_app(project.folder, person="Ann", queue="random", task="class")) as address:
        page.goto(address)
        shown(page)
        page.keyboard.press("a")
        page.keyboard.type("Volkswagen Golf Mk8 2020")
        page.wait_for_selector("#taxa li:has-text('Volkswagen Golf Mk8 2020')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#last:has-text('You said Volkswagen Golf Mk8 2020')")
        saved(page)
    (decision,) = DecisionStore(project.labels / "decisions.jsonl").decisions()
    assert decision.becomes == Taxon(make="Volkswagen", model="Golf", generation="Mk8", year=2020)


def test_a_new_class_that_is_typed_again_is_the_same(page: Any, project: Project) -> None:
    with served(review_app(project.folder, person="Ann", queue="random", task="class")) as address:
        page.goto(address)
        for typed, offered in (("Zorblax R1T", "Zorblax · R1T"), ("zorblax r1t", "Zorblax R1T")):
            shown(page)
            page.keyboard.press("a")
            page.keyboard.type(typed)
            page.wait_for_selector(f"#taxa li:has-text('{offered}')")
            page.keyboard.press("Enter")
            saved(page)
    assert named(project) == ["Zorblax R1T"] * 2


def test_what_others_decide_meanwhile_is_not_asked(page: Any, project: Project) -> None:
    with (
        served(review_app(project.folder, person="Ann", queue="uncertain", task="kind")) as address,
        ReviewSession(project.folder, person="Bob") as bob,
    ):
        page.goto(address)
        shown(page)
        order = [item.photo_id for item in bob.work(bob.query("uncertain", "kind")).items]
        for number, photo in enumerate(order[1:5]):  # the second is on the screen by then
            bob.decide({"task": "kind", "photo": photo, "says": "other", "id": f"{number:016}"})
        with page.expect_response("**/v1/items*"):
            page.keyboard.press("e")
        page.wait_for_selector("#count:text-is('5 of 24')")
        asked = [order[0]]
        for _ in range(2):
            asked.append(shown(page))
            page.keyboard.press("e")
        saved(page)
    assert asked == [order[0], order[1], order[5]]


def test_a_page_writes_into_no_other_review(page: Any, project: Project, tmp_path: Path) -> None:
    other = Path(shutil.copytree(project.folder, tmp_path / "other" / "project"))
    with served(review_app(project.folder, person="Ann")) as address:
        page.goto(address)
        shown(page)
    with served(review_app(other, person="Ann"), port=int(address.rsplit(":", 1)[1])):
        page.keyboard.press("e")
        page.wait_for_selector("#saved:has-text('not saved: another review answers here now')")
    assert not (other / "labels" / "decisions.jsonl").exists()


def test_a_label_that_changed_behind_the_page_is_asked_anew(page: Any, project: Project) -> None:
    doubt(project)
    app = review_app(project.folder, person="Ann", queue="doubts")
    with served(app) as address:
        page.goto(address)
        page.wait_for_selector("#question:text-is('Is it a BMW X5 2012?')")
    with ReviewSession(project.folder, person="Bob") as bob:
        said = {"task": "class", "ad": "1", "says": "relabel", "becomes": {"make": "Audi", "model": "A3"}}
        decision = bob.decide({**said, "id": "0" * 16})
        build(project, only=("resolve",))
        bob.undo(decision.id)
    with served(review_app(project.folder, person="Ann", queue="doubts"), port=int(address.rsplit(":", 1)[1])):
        page.keyboard.press("k")
        page.wait_for_selector("#question:text-is('Is it an Audi A3?')")
        page.keyboard.press("k")
        saved(page)
    assert [(each.by, each.said) for each in bob.store.decisions()] == [("Ann", "Audi A3")]


def test_what_is_being_typed_stays_while_a_photo_loads_and_more_is_fetched(page: Any, project: Project) -> None:
    held: list[Any] = []
    page.route("**/v1/picture?*", lambda route: held.append(route))  # no photo comes
    page.route(
        re.compile("/v1/items.*limit=6[1-9]"), lambda route: held.append(route)
    )  # nor what is fetched ahead, until something was typed
    with served(review_app(project.folder, person="Ann", queue="unresolved")) as address:
        page.goto(address)
        page.wait_for_selector("#question:has-text('Qqzzx')")
        page.keyboard.type("citroen")
        (ahead,) = [route for route in held if "/v1/items" in route.request.url]
        with page.expect_response(re.compile("/v1/items.*limit=6[1-9]")):
            ahead.continue_()
        page.evaluate("new Promise(done => setTimeout(done))")  # the page has seen the answer
        assert page.input_value("#taxon") == "citroen"


def doubt(project: Project) -> None:
    """Doubt the whole ad 1, and a photo of ad 0."""
    whole = Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="BMW X5", score=0.1)
    single = Doubt(photo_id="0/1", ad_id="0", given="Audi A4", score=0.9, why="alone")
    write_doubts(project.labels / "doubts.csv", [whole, single])


def test_all_photos_of_a_doubtful_ad_are_in_view(page: Any, project: Project) -> None:
    doubt(project)
    with served(review_app(project.folder, person="Ann", queue="doubts")) as address:
        page.goto(address)
        assert shown(page) == "1/0"
        page.evaluate("Promise.all([...document.querySelectorAll('#album img')].map(each => each.decode()))")
        assert page.eval_on_selector_all("#album img", "all => all.map(each => each.alt)") == [
            f"photo 1/{k}" for k in range(4)
        ]
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#photo[data-photo='1/3']")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#photo[data-photo='1/0']")
        page.click("#album button[data-photo='1/2']")
        page.wait_for_selector("#photo[data-photo='1/2']")
        page.keyboard.press("d")
        page.wait_for_selector("#photo[data-photo='0/1']")
        assert page.get_attribute("#album .asked", "data-photo") == "0/1"
        page.keyboard.press("k")
        saved(page)
    decisions = DecisionStore(project.labels / "decisions.jsonl").decisions()
    assert [(each.target[1:], each.says) for each in decisions] == [(("ad", "1"), "drop"), (("photo", "0/1"), "keep")]


def test_a_folder_of_photos_is_reviewed_without_a_project(page: Any, project: Project) -> None:
    folder = project.folder / "photos" / "0"
    with served(review_app(folder, person="Ann")) as address:
        page.goto(address)
        first = shown(page)
        assert page.eval_on_selector_all("#queue option", "all => all.map(each => each.value)") == [
            "random/kind",
            "random/viewpoint",
            "kind/kind",
            "viewpoint/viewpoint",
        ]
        assert not page.is_visible("#learn")
        page.keyboard.press("d")
        saved(page)
    assert [each.photo_id for each in DecisionStore(folder / "decisions.jsonl").decisions()] == [first]


@pytest.mark.slow
def test_a_page_goes_on_when_its_server_was_killed_and_comes_back(page: Any, project: Project) -> None:
    with review_process(project.folder) as (process, address):
        page.goto(address)
        shown(page)
        page.keyboard.press("e")
        saved(page)
        process.kill()
        process.wait()
        page.keyboard.press("i")
        page.keyboard.press("d")
        page.wait_for_selector("#saved:has-text('not saved')")
        assert said(project) == ["exterior"]
    with served(review_app(project.folder, person="Ann"), port=int(address.rsplit(":", 1)[1])):
        saved(page)
        assert said(project) == ["exterior", "interior", "detail"]


@pytest.mark.parametrize("width", [390, 1360])
def test_nothing_is_wider_than_the_screen(width: int, browser: Any, project: Project) -> None:
    doubt(project)
    with served(review_app(project.folder, person="Ann")) as address:
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.set_default_timeout(1000 * NEVER_S)
        page.goto(address)
        for queue in ("kind/kind", "viewpoint/viewpoint", "random/class", "doubts/class", "unresolved/words"):
            page.select_option("#queue", queue)
            shown(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, queue
        page.close()
