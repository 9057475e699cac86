"""The web pages as files: all they name is there, nothing comes from elsewhere, and a strict policy can hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carspotter.serving.pages import PAGES as LINKS
from carspotter.serving.pages import page_html
from tools.showroom import examples

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "src" / "carspotter" / "serving" / "web"
PAGES = tuple(f"{name}.html" for name in LINKS)
SCRIPTS = ("photo.js", "ad.js", "carspotter.js", "draw.js", "take.js", "answer.js", "known.js", "docs.js")
FILES = (*PAGES, *SCRIPTS, "style.css", "favicon.svg")
ROUTES = {"./", "ad", "docs", "openapi.json"}
VOID = {"meta", "link", "img", "input", "br", "hr"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"

Attributes = dict[str, str]


@dataclass
class Page(HTMLParser):
    """Read a page into its elements, and note where its tags do not match."""

    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.wrong.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes another tag")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style") and data.strip():
            self.scripts.append(data)

    def close(self) -> None:
        super().close()
        self.wrong += [f"<{tag}> stays open" for tag in self._open]

    def having(self, name: str) -> list[tuple[str, str]]:
        """List the tags that have an attribute, and its value."""
        return [(tag, attributes[name]) for tag, attributes in self.elements if name in attributes]


def parse(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def read(name: str) -> str:
    return page_html(name.removesuffix(".html")) if name in PAGES else (WEB / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    return parse(read(request.param))


def test_tags_match_and_ids_are_unique(page: Page) -> None:
    assert page.wrong == []
    ids = [value for _, value in page.having("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("<p><b></p></b>", ["</p> closes another tag", "</b> closes another tag"]),
        ("<div>", ["<div> stays open"]),
        ('<p id="a" id="b"></p>', ["<p> has an attribute twice"]),
    ],
)
def test_the_check_of_tags_sees_what_is_wrong(text: str, wrong: list[str]) -> None:
    assert parse(text).wrong == wrong


def test_all_that_a_page_names_is_there(page: Page) -> None:
    ids = {value for _, value in page.having("id")}
    for name in ("src", "href"):
        for tag, value in page.having(name):
            if value.startswith("#"):
                assert value[1:] in ids, value
            elif value.startswith("static/"):
                assert (WEB / value.removeprefix("static/")).is_file(), value
            else:
                assert tag == "a", value
                assert value in ROUTES, value
    for name in ("for", "aria-labelledby", "aria-describedby"):
        for _, value in page.having(name):
            assert set(value.split()) <= ids, f"{name}={value}"


def test_the_navigation_says_which_page_is_shown(page: Page) -> None:
    (here,) = [attributes["href"] for tag, attributes in page.elements if attributes.get("aria-current") == "page"]
    assert here in LINKS.values()
    assert [value for tag, value in page.having("href") if tag == "a" and value in LINKS.values()][1:4] == [
        "./",
        "ad",
        "docs",
    ]


def test_no_mark_of_the_frame_is_left() -> None:
    assert [name for name in ("photo.html", "ad.html") if "<!--" in read(name)] == []


def test_examples_that_are_named_are_there(page: Page) -> None:
    script = read("ad.js")
    named = {value for tag, value in page.having("data-example") if tag == "button"} - {"right", "wrong"}
    named |= set(re.findall(r'"(ad-\d)"', script))
    assert len(named) > 7
    for name in named:
        assert (WEB / "examples" / f"{name}.jpg").is_file(), name


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = read(name).replace(SVG_NAMESPACE, "")
    assert not re.search(r"https?:|(?<![:\w])//\w|@import|\burl\(|\bdata:", text)


def test_a_strict_policy_holds(page: Page) -> None:
    assert page.scripts == [], "no script and no style inside the page"
    for tag, attributes in page.elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not any(value.lower().startswith("javascript:") for value in attributes.values()), tag
        assert tag not in ("style", "base", "iframe", "object", "embed")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_write_text_never_html(name: str) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|style: \"|console\."
    )
    assert not re.search(forbidden, read(name))


@pytest.mark.parametrize(
    ("script", "name"), [("photo.js", "photo.html"), ("answer.js", "photo.html"), ("ad.js", "ad.html")]
)
def test_what_a_script_looks_for_is_on_its_page(script: str, name: str) -> None:
    ids = {value for _, value in parse(read(name)).having("id")}
    wanted = set(re.findall(r'find\("#([\w-]+)"\)', read(script)))
    assert len(wanted) > 8
    assert wanted <= ids


def test_controls_have_labels_and_pictures_words(page: Page) -> None:
    labelled = {value for tag, value in page.having("for") if tag == "label"}
    for tag, attributes in page.elements:
        if tag in ("input", "select", "textarea", "progress"):
            assert attributes["id"] in labelled, attributes
        if tag == "img":
            assert "alt" in attributes, attributes
        if tag == "button":
            assert attributes.get("type") == "button" or attributes["id"] == "go", attributes
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    assert dict(page.elements)["html"]["lang"] == "en"
    assert ("a", "#main") in page.having("href"), "a skip link"
    assert "status" in [value for _, value in page.having("role")], "a live region for the answer"


def test_the_style_knows_dark_narrow_and_still() -> None:
    style = read("style.css")
    for query in ("prefers-color-scheme: dark", "max-width: 600px", "prefers-reduced-motion: reduce", ":focus-visible"):
        assert query in style
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("@media", 2)[:2])
    assert dark - {"--on"} <= light
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) - {"--ratio"} <= light


# ---- the drawn examples


def test_examples_are_small_and_complete() -> None:
    files = {path.name: path for path in (WEB / "examples").iterdir()}
    assert set(files) == {f"{name}.jpg" for name in (*examples.PHOTOS, examples.COPY[0])}
    for path in files.values():
        assert path.stat().st_size < 60_001, path
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert not image.getexif()


@pytest.mark.parametrize("name", ["front-left", "two-cars", "interior"])
def test_an_example_is_what_the_script_draws(name: str) -> None:
    with Image.open(WEB / "examples" / f"{name}.jpg") as image:
        shipped = np.asarray(image, dtype=float)
    with Image.open(BytesIO(examples.small(examples.draw(name)))) as image:
        drawn = np.asarray(image, dtype=float)
    assert np.abs(shipped - drawn).mean() < 1  # of 255: JPEG encoders differ a little
