"""A whole build on a small project: what it finds, that a second one does nothing, and that growth moves nothing."""

import csv
import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.funnel import funnel
from carspotter.dataset.reader import read_tfrecord, read_webdataset
from carspotter.errors import CatalogError, ProjectError
from carspotter.evaluation.evaluating import from_shards
from carspotter.evaluation.metrics import BY_CHANCE, SEEN
from carspotter.evaluation.predictions import Predictions
from carspotter.labels.corrections import BECOMES
from carspotter.pixels import decode
from carspotter.project import resolve
from carspotter.project.folder import Project
from carspotter.project.pipeline import STEPS, build
from carspotter.project.report import LARGER, VIEW_HEIGHT
from carspotter.recognition.ad import answer_ad
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.seen import SEEN_FILE, hashes_of, to_bytes
from tiny_project import NAMES, make_project, save_photo, tables

Said = dict[str, Any]


@pytest.fixture(scope="module")
def built(tiny_built: Path) -> tuple[Path, Said]:
    return tiny_built, json.loads((tiny_built / "said.json").read_text())


@pytest.fixture
def copy(built: tuple[Path, Said], tmp_path: Path) -> Path:
    """A copy of the built project at another place, to be changed."""
    return Path(shutil.copytree(built[0], tmp_path / "copy"))


@pytest.fixture
def catalog(built: tuple[Path, Said]) -> Iterator[Catalog]:
    with Project.open(built[0]).catalog() as opened:
        yield opened


def test_every_step_says_something(built: tuple[Path, Said]) -> None:
    assert list(built[1]) == [step.name for step in STEPS]
    assert all(built[1].values())


def test_each_flaw_has_its_reason(catalog: Catalog) -> None:
    listings = {row["ad_id"]: row["status"] for row in catalog.rows("SELECT ad_id, status FROM listings")}
    assert {status for ad, status in listings.items() if ad.isdigit()} == {"ok"}
    assert sorted(status for ad, status in listings.items() if not ad.isdigit()) == ["duplicate-id", "no-ad-id"]
    reasons = {
        Path(row["url"]).name: row["status"]
        for row in catalog.rows(
            """SELECT p.url, coalesce(nullif(f.status, 'ok'), c.status) AS status FROM listing_photos p
            LEFT JOIN files f USING (photo_id) LEFT JOIN checks c USING (photo_id) WHERE p.ad_id = '9000' AND p.url IS
            NOT NULL"""
        )
    }
    assert reasons == {
        "9000_broken.jpg": "truncated",
        "9000_text.jpg": "unsupported-format",
        "9000_absent.jpg": "missing",
        "9000_inside.jpg": "ok",
    }


def test_words_become_taxa(catalog: Catalog) -> None:
    labels = {row["ad_id"]: (row["name"], row["status"]) for row in catalog.rows("SELECT * FROM labels")}
    assert [labels[ad] for ad in ("1000", "1100", "1200")] == [(name, "ok") for name in NAMES.values()]
    assert labels["9002"][1] == "unresolved"


def test_the_funnel_adds_up(catalog: Catalog) -> None:
    found = funnel(catalog)
    left = found.photos
    for stage in found.stages:
        left -= sum(stage.stopped.values())
        assert stage.passed == left, stage.name
    assert sum(found.splits.values()) == left == 45
    stopped = {stage.name: dict(stage.stopped) for stage in found.stages}
    assert stopped["fetch"] == {"missing": 1}
    assert stopped["check"] == {"truncated": 1, "unsupported-format": 1}
    assert stopped["locate"] == {"interior": 1}
    assert stopped["resolve"] == {"unresolved": 1}
    assert stopped["split"] == {"duplicate": 1}


def test_a_build_tells_the_numbers_of_the_status(built: tuple[Path, Said], catalog: Catalog) -> None:
    """The truncated photo shows no vehicle either: it stops at the check, and is counted there alone."""
    stopped = {stage.name: dict(stage.stopped) for stage in funnel(catalog).stages}
    assert built[1]["locate"]["stopped"] == {**stopped["check"], **stopped["locate"]}


def test_ads_and_copies_stay_together(catalog: Catalog) -> None:
    rows = catalog.rows("SELECT ad_id, count(DISTINCT split) AS n FROM samples WHERE split IS NOT NULL GROUP BY ad_id")
    assert {row["n"] for row in rows} == {1}
    splits = {
        row["ad_id"]: row["split"] for row in catalog.rows("SELECT ad_id, split FROM samples WHERE status = 'ok'")
    }
    assert set(splits.values()) == {"train", "validation", "test"}
    groups = catalog.rows("SELECT group_id, count(*) AS n FROM duplicates GROUP BY group_id")
    assert [group["n"] for group in groups] == [2]


def test_boxes_are_where_the_cars_are(catalog: Catalog) -> None:
    row = catalog.rows(
        """SELECT v.* FROM findings v JOIN listing_photos p USING (photo_id) WHERE p.url LIKE '%1000_0.jpg'"""
    )[0]
    assert row["passed"]
    assert (row["kind"], row["vehicles"]) == ("exterior", 1)
    assert row["x2"] - row["x1"] == pytest.approx(200, abs=8)
    assert row["y2"] - row["y1"] == pytest.approx(140, abs=8)


def test_learn_writes_a_bundle_that_identify_uses(built: tuple[Path, Said], tmp_path: Path) -> None:
    folder, stats = built
    assert stats["learn"]["test_top1"] == 1.0  # three colours
    learned = ModelBundle.load(folder / "models" / "learned")
    assert {taxon.name() for taxon in learned.taxonomy.classes} == set(NAMES.values())
    recognizer = Recognizer.open(finder=folder / "bundles" / "finder", identifier=folder / "models" / "learned")
    save_photo(tmp_path / "new.jpg", "green", seed=77)
    prediction = recognizer.recognize(tmp_path / "new.jpg")
    assert prediction.vehicles[0].levels["model"][0].name == "Audi A4"
    figures = learned.card["figures"]
    assert {"test test_top1", "test ad_top1"} <= set(figures)
    held = next(name for name in figures if name.startswith("top-1, on "))
    assert figures[held] == 1.0
    assert figures["classes left out in turn: AUROC"] == stats["learn"]["strangers_auroc"]


def test_learn_says_which_test_photos_its_network_has_learnt_from(copy: Path) -> None:
    """The network under the head learnt from four of the test photos: the words are those of `train`."""
    crops = from_shards(str(copy / "shards"), split="test")[:4]
    known = hashes_of([decode(photo.read()).pixels for photo in crops])
    (copy / "bundles" / "identifier" / SEEN_FILE).write_bytes(to_bytes(known))
    shutil.rmtree(copy / "catalog" / "embeddings")
    stats = build(Project.open(copy), until="learn", workers=0)["learn"]
    table = Predictions.load(Project.open(copy).predictions)
    test = table.take(table.about["split"] == "test")
    seen = set(test.photos[test.about[SEEN] == "yes"])
    assert {photo.name for photo in crops} <= seen
    right, rest = test.right_at()[0][test.about[SEEN] == "no"], len(test) - len(seen)
    said = f"seems to have learnt from {len(seen)} of them before this training ({BY_CHANCE}); of the other {rest}"
    assert f"{said} {right.mean():.1%} are right" in stats["text"]


def test_one_class_is_learnt_and_the_others_are_none_of_it(copy: Path) -> None:
    rows = (copy / "cars.csv").read_text(encoding="utf-8").splitlines()
    (copy / "cars.csv").write_text("\n".join([rows[0], *(row for row in rows if "A4 Avant" in row)]), encoding="utf-8")
    stats = build(Project.open(copy), workers=0)
    assert "photos of 1 class:" in stats["learn"]["text"]
    recognizer = Recognizer.open(finder=copy / "bundles" / "finder", identifier=copy / "models" / "learned")
    photos = {}
    for color in NAMES:
        save_photo(copy / f"{color}.jpg", color, seed=91)
        photos[color] = recognizer.recognize(copy / f"{color}.jpg")
    seen = {color: photo.vehicles[0] for color, photo in photos.items()}
    assert seen["green"].answer is not None
    for other in ("red", "blue"):
        assert seen[other].answer is None
        assert str(seen[other].undecided).startswith("not one of yours")
        # As an ad, and as JSON, the same words.
        ad = answer_ad([photos[other]] * 2, recognizer.identifier)
        assert str(ad.to_dict()["undecided"]).startswith("not one of yours")
    assert answer_ad([photos["green"]], recognizer.identifier).answer is not None


def test_shards_are_read_back(built: tuple[Path, Said]) -> None:
    folder = built[0]
    manifest = json.loads((folder / "shards" / "manifest.json").read_text())
    assert sum(shard["samples"] for shard in manifest["shards"]) == 45
    for read in (read_webdataset, read_tfrecord):
        samples = list(read(folder / "shards"))
        assert len(samples) == 45
        assert {sample.metadata["class_name"] for sample in samples} == set(NAMES.values())
        train = list(read(folder / "shards", split="train"))
        assert 0 < len(train) < 45


def test_shards_are_written_again_when_a_photo_comes_back_or_the_identifier_sees_otherwise(copy: Path) -> None:
    def shard() -> Said:
        return dict(build(Project.open(copy), only=("shard",), workers=0)["shard"])

    shutil.rmtree(copy / "shards")
    (copy / "pictures" / "1000_1.jpg").rename(copy / "away")
    assert shard()["errors"] == 1
    (copy / "away").rename(copy / "pictures" / "1000_1.jpg")
    stats = shard()
    assert (stats["errors"], stats.get("unchanged")) == (0, None)
    assert shard()["unchanged"]
    manifest = copy / "bundles" / "identifier" / "bundle.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["preprocessing"]["pad"] += 0.1
    manifest.write_text(json.dumps(content), encoding="utf-8")
    assert "unchanged" not in shard()
    assert json.loads((copy / "shards" / "manifest.json").read_text())["settings"]["target"] == content["preprocessing"]


def test_the_report_is_one_file_with_pictures(built: tuple[Path, Said]) -> None:
    html = (built[0] / "report.html").read_text(encoding="utf-8")
    assert "leak certificate: 0 ads, 0 exact, 0 near-duplicates" in html
    assert html.count("data:image/jpeg;base64,") >= 6  # an interior, two copies, three sides
    for word in ("truncated", "interior", "Volkswagen Golf", "Qqzzx"):
        assert word in html
    for outside in ('src="http', 'href="http', "url(http"):
        assert outside not in html


@pytest.mark.parametrize("blur", [True, False])
def test_a_report_opens_no_file_that_shows_what_it_hides(blur: bool, copy: Path) -> None:
    settings = copy / "carspotter.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("blur = false", f"blur = {str(blur).lower()}"), "utf-8")
    build(Project.open(copy), workers=0, only=("report",))
    html = (copy / "report.html").read_text(encoding="utf-8")
    opened = re.findall(r'<a class="picture" href="([^"]+)"', html)
    assert all((copy / place).is_file() for place in opened)
    pictures = [b64decode(each) for each in re.findall(r"data:image/jpeg;base64,([^\"]+)", html)]
    assert len(opened) == (0 if blur else len(pictures))
    assert pictures
    assert max(decode(each).height for each in pictures) == VIEW_HEIGHT * (LARGER if blur else 1)


def test_a_second_build_changes_nothing(copy: Path) -> None:
    before = tables(copy)
    heard: list[str] = []

    class Listen:
        def start(self, step: str, about: str) -> None: ...

        def advance(self, done: int, total: int) -> None:
            heard.append("advance")

        def end(self, step: str, stats: Any) -> None: ...

    # The missing photo is asked for again; nothing else is done.
    stats = build(Project.open(copy), workers=0, watch=Listen())
    assert tables(copy) == before
    unchanged = {name for name, words in stats.items() if "unchanged" in words}
    assert unchanged == {"deduplicate", "resolve", "classes", "split", "learn", "shard"}
    assert stats["split"]["samples"] == 45, "a program still has the figures"
    assert stats["locate"] == {"done": 0}
    assert len(heard) <= 1


def test_a_report_is_drawn_when_something_that_it_shows_has_changed(copy: Path) -> None:
    page = copy / "report.html"
    page.write_text("as it was", encoding="utf-8")
    assert build(Project.open(copy), workers=0)["report"]["text"] == str(page)
    assert page.read_text(encoding="utf-8") == "as it was"
    page.unlink()
    build(Project.open(copy), workers=0, only=("report",))
    assert "<img" in page.read_text(encoding="utf-8")
    page.write_text("as it was", encoding="utf-8")
    settings = copy / "carspotter.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('"tiny"', '"other"'), encoding="utf-8")
    build(Project.open(copy), workers=0, only=("report",))
    assert "other" in page.read_text(encoding="utf-8")


def add_ads(folder: Path, rows: list[tuple[str, ...]]) -> None:
    with (folder / "cars.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_growth_moves_nothing(copy: Path) -> None:
    before = {row["photo_id"]: row["split"] for row in tables(copy)["samples"]}
    for k in range(6):
        save_photo(copy / "pictures" / f"500{k}_0.jpg", "red", seed=500 + k)
    add_ads(copy, [(f"500{k}", "volkswagen", "GOLF", "", f"500{k}_0.jpg") for k in range(6)])
    build(Project.open(copy), until="split", workers=0)
    after = {row["photo_id"]: row["split"] for row in tables(copy)["samples"]}
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 6


def test_a_threshold_is_applied_without_looking_again(copy: Path) -> None:
    text = (copy / "carspotter.toml").read_text()
    (copy / "carspotter.toml").write_text(text.replace("[check]", "[check]\nmin_side = 301"))
    stats = build(Project.open(copy), until="locate", workers=0)
    stopped = {"too-small": 48, "truncated": 1, "unsupported-format": 1}
    assert stats["locate"] == {"done": 0, "judged anew": 48, "stopped": stopped}
    assert build(Project.open(copy), until="locate", workers=0)["locate"] == {"done": 0}, "judged once"
    with Project.open(copy).catalog() as catalog:
        assert catalog.rows("SELECT DISTINCT status FROM checks WHERE width IS NOT NULL") == [{"status": "too-small"}]
    (copy / "carspotter.toml").write_text(text)
    build(Project.open(copy), until="locate", workers=0)
    with Project.open(copy).catalog() as catalog:
        assert catalog.rows("SELECT DISTINCT status FROM checks WHERE width IS NOT NULL") == [{"status": "ok"}]


def test_words_that_a_person_wrote_win(copy: Path) -> None:
    with (copy / "labels" / "unresolved.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["make"], row["model"], row["ads"]) for row in rows] == [("Qqzzx", "Vbnmk", "1")]
    filled = rows[0] | dict(zip(BECOMES, ("Volkswagen", "Golf"), strict=False))
    with (copy / "labels" / "words.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerow(filled)
    build(Project.open(copy), until="resolve", workers=0)
    with Project.open(copy).catalog() as catalog:
        row = catalog.rows("SELECT * FROM labels WHERE ad_id = '9002'")[0]
    assert (row["name"], row["said_by"], row["status"]) == ("Volkswagen Golf", "person", "ok")


def test_labels_are_the_same_however_many_are_made_at_a_time(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def labels() -> list[dict[str, Any]]:
        with Catalog.open(copy) as catalog:
            return catalog.rows("SELECT * FROM labels ORDER BY ad_id")

    before, unresolved = labels(), (copy / "labels" / "unresolved.csv").read_bytes()
    with Catalog.open(copy) as catalog:  # as if all but a few had been labelled otherwise
        catalog.append("labels", [{"ad_id": row["ad_id"], "status": "ok"} for row in before[:-3]])
        catalog.append("labels", [{"ad_id": "gone", "status": "ok"}])
    monkeypatch.setattr(resolve, "AT_ONCE", 4)
    build(Project.open(copy), only=("resolve",))
    assert labels() == before
    assert (copy / "labels" / "unresolved.csv").read_bytes() == unresolved


def test_types_and_generations_go_from_words_to_the_learnt_bundle(copy: Path) -> None:
    table = (copy / "cars.csv").read_text(encoding="utf-8")
    for word, coded in (("Golf", "Golf VII"), ("A4 Avant", "A4 Avant (8K5)"), ("320d", "320d F31")):
        table = table.replace(f",{word},", f",{coded},")
    (copy / "cars.csv").write_text(table, encoding="utf-8")
    text = (copy / "carspotter.toml").read_text(encoding="utf-8")
    shutil.rmtree(copy / "catalog")  # the words are another table's
    names = {"Volkswagen Golf Mk7", "Audi A4 B8"}
    for level, name in (("type", "BMW 3 Series F31"), ("generation", "BMW 3 Series F30")):
        (copy / "carspotter.toml").write_text(text.replace("[classes]", f'[classes]\nlevel = "{level}"'))
        build(Project.open(copy), until="learn", workers=0)
        taxonomy = ModelBundle.load(copy / "models" / "learned").taxonomy
        assert taxonomy is not None
        assert set(taxonomy.names("generation")) == {*names, name}


def test_what_was_made_and_is_gone_is_made_again(copy: Path) -> None:
    shutil.rmtree(copy / "shards")
    shutil.rmtree(copy / "models")
    shutil.rmtree(copy / "catalog" / "duplicates")
    before = tables(copy.parent / "copy")
    build(Project.open(copy), until="shard", workers=0)
    assert (copy / "shards" / "manifest.json").exists()
    assert (copy / "models" / "learned" / "bundle.json").exists()
    assert len(tables(copy)["duplicates"]) == 2
    assert tables(copy)["samples"] == before["samples"]


def test_a_damaged_part_is_named_and_made_again_once_moved_away(copy: Path) -> None:
    before = tables(copy)
    part = next(iter(sorted((copy / "catalog" / "checks").rglob("*.parquet"))))
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(CatalogError, match=part.name):
        build(Project.open(copy), until="shard", workers=0)
    part.rename(copy / part.name)
    build(Project.open(copy), until="shard", workers=0)
    assert tables(copy) == before


def test_an_empty_project_builds_to_an_empty_report(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "empty")
    (folder / "cars.csv").write_text("ad_id,make,model,submodel,photos\n")
    stats = build(Project.open(folder), workers=0)
    text = stats["learn"]["text"]
    assert text.startswith("nothing to learn yet: no class has 4 photos and 3 ads")
    assert "set min_photos = 1 and min_ads = 1 under [classes] in carspotter.toml" in text
    assert "0 listings" in (folder / "report.html").read_text()


@pytest.mark.parametrize(("only", "until"), [(("loc",), None), ((), "loc")])
def test_an_unknown_step_is_named(copy: Path, only: tuple[str, ...], until: str | None) -> None:
    with pytest.raises(ProjectError, match="step 'loc' is unknown; did you mean 'locate'"):
        build(Project.open(copy), only=only, until=until)
