"""The file of decisions: what is in it stays in it, whatever crashes; and how far people agree."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carspotter.errors import LabelError, StorageError
from carspotter.labels.agreement import cohen_kappa, fleiss_kappa, measure_agreement
from carspotter.labels.corrections import Corrections
from carspotter.labels.decided_words import write_decided_words
from carspotter.labels.decisions import SAYS, DecisionStore, Entry, votes
from carspotter.taxonomy import Taxon


def kind(photo: str, says: str, by: str = "Ann") -> Entry:
    """Make a decision of a photo's kind."""
    return Entry(task="kind", photo_id=photo, says=says, by=by)


@pytest.fixture
def store(tmp_path: Path) -> DecisionStore:
    """Name a file of decisions that is not there yet."""
    return DecisionStore(tmp_path / "labels" / "decisions.jsonl")


def test_what_is_appended_is_read_back(store: DecisionStore) -> None:
    assert store.entries() == []
    audi = Taxon(make="Audi", model="A4", year=2012)
    said = [
        kind("1/a", "interior"),
        Entry(task="viewpoint", photo_id="1/b", says="unknown", by="Ann", shown=True),
        Entry(task="class", ad_id="7", says="relabel", becomes=audi, by="Борис", given="Audi A3"),
        Entry(task="words", words=("VW", None, "x"), says="nothing", by="Ann"),
        kind("a\udce4/b", "other"),  # an id made of a file name that is no UTF-8
    ]
    for entry in said:
        store.append(entry)
    assert DecisionStore(store.path).entries() == said
    assert store.entries("kind") == [said[0], said[4]]
    assert store.entries(by="Борис") == [said[2]]


def test_one_that_was_sent_twice_counts_once(store: DecisionStore) -> None:
    entry = kind("1/a", "interior")
    store.append(entry)
    store.append(entry)
    assert len(store.path.read_text().splitlines()) == 1


def test_a_decision_is_taken_back_by_whoever_made_it(store: DecisionStore) -> None:
    entry = kind("1/a", "interior")
    store.append(entry)
    for by, name in (("Bob", entry.id), ("Ann", "0" * 32)):
        with pytest.raises(LabelError, match=f"{by} made none of this id"):
            store.take_back(name, by=by)
    assert store.take_back(entry.id, by="Ann") == entry
    assert store.take_back(entry.id, by="Ann") == entry  # sent twice
    assert DecisionStore(store.path).entries() == []
    assert len(store.path.read_text().splitlines()) == 2  # nothing is ever removed


def test_a_torn_line_costs_itself_alone(store: DecisionStore) -> None:
    store.append(kind("1/a", "interior"))
    with store.path.open("ab") as file:
        file.write(b'{"id": "5f0c5f0c", "task": "ki')
    again = DecisionStore(store.path)
    assert [entry.photo_id for entry in again.entries()] == ["1/a"]
    again.append(kind("1/b", "detail"))
    store.append(kind("1/c", "other"))
    assert [entry.photo_id for entry in DecisionStore(store.path).entries()] == ["1/a", "1/b", "1/c"]


def test_only_a_line_feed_ends_a_line(store: DecisionStore) -> None:
    store.append(kind("1/a\u2028\x85", "interior"))
    store.path.write_bytes(store.path.read_bytes().replace(b", ", b",\r ").replace(b"\n", b"\r\n"))
    assert [entry.photo_id for entry in DecisionStore(store.path).entries()] == ["1/a\u2028\x85"]


@given(cut=st.integers(0, 10_000))
@example(cut=-2)  # the newline alone is missing
def test_a_file_cut_anywhere_keeps_all_whole_lines(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "decisions.jsonl"
    store = DecisionStore(path)
    for number in range(5):
        store.append(kind(f"{number}", "other"))
    data = path.read_bytes()
    kept = data[: cut % (len(data) + 1)]
    path.write_bytes(kept)
    assert len(DecisionStore(path).entries()) == kept.count(b"\n")
    store.append(kind("new", "other"))  # this one had read more: the file that it knew was cut
    # Where only the end of a line was missing, the next line has ended it, and its decision is all there.
    whole = sum(line.endswith(b"}") for line in kept.split(b"\n"))
    assert len(DecisionStore(path).entries()) == whole + 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", r"line 2: decision: '\[1\]' is no JSON object; remove or mend the line"),
        ('{"task": "kind"}', "line 2: decision: says is None; it must be a text"),
        (
            '{"id":"0123456789","at":"","by":"A","task":"kind","says":"exteriour","photo":"1"}',
            "did you mean 'exterior'",
        ),
        ('{"id":"0123456789","at":"","by":"A","task":"size","says":"x","photo":"1"}', "task 'size'"),
        ('{"id":"../../../x","at":"","by":"A","task":"kind","says":"other","photo":"1"}', "8 to 40 of the letters"),
        ('{"id":"0123456789","at":"","by":"A","task":"kind","says":"other"}', "it needs a photo or an ad"),
        ('{"id":"0123456789","at":"","by":"A","task":"class","says":"relabel","photo":"1"}', "relabel needs one"),
        (
            '{"id":"0123456789","at":"","by":"A","task":"class","says":"relabel","photo":"1","becomes":{"mak":1}}',
            "unknown key",
        ),
        (
            '{"id":"0123456789","at":"","by":"A","task":"words","says":"nothing","words":"VW"}',
            "make, model and submodel",
        ),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, store: DecisionStore) -> None:
    store.append(kind("1/a", "interior"))
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LabelError, match=message):
        DecisionStore(store.path).entries()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "A\nB", "A\x00"])
def test_a_person_has_a_name(name: str) -> None:
    with pytest.raises(LabelError, match="one line of 1 to 80"):
        kind("1", "other", by=name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="the decision was not saved"):
        DecisionStore(tmp_path / "decisions.jsonl").append(kind("1", "other"))


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("")
    with pytest.raises(StorageError, match="the decision was not saved"):
        DecisionStore(tmp_path / "labels" / "decisions.jsonl").append(kind("1", "other"))


def _append_many(path: Path, by: str) -> None:
    store = DecisionStore(path)
    for number in range(60):
        store.append(kind(f"{number}", "other", by=by))


def test_people_in_several_processes_lose_nothing(store: DecisionStore) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(store.path, name)) for name in ("Ann", "Bob", "Cid")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Counter(entry.by for entry in store.entries()) == {"Ann": 60, "Bob": 60, "Cid": 60}
    assert len(store.path.read_text().splitlines()) == 180


def test_what_most_people_say_holds_and_of_equals_the_newest(store: DecisionStore) -> None:
    for by, says in (("Ann", "interior"), ("Bob", "detail")):
        store.append(kind("1", says, by=by))
    place = ("kind", "photo", "1")
    assert store.settled("kind")[place].says == "detail"
    store.append(kind("1", "interior", by="Cid"))
    assert store.settled("kind")[place].says == "interior"
    store.append(kind("1", "detail", by="Ann"))  # she thought again: two details, one interior
    assert store.settled("kind")[place].says == "detail"
    assert votes(store.entries())[place].keys() == {"Bob", "Cid", "Ann"}


@given(st.sampled_from(["kind", "viewpoint"]), st.data(), st.text(min_size=1), st.booleans())
def test_every_entry_survives_json(task: str, data: st.DataObject, photo: str, shown: bool) -> None:
    says = data.draw(st.sampled_from(SAYS[task]))  # type: ignore[index]
    entry = Entry(task=task, says=says, by="Ann", photo_id=photo, shown=shown)  # type: ignore[arg-type]
    assert Entry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


# ---- agreement


def test_cohen_on_a_known_table() -> None:
    # Fifty grant proposals, the usual example: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no give 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    share, kappa = cohen_kappa(pairs)
    assert share == pytest.approx(0.7)
    assert kappa == pytest.approx(0.4)


def test_fleiss_on_a_known_table() -> None:
    # Fourteen people, ten things, five words: the usual example, kappa 0.210.
    rows = ["0000e", "02642", "00356", "03920", "22811", "77000", "32630", "25322", "65210", "02237"]
    share, kappa = fleiss_kappa(dict(enumerate(int(digit, 16) for digit in row)) for row in rows)
    assert share == pytest.approx(0.378, abs=5e-4)
    assert kappa == pytest.approx(0.210, abs=5e-4)


def test_agreement_of_people() -> None:
    said = {("kind", "photo", str(n)): {"Ann": "a" if n < 6 else "b", "Bob": "a" if n < 5 else "b"} for n in range(10)}
    said[("kind", "photo", "alone")] = {"Ann": "a"}
    found = measure_agreement(said)
    assert (found.people, found.things, found.percent, found.method) == (("Ann", "Bob"), 10, 90, "cohen")
    assert found.kappa == pytest.approx(0.8)
    assert [row["thing"] for row in found.differ] == [("kind", "photo", "5")]
    third = measure_agreement({thing: {**words, "Cid": "a"} for thing, words in said.items()})
    assert third.method == "fleiss"
    assert third.to_dict()["things"] == 11


@pytest.mark.parametrize("said", [{}, {("kind", "photo", "1"): {"Ann": "a"}}])
def test_nothing_to_agree_on(said: dict[tuple[str, ...], dict[str, str]]) -> None:
    found = measure_agreement(said)
    assert (found.things, found.percent, found.kappa) == (0, None, None)


def test_kappa_cannot_be_told_where_all_say_one_word() -> None:
    assert measure_agreement({("k", str(n)): {"Ann": "a", "Bob": "a"} for n in range(9)}).kappa is None
    for wrong in (lambda: cohen_kappa([]), lambda: fleiss_kappa([]), lambda: fleiss_kappa([{"a": 1}])):
        with pytest.raises(ValueError, match="at least"):
            wrong()


# ---- words


def test_words_are_written_and_taken_back_beside_what_a_person_wrote(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("make;model;submodel;becomes_make;becomes_model;mine\nVW;Glof;;Volkswagen;Golf;typo\n")
    polo = Taxon(make="Volkswagen", model="Polo", generation="2009-2017")
    entries = [
        Entry(task="words", words=("VW", "Pollo", None), says="relabel", becomes=polo, by="Ann"),
        Entry(task="words", words=("vw", "glof", None), says="relabel", becomes=polo, by="Ann"),  # by hand it is a Golf
        Entry(task="words", words=("Boat", None, None), says="nothing", by="Ann"),
    ]
    assert write_decided_words(path, entries)
    assert not write_decided_words(path, entries)
    known = Corrections.read(path)
    assert known.find(("VW", "Pollo", None)) == polo
    assert known.find(("VW", "Glof", None)) == Taxon(make="Volkswagen", model="Golf")
    assert len(known.taxa) == 2
    assert "typo" in path.read_text()
    assert write_decided_words(path, [])
    assert Corrections.read(path).find(("VW", "Pollo", None)) is None
    assert "typo" in path.read_text()


def test_no_words_make_no_file(tmp_path: Path) -> None:
    assert not write_decided_words(tmp_path / "words.csv", [])
    assert not (tmp_path / "words.csv").exists()
