"""Every page that people see, in every browser that is here: axe finds nothing, and nothing is wider than the screen.

axe-core checks names, roles, contrast, order of headings and the like. Pages stand as people meet them: empty and
answered, on a telephone and on a desk, light and dark.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsers import CHROMIUM, FIREFOX, Driver, chromium, firefox
from carspotter.evaluation.predictions import Predictions
from carspotter.evaluation.report import write_report
from carspotter.labels.doubts import Doubt, write_doubts
from carspotter.project.pipeline import build
from carspotter.recognition.recognizer import Recognizer
from carspotter.review.app import review_app
from carspotter.serving.settings import ServeSettings
from carspotter.taxonomy import Taxon, Taxonomy
from review_project import review_project, served
from serving.conftest import running

axe = pytest.importorskip("axe_playwright_python.base", reason="axe comes with the extra `test`")

Sizes = list[tuple[int, str]]

DRIVEN = {"chromium": (CHROMIUM, "playwright"), "firefox": (FIREFOX, "marionette_driver")}
SIZES = [(390, "dark"), (1280, "light")]
MORE_SIZES = [(390, "light"), (768, "light"), (768, "dark"), (1280, "dark")]

UNTIL = """
const until = (met) => new Promise((done) => {
  const look = () => (met() ? done() : requestAnimationFrame(look));
  look();
});
const find = (selector) => document.querySelector(selector);
const answered = () => find("main").dataset.state === "answered" && !find("main").classList.contains("busy");
"""
ASK = "await until(() => find('main').dataset.ready); "
SHOWN = "await until(() => find('#photo').dataset.photo && [...document.images].every((one) => one.complete)); "
# Name of a page: its address by the name of who serves it, and what is done on it before axe looks.
PAGES = {
    "photo": ("service", "/", ASK),
    "photo-answered": ("service", "/", ASK + "find('[data-example=two-cars]').click(); await until(answered);"),
    "ad": ("service", "/ad", ASK),
    "ad-answered": ("service", "/ad", ASK + "find('[data-example=wrong]').click(); await until(answered);"),
    "ad-large": (
        "service",
        "/ad",
        ASK + "find('[data-example=right]').click(); await until(answered); find('.thumb').click();",
    ),
    "docs": ("service", "/docs", ASK + "find('#in-python').click(); find('#contents').open = true;"),
    "review-kind": ("review", "/", SHOWN),
    "review-doubts": ("review", "/", SHOWN + "find('#queue').value = 'doubts/class'; "
     "find('#queue').dispatchEvent(new Event('change')); find('#photo').dataset.photo = ''; " + SHOWN),
    "review-words": ("review", "/", SHOWN + "find('#queue').value = 'unresolved/words'; "
     "find('#queue').dispatchEvent(new Event('change')); find('#photo').dataset.photo = ''; " + SHOWN),
    "report": ("report", "", ""),
    "report-large": ("report", "", "find('.picture').click(); await until(() => find('#large img').complete);"),
    "evaluation": ("evaluation", "", ""),
}  # fmt: skip

USUAL = ("photo-answered", "ad-answered", "docs", "review-doubts", "report", "evaluation")
"""Pages that the default ring looks at; the ring `slow` looks at all, in all sizes, and in Firefox."""


@pytest.fixture(scope="module")
def addresses(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Serve and write every page; return where each is."""
    folder = tmp_path_factory.mktemp("pages")
    recognizer = Recognizer.open(**bundles, engine="onnxruntime", threads=1, top=20, with_hashes=True)  # type: ignore[arg-type]
    project = review_project(folder / "project")
    build(project, only=("deduplicate", "resolve", "classes", "split", "report"))
    write_doubts(project.labels / "doubts.csv", [Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="BMW X5", score=0)])
    evaluation = write_report(folder, predictions(), pictures=lambda _: np.full((90, 120, 3), 90, np.uint8))
    with ExitStack() as stack:
        service = stack.enter_context(running(ServeSettings(feedback=folder / "kept"), recognizer))
        review = stack.enter_context(served(review_app(project.folder, person="Ann")))
        yield {
            "service": service.url,
            "review": review.rstrip("/"),
            "report": project.report.as_uri(),
            "evaluation": evaluation.as_uri(),
        }


def predictions() -> Predictions:
    """Make a small table with mistakes."""
    taxonomy = Taxonomy(tuple(Taxon(make="Rubin", model=model) for model in ("Alpha", "Beta", "Gamma")))
    truth = np.arange(60) % 3
    sure = np.random.default_rng(0).dirichlet([1, 1, 1], 60) + 0.6 * np.eye(3)[truth]
    views = np.array(["front", "left", "back"])[np.arange(60) // 3 % 3]
    return Predictions(
        name="small",
        taxonomy=taxonomy,
        photos=np.array([f"{number}.jpg" for number in range(60)]),
        probabilities=sure / sure.sum(1, keepdims=True),
        truth=truth,
        about={"viewpoint": views, "ad_id": np.array([str(number // 4) for number in range(60)])},
    )


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.slow)])
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Start a browser, or skip where it or what drives it is not installed."""
    program, library = DRIVEN[request.param]
    if program is None or importlib.util.find_spec(library) is None:
        pytest.skip(f"there is no {request.param} to drive, or no {library}")
    with chromium() if request.param == "chromium" else firefox(tmp_path_factory.mktemp("firefox")) as started:
        yield started


def findings(driver: Driver) -> list[str]:
    """Run axe on the page and return each finding with where it is."""
    look = 'return (await window.axe.run(document, { resultTypes: ["violations"] })).violations;'
    told = driver.run(f"if (!window.axe) {{ {axe.AXE_SCRIPT} }} {look}")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['target']} {node['html'][:120]} {why(node)}"
        for one in told
        for node in one["nodes"][:4]
    ]


def why(node: Mapping[str, Any]) -> str:
    return "; ".join(check["message"] for check in [*node["any"], *node["all"], *node["none"]])[:200]


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in PAGES]
)
@pytest.mark.parametrize(
    "sizes", [pytest.param(SIZES, id="two"), pytest.param(MORE_SIZES, id="more", marks=pytest.mark.slow)]
)
def test_axe_finds_nothing(name: str, sizes: Sizes, driver: Driver, addresses: Mapping[str, str]) -> None:
    server, path, before = PAGES[name]
    driver.open(addresses[server] + path)
    driver.run(UNTIL + before)
    for width, scheme in sizes:
        driver.show(width=width, scheme=scheme)
        driver.run(f"{UNTIL} await until(() => matchMedia('(prefers-color-scheme: {scheme})').matches);")
        assert findings(driver) == [], f"{width} px, {scheme}"
        over = driver.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;")
        assert over <= 0, f"{width} px: {over} px too wide"


def test_no_word_of_a_button_is_cut_off(driver: Driver, addresses: Mapping[str, str]) -> None:
    driver.open(addresses["service"] + "/ad")
    driver.run(UNTIL + ASK)
    cut = "one => one.offsetParent && one.scrollWidth > one.clientWidth"
    words = f"return [...document.querySelectorAll('.button')].filter({cut}).map((one) => one.textContent);"
    for width in (450, 768, 900, 1280):
        driver.show(width=width, scheme="light")
        assert driver.run(words) == [], f"{width} px"


def test_axe_sees_what_is_wrong(driver: Driver, addresses: Mapping[str, str]) -> None:
    driver.open(addresses["report"])
    driver.show(width=1280, scheme="light")
    driver.run("document.querySelector('h1').style.color = '#eee';")
    assert {one.split()[0] for one in findings(driver)} == {"color-contrast"}
