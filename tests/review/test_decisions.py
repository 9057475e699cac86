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
from carspotter.review.agreement import cohen_kappa, fleiss_kappa, measure_agreement
from carspotter.review.apply import corrections, written_words
from carspotter.review.decisions import SAYS, Decision, DecisionStore, votes
from carspotter.taxonomy import Taxon


def kind(photo: str, says: str, by: str = "Ann") -> Decision:
    """Make a decision of a photo's kind."""
    return Decision(task="kind", photo_id=photo, says=says, by=by)


@pytest.fixture
def store(tmp_path: Path) -> DecisionStore:
    """Name a file of decisions that is not there yet."""
    return DecisionStore(tmp_path / "labels" / "decisions.jsonl")


def test_what_is_appended_is_read_back(store: DecisionStore) -> None:
    assert store.decisions() == []
    audi = Taxon(make="Audi", model="A4", year=2012)
    said = [
        kind("1/a", "interior"),
        Decision(task="viewpoint", photo_id="1/b", says="unknown", by="Ann", shown=True),
        Decision(task="class", ad_id="7", says="relabel", becomes=audi, by="Борис", given="Audi A3"),
        Decision(task="words", words=("VW", None, "x"), says="nothing", by="Ann"),
        kind("a\udce4/b", "other"),  # an id made of a file name that is no UTF-8
    ]
    for decision in said:
        store.append(decision)
    assert DecisionStore(store.path).decisions() == said
    assert store.decisions("kind") == [said[0], said[4]]
    assert store.decisions(by="Борис") == [said[2]]


def test_the_lines_that_the_documentation_shows_are_read(store: DecisionStore) -> None:
    page = (Path(__file__).parents[2] / "docs" / "labels.md").read_text(encoding="utf-8")
    (lines,) = (text for text in page.split("```") if '"takes_back"' in text)
    store.path.parent.mkdir()
    store.path.write_text(lines.removeprefix("json\n"), encoding="utf-8")
    assert [decision.says for decision in store.decisions()] == ["detail"]


def test_one_that_was_sent_twice_counts_once(store: DecisionStore) -> None:
    decision = kind("1/a", "interior")
    store.append(decision)
    store.append(decision)
    assert len(store.path.read_text().splitlines()) == 1


def test_a_decision_is_taken_back_by_whoever_made_it(store: DecisionStore) -> None:
    decision = kind("1/a", "interior")
    store.append(decision)
    for by, name in (("Bob", decision.id), ("Ann", "0" * 32)):
        with pytest.raises(LabelError, match=f"{by} made none of this id"):
            store.take_back(name, by=by)
    assert store.take_back(decision.id, by="Ann") == decision
    assert store.take_back(decision.id, by="Ann") == decision  # sent twice
    assert DecisionStore(store.path).decisions() == []
    assert len(store.path.read_text().splitlines()) == 2  # nothing is ever removed


def test_a_torn_line_costs_itself_alone(store: DecisionStore) -> None:
    store.append(kind("1/a", "interior"))
    with store.path.open("ab") as file:
        file.write(b'{"id": "5f0c5f0c", "task": "ki')
    again = DecisionStore(store.path)
    assert [decision.photo_id for decision in again.decisions()] == ["1/a"]
    again.append(kind("1/b", "detail"))
    store.append(kind("1/c", "other"))
    assert [decision.photo_id for decision in DecisionStore(store.path).decisions()] == ["1/a", "1/b", "1/c"]


def test_a_last_line_without_an_end_counts_once(store: DecisionStore) -> None:
    said = [kind("1/a", "interior"), kind("1/b", "detail")]
    store.path.parent.mkdir()
    store.path.write_text("\n".join(json.dumps(each.to_dict()) for each in said))  # as an editor may leave it
    for _ in range(2):
        assert store.decisions() == said
    store.append(kind("1/c", "other"))
    for each in (store, DecisionStore(store.path)):
        assert [decision.photo_id for decision in each.decisions()] == ["1/a", "1/b", "1/c"]


def test_only_a_line_feed_ends_a_line(store: DecisionStore) -> None:
    store.append(kind("1/a\u2028\x85", "interior"))
    store.path.write_bytes(store.path.read_bytes().replace(b", ", b",\r ").replace(b"\n", b"\r\n"))
    assert [decision.photo_id for decision in DecisionStore(store.path).decisions()] == ["1/a\u2028\x85"]


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
    # Where only the end of a line is missing, its decision is all there.
    whole = sum(line.endswith(b"}") for line in kept.split(b"\n"))
    assert len(DecisionStore(path).decisions()) == whole
    store.append(kind("new", "other"))  # this one had read more: the file that it knew was cut
    assert len(DecisionStore(path).decisions()) == whole + 1


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
    again = DecisionStore(store.path)
    for _ in range(2):  # the same line each time
        with pytest.raises(LabelError, match=message):
            again.decisions()


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
    assert Counter(decision.by for decision in store.decisions()) == {"Ann": 60, "Bob": 60, "Cid": 60}
    # One who looks while another's line is half in the file may end that line too: an empty line, which says nothing.
    lines = [line for line in store.path.read_text().split("\n") if line]
    assert len(lines) == 180


def test_what_most_people_say_holds_and_of_equals_the_newest(store: DecisionStore) -> None:
    for by, says in (("Ann", "interior"), ("Bob", "detail")):
        store.append(kind("1", says, by=by))
    place = ("kind", "photo", "1")
    assert store.settled("kind")[place].says == "detail"
    store.append(kind("1", "interior", by="Cid"))
    assert store.settled("kind")[place].says == "interior"
    store.append(kind("1", "detail", by="Ann"))  # she thought again: two details, one interior
    assert store.settled("kind")[place].says == "detail"
    assert votes(store.decisions())[place].keys() == {"Bob", "Cid", "Ann"}


def test_who_cannot_tell_leaves_a_label_to_those_who_can(store: DecisionStore) -> None:
    says, audi, place = "undecidable", Taxon(make="Audi", model="A4"), ("class", "photo", "1")
    store.append(Decision(task="class", photo_id="1", says=says, by="Cid"))
    assert store.settled("class")[place].says == says
    store.append(Decision(task="class", photo_id="1", says="relabel", becomes=audi, by="Ann"))
    for by in ("Bob", "Ann"):
        store.append(Decision(task="class", photo_id="1", says=says, by=by))
    assert store.settled("class")[place].said == "Audi A4"


@given(st.sampled_from(["kind", "viewpoint"]), st.data(), st.text(min_size=1), st.booleans())
def test_every_entry_survives_json(task: str, data: st.DataObject, photo: str, shown: bool) -> None:
    says = data.draw(st.sampled_from(SAYS[task]))  # type: ignore[index]
    decision = Decision(task=task, says=says, by="Ann", photo_id=photo, shown=shown)  # type: ignore[arg-type]
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


# ---- agreement


def test_cohen_on_a_known_table() -> None:
    # Fifty grant proposals, the usual example: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no give 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    share, kappa = cohen_kappa(pairs)
    assert share == pytest.approx(0.7)
    assert kappa == pytest.approx(0.4)


def test_fleiss_on_a_known_table() -> None:
    # Fourteen people, ten targets, five words: the usual example, kappa 0.210.
    rows = ["0000e", "02642", "00356", "03920", "22811", "77000", "32630", "25322", "65210", "02237"]
    share, kappa = fleiss_kappa(dict(enumerate(int(digit, 16) for digit in row)) for row in rows)
    assert share == pytest.approx(0.378, abs=5e-4)
    assert kappa == pytest.approx(0.210, abs=5e-4)


def test_agreement_of_people() -> None:
    said = {("kind", "photo", str(n)): {"Ann": "a" if n < 6 else "b", "Bob": "a" if n < 5 else "b"} for n in range(10)}
    said[("kind", "photo", "alone")] = {"Ann": "a"}
    found = measure_agreement(said)
    assert (found.people, found.targets, found.percent, found.method) == (("Ann", "Bob"), 10, 90, "cohen")
    assert found.kappa == pytest.approx(0.8)
    assert [row["target"] for row in found.differ] == [("kind", "photo", "5")]
    third = measure_agreement({target: {**words, "Cid": "a"} for target, words in said.items()})
    assert third.method == "fleiss"
    assert third.to_dict()["targets"] == 11


@pytest.mark.parametrize("said", [{}, {("kind", "photo", "1"): {"Ann": "a"}}])
def test_nothing_to_agree_on(said: dict[tuple[str, ...], dict[str, str]]) -> None:
    found = measure_agreement(said)
    assert (found.targets, found.percent, found.kappa) == (0, None, None)


def test_kappa_cannot_be_told_where_all_say_one_word() -> None:
    assert measure_agreement({("k", str(n)): {"Ann": "a", "Bob": "a"} for n in range(9)}).kappa is None
    for wrong in (lambda: cohen_kappa([]), lambda: fleiss_kappa([]), lambda: fleiss_kappa([{"a": 1}])):
        with pytest.raises(ValueError, match="at least"):
            wrong()


# ---- words


def word(words: tuple[str | None, ...], says: str = "relabel", **becomes: str) -> Decision:
    """Make a decision of words."""
    taxon = Taxon.from_dict(becomes) if becomes else None
    return Decision(task="words", words=words, says=says, becomes=taxon, by="Ann")  # type: ignore[arg-type]


GOLF, POLO = Taxon(make="Volkswagen", model="Golf"), Taxon(make="Volkswagen", model="Polo")


def test_words_that_a_person_wrote_win_and_the_file_stays_as_it_is(tmp_path: Path, store: DecisionStore) -> None:
    path = tmp_path / "words.csv"
    path.write_text("make;model;submodel;becomes_make;becomes_model;mine\nVW;Glof;;Volkswagen;Golf;typo\n")
    before, pollo = path.read_bytes(), word(("VW", "Pollo", None), **POLO.to_dict())
    said = (
        pollo,
        word(("vw", "glof", None), **POLO.to_dict()),
        word(("Boat", None, None), "nothing"),
        word(("-", None, None), **POLO.to_dict()),
    )
    for each in said:
        store.append(each)
    known = corrections(tmp_path, store)
    assert known.find(("VW", "Pollo", None)) == POLO
    assert known.find(("VW", "Glof", None)) == GOLF
    assert len(known.taxa) == 2
    store.take_back(pollo.id, by="Ann")
    assert corrections(tmp_path, store).taxa == written_words(tmp_path, store).taxa
    assert path.read_bytes() == before


def test_rows_that_an_older_version_copied_hold_until_somebody_decides(tmp_path: Path, store: DecisionStore) -> None:
    path, pollo = tmp_path / "words.csv", ("VW", "Pollo", None)
    head = "make,model,submodel,becomes_make,becomes_model,message\n"
    copied = "VW,Pollo,,Volkswagen,Golf,review: Ann 2025-03-01\n"
    path.write_text(head + copied)
    assert corrections(tmp_path, store).find(pollo) == GOLF  # its decision is lost, or of another project
    decision = word(pollo, **POLO.to_dict())
    store.append(decision)
    assert corrections(tmp_path, store).find(pollo) == POLO
    store.take_back(decision.id, by="Ann")
    assert corrections(tmp_path, store).find(pollo) is None
    by_hand = "vw,pollo,,Skoda,Octavia,\n"
    for rows in (copied + by_hand, by_hand + copied):
        path.write_text(head + rows)
        found = corrections(tmp_path, store).find(pollo)
        assert found is not None
        assert found.make == "Skoda"
