"""Hold the taxonomy of Stanford Cars to what its page says: counts, spans, one make less, one name a taxon."""

import csv
import itertools
from pathlib import Path

import pytest

from carspotter.labels.resolve import Resolver
from carspotter.taxonomy import Taxon, Taxonomy

ROOT = Path(__file__).parent.parent
COLUMNS = ["class_id", "class_name", "make", "model", "generation", "year", "body"]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Read the classes."""
    with (ROOT / "recipes" / "stanford-cars.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def test_the_classes_are_those_of_the_data_set_in_its_order(rows: list[dict[str, str]]) -> None:
    resolver = Resolver()
    assert [row["class_id"] for row in rows] == [str(number) for number in range(1, 197)]
    assert len({row["class_name"] for row in rows}) == 196
    for row in rows:
        # The names of make and model are the resolver's, and a model does not name its body.
        found = resolver.resolve(row["make"], row["model"])
        assert found.make == row["make"], row
        assert row["class_name"].endswith(row["year"])
        assert resolver.resolve(None, row["class_name"].removesuffix(row["year"])).make == row["make"], row
        is_exception = row["model"] == "3 Series Wagon"  # a year of one model has one generation
        assert is_exception or not (row["body"] and row["model"].endswith(" " + row["body"])), row


def test_each_year_lies_in_its_generation(rows: list[dict[str, str]]) -> None:
    for row in rows:
        first, last = map(int, row["generation"].split("-"))
        assert first <= int(row["year"]) <= last, row


def test_generations_of_one_model_do_not_overlap_by_more_than_the_change(rows: list[dict[str, str]]) -> None:
    spans: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for row in rows:
        first, last = map(int, row["generation"].split("-"))
        spans.setdefault((row["make"], row["model"]), set()).add((first, last))
    for model, found in spans.items():
        ordered = sorted(found)
        # An old generation is sold on for a year or so beside the new one.
        assert all(later[0] >= earlier[1] - 1 for earlier, later in itertools.pairwise(ordered)), model


def test_the_tree_has_the_counts_of_its_page(rows: list[dict[str, str]]) -> None:
    taxa = [
        Taxon(make=r["make"], model=r["model"], generation=r["generation"], year=int(r["year"]), body=r["body"] or None)
        for r in rows
    ]
    taxonomy = Taxonomy(tuple(taxa))
    counts = [len(taxonomy.names(level)) for level in ("make", "model", "generation", "year")]
    assert counts == [48, 176, 183, 185]
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert "{} makes, {} models, {} generations, {} model years".format(*counts) in page
    assert [row["class_name"] for row in rows if not row["body"]] == ["Jaguar XK XKR 2012"]
