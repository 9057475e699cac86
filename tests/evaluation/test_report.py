"""The page and its JSON: whole, escaped, the same figures in both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from carspotter.errors import EvaluationError
from carspotter.evaluation.curves import reliability
from carspotter.evaluation.intervals import Share
from carspotter.evaluation.metrics import evaluate
from carspotter.evaluation.plots import coverage_plot, floor_of, interval_bar, reliability_plot
from carspotter.evaluation.predictions import Predictions
from carspotter.evaluation.report import p_value, percent, points, span, write_report

Maker = Callable[..., Predictions]
VOID = {"meta", "img", "br", "link", "input"}
UNREAD = (["style"], ["script"])


class Page(HTMLParser):
    """Read a page and hold that every element is closed; collect ids, links, pictures and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "id" in given:
            self.ids.add(str(given["id"]))
        self.links |= {str(given["href"])} if "href" in given else set()
        self.sources += [str(given["src"])] if "src" in given else []
        if tag not in VOID and tag not in ("line", "circle", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in UNREAD:
            self.text += data


def drawn(photo: str) -> np.ndarray | None:
    """Draw a photo by its name; every seventh cannot be read."""
    number = int(re.findall(r"(\d+)\.jpg", photo)[0])
    if number % 7 == 0:
        return None
    return np.full((120, 160, 3), number % 256, np.uint8)


def bright(images: np.ndarray) -> np.ndarray:
    p = np.full((len(images), 7), 0.05)
    p[:, 0] = 0.7 * images.mean((1, 2, 3)) / 255
    return p


def test_the_page_holds_everything_and_needs_nothing(made: Maker, tmp_path: Path) -> None:
    table, other = made(300, seed=1, name="new"), made(300, seed=2, name="old", skill=2.0)
    path = write_report(tmp_path / "out", table, pictures=drawn, predict=bright, other=other, pad=0.05, worst=8)
    assert sorted(each.name for each in path.parent.iterdir()) == ["classes.svg", "metrics.json", "report.html"]
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert {link for link in page.links if not link.startswith("#")} == set()
    assert {link[1:] for link in page.links} <= page.ids
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"(?:src|href|url\()=?[\"']?https?:", text)
    figures = evaluate(table)
    assert f"{100 * figures.top1.value:.1f} %" in page.text
    assert span(figures.macro_f1) in page.text
    for words in ("Difference from old", "which pixels decided", "a true ", "Classes to merge", "back-left"):
        assert words in page.text


def test_the_json_has_the_figures_of_the_page(made: Maker, tmp_path: Path) -> None:
    table, other = made(300, name="new"), made(300, seed=2, name="old")
    write_report(tmp_path, table, other=other)
    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    figures = evaluate(table)
    assert content["top1"]["value"] == figures.top1.value
    assert content["top1"]["low"] == figures.top1.low
    assert len(content["classes"]) == len(table.taxonomy)
    assert content["confusions"][0]["share"]["count"] >= content["confusions"][-1]["share"]["count"]
    assert content["compared"]["pairs"][0]["b"] == "new"
    assert len(content["worst_mistakes"]) <= 24


def test_names_from_the_table_are_escaped(by_hand: Maker, tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    table = by_hand(
        [[0.9, 0.1], [0.8, 0.2]],
        [1, 0],
        name=bad,
        photos=np.array([bad, "b"]),
        about={"viewpoint": np.array([bad, ""]), "ad_id": np.array([bad, "a"]), "path": np.array([bad, ""])},
    )
    other = replace(table, name=bad + "2")
    text = write_report(tmp_path, table, other=other, pictures=lambda photo: None).read_text(encoding="utf-8")
    assert bad not in text
    assert text.count("&lt;script&gt;") >= 5


def test_without_pictures_ads_or_views_the_page_is_shorter_but_whole(by_hand: Maker, tmp_path: Path) -> None:
    text = write_report(tmp_path, by_hand([[0.9, 0.1], [0.2, 0.8]], [0, 1])).read_text(encoding="utf-8")
    page = Page(text)
    assert "No photo is answered wrongly." in page.text
    assert page.ids == {"levels", "probabilities", "confusions", "mistakes", "classes", "pictures"}
    assert not page.sources


def test_views_that_nobody_knows_are_not_shown(by_hand: Maker, tmp_path: Path) -> None:
    table = by_hand([[0.9, 0.1], [0.2, 0.8]], [0, 1], about={"viewpoint": np.array(["", "unknown"])})
    assert "viewpoints" not in Page(write_report(tmp_path, table).read_text(encoding="utf-8")).ids


def test_makes_alone_give_a_page_of_makes(made: Maker, tmp_path: Path) -> None:
    table = made(200, unlabelled=1.0, name="makes")
    page = Page(write_report(tmp_path, table, pictures=drawn, predict=bright, worst=3).read_text(encoding="utf-8"))
    assert "make right" in page.text
    assert "of its make" in page.text
    assert "top-1" not in page.text
    assert "nan" not in page.text.casefold()


def test_two_runs_of_one_name_and_of_other_classes_are_compared(made: Maker, by_hand: Maker, tmp_path: Path) -> None:
    table = made(100)
    page = Page(write_report(tmp_path, table, other=made(100, seed=5)).read_text(encoding="utf-8"))
    assert "Difference from made (the other run)" in page.text
    merged, index = table.taxonomy.merge(level="model")
    coarse = Predictions(
        name="coarse",
        taxonomy=merged,
        photos=table.photos,
        probabilities=table.at("model"),
        truth=np.append(index, -1)[table.truth],
    )
    page = Page(write_report(tmp_path, table, other=coarse).read_text(encoding="utf-8"))
    assert "their classes differ" in page.text


def test_a_wrong_box_is_said_before_anything_is_written(made: Maker, tmp_path: Path) -> None:
    table = made(60)
    table = replace(table, about={"box": np.array(["1 2 3"] * 60)})
    with pytest.raises(EvaluationError, match="must be 'x1 y1 x2 y2'"):
        write_report(tmp_path / "out", table, pictures=lambda photo: np.zeros((9, 9, 3), np.uint8))
    assert not (tmp_path / "out").exists()


def test_plots_are_drawn_where_the_figures_are(table: Predictions) -> None:
    best = np.array([0.55, 0.55, 0.95, 0.95])
    root = ElementTree.fromstring(reliability_plot(reliability(best, np.array([True, False, True, True]))))
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter("circle")]
    # The plot spans x 52…426 and y 314…12.
    assert dots == [
        pytest.approx((52 + 0.55 * 374, 314 - 0.5 * 302), abs=0.1),
        pytest.approx((52 + 0.95 * 374, 12), abs=0.1),
    ]
    root = ElementTree.fromstring(coverage_plot(evaluate(table).levels))
    lines = [line.get("points", "").split() for line in root.iter("polyline")]
    assert len(lines) == 4
    for level, line in zip(evaluate(table).levels, lines, strict=True):
        x, _ = (float(value) for value in line[-1].split(","))
        assert x == pytest.approx(426, abs=0.1)
        assert len(line) <= len(level.curve)
    ElementTree.fromstring(coverage_plot([]))
    ElementTree.fromstring(reliability_plot(()))


def test_bars_begin_below_all_intervals() -> None:
    assert floor_of([Share(count=90, total=100), Share(count=99, total=100)]) == 0.8
    assert floor_of([Share(count=1, total=9)]) == 0.0
    assert floor_of([]) == 0.0
    bar = ElementTree.fromstring(interval_bar(Share(count=90, total=100), low=0.8))
    assert float(next(bar.iter("circle")).get("cx", "")) == pytest.approx(5 + 130 * 0.5)
    assert interval_bar(Share(count=0, total=0)) == ""


def test_figures_are_written_for_people() -> None:
    assert percent(0.12345) == "12.3 %"
    assert percent(float("nan")) == "–"
    assert points(-0.0123) == "−1.2"
    assert points(0.5) == "+50.0"
    assert points(float("nan")) == "–"
    assert p_value(1e-9) == "< 0.0001"
    assert p_value(0.0421) == "0.042"
    assert span(Share(count=0, total=0)) == ""
