"""A data set with official parts, from its own files to the split: its test photos stay its test photos."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from tiny_bundles import tiny_finder, tiny_identifier
from tiny_project import save_photo

pytest.importorskip("scipy.io")

CLASSES = {"red": "Volkswagen Golf Hatchback 2012", "green": "Audi A4 Sedan 2012", "blue": "BMW 3 Series Sedan 2012"}
N_TRAIN, N_TEST = 6, 3
SETTINGS = """
[[sources]]
kind = "stanford"
path = "cars"

[check]
drop = ["too-small"]

[locate]
finder = "bundles/finder"
identifier = "bundles/identifier"

[classes]
min_photos = 2
min_ads = 1
"""


def _devkit(folder: Path) -> None:
    """Write the official files with a few photos of three classes."""
    path = Path(__file__).parents[1] / "sources" / "test_stanford.py"
    spec = importlib.util.spec_from_file_location("stanford_files", path)
    assert spec is not None
    assert spec.loader is not None
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    parts: dict[str, list[tuple[Any, ...]]] = {"train": [], "test": []}
    for part, count in (("train", N_TRAIN), ("test", N_TEST)):
        for number, color in enumerate(CLASSES, 1):
            for k in range(count):
                name = f"{number:03d}{k:02d}.jpg"
                save_photo(folder / f"cars_{part}" / name, color, seed=1000 * number + 100 * (part == "test") + k)
                parts[part].append((1, 1, 300, 200, number, name))
    files.write_devkit(folder, parts["train"], parts["test"], names=tuple(CLASSES.values()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_finder(tmp_path / "bundles" / "finder")
    tiny_identifier(tmp_path / "bundles" / "identifier")
    (tmp_path / "cars").mkdir()
    _devkit(tmp_path / "cars")
    (tmp_path / "carspotter.toml").write_text(SETTINGS)
    return tmp_path


def _splits(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    with Project.open(folder).catalog() as catalog:
        for row in catalog.rows("SELECT ad_id, split FROM samples WHERE status = 'ok'"):
            found[row["split"]].add(row["ad_id"].partition("/")[0])
    return found


def test_the_official_parts_are_kept(folder: Path) -> None:
    stats = build(Project.open(folder), until="learn", workers=0)
    found = _splits(folder)
    assert found["test"] == {"test"}
    assert "test" not in found["train"] | found["validation"]
    assert stats["learn"]["test"] == len(CLASSES) * N_TEST
    assert [line for line in stats["split"]["warnings"] if "public data set" in line]


def test_photos_that_the_shipped_network_learnt_from_are_no_test_in_silence(folder: Path) -> None:
    (folder / "carspotter.toml").write_text(SETTINGS + '\n[split]\nsplit = "new"\n')
    stats = build(Project.open(folder), until="split", workers=0)
    assert _splits(folder)["test"] & {"train"}
    assert [line for line in stats["split"]["warnings"] if "has learnt from" in line]
