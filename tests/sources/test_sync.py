"""A project whose sources change: whatever happens to them, it is what a fresh build of their last state would be."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import onnx
import pytest

from carspotter.project.folder import Project
from carspotter.project.pipeline import STEPS, build, preview
from carspotter.review.decisions import DECISIONS, Decision, DecisionStore
from carspotter.runtime.bundle import ModelBundle
from carspotter.taxonomy import Taxon
from tiny_project import MODELS, SETTINGS, UNBLURRED, make_project, plain, save_photo
from waiting import NEVER_S

SECOND = """
[[sources]]
kind = "table"
path = "dealer/cars.csv"
photos = "dealer"
"""
COLORS = list(MODELS)


class Market:
    """Two tables of used cars in a project's folder, which use the same ids, and what happens to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, Random(seed)
        self.tables = ("cars.csv", "dealer/cars.csv")
        self.pictures = ("pictures", "dealer")
        self.rows: list[dict[str, tuple[str, list[str]]]] = [{}, {}]
        self.number = 1
        self.down: set[Path] = set()
        for source in (0, 1):
            for _ in range(7):
                self.add(source)

    def photo(self, source: int, color: str, name: str | None = None) -> str:
        """Write a photograph that nothing else shows."""
        self.number += 1
        name = name or f"{self.number}.jpg"
        save_photo(self.folder / self.pictures[source] / name, color, seed=self.number)
        return name

    def add(self, source: int) -> None:
        ad_id = str(next(k for k in range(1, 99) if str(k) not in self.rows[source]))
        color = self.random.choice(COLORS)
        self.rows[source][ad_id] = (color, [self.photo(source, color) for _ in range(2)])

    def pick(self, source: int) -> str:
        return self.random.choice(sorted(self.rows[source]))

    def remove(self, source: int) -> None:
        if len(self.rows[source]) > 4:
            del self.rows[source][self.pick(source)]

    def correct(self, source: int) -> None:
        ad_id = self.pick(source)
        self.rows[source][ad_id] = (self.random.choice(COLORS), self.rows[source][ad_id][1])

    def one_photo_more(self, source: int) -> None:
        color, names = self.rows[source][self.pick(source)]
        names.append(self.photo(source, color))

    def one_photo_less(self, source: int) -> None:
        names = self.rows[source][self.pick(source)][1]
        if len(names) > 1:
            names.pop(0)

    def replace_photo(self, source: int) -> None:
        color, names = self.rows[source][self.pick(source)]
        self.photo(source, color, names[0])

    def lose_photo(self, source: int) -> None:
        _, names = self.rows[source][self.pick(source)]
        (self.folder / self.pictures[source] / names[0]).unlink(missing_ok=True)

    def take_down(self, source: int) -> None:
        """Let a table be unreachable, as on a share that is not mounted."""
        path = self.folder / self.tables[source]
        self.down.add(path)

    def bring_up(self, source: int) -> None:
        self.down.discard(self.folder / self.tables[source])

    def edit(self) -> str:
        """Let one target happen; return what."""
        acts: list[Callable[[int], None]] = [
            self.add,
            self.remove,
            self.correct,
            self.one_photo_more,
            self.one_photo_less,
            self.replace_photo,
            self.lose_photo,
            self.take_down,
            self.bring_up,
        ]
        act, source = self.random.choice(acts), self.random.randrange(2)
        act(source)
        self.write()
        return f"{act.__name__} {source}"

    def write(self) -> None:
        for table, rows in zip(self.tables, self.rows, strict=True):
            path = self.folder / table
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            if path in self.down:
                continue
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    [
                        ("ad_id", "make", "model", "photos"),
                        *((ad_id, *MODELS[color], ",".join(names)) for ad_id, (color, names) in rows.items()),
                    ]
                )


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """A project of two tables that use the same ids, not built yet."""
    folder = make_project(
        tmp_path / "project",
        settings=SECOND.join((SETTINGS + UNBLURRED).partition("\n[check]")[::2]).replace(
            'photos = "dealer"\n', 'photos = "dealer"\n\n[check]'
        ),
    )
    shutil.rmtree(folder / "pictures")
    made = Market(folder, seed=20261127)
    made.write()
    return made


def run(folder: Path, until: str = "shard") -> dict[str, Any]:
    """Build, but for the report, which is drawn of what is compared here."""
    return dict(build(Project.open(folder), until=until, workers=0))


def ask(folder: Path, sql: str) -> list[dict[str, Any]]:
    with Project.open(folder).catalog() as catalog:
        return catalog.rows(sql)


STATE = {
    "listings": "SELECT * EXCLUDE (stage_version) FROM listings ORDER BY 1",
    "listing_photos": "SELECT * EXCLUDE (stage_version) FROM listing_photos ORDER BY 1",
    "files": "SELECT photo_id, path, sha256, status FROM files ORDER BY 1",
    "checks": "SELECT c.* FROM checks c JOIN files f USING (photo_id) WHERE f.status = 'ok' ORDER BY 1",
    "findings": "SELECT c.* FROM findings c JOIN files f USING (photo_id) WHERE f.status = 'ok' ORDER BY 1",
    "embeddings": "SELECT c.* FROM embeddings c JOIN files f USING (photo_id) WHERE f.status = 'ok' ORDER BY 1",
    "labels": "SELECT * EXCLUDE (stage_version) FROM labels ORDER BY 1",
    "reviews": "SELECT * FROM reviews ORDER BY 1",
    "classes": "SELECT * FROM classes ORDER BY 1",
    "samples": "SELECT photo_id, ad_id, class_name, status FROM samples WHERE status <> 'absent' ORDER BY 1",
}
"""All that a build decides but the splits, which stay where they were."""


def state(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: [plain(row) for row in ask(folder, sql)] for name, sql in STATE.items()}


def splits(folder: Path) -> dict[str, tuple[str, str]]:
    rows = ask(folder, "SELECT photo_id, ad_id, split FROM samples WHERE status = 'ok'")
    return {row["photo_id"]: (row["ad_id"], row["split"]) for row in rows}


def fresh(market: Market, folder: Path) -> Path:
    """Build the sources as they are now from nothing, with what people decided."""
    shutil.copytree(
        market.folder,
        folder,
        ignore=shutil.ignore_patterns(
            "catalog", "shards", "models", "photos", "steps.json", "sources.json", "report.html", "*.lock"
        ),
    )
    run(folder)
    return folder


def decide(folder: Path) -> None:
    """Let a person say of one ad that it is another car."""
    taxon = Taxon(make="BMW", model="3 Series")
    DecisionStore(folder / "labels" / DECISIONS).append(
        Decision(task="class", says="relabel", by="anna", ad_id="1", becomes=taxon)
    )


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.catalog.catalog import Catalog

append, left = Catalog.append, [int(sys.argv[2])]

def dying(self, *args, **kwargs):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return append(self, *args, **kwargs)

Catalog.append = dying
build(Project.open(sys.argv[1]), workers=0)
"""


def killed_build(folder: Path, appends: int) -> int:
    """Build in a process that is killed before it appends rows for the n-th time; return how it ended."""
    program = KILLED.format(tests=str(Path(__file__).parents[1]))
    words = [sys.executable, "-c", program, str(folder), str(appends)]
    return subprocess.run(words, capture_output=True, timeout=NEVER_S).returncode


@pytest.mark.parametrize("edits", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_a_project_that_lived_through_edits_equals_a_fresh_build(market: Market, tmp_path: Path, edits: int) -> None:
    decide(market.folder)
    run(market.folder)
    happened, deaths = [], 0
    for number in range(edits):
        happened.append(market.edit())
        if number % 4 == 1 and killed_build(market.folder, market.random.randrange(6)) == -9:
            deaths += 1
        before = splits(market.folder)
        run(market.folder)
        after = splits(market.folder)
        # A photo that is still a sample stands where it stood.
        assert {photo: after[photo] for photo in before if photo in after} == {
            photo: where for photo, where in before.items() if photo in after
        }, happened
    market.down.clear()
    market.write()
    run(market.folder)
    assert deaths, "no build was killed"
    lived, anew = state(market.folder), state(fresh(market, tmp_path / "fresh"))
    for name in STATE:
        assert lived[name] == anew[name], (name, happened)
    assert {row["said_by"] for row in lived["reviews"]} == {"anna"}
    assert set(run(market.folder)["import"]["ads"].values()) == {0}  # and now nothing is left to do


def test_a_corrected_row_is_the_same_ad(market: Market) -> None:
    market.rows[0]["1"] = ("red", market.rows[0]["1"][1])
    market.write()
    run(market.folder, until="resolve")
    market.rows[0]["1"] = ("blue", market.rows[0]["1"][1])
    del market.rows[0]["2"]
    market.add(1)
    market.write()
    assert run(market.folder, until="resolve")["import"]["ads"] == {"changed": 1, "new": 1, "gone": 1}
    found = ask(
        market.folder, "SELECT l.ad_id, w.name FROM listings l JOIN labels w USING (ad_id) WHERE source = 'cars'"
    )
    assert {row["ad_id"] for row in found} == {"1", "3", "4", "5", "6", "7"}
    assert next(row["name"] for row in found if row["ad_id"] == "1") == "BMW 3 Series"


def test_two_sources_may_use_the_same_ids(market: Market) -> None:
    market.rows[0]["1"], market.rows[1]["1"] = ("red", ["a.jpg"]), ("green", ["b.jpg"])
    market.write()
    run(market.folder, until="resolve")
    rows = ask(market.folder, "SELECT ad_id, model, p.url FROM listings JOIN listing_photos p USING (ad_id) ORDER BY 1")
    mine = [(row["ad_id"], row["model"], Path(row["url"]).name) for row in rows if row["ad_id"].endswith("1")]
    assert mine == [("1", "Golf", "a.jpg"), ("table:cars.csv:1", "A4 Avant", "b.jpg")]


def test_neither_order_nor_a_new_file_name_makes_other_ads(market: Market) -> None:
    run(market.folder, until="import")
    before = {row["ad_id"] for row in ask(market.folder, "SELECT ad_id FROM listings")}
    text = (market.folder / "carspotter.toml").read_text()
    first, second = text.index("[[sources]]"), text.rindex("[[sources]]")
    end = text.index("[check]")
    swapped = text[:first] + text[second:end] + text[first:second] + text[end:]
    (market.folder / "dealer" / "cars.csv").rename(market.folder / "dealer" / "cars-june.csv")
    (market.folder / "carspotter.toml").write_text(swapped.replace("dealer/cars.csv", "dealer/cars-june.csv"))
    stats = run(market.folder, until="import")["import"]
    assert stats["ads"] == {"changed": 0, "new": 0, "gone": 0}
    assert {row["ad_id"] for row in ask(market.folder, "SELECT ad_id FROM listings")} == before


def test_an_ad_that_comes_back_has_its_split_again(market: Market) -> None:
    run(market.folder)
    before = splits(market.folder)
    taken = dict(market.rows[1])
    for ad_id in list(taken)[:3]:
        del market.rows[1][ad_id]
    market.write()
    run(market.folder)
    assert len(splits(market.folder)) < len(before)
    market.rows[1] = taken
    market.write()
    run(market.folder)
    assert splits(market.folder) == before


def test_a_source_that_cannot_be_read_keeps_its_ads(market: Market) -> None:
    run(market.folder, until="import")
    market.take_down(1)
    market.write()
    stats = run(market.folder, until="import")["import"]
    assert stats["ads"] == {"changed": 0, "new": 0, "gone": 0}
    assert [line for line in stats["warnings"] if "table:cars.csv" in line and "cannot be read" in line]
    assert len(ask(market.folder, "SELECT * FROM listings")) == 14


def test_sources_that_cannot_be_read_at_their_new_places_keep_their_ads(market: Market) -> None:
    run(market.folder, until="import")
    before = {row["ad_id"] for row in ask(market.folder, "SELECT ad_id FROM listings")}
    settings = market.folder / "carspotter.toml"
    text = settings.read_text()
    away = text.replace('path = "cars.csv"', 'path = "away.csv"')
    for wrong in (away, away.replace('path = "dealer/cars.csv"', 'path = "dealer/away.csv"')):
        settings.write_text(wrong)
        assert run(market.folder, until="import")["import"]["ads"] == {"changed": 0, "new": 0, "gone": 0}
    settings.write_text(away)
    (market.folder / "cars.csv").rename(market.folder / "away.csv")
    stats = run(market.folder, until="import")["import"]
    assert stats["ads"] == {"changed": 0, "new": 0, "gone": 0}
    assert "source away.csv is taken for cars.csv under another name" in stats["warnings"][0]
    assert {row["ad_id"] for row in ask(market.folder, "SELECT ad_id FROM listings")} == before
    assert "warnings" not in run(market.folder, until="import")["import"]


def test_another_table_inherits_nothing_of_one_that_was_taken_out(market: Market) -> None:
    settings = market.folder / "carspotter.toml"
    text = settings.read_text()
    second = text[text.rindex("[[sources]]") : text.index("[check]")]

    def ids(written: str) -> set[str]:
        settings.write_text(written)
        assert "warnings" not in run(market.folder, until="import")["import"]
        return {row["ad_id"] for row in ask(market.folder, "SELECT ad_id FROM listings")}

    alone, none = text.replace(second, ""), text[: text.index("[[sources]]")] + text[text.index("[check]") :]
    other = alone.replace('path = "cars.csv"', 'path = "dealer/cars.csv"')
    first = ids(alone)
    assert ids(none) == set()
    assert {ad_id.rpartition(":")[0] for ad_id in ids(other)} == {"table:cars.csv"}
    assert ids(none) == set()
    assert ids(alone) == first, "it is back, and what it was"
    # In one build nobody can tell it from a renaming; what the warning advises sets it right.
    settings.write_text(other.replace("dealer/", "./dealer/"))
    assert "add it again with another path" in run(market.folder, until="import")["import"]["warnings"][0]
    assert ids(none) == set()
    assert not ids(other.replace("dealer/", "dealer/../dealer/")) & first


def test_a_preview_changes_nothing(market: Market) -> None:
    run(market.folder, until="import")
    market.rows[0]["1"] = ("red" if market.rows[0]["1"][0] != "red" else "blue", market.rows[0]["1"][1])
    del market.rows[1]["2"]
    market.write()
    before = state(market.folder)
    stats = preview(Project.open(market.folder))
    assert stats["ads"] == {"changed": 1, "new": 0, "gone": 1}
    assert [line.split(":")[0] for line in stats["examples"]] == ["changed 1", "gone table"]
    assert state(market.folder) == before
    assert run(market.folder, until="import")["import"]["ads"] == stats["ads"]


def test_a_photo_that_was_replaced_is_seen_down_to_its_shard(market: Market) -> None:
    run(market.folder)
    color, names = market.rows[0]["1"]
    photo = ask(market.folder, f"SELECT photo_id FROM listing_photos WHERE url LIKE '%/{names[0]}'")[0]["photo_id"]

    def seen() -> list[Any]:
        embedding = ask(market.folder, f"SELECT embedding FROM embeddings WHERE photo_id = '{photo}'")[0]["embedding"]
        shards = {path.name: path.read_bytes() for path in sorted((market.folder / "shards").rglob("*.tar"))}
        return [list(embedding), shards]

    before = seen()
    market.photo(0, color, names[0])
    run(market.folder)
    after = seen()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_network_of_the_same_name_with_other_weights_looks_again(market: Market) -> None:
    run(market.folder)
    n_photos = len(ask(market.folder, "SELECT * FROM embeddings WHERE status = 'ok'"))
    before = {row["stage_version"] for row in ask(market.folder, "SELECT stage_version FROM embeddings")}
    bundle = ModelBundle.load(market.folder / "bundles" / "identifier")
    network = onnx.load(bundle.model_path)
    network.doc_string = "trained once more"
    bundle.save(bundle.model_path.parent, network.SerializeToString())
    assert run(market.folder)["locate"]["done"] == n_photos
    after = {row["stage_version"] for row in ask(market.folder, "SELECT stage_version FROM embeddings")}
    assert len(before) == len(after) == 1
    assert before != after
    assert run(market.folder, until="locate")["locate"]["done"] == 0


def test_the_steps_are_named_like_the_funnel(market: Market) -> None:
    assert [*run(market.folder, until="check")] == ["import", "fetch", "check"]
    assert [*run(market.folder, until="locate")] == ["import", "fetch", "locate"]
    assert "look" not in {step.name for step in STEPS}
