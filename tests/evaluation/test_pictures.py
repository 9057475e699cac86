"""Pictures of a training and of classes: each figure is there, in its place, and the files stand by themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from carspotter.errors import EvaluationError
from carspotter.evaluation.pictures import curves, read_log
from carspotter.evaluation.predictions import Predictions
from carspotter.evaluation.report import write_report
from carspotter.taxonomy import Taxon, Taxonomy

SVG = "{http://www.w3.org/2000/svg}"
LOG = [
    {"epoch": 1, "loss": 2.0, "top1": 0.5, "held-out loss": 1.0, "seconds": 9.0},
    {"epoch": 2, "loss": 1.0, "top1": None, "held-out loss": 0.5, "seconds": 9.0},
    {"epoch": 3, "loss": 0.5, "top1": 0.75, "held-out loss": 0.4, "seconds": 9.0},
]


def _points(picture: str) -> dict[str, list[tuple[float, float]]]:
    root = ElementTree.fromstring(picture)
    return {
        str(line[0].text): [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]
        for line in root.iter(f"{SVG}polyline")
    }


def test_losses_fall_and_figures_rise_where_they_are_known() -> None:
    drawn = curves(LOG)
    losses, figures = _points(drawn["losses"]), _points(drawn["figures"])
    assert set(losses) == {"loss", "held-out loss"}
    assert [y for _, y in losses["loss"]] == sorted(y for _, y in losses["loss"])  # down the page
    assert list(figures) == ["top1"]
    (x1, y1), (x2, y2) = figures["top1"]  # the second epoch has no figure
    assert x1 < x2
    assert y1 > y2


def test_one_epoch_is_no_curve() -> None:
    assert curves(LOG[:1]) == {}


def test_a_report_has_the_pictures_and_writes_them_as_files(tmp_path: Path) -> None:
    taxonomy = Taxonomy((Taxon(make="Audi", model="A4 <b>"), Taxon(make="Opel", model="Astra")))
    table = Predictions(
        name="n",
        taxonomy=taxonomy,
        photos=np.array(["a", "b", "c", "d"]),
        probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]], np.float32),
        truth=np.array([0, 0, 1, 1]),
    )
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    page = write_report(tmp_path / "out", table, log=read_log(tmp_path / "log.jsonl")).read_text()
    assert "A4 <b>" not in page
    bars = ElementTree.fromstring((tmp_path / "out" / "classes.svg").read_text())
    assert [title.text for title in bars.iter(f"{SVG}title")] == ["Audi A4 <b>: 1 of 2", "Opel Astra: 2 of 2"]
    for name, drawn in curves(LOG).items():
        assert drawn in page
        assert _points((tmp_path / "out" / f"{name}.svg").read_text()) == _points(drawn)
    assert "<style>" in (tmp_path / "out" / "losses.svg").read_text()


def test_a_broken_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("epoch 1\n")
    with pytest.raises(EvaluationError, match="no log of a training"):
        read_log(tmp_path / "log.jsonl")
    assert read_log(tmp_path / "none.jsonl") == []


def test_a_long_name_of_a_curve_does_not_touch_the_next_one() -> None:
    log = [{"epoch": epoch, "loss": 1.0, "held-out loss": 0.5} for epoch in (0, 1)]
    svg = curves([{"epoch": 0, "held-out loss": 0.5}, *log])["losses"]
    starts = [int(at) for at in re.findall(r'<text x="(\d+)" y="\d+">(?:held-out )?loss', svg)]
    assert starts[1] - starts[0] >= 7 * len("held-out loss") + 18
