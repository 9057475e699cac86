"""Confusions, worst mistakes, merges and the review, on tables counted by hand and made ones."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from carspotter.errors import EvaluationError
from carspotter.evaluation.metrics import class_names
from carspotter.evaluation.mistakes import (
    confused_pairs,
    confusions,
    merge_suggestions,
    mistakes,
    read_review,
    sample_mistakes,
    shared_level,
    worst_mistakes,
    write_review,
)
from carspotter.evaluation.predictions import Predictions
from carspotter.taxonomy import Level, Taxon, Taxonomy

Maker = Callable[..., Predictions]


def test_confusions_are_the_cells_beside_the_diagonal(table: Predictions) -> None:
    from sklearn.metrics import confusion_matrix

    known = table.truth >= 0
    matrix = confusion_matrix(table.truth[known], table.probabilities[known].argmax(1), labels=range(7))
    names = class_names(table.taxonomy)
    found = confusions(table)
    assert {(each.truth, each.answer): each.share.count for each in found} == {
        (names[i], names[j]): matrix[i, j] for i, j in np.argwhere(matrix) if i != j
    }
    assert {each.truth: each.share.total for each in found} == {
        names[i]: matrix[i].sum() for i in range(7) if matrix[i].sum() > matrix[i, i]
    }
    assert [each.share.count for each in found] == sorted((each.share.count for each in found), reverse=True)


def test_confusions_of_equal_count_rank_by_how_sure_they_are(by_hand: Maker) -> None:
    table = by_hand([[0.6, 0.4, 0], [0, 0.1, 0.9], [0, 0.2, 0.8], [0.7, 0.2, 0.1]], [1, 1, 1, 2])
    found = confusions(table)
    assert [(each.truth, each.answer, each.share.count) for each in found] == [
        ("B x", "C x", 2),
        ("C x", "A x", 1),
        ("B x", "A x", 1),
    ]
    assert found[0].mean_probability == pytest.approx(0.85)
    assert (found[0].share.total, found[1].share.total) == (3, 1)


def test_confusions_of_makes_hide_those_inside_a_make(table: Predictions) -> None:
    known = table.levels["make"] >= 0
    wrong = table.at("make")[known].argmax(1) != table.levels["make"][known]
    assert sum(each.share.count for each in confusions(table, "make")) == wrong.sum()


def test_no_mistake_gives_no_confusion(by_hand: Maker) -> None:
    assert confusions(by_hand([[0.9, 0.1]], [0])) == ()
    assert mistakes(by_hand([[0.9, 0.1]], [0])) == ()


def test_the_worst_mistakes_are_the_surest_ones(by_hand: Maker) -> None:
    table = by_hand([[0.6, 0.4], [0.95, 0.05], [0.3, 0.7], [0.8, 0.2]], [1, 1, 1, 1])
    found = worst_mistakes(table, 2)
    assert [each.photo for each in found] == ["p001", "p003"]
    first = found[0]
    assert (first.truth, first.answer, first.level, first.position) == ("B x", "A x", "class", 1)
    assert (first.probability, first.truth_probability) == pytest.approx((0.95, 0.05))
    assert first.candidates == (("A x", pytest.approx(0.95)), ("B x", pytest.approx(0.05)))
    assert len(mistakes(table)) == 3


def test_one_pair_does_not_fill_the_worst_mistakes(by_hand: Maker) -> None:
    p = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0, 0.4, 0.6]]
    table = by_hand(p, [1, 1, 1, 1])
    assert [each.photo for each in worst_mistakes(table, 2, per_pair=1)] == ["p000", "p003"]
    assert [each.photo for each in worst_mistakes(table, 9, per_pair=2)] == ["p000", "p001", "p003"]


def test_a_photo_is_judged_at_the_deepest_level_that_is_known(made: Maker) -> None:
    table = made(300, unlabelled=1.0)  # makes alone, of half of the photos
    found = mistakes(table)
    assert {each.level for each in found} == {"make"}
    answer = table.at("make").argmax(1)
    wrong = (table.levels["make"] >= 0) & (answer != table.levels["make"])
    assert {each.position for each in found} == set(np.flatnonzero(wrong).tolist())
    both = mistakes(made(300, unlabelled=0.4))
    assert {each.level for each in both} == {"class", "make"}
    assert len({each.photo for each in both}) == len(both)


def test_the_pair_that_was_made_alike_is_to_be_merged(made: Maker) -> None:
    table = made(2000)
    (found,) = merge_suggestions(table)
    assert (found.first, found.second) == ("Audi A4 2002", "Audi A4 2004")
    assert (found.level, found.becomes) == ("generation", "Audi A4 2001-2004")
    merged, index = table.taxonomy.merge(
        groups={table.taxonomy.classes[0].up_to("generation"): ["Audi A4 2002", "Audi A4 2004"]}
    )
    assert len(merged) == 6
    known = table.truth >= 0
    before = table.truth[known] == table.probabilities[known].argmax(1)
    after = index[table.truth[known]] == index[table.probabilities[known].argmax(1)]
    assert found.gain.value == pytest.approx(after.mean() - before.mean())


def test_few_photos_suggest_no_merge(by_hand: Maker) -> None:
    swapped = [[0.4, 0.6], [0.6, 0.4]]
    assert merge_suggestions(by_hand(swapped * 4, [0, 1] * 4))  # 4 of 4 each: surely above 1/20
    right = [[0.6, 0.4], [0.4, 0.6]]
    assert merge_suggestions(by_hand(swapped + right * 9, [0, 1] * 10)) == ()  # 1 of 10 each
    (found,) = merge_suggestions(by_hand(swapped * 4, [0, 1] * 4))
    assert (found.level, found.becomes) == (None, None)  # A x and B x are of two makes
    one_way = [[0.6, 0.4]] * 20 + [[0.6, 0.4]] * 20
    assert merge_suggestions(by_hand(one_way, [0] * 20 + [1] * 20)) == ()


def test_two_models_of_a_make_do_not_become_the_make(by_hand: Maker) -> None:
    taxonomy = Taxonomy((Taxon(make="Audi", model="100"), Taxon(make="Audi", model="V8")))
    (found,) = merge_suggestions(by_hand([[0.4, 0.6], [0.6, 0.4]] * 4, [0, 1] * 4, taxonomy=taxonomy))
    assert (found.level, found.becomes) == ("make", None)


SHARED: list[tuple[Taxon, Taxon, Level | None]] = [
    (Taxon(make="Audi", model="A4", year=2002), Taxon(make="Audi", model="A4", year=2004), "model"),
    (
        Taxon(make="Audi", model="A4", generation="B6", year=2002),
        Taxon(make="Audi", model="A4", generation="B6", year=2004),
        "generation",
    ),
    (Taxon(make="Audi", model="A4", body="Sedan"), Taxon(make="Audi", model="A4", body="Wagon"), "model"),
    (Taxon(make="Audi"), Taxon(make="Audi", model="A4"), "make"),
    (Taxon(make="Audi", model="A4"), Taxon(make="Opel", model="A4"), None),
]


@pytest.mark.parametrize(("first", "second", "level"), SHARED)
def test_the_shared_level(first: Taxon, second: Taxon, level: Level | None) -> None:
    assert shared_level(first, second) == shared_level(second, first) == level


def test_a_review_is_written_filled_and_counted(table: Predictions, tmp_path: Path) -> None:
    chosen = sample_mistakes(table, 10, seed=3)
    path = write_review(tmp_path / "deep" / "review.csv", chosen, table)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == [each.photo for each in chosen]
    assert rows[0]["path"] == table.about["path"][chosen[0].position]
    assert {row["decidable"] for row in rows} == {""}
    for row, word in zip(rows, ["yes", " YES ", "Yes", "no", "unsure", "no", "yes"], strict=False):
        row["decidable"] = word
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # as Excel saves it
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    review = read_review(path)
    assert (review.yes, review.no, review.unsure, review.empty) == (4, 2, 1, 3)
    assert (review.decidable.count, review.decidable.total) == (4, 7)
    assert review.decidable.low < 4 / 7 < review.decidable.high
    again = read_review(write_review(path, chosen, table))
    assert again == review, "an evaluation that is run again keeps what a person judged"
    assert list(path.parent.iterdir()) == [path]
    write_review(path, sample_mistakes(table, 5, seed=4), table)
    kept = path.with_name("review.csv.filled")
    assert read_review(kept) == review, "other mistakes: the old file stays"
    path.write_bytes(b"photo\xff")
    write_review(path, chosen, table)
    assert path.with_name("review.csv.filled-2").read_bytes() == b"photo\xff"
    assert read_review(path).empty == 10


def test_a_sample_is_drawn_from_all_mistakes_by_its_seed(table: Predictions) -> None:
    first = [each.photo for each in sample_mistakes(table, 12)]
    assert first == [each.photo for each in sample_mistakes(table, 12)]
    assert first != [each.photo for each in sample_mistakes(table, 12, seed=1)]
    assert first != [each.photo for each in worst_mistakes(table, 12)]
    assert len(sample_mistakes(table, 10_000)) == len(mistakes(table))


def test_a_wrong_review_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_review(path)
    path.write_text("photo,decidable\na,yes\nb,perhaps\n")
    with pytest.raises(EvaluationError, match="line 3: decidable is 'perhaps'; allowed: yes, no, unsure"):
        read_review(path)
    path.write_text("photo\na\n")
    with pytest.raises(EvaluationError, match="column 'decidable' is missing"):
        read_review(path)


def test_a_review_that_cannot_be_written_says_so(table: Predictions, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_review(tmp_path / "file" / "review.csv", (), table)


def test_a_pair_that_is_confused_both_ways_is_named() -> None:
    names = [f"class {n}" for n in range(10)]
    counts = {(name, name): 90 for name in names} | {(a, b): 1 for a in names for b in names if a != b}
    counts["class 1", "class 2"] = 30
    counts["class 2", "class 1"] = 20
    counts["class 3", "class 4"] = 40  # one way only: a flaw of labels or crops, not the same car
    (found,) = confused_pairs(counts)
    assert (found.first, found.second, found.photos) == ("class 1", "class 2", 50)
    assert str(found) == "class 1 and class 2 are taken for each other in 20% (50 photos): merge?"


def test_errors_that_fall_anywhere_and_small_shares_name_no_pair() -> None:
    generator = np.random.default_rng(3)
    names = [f"class {n}" for n in range(20)]
    anywhere = Counter((name, str(generator.choice(names))) for name in names for _ in range(100))
    assert confused_pairs(anywhere) == []
    assert confused_pairs({}) == []
    rare = {("a", "a"): 960, ("a", "b"): 40, ("b", "b"): 960, ("b", "a"): 40}  # significant, but 4 %
    assert confused_pairs(rare) == []
    few = {("a", "a"): 16, ("a", "b"): 4, ("b", "b"): 16, ("b", "a"): 4}
    assert len(confused_pairs(few)) == 1
