"""Queues of a project: what is asked in which order, what is not asked again, and what decisions change."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from carspotter.errors import ImageError, LabelError, ProjectError
from carspotter.labels.corrections import Corrections
from carspotter.labels.doubts import Doubt, write_doubts
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from carspotter.review.decisions import Decision
from carspotter.review.finder_rows import write_finder_rows
from carspotter.review.relearn import Relearning
from carspotter.review.session import ReviewSession
from carspotter.taxonomy import Taxon
from carspotter.thumbnails import screen_picture
from review_project import review_project
from waiting import until


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a project of six ads whose words were resolved, the last one's in vain."""
    made = review_project(tmp_path / "project")
    build(made, only=("resolve", "classes", "split"))
    return made


def photos(session: ReviewSession, queue: str, task: str | None = None) -> list[str | None]:
    """Name the photos of a queue in their order."""
    return [item.photo_id for item in session.work(session.query(queue, task), limit=500).items]


def kind(photo: str, says: str) -> dict[str, object]:
    """Return what a page sends."""
    return {
        "id": Decision(task="kind", says=says, by="x", photo_id=photo).id,
        "task": "kind",
        "photo": photo,
        "says": says,
    }


def test_a_random_sample_depends_on_seed_and_ids_alone(project: Project) -> None:
    with (
        ReviewSession(project, person="Ann", count=8, seed=1) as session,
        ReviewSession(project, person="Ann", seed=1) as whole,
    ):
        sample, everything = photos(session, "random"), photos(whole, "random")
        assert len(sample) == 8
        assert everything[:8] == sample
        assert len(set(everything)) == 24
    with ReviewSession(project, person="Ann", count=8, seed=2) as other:
        assert photos(other, "random") != sample
    with project.catalog() as catalog:  # an unreadable photo and a new one
        catalog.append("checks", [{"photo_id": sample[0], "status": "truncated"}])
    with ReviewSession(project, person="Ann", seed=1) as session:
        assert photos(session, "random") == everything[1:]


def test_uncertain_ones_come_first(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        work = session.work(session.query("uncertain", "kind"), limit=500)
    sure = [item.machine["kind"]["probability"] for item in work.items]
    assert sure == sorted(sure)
    assert len(sure) == 24


def test_viewpoints_are_asked_of_exteriors_and_of_what_people_call_so(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        assert len(photos(session, "viewpoint")) == 18
        box = next(item.box for item in session.work(session.query("viewpoint")).items)
        assert box == (0.25, 0.25, 0.5, 0.5)


def test_nobody_is_asked_what_somebody_decided_but_for_a_random_sample(project: Project) -> None:
    with ReviewSession(project, person="Ann") as ann, ReviewSession(project, person="Bob") as bob:
        first = photos(ann, "kind")[0]
        assert first is not None
        ann.decide(kind(first, "detail"))
        assert first not in photos(ann, "kind")
        assert first not in photos(bob, "kind")
        assert first not in photos(ann, "random")
        assert first in photos(bob, "random")
        work = ann.work(ann.query("kind"))
        assert (work.total, work.done) == (24, 1)
        assert [decision.photo_id for decision in work.last] == [first]
        bob.decide(kind(first, "other"))
        assert ann.agreement("kind").to_dict()["differ"] == [
            {"target": ["kind", "photo", first], "said": {"Ann": "detail", "Bob": "other"}}
        ]


def test_two_people_begin_at_different_photos_of_the_same(project: Project) -> None:
    with (
        ReviewSession(project, person="Ann", count=20) as ann,
        ReviewSession(project, person="Bob", count=20) as bob,
        ReviewSession(project.folder / "photos", person="Ann") as folder,
        ReviewSession(project.folder / "photos", person="Bob") as other,
    ):
        assert photos(folder, "kind") != photos(other, "kind")
        for queue, same in (("kind", False), ("viewpoint", False), ("random", True)):
            anns, bobs = photos(ann, queue), photos(bob, queue)
            assert (anns == bobs) == same
            assert set(anns) == set(bobs)
        assert len({each.id for each in (ann, bob, folder, other)}) == 4


def test_undone_is_asked_again(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        first = photos(session, "kind")[0]
        assert first is not None
        decision = session.decide(kind(first, "detail"))
        with ReviewSession(project, person="Ann") as later:  # after a restart
            undone, item = later.undo(decision.id)
        assert (undone.id, item.photo_id, item.task) == (decision.id, first, "kind")
        assert photos(session, "kind")[0] == first


@pytest.mark.parametrize(
    ("queue", "task", "message"),
    [("kinds", None, "queue 'kinds' is unknown; did you mean 'kind'"), ("kind", "class", "does not ask for 'class'")],
)
def test_a_queue_that_there_is_not(queue: str, task: str | None, message: str, project: Project) -> None:
    with ReviewSession(project, person="Ann") as session, pytest.raises(ProjectError, match=message):
        session.query(queue, task)


def test_a_list_that_a_spreadsheet_saved_otherwise_is_named(project: Project) -> None:
    doubts, words = project.labels / "doubts.csv", project.labels / "unresolved.csv"
    write_doubts(doubts, [Doubt(photo_id="1/0", ad_id="1", given="Citroën", score=0.1, given_probability=0.873)])
    good = doubts.read_text(encoding="utf-8-sig")
    for path, queue in ((doubts, "doubts"), (words, "unresolved")):
        path.write_bytes(good.encode("cp1252"))
        with (
            ReviewSession(project, person="Ann") as session,
            pytest.raises(LabelError, match=rf"{path.name} cannot be read: .*; save it as CSV in UTF-8"),
        ):
            photos(session, queue)
    for number in ('"0,873"', "nan"):
        doubts.write_text(good.replace("0.873", number), encoding="utf-8")
        said = number.strip('"')
        with (
            ReviewSession(project, person="Ann") as session,
            pytest.raises(LabelError, match=rf"doubts.csv line 2: given_probability is '{said}'; it must be a number"),
        ):
            photos(session, "doubts")


def test_doubts_before_they_were_looked_for(project: Project) -> None:
    with (
        ReviewSession(project, person="Ann") as session,
        pytest.raises(ProjectError, match="run first: carspotter doubts"),
    ):
        photos(session, "doubts")


def test_a_photo_that_the_project_does_not_have(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        for photo in ("9/9", "../../etc/passwd", "photos/0/0.jpg"):
            with pytest.raises(LabelError, match="has no such photo"):
                session.decide(kind(photo, "other"))
            with pytest.raises(LabelError, match="in no queue"):
                session.picture(photo)


def test_a_reviewed_file_is_imported_where_a_review_opens(project: Project) -> None:
    (project.labels / "reviewed.csv").write_text(
        "photo_id,ad_id,decision,becomes_make,becomes_model,said_by\n,0,relabel,Audi,A3,Bob\n"
    )
    with ReviewSession(project, person="Ann") as session:
        assert [(each.by, each.said) for each in session.store.decisions()] == [("Bob", "Audi A3")]
    assert build(project, only=("resolve",))["resolve"]["reviewed photos"] == 4


def test_an_item_shows_all_photos_of_its_ad(project: Project) -> None:
    write_doubts(
        project.labels / "doubts.csv",
        [
            Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="BMW X5", score=0.1),
            Doubt(photo_id="0/1", ad_id="0", given="Audi A4", score=0.9, why="alone"),
        ],
    )
    with ReviewSession(project, person="Ann") as session:
        whole, single = session.work(session.query("doubts")).items
        assert [shot.photo_id for shot in whole.album] == [f"1/{k}" for k in range(4)]
        assert [shot.photo_id for shot in single.album] == [f"0/{k}" for k in range(4)]
        assert whole.to_dict()["album"][0] == {"photo": "1/0", "size": (320, 240), "box": (0.25, 0.25, 0.5, 0.5)}
        with Image.open(io.BytesIO(session.picture("1/3", small=True))) as picture:
            assert picture.size == (320, 240)
        decision = session.decide({"task": "class", "says": "keep", "ad": "1", "id": "0" * 16})
        assert len(session.undo(decision.id)[1].album) == 4
        for queue, task in (("random", "class"), ("random", "kind"), ("viewpoint", None)):
            item = session.work(session.query(queue, task)).items[0]
            assert [shot.photo_id for shot in item.album] == [f"{item.ad_id}/{k}" for k in range(4)]
    with ReviewSession(project, person="Ann") as session:  # of a session that knows nothing of the queue
        decision = session.decide({"task": "class", "says": "keep", "ad": "1", "id": "1" * 16})
        assert len(session.undo(decision.id)[1].album) == 4


def test_the_title_stands_beside_the_words_where_it_says_more(project: Project) -> None:
    titles = {"0": "Audi A4 B8 Avant", "1": "BMW X5"}
    with project.catalog() as catalog, catalog.writer():
        rows = catalog.rows("SELECT * EXCLUDE stage_version FROM listings")
        catalog.append("listings", [{**row, "title": titles.get(row["ad_id"])} for row in rows])
    with ReviewSession(project, person="Ann") as session:
        said = {item.ad_id: item.seller for item in session.work(session.query("random", task="class")).items}
    assert (said["0"], said["1"], said["2"]) == ("Audi A4 2012 · Audi A4 B8 Avant", "BMW X5 2012", "Opel Astra 2012")


def test_doubts_are_decided_of_whole_ads(project: Project) -> None:
    golf = Taxon(make="Volkswagen", model="Golf")
    doubt = Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="BMW X5", score=0.1, suggested=golf)
    write_doubts(
        project.labels / "doubts.csv",
        [
            doubt,
            Doubt(photo_id="0/1", ad_id="0", given="Audi A4", score=0.9, why="alone"),
            Doubt(photo_id="1/0", ad_id="1", given="BMW X5", score=0.8, why="alone"),  # its ad is asked about
        ],
    )
    with ReviewSession(project, person="Ann") as session:
        whole, single = session.work(session.query("doubts")).items
        assert (whole.is_ad, whole.suggested, single.is_ad, single.why) == (True, golf, False, "alone")
        decision = {"task": "class", "says": "relabel", "becomes": golf.to_dict(), "id": "0" * 16}
        session.decide({**decision, "ad": "1"})
        session.decide({"task": "class", "says": "drop", "id": "1" * 16, "photo": "0/1"})
        assert session.work(session.query("doubts")).items == ()
    said = build(project, only=("resolve", "classes", "split"))
    assert said["resolve"]["reviewed photos"] == 5
    with project.catalog() as catalog:
        rows = catalog.rows("SELECT photo_id, name, said_by, status FROM reviews ORDER BY photo_id")
    assert [(row["photo_id"], row["name"]) for row in rows] == [("0/1", None)] + [
        (f"1/{k}", "Volkswagen Golf") for k in range(4)
    ]
    assert {row["said_by"] for row in rows} == {"Ann"}
    assert rows[0]["status"] == "dropped"
    assert build(project, only=("resolve",))["resolve"] == {**said["resolve"], "unchanged": True}


def test_to_keep_what_a_person_said_gives_it_again(project: Project) -> None:
    audi = Taxon(make="Audi", model="A3")
    said = {"task": "class", "photo": "0/0"}
    with ReviewSession(project, person="Ann") as session:
        session.decide({**said, "says": "relabel", "becomes": audi.to_dict(), "id": "0" * 16})
    build(project, only=("resolve",))
    with ReviewSession(project, person="Ann") as session:
        decision = session.decide({**said, "says": "keep", "id": "1" * 16})
        assert (decision.says, decision.becomes, decision.given) == ("relabel", audi, "Audi A3")
        kept = session.decide({**said, "photo": "0/1", "says": "keep", "id": "2" * 16})
        assert (kept.says, kept.given, kept.said) == ("keep", "Audi A4 2012", "Audi A4 2012")
    build(project, only=("resolve",))
    with project.catalog() as catalog:
        assert catalog.rows("SELECT photo_id, name FROM reviews") == [{"photo_id": "0/0", "name": "Audi A3"}]


def test_a_photo_that_was_relabelled_by_itself_does_not_speak_for_its_ad(project: Project) -> None:
    write_doubts(project.labels / "doubts.csv", [Doubt(photo_id="1/0", ad_id="1", is_ad=True, given="x", score=0.1)])
    audi = {"make": "Audi", "model": "A3"}
    with ReviewSession(project, person="Ann") as session:
        session.decide({"task": "class", "photo": "1/0", "says": "relabel", "becomes": audi, "id": "0" * 16})
    build(project, only=("resolve",))
    with ReviewSession(project, person="Ann") as session:
        (item,) = session.work(session.query("doubts")).items
        assert (item.photo_id, item.given and item.given.name()) == ("1/1", "BMW X5 2012")
    with ReviewSession(project, person="Ann") as session:  # of a session that knows nothing of the queue
        kept = session.decide({"task": "class", "ad": "1", "says": "keep", "id": "1" * 16})
        assert (kept.says, kept.given) == ("keep", "BMW X5 2012")


def test_who_cannot_tell_changes_no_label(project: Project) -> None:
    said = {"task": "class", "says": "relabel", "becomes": {"make": "Audi", "model": "A3"}}
    with ReviewSession(project, person="Ann") as ann, ReviewSession(project, person="Bob") as bob:
        ann.decide({**said, "ad": "0", "id": "0" * 16})
        ann.decide({**said, "photo": "1/0", "id": "1" * 16})
        for number, photo in enumerate(("0/0", "1/0", "2/0")):
            bob.decide({"task": "class", "says": "undecidable", "photo": photo, "id": f"2{number:015}"})
    build(project, only=("resolve",))
    with project.catalog() as catalog:
        rows = catalog.rows("SELECT photo_id, name FROM reviews ORDER BY photo_id")
    assert rows == [{"photo_id": photo, "name": "Audi A3"} for photo in ("0/0", "0/1", "0/2", "0/3", "1/0")]


def test_a_label_that_is_another_one_by_now_is_not_kept(project: Project) -> None:
    keep = {"task": "class", "photo": "0/0", "says": "keep"}
    with ReviewSession(project, person="Ann") as session:
        session.decide({**keep, "given": "Audi A4 2012", "id": "0" * 16})
        with pytest.raises(LabelError, match="the label is Audi A4 2012 by now, BMW X5 was on the screen"):
            session.decide({**keep, "given": "BMW X5", "id": "1" * 16})
        assert len(session.store.decisions()) == 1


def test_words_that_were_decided_are_resolved_at_the_next_build(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        (item,) = session.work(session.query("unresolved")).items
        assert (item.words, item.photo_id) == (("Qqzzx", "Vbnmk", None), "5/2")
        content = {"task": "words", "words": list(item.words or ()), "says": "relabel"}
        with pytest.raises(LabelError, match="make and model must be given"):
            session.decide({**content, "becomes": {"make": "Fiat"}, "id": "0" * 16})
        decision = session.decide({**content, "becomes": {"make": "Fiat", "model": "Panda"}, "id": "0" * 16})
        assert session.work(session.query("unresolved")).done == 1
        session.undo(decision.id)
        assert session.work(session.query("unresolved")).done == 0
        session.decide({**content, "becomes": {"make": "Fiat", "model": "Panda"}, "id": "1" * 16})
        assert not (project.labels / "words.csv").exists()
    said = build(project, only=("resolve",))["resolve"]
    assert said["unresolved"] == 0
    with project.catalog() as catalog:
        assert catalog.rows("SELECT name FROM labels WHERE ad_id = '5'") == [{"name": "Fiat Panda 2012"}]
    assert build(project, only=("resolve",))["resolve"] == {**said, "unchanged": True}
    with ReviewSession(project, person="Ann") as session:
        session.undo("1" * 16)
    assert build(project, only=("resolve",))["resolve"]["unresolved"] == 1


def test_a_list_of_words_holds_what_was_decided_and_may_replace_it_again_and_again(project: Project) -> None:
    words, open_, kept = (project.labels / name for name in ("words.csv", "unresolved.csv", "unresolved.csv.filled"))
    words.write_text("make,model,submodel,becomes_make,becomes_model,mine\nZorb,Yy,,Fiat,Uno,by Ann\n")
    filled = open_.read_text(encoding="utf-8-sig").replace("Qqzzx,Vbnmk,,,,", "Qqzzx,Vbnmk,,Fiat,Panda,")
    open_.write_text(filled)  # in its place
    said = build(project, only=("resolve",))["resolve"]
    assert (said["unresolved"], len(said["warnings"])) == (1, 1)
    assert said["warnings"][0].startswith("unresolved.csv was filled in; save it as words.csv to have it count;")
    assert kept.read_text() == filled
    again = build(project, only=("resolve",))["resolve"]
    assert (again["unchanged"], again.get("warnings")) == (True, None)
    with ReviewSession(project, person="Ann") as session:
        work = session.work(session.query("unresolved"))
        assert [item.words for item in work.items] == [("Qqzzx", "Vbnmk", None)]
        assert (work.total, work.done) == (1, 0)
    filled = open_.read_text(encoding="utf-8-sig").replace("Qqzzx,Vbnmk,,,,", "Qqzzx,Vbnmk,,Fiat,Panda,")
    words.write_text(filled)
    said = build(project, only=("resolve",))["resolve"]
    assert (said["unresolved"], said.get("warnings")) == (0, None)
    known = Corrections.read(words)
    assert known.find(("zorb", "yy", None)) == Taxon(make="Fiat", model="Uno")
    assert known.find(("Qqzzx", "Vbnmk", None)) == Taxon(make="Fiat", model="Panda")
    assert "by Ann" in open_.read_text(encoding="utf-8-sig")


def test_kinds_and_viewpoints_stand_above_the_finder(tmp_path: Path) -> None:
    project = review_project(tmp_path / "project", ads=30, size=(32, 24))
    with ReviewSession(project, person="Ann") as session:
        for ad in range(30):
            session.decide(kind(f"{ad}/0", "detail"))
            session.decide(
                {"id": f"{ad:016}", "task": "viewpoint", "photo": f"{ad}/1", "says": "left" if ad else "unknown"}
            )
    assert write_finder_rows(project, tmp_path / "rows.csv")["kinds"] == {"detail": 30, "exterior": 29}
    rows = {row["path"]: row for row in csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())}
    assert rows["project/photos/1/0.jpg"]["x1"] == ""
    assert (rows["project/photos/1/1.jpg"]["viewpoint"], rows["project/photos/1/1.jpg"]["x1"]) == ("left", "8.0")


def test_pictures_for_the_screen_tell_nothing_else(project: Project) -> None:
    original = (project.folder / "photos/0/0.jpg").read_bytes()
    assert b"secret place" in original
    with ReviewSession(project, person="Ann") as session:
        photos(session, "kind")
        data = session.picture("0/0")
        (project.folder / "photos/0/1.jpg").write_bytes(original[:400])
        with pytest.raises(ImageError):
            session.picture("0/1")
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size, dict(picture.getexif())) == ("JPEG", (320, 240), {})
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 1000)).save(buffer, "PNG")
    with Image.open(io.BytesIO(screen_picture(buffer.getvalue()))) as picture:
        assert picture.size == (1280, 427)


def test_taxa_to_choose_from_are_the_projects_own_first(project: Project) -> None:
    with ReviewSession(project, person="Ann") as session:
        taxa = session.taxa()
    assert [row["taxon"] for row in taxa[:3]] == [
        {"make": "Audi"},
        {"make": "Audi", "model": "A4"},
        {"make": "Audi", "model": "A4", "year": 2012},
    ]
    assert {"taxon": {"make": "Lada", "model": "Niva"}, "ads": 0} in taxa or len(taxa) > 1000


def test_taxa_of_one_year_and_two_generations_have_names_of_their_own(project: Project) -> None:
    golf = {"make": "Volkswagen", "model": "Golf", "year": 2020, "status": "ok"}
    with project.catalog() as catalog, catalog.writer():
        catalog.append("labels", [{"ad_id": ad, **golf, "generation": g} for ad, g in (("3", "Mk7"), ("4", "Mk8"))])
    with ReviewSession(project, person="Ann") as session:
        names = [row["name"] for row in session.taxa()]
    assert {"Volkswagen Golf Mk7 2020", "Volkswagen Golf Mk8 2020"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_taxon_is_spelled_as_it_is_known_and_a_new_one_is_offered(project: Project) -> None:
    said = {"task": "class", "says": "relabel"}
    with ReviewSession(project, person="Ann") as session:
        session.decide({**said, "photo": "0/0", "becomes": {"make": "VW", "model": "golf"}, "id": "0" * 16})
        new = session.decide({**said, "photo": "0/1", "becomes": {"make": "Zorblax", "model": "R1T"}, "id": "1" * 16})
        assert [each.said for each in session.store.decisions()] == ["Volkswagen Golf", "Zorblax R1T"]
        row = {"taxon": {"make": "Zorblax", "model": "R1T"}, "name": "Zorblax R1T", "ads": 0}
        assert row in session.taxa()
        build(project, only=("resolve",))
        session.undo(new.id)
        assert row in session.taxa()  # until the next build photos have it


def test_learning_tells_what_it_said_or_why_it_could_not(project: Project) -> None:
    done: list[int] = []
    learning = Relearning(project, done=lambda: done.append(1))
    assert learning.begin()
    _wait(learning)
    assert learning.to_dict()["error"] is None
    assert "classes" in learning.to_dict()["said"]
    assert done == [1]
    with project.catalog() as catalog, catalog.writer():
        assert learning.begin()
        _wait(learning)
    assert "is being built by" in learning.to_dict()["error"]


def _wait(learning: Relearning) -> None:
    until(lambda: not learning.to_dict()["running"])
