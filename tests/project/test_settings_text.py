"""Settings as people's editors and hands write them: no text of ours ends in anything but a project or one clear line.

The wide test draws `CARSPOTTER_FUZZ` texts a file, 200,000 unless said; the small ones run each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carspotter.errors import CarspotterError, LabelError, ProjectError, RecipeError
from carspotter.labels.classes import read_merges
from carspotter.labels.corrections import Corrections
from carspotter.project.settings import load_settings
from carspotter.project.template import settings_text
from carspotter.review.decisions import DecisionStore
from carspotter.review.imported import read_reviewed
from carspotter.training.recipe_file import load_recipe

RECIPES = Path(__file__).parent.parent.parent / "recipes"
PROJECT = settings_text(Path("p"), ["cars.csv"])
RECIPE = (RECIPES / "identifier.toml").read_text(encoding="utf-8")
MERGES = "taxon,becomes\nAudi A4,Audi A4 Avant\nBMW 3 Series,\n"
WORDS = "make,model,submodel,becomes_make,becomes_model\nvw,golf,,Volkswagen,Golf\n"
REVIEWED = "photo_id,ad_id,decision,becomes_make,becomes_model,said_by\n1/0,1,relabel,Audi,S4,Ann\n,2,keep,,,\n"
DECISIONS = (
    '{"id": "' + "a" * 32 + '", "task": "kind", "photo": "1/0", "says": "exterior", "by": "Ann", '
    '"at": "2026-01-01T00:00:00Z"}\n'
)

VALUES = (
    "0",
    "-1",
    "1e999",
    "nan",
    "-inf",
    "true",
    '""',
    "''",
    "[]",
    "{}",
    "[[]]",
    '["a", 1]',
    "1979-05-27",
    "07:32:00",
    "1" * 400,
    "1" * 5000,
    '"\\u0000"',
    '"C:\\Users\\x.csv"',
    "'C:\\Users\\x.csv'",
    "[" * 300,
    "0x1F",
    '"""',
    "{a = {b = 1}}",
    "9" * 20,
)
PIECES = (
    *VALUES,
    "=",
    "\n",
    "\r\n",
    "\r",
    "\ufeff",
    "[",
    "]",
    "[[sources]]",
    '"',
    "'",
    ",",
    ";",
    "\t",
    "\x00",
    "\u2028",
    "#",
    ".",
    "é",
    "\ud800",
)


@st.composite
def hurt(draw: st.DrawFn, text: str) -> str:
    """Draw a text with some places changed: a value put in another's place, pieces put in, parts cut and doubled."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        how = draw(st.sampled_from(("value", "piece", "cut", "double", "drop", "any")))
        place = draw(st.integers(0, len(line)))
        if how == "value" and "=" in line:
            line = f"{line.partition('=')[0]}= {draw(st.sampled_from(VALUES))}\n"
        elif how == "piece":
            line = line[:place] + draw(st.sampled_from(PIECES)) + line[place:]
        elif how == "cut":
            line = line[:place]
        elif how == "double":
            line = line + line
        elif how == "drop":
            line = ""
        else:
            line = line[:place] + draw(st.text(max_size=6)) + line[place:]
        lines[number] = line
    return "".join(lines)


def _words(path: Path) -> object:
    return Corrections.read(path)


def _decisions(path: Path) -> object:
    return DecisionStore(path).decisions()


FILES: dict[str, tuple[str, str, Callable[[Path], object], type[CarspotterError]]] = {
    "project": ("carspotter.toml", PROJECT, load_settings, ProjectError),
    "recipe": ("recipe.toml", RECIPE, load_recipe, RecipeError),
    "merges": ("classes.csv", MERGES, read_merges, LabelError),
    "words": ("words.csv", WORDS, _words, LabelError),
    "reviewed": ("reviewed.csv", REVIEWED, read_reviewed, LabelError),
    "decisions": ("decisions.jsonl", DECISIONS, _decisions, LabelError),
}


def judge(name: str, text: str, folder: Path) -> None:
    """Read a text; it is good, or its error is of the one class."""
    file, _, read, error = FILES[name]
    (folder / file).write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(error):
        read(folder / file)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_text_ends_in_a_foreign_error(name: str, data: st.DataObject, tmp_path: Path) -> None:
    judge(name, data.draw(hurt(FILES[name][1])), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=int(os.environ.get("CARSPOTTER_FUZZ", "200000")),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_no_text_ends_in_a_foreign_error_at_length(name: str, data: st.DataObject, tmp_path: Path) -> None:
    judge(name, data.draw(hurt(FILES[name][1])), tmp_path)


@pytest.mark.parametrize("name", ["project", "recipe"])
@pytest.mark.parametrize("value", VALUES)
def test_every_setting_with_every_odd_value(name: str, value: str, tmp_path: Path) -> None:
    lines = FILES[name][1].splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            changed = [*lines[:number], f"{line.partition('=')[0]}= {value}", *lines[number + 1 :]]
            judge(name, "\n".join(changed), tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "carspotter.toml").write_bytes(b"\xef\xbb\xbf" + b'name = "cars"\n')
    assert load_settings(tmp_path / "carspotter.toml").name == "cars"


def test_a_path_of_windows_says_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "carspotter.toml").write_text('[[sources]]\nkind = "table"\npath = "D:\\Users\\me\\cars.csv"\n')
    with pytest.raises(ProjectError, match=r"line 3 in single quotes, or with forward slashes"):
        load_settings(tmp_path / "carspotter.toml")
    (tmp_path / "carspotter.toml").write_text("[[sources]]\nkind = \"table\"\npath = 'D:\\Users\\me\\cars.csv'\n")
    assert load_settings(tmp_path / "carspotter.toml").sources[0].settings.path == "D:\\Users\\me\\cars.csv"
