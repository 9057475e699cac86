"""The web pages in a real browser against a real service: photos go in as people give them, answers are read.

Every test also fails on an error in the console, on an error of a script, and on a request that leaves the service.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from alike import alike
from browsers import CHROMIUM
from carspotter.recognition.recognizer import Recognizer
from carspotter.serving.keys import add_key
from carspotter.serving.settings import ServeSettings
from serving.conftest import RED, Running, Serve, jpeg, running
from tiny_bundles import TOY_COLOR, UNSURE_COLOR, draw_photo
from waiting import NEVER_S

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to drive")

DESK, PHONE = (1280, 900), (390, 844)
ANSWERED = "main[data-state=answered]:not(.busy)"
BLUE = ("blue", (560, 60, 780, 190))
SHIPPED = Path(__file__).parent.parent.parent / "src" / "carspotter" / "models" / "finder" / "bundle.json"

Open = Callable[..., Any]


class Watch:
    """Note all that a page should not do; `expected` are statuses that a test provokes."""

    def __init__(self, page: Any, origin: str) -> None:
        self.wrong: list[str] = []
        self.expected: set[int | str] = set()
        self._origin = origin
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(f"{status}" in message.text for status in self.expected):
            self.wrong.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self._origin}/", "blob:", "data:")):
            self.wrong.append(f"left the service: {request.url}")


@pytest.fixture
def visit(browser: Any, service: Running) -> Iterator[Open]:
    """Open a page of a service; what goes wrong on it fails the test at its end."""
    opened: list[tuple[Any, Watch]] = []

    def go(path: str = "/", *, size: tuple[int, int] = DESK, scheme: str = "light", at: str = service.url) -> Any:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(1000 * NEVER_S)
        page = context.new_page()
        page.watch = Watch(page, at)
        opened.append((context, page.watch))
        page.goto(at + path)
        page.wait_for_selector("main[data-ready]")
        return page

    yield go
    for context, _ in opened:
        context.close()
    assert [wrong for _, watch in opened for wrong in watch.wrong] == []


def hand_over(page: Any, *files: tuple[str, bytes], kind: str = "image/jpeg") -> Any:
    """Make what the browser gives to a page when files are dropped or pasted."""
    content = [[name, base64.b64encode(data).decode()] for name, data in files]
    return page.evaluate_handle(
        """([files, type]) => { const given = new DataTransfer();
        for (const [name, data] of files) {
          given.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name, {type}));
        } return given; }""",
        [content, kind],
    )


def drop(page: Any, *files: tuple[str, bytes]) -> None:
    """Drop files on the page."""
    given = hand_over(page, *files)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", event, {"dataTransfer": given})


def upload(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def answer(page: Any) -> str:
    """Wait for an answer and return its headline."""
    page.wait_for_selector(ANSWERED)
    return str(page.inner_text("#answer h2"))


# ---- a photo


def test_a_dropped_photo_is_answered_and_its_box_drawn_where_it_is(visit: Open) -> None:
    page = visit()
    drop(page, ("car.jpg", jpeg(RED)))
    assert answer(page) == "Rubin Alpha 2012"
    picture, box = page.locator(".frame img").bounding_box(), page.locator(".box").bounding_box()
    scale = picture["width"] / 800
    x1, y1, x2, y2 = RED[1]
    found = [
        (box["x"] - picture["x"]) / scale,
        (box["y"] - picture["y"]) / scale,
        box["width"] / scale,
        box["height"] / scale,
    ]
    assert found == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=12)  # the tiny finder sees 6 px steps
    assert page.inner_text(".box") == "Rubin Alpha 2012"
    assert page.inner_text("#answer .verdict p").endswith("sure, down to its year")
    assert "%" not in page.inner_text(".tiles"), "a probability is said once"
    assert "Rubin Alpha 2012" not in page.locator(".bars span").all_inner_texts()
    facts = page.inner_text("#facts")
    assert "front" in facts
    assert "exterior" in facts
    assert re.search(r"\d+ ms", facts)
    assert page.locator(".side.seen").get_attribute("data-side") == "front"
    assert re.fullmatch(r"Rubin Alpha 2012, .+, red Sedan, seen from front\.", page.inner_text("#said"))
    assert re.fullmatch(r"red .+ Sedan .+", page.inner_text(".says").replace("\n", " "))
    paint = page.eval_on_selector(".paint", "(at) => getComputedStyle(at).backgroundColor")
    red, green, blue = map(int, re.findall(r"\d+", paint))
    assert red > 2 * max(green, blue)
    assert "tiny-finder" in page.inner_text("#took")
    assert "car.jpg, 800 × 600" in page.inner_text("#caption")
    assert page.locator("#feedback").is_hidden(), "this service takes no feedback"


def test_a_pasted_picture_is_answered(visit: Open) -> None:
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    png = BytesIO()
    Image.fromarray(draw_photo((800, 600), [RED])).save(png, "PNG")
    page.evaluate(
        """async (data) => { const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const copied = new Blob([bytes], {type: "image/png"});
        await navigator.clipboard.write([new ClipboardItem({"image/png": copied})]); }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    page.keyboard.press("Control+V")
    assert answer(page) == "Rubin Alpha 2012"


def test_a_chosen_photo_is_answered_and_the_same_may_be_chosen_again(visit: Open) -> None:
    page = visit()
    for _ in range(2):
        with page.expect_file_chooser() as chooser, page.expect_response("**/v1/photos*"):
            page.click("label[for=file]")
            chooser.value.set_files(upload("car.jpg", jpeg(RED)))
        assert answer(page) == "Rubin Alpha 2012"
    assert page.locator("#camera").get_attribute("capture") == "environment"


def test_an_example_is_answered(visit: Open) -> None:
    page = visit()
    page.click("[data-example=front-left]")
    answer(page)
    assert "front-left.jpg, 720 × 540" in page.inner_text("#caption")
    assert "Drawn, not photographed: that no name is given is right" in page.inner_text("#caption")


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.exists(), reason="no bundles ship yet")
def test_the_shipped_networks_see_the_examples_from_the_right_side_and_name_none(visit: Open, serve: Serve) -> None:
    at = serve(Recognizer.open(threads=1, top=20, with_hashes=True)).url
    page = visit(at=at)
    for name in ("front-left", "back-right", "right"):
        page.click(f"[data-example={name}]")
        page.wait_for_function("(name) => document.querySelector('#caption').textContent.startsWith(name)", arg=name)
        assert page.locator(".fact .side.seen").get_attribute("data-side") == name
    page.click("[data-example=interior]")
    page.wait_for_selector("text=No vehicle to name")
    page = visit("/ad", at=at)
    page.click("[data-example=wrong]")
    answer(page)
    # Drawings are no photographs: the networks name none, and the page says why it cannot tell.
    assert page.inner_text(".verdict-line b") == "Cannot tell whether the seller is right"
    assert "None of the 8 photos shows a vehicle" in page.inner_text("#answer")
    assert page.locator("#photo-8 .badge.duplicate").inner_text() == "copy of photo 2"


def test_several_vehicles_are_chosen_by_box_or_button(visit: Open) -> None:
    page = visit()
    drop(page, ("two.jpg", jpeg(RED, BLUE)))
    assert answer(page) == "Rubin Alpha 2012", "the largest comes first"
    assert page.locator(".box").count() == page.locator("#vehicles button").count() == 2
    blue = page.locator(".box", has_text="Azur")
    blue.click()
    assert page.inner_text("#answer h2") == "Azur Delta 2018"
    assert blue.get_attribute("aria-pressed") == "true"
    assert page.locator(".fact .side.seen").get_attribute("data-side") == "back"
    page.click("#vehicles button[aria-pressed=false]")
    assert page.inner_text("#answer h2") == "Rubin Alpha 2012"
    assert page.inner_text("#said").startswith("2 vehicles. The largest: ")


def test_an_answer_goes_as_deep_as_it_is_sure(visit: Open) -> None:
    page = visit()
    drop(page, ("unsure.jpg", jpeg((UNSURE_COLOR, RED[1]))))
    assert answer(page) == "Rubin Alpha"
    assert page.locator("input[name=level]:checked").get_attribute("value") == "model"
    assert page.locator(".tile.sure").count() == 2
    page.check("#level-generation", force=True)
    assert sorted(page.locator(".bars li span").all_inner_texts()[:2]) == [
        "Rubin Alpha 2010-2014",
        "Rubin Alpha 2015-2019",
    ]
    widths = page.eval_on_selector_all(
        ".bars .track", "(all) => all.map((bar) => bar.firstChild.clientWidth / bar.clientWidth)"
    )
    assert 0.3 < widths[0] < 0.7, "a bar is as long as its probability"


def test_what_cannot_be_decided_is_said_in_words(visit: Open, serve: Serve, bundles: dict[str, Path]) -> None:
    strict = Recognizer.open(**bundles, engine="onnxruntime", threads=1, threshold=1.0)  # type: ignore[arg-type]
    page = visit(at=serve(strict).url)
    ends = [("red", (100, 200, 146, 500)), ("red", (454, 200, 500, 500))]  # grey between: half orange, half light blue
    drop(page, ("unsure.jpg", jpeg(*ends)))
    assert answer(page) == "Undecided"
    assert page.inner_text("#answer .verdict p").startswith("Not decidable from this photo")
    assert page.inner_text(".box") == "undecided"
    assert page.locator(".tile.sure").count() == 0
    assert page.locator(".tile").count() == 4, "the guesses are shown all the same"
    drop(page, ("empty.jpg", jpeg()))
    page.wait_for_selector("text=No vehicle to name")
    assert page.inner_text("#answer .verdict p") == "No vehicle found"
    assert page.locator(".box").count() == 0


def test_what_is_no_car_has_no_name_and_no_colour(visit: Open) -> None:
    page = visit()
    drop(page, ("toy.jpg", jpeg((TOY_COLOR, RED[1]))))
    assert answer(page) == "Undecided"
    words = "Not decidable: this does not look like a photograph of one whole car"
    assert page.inner_text("#answer .verdict p") == words
    assert page.locator(".box").count() == 1
    assert page.locator(".tile, .says").count() == 0, "not even a guess"


def test_what_the_identifier_knows_stands_beside_its_answer(visit: Open) -> None:
    page = visit()
    words = "It knows 3 makes and 5 models, of the years 2012 to 2018."
    assert page.inner_text("#knows") == words
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    drop(page, ("car.jpg", jpeg(RED)))
    answer(page)
    assert page.inner_text("#known p").startswith(words)
    known, facts = page.locator("#known").bounding_box(), page.locator("#facts").bounding_box()
    assert known["y"] + known["height"] <= min(DESK[1], facts["y"]), "seen with the answer, without scrolling"
    assert not [url for url in asked if url.endswith("/v1/taxonomy")], "the list is asked for when it is opened"
    page.click("#known summary")
    page.wait_for_selector(".listed .make")
    assert page.locator(".listed .make").all_inner_texts() == ["Azur 2 models", "Rubin 2 models", "Smaragd 1 model"]
    page.fill("#known-word", "gám")
    assert page.locator(".listed li").all_inner_texts() == ["Gamma 2014"]
    page.fill("#known-word", "rubin al")
    assert page.locator(".listed li").all_inner_texts() == ["Alpha 2012 to 2016"]
    page.fill("#known-word", "<b>Opel")
    assert page.inner_text(".listed") == "“<b>Opel” is not among them."
    assert "tiny-identifier" in page.inner_text("footer")
    assert "classes" not in page.inner_text("footer")


def test_a_tag_stays_on_its_photo(visit: Open) -> None:
    page = visit(size=PHONE)
    drop(page, ("two.jpg", jpeg(RED, ("blue", (720, 100, 798, 240)))))
    answer(page)
    photo = page.locator(".frame img").bounding_box()
    for tag in page.locator(".box span").all():
        place = tag.bounding_box()
        assert place["x"] >= photo["x"] - 2
        assert place["x"] + place["width"] <= photo["x"] + photo["width"] + 3


def test_a_broken_file_is_told_in_words_and_the_next_photo_works(visit: Open) -> None:
    page = visit()
    page.watch.expected = {415, 422}
    drop(page, ("cut.jpg", jpeg(RED)[:2000]))
    page.wait_for_selector(".message.error[role=alert]")
    words = page.inner_text(".message.error")
    assert words.startswith("cut.jpg was not recognised.")
    assert re.search(r"Request [0-9a-f]{32}", words)
    drop(page, ("notes.txt", b"no photo at all"))
    page.wait_for_selector(".message.error >> text=notes.txt was not recognised.")
    assert page.locator("#result").is_hidden()
    drop(page, ("car.jpg", jpeg(RED)))
    assert answer(page) == "Rubin Alpha 2012"
    assert page.locator(".message").count() == 0


def test_a_file_that_is_too_large_is_not_sent(visit: Open, serve: Serve) -> None:
    page = visit(at=serve(max_bytes=4000, uploads=4000).url)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    drop(page, ("large.jpg", b"x" * 5000))
    page.wait_for_selector(".message.error")
    assert "large.jpg has 5 kB; this service takes at most 4 kB." in page.inner_text(".message.error")
    assert sent == []


def test_a_file_name_is_shown_as_text(visit: Open) -> None:
    page = visit()
    name = "<img src=x onerror=alert(1)>' $(id).jpg"
    drop(page, (name, jpeg(RED)))
    answer(page)
    assert page.inner_text("#caption").startswith(name)
    assert page.locator("#caption img, #curl img, #json img").count() == 0


def test_more_photos_than_one_point_to_the_other_page(visit: Open) -> None:
    page = visit()
    drop(page, ("a.jpg", jpeg(RED)), ("b.jpg", jpeg(BLUE)))
    assert answer(page) == "Rubin Alpha 2012"
    page.wait_for_selector(".message.note")
    assert "first of 2 photos" in page.inner_text(".message.note")
    assert page.locator(".message a").get_attribute("href") == "ad"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_command_gives_the_same_answer(visit: Open, tmp_path: Path) -> None:
    name = "two words' $HOME.jpg"
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    (tmp_path / name).write_bytes(jpeg(RED))
    drop(page, (name, jpeg(RED)))
    answer(page)
    page.click("#copy")
    page.wait_for_selector("#copy >> text=Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    told = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, timeout=NEVER_S)
    page.click("#program summary")
    shown = json.loads(page.inner_text("#json"))
    assert json.loads(told.stdout)["vehicles"] == alike(shown["vehicles"])
    assert shown["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"


# ---- keys, waiting, feedback, a service that is gone


def test_a_key_is_asked_for_and_kept_in_the_tab_only(visit: Open, serve: Serve, tmp_path: Path) -> None:
    made = add_key(tmp_path / "keys.txt", "shop")
    page = visit(at=serve(keys=tmp_path / "keys.txt").url)
    page.watch.wrong.clear()  # what the service is, it told nobody: a 401
    page.watch.expected = {401}
    drop(page, ("car.jpg", jpeg(RED)))
    page.fill("#api-key", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message.key >> text=This API key is not known here")
    page.fill("#api-key", made)
    page.keyboard.press("Enter")
    assert answer(page) == "Rubin Alpha 2012"
    page.wait_for_selector("#known >> text=It knows")  # what it told nobody before
    assert made not in page.content()
    assert "Bearer $CARSPOTTER_KEY" in page.inner_text("#curl")
    assert page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]") == [0, "", [made]]


def test_a_busy_service_is_asked_again_after_a_countdown(visit: Open, serve: Serve) -> None:
    page = visit(at=serve(rate=0.2, burst=1, max_photos=1).url)  # slower than the slowest machine
    page.watch.expected = {429}
    drop(page, ("car.jpg", jpeg(RED)))
    answer(page)
    drop(page, ("car.jpg", jpeg(BLUE)))
    page.wait_for_selector(".message.wait[role=status]")
    assert re.search(r"The service is busy\. .+ Next try in \d+ s\.", page.inner_text(".message.wait p"))
    page.wait_for_selector("#answer h2 >> text=Azur Delta 2018")
    assert page.locator(".message").count() == 0


def test_feedback_is_asked_for_only_where_it_is_kept(visit: Open, serve: Serve, tmp_path: Path) -> None:
    page = visit(at=serve(feedback=tmp_path).url)
    assert page.inner_text("#kept") == "A photo is kept only if you say whether its answer was right"
    drop(page, ("car.jpg", jpeg(RED)))
    answer(page)
    page.click("#feedback >> text=No")
    page.fill("#said-word", "Smaragd Gamma")
    page.keyboard.press("Enter")
    page.wait_for_selector("#feedback >> text=Thank you")
    (line,) = (tmp_path / "feedback.jsonl").read_text().splitlines()
    assert (json.loads(line)["right"], json.loads(line)["said"]) == (False, "Smaragd Gamma")


def test_a_service_that_is_gone_is_told_in_words(visit: Open, recognizer: Recognizer) -> None:
    with running(ServeSettings(), recognizer) as there:
        page = visit(at=there.url)
        page.watch.expected = {"ERR_CONNECTION_REFUSED"}
    drop(page, ("car.jpg", jpeg(RED)))
    page.wait_for_selector(".message.error >> text=The service does not answer.")


# ---- an ad


def test_an_ad_is_answered_with_roles_views_and_the_sellers_word(visit: Open) -> None:
    page = visit("/ad")
    assert page.is_disabled("#go")
    cars = [("red", (100, 200, 500, 500)), ("red", (140, 120, 620, 480)), ("blue", (80, 90, 700, 560))]
    photos = [(f"{index}.jpg", jpeg(car)) for index, car in enumerate(cars)]
    drop(page, *photos)
    page.set_input_files("#files", [upload("again.jpg", photos[0][1]), upload("cut.jpg", photos[0][1][:2000])])
    page.wait_for_selector("#chosen li:nth-child(5)")
    page.fill("#make", "Rubin")
    page.fill("#model", "Alpha")
    page.fill("#year", "2012")
    page.click("#go")
    assert answer(page).startswith("Rubin")
    cards = page.locator("#photos > li")
    assert cards.count() == 5
    assert page.locator(".photo.duplicate .badge.duplicate").get_attribute("href") == "#photo-1"
    assert "unreadable" in cards.nth(4).inner_text()
    assert page.locator(".badge.lead").count() == 1
    page.locator(".thumb").first.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("dialog.large p") == "Photo 1, 0.jpg"
    page.wait_for_selector("dialog.large rect.first", state="attached")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("dialog.large p") == "Photo 5, cut.jpg"
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")  # it goes when the browser says that it is closed
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Open photo 1 large"
    assert page.locator(".verdict-line b").inner_text() != ""
    assert "declared" in page.inner_text("#declared dl")
    assert page.locator(".views .side.seen[data-side=front]").count() == 1
    assert "left" in page.inner_text(".chips")
    assert page.locator(".views svg").get_attribute("aria-label").startswith("Seen: ")
    command = page.inner_text("#curl")
    assert command.count("photos=@") == 5
    assert """'declared={"make":"Rubin","model":"Alpha","year":2012}'""" in command


def test_a_declared_colour_and_body_have_verdicts_of_their_own(visit: Open) -> None:
    page = visit("/ad")
    drop(page, ("1.jpg", jpeg(RED)), ("2.jpg", jpeg(("red", (140, 120, 620, 480)))))
    page.fill("#colour", "Dunkelblau metallic")
    page.fill("#body", "Limousine")
    page.click("#go")
    answer(page)
    assert page.inner_text("#answer .says").startswith("red")
    assert page.locator("#declared h4").all_inner_texts() == ["Colour", "Body"], "no make was declared"
    assert page.locator(".verdict-line b").all_inner_texts() == ["Contradicts the seller", "Agrees with the seller"]
    assert page.locator("#declared dl").first.inner_text().split("\n")[:4] == [
        "declared",
        "Dunkelblau metallic",
        "read as",
        "blue",
    ]
    assert page.locator("#declared .strip").first.locator("li").count() == 2
    assert "Colour: Contradicts the seller. Body: Agrees with the seller." in page.inner_text("#said")
    assert '"colour":"Dunkelblau metallic"' in page.inner_text("#curl")
    assert "from front, red Sedan" in page.inner_text("#photo-1")


def test_a_folder_is_walked_and_a_photo_can_be_left_out(visit: Open, tmp_path: Path) -> None:
    folder = tmp_path / "ad"
    folder.mkdir()
    for name in ("10.jpg", "9.jpg"):
        (folder / name).write_bytes(jpeg(RED))
    (folder / "notes.txt").write_text("no photo")
    page = visit("/ad")
    page.set_input_files("#folder", folder)
    titles = "(all) => all.map((picture) => picture.title)"
    assert page.eval_on_selector_all("#chosen img", titles) == ["9.jpg", "10.jpg"]
    page.get_by_label("Leave out photo 1, 9.jpg").click()
    assert page.eval_on_selector_all("#chosen img", titles) == ["10.jpg"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Leave out photo 1, 10.jpg"
    page.keyboard.press("Enter")
    assert page.is_disabled("#go")
    assert page.evaluate("document.activeElement.id") == "files"


def test_more_photos_than_an_ad_has_are_left_out_in_words(visit: Open, serve: Serve) -> None:
    page = visit("/ad", at=serve(max_photos=2).url)
    assert page.inner_text("#most") == "2"
    drop(page, *[(f"{index}.jpg", jpeg(RED)) for index in range(3)])
    page.wait_for_selector(".message >> text=An ad has at most 2 photos; 1 was left out.")
    assert page.locator("#chosen li").count() == 2


# ---- for everyone


def test_a_photo_is_answered_by_keyboard_alone(visit: Open) -> None:
    page = visit()

    def tab_to(selector: str, key: str = "Tab") -> None:
        for _ in range(30):
            page.keyboard.press(key)
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} cannot be reached")

    tab_to(".skip")
    assert page.locator(".skip").bounding_box()["y"] >= 0, "the skip link shows when it has the focus"
    page.keyboard.press("Enter")
    tab_to("#file")
    assert page.evaluate("getComputedStyle(document.querySelector('label[for=file]')).outlineStyle") == "solid"
    page.set_input_files("#file", upload("two.jpg", jpeg(RED, BLUE)))  # the system's own dialogue
    answer(page)
    tab_to(".box[aria-pressed=false]")
    page.keyboard.press("Enter")
    assert page.inner_text("#answer h2") == "Azur Delta 2018"
    tab_to("input[name=level]")
    page.keyboard.press("ArrowLeft")
    assert page.locator("input[name=level]:checked").get_attribute("value") == "generation"
    assert page.locator(".bars li span").first.inner_text() == "Azur Delta 2016-2020"
    tab_to("#copy")
    tab_to("#program summary")
    page.keyboard.press("Space")
    assert page.locator("#json").is_visible()


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        ("dark", PHONE),
        pytest.param("light", PHONE, marks=pytest.mark.slow),
        pytest.param("light", DESK, marks=pytest.mark.slow),
        pytest.param("dark", DESK, marks=pytest.mark.slow),
        pytest.param("light", (320, 640), marks=pytest.mark.slow),
    ],
)
def test_pages_fit_their_width_in_light_and_dark(scheme: str, size: tuple[int, int], visit: Open) -> None:
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    page = visit(size=size, scheme=scheme)
    assert page.evaluate(too_wide) <= 0
    drop(page, (f"{'long' * 40}.jpg", jpeg(RED, BLUE)))
    answer(page)
    assert page.evaluate(too_wide) <= 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")
    page = visit("/ad", size=size, scheme=scheme)
    drop(page, *[(f"{'long' * 40}{index}.jpg", jpeg(RED)) for index in range(3)])
    page.click("#go")
    answer(page)
    assert page.evaluate(too_wide) <= 0
