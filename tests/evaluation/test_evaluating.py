"""What is true of a photo, in the words of a bundle's taxonomy."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from carspotter.errors import EvaluationError
from carspotter.evaluation.evaluating import from_labels, predict, truths
from carspotter.pixels import decode, network_input
from carspotter.recognition.identifier import Identifier
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy
from tiny_bundles import tiny_identifier

TAXONOMY = Taxonomy(
    classes=(
        Taxon(make="Audi", model="A4", generation="2008-2015", year=2012, body="Sedan"),
        Taxon(make="Audi", model="TT"),
        Taxon(make="Audi"),
        Taxon(make="Opel", model="Astra"),
    )
)


def known(taxon: Taxon | None) -> tuple[int, list[str]]:
    truth, levels = truths([taxon], TAXONOMY)
    names = [TAXONOMY.names(level)[number] if (number := int(levels[level][0])) >= 0 else "" for level in LEVELS]
    return int(truth[0]), names


def test_a_class_is_found_whatever_its_body() -> None:
    taxon = Taxon(make="Audi", model="A4", generation="2008-2015", year=2012, body="Estate")
    assert known(taxon) == (0, ["Audi", "Audi A4", "Audi A4 2008-2015", "Audi A4 2012"])


def test_a_label_deeper_than_the_classes_belongs_to_its_parent() -> None:
    assert known(Taxon(make="Opel", model="Astra", year=2012))[0] == 3
    assert known(Taxon(make="Audi", model="TT", generation="2006-2014"))[0] == 1


def test_of_a_photo_known_less_deeply_only_that_is_judged() -> None:
    assert known(Taxon(make="Audi", model="A4")) == (-1, ["Audi", "Audi A4", "", ""])
    assert known(Taxon(make="Opel")) == (-1, ["Opel", "", "", ""])
    assert known(Taxon(make="Audi", model="Q7")) == (-1, ["Audi", "", "", ""])


def test_what_the_taxonomy_lacks_is_unlabelled() -> None:
    assert known(Taxon(make="Lada", model="Niva")) == (-1, ["", "", "", ""])
    assert known(None) == (-1, ["", "", "", ""])


def test_a_row_may_say_more_than_its_class(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("class_id,make,model\n1,Audi,\n2,Audi,A4\n")
    rows = (
        "path,class_id,make,model,year,source",
        "a.jpg,1,Audi,Q9,2012,Here",
        "b.jpg,2,,,2010,Here",
        "c.jpg,,Opel,,2011,",
    )
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    photos = from_labels(tmp_path / "labels.csv", classes=tmp_path / "classes.csv")
    assert [photo.taxon for photo in photos] == [Taxon(make="Audi"), Taxon(make="Audi", model="A4"), Taxon(make="Opel")]
    assert [photo.label for photo in photos] == [
        Taxon(make="Audi", model="Q9", year=2012),
        Taxon(make="Audi", model="A4", year=2010),
        Taxon(make="Opel"),
    ]
    assert [photo.about["source"] for photo in photos] == ["Here", "Here", ""]


def test_the_table_says_what_was_answered_of_each_market(tmp_path: Path) -> None:
    bundle = tiny_identifier(tmp_path / "bundle")
    Image.new("RGB", (40, 30), (200, 20, 20)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,make,model,market\na.png,Rubin,One,Here\n")
    table, unread = predict(bundle, from_labels(tmp_path / "labels.csv"))
    assert unread == {}
    identifier = Identifier(bundle, bundle.open_session())
    crop = network_input(decode((tmp_path / "a.png").read_bytes()).pixels, bundle.preprocessing)
    wanted = identifier.identify(crop[None])[0].answer
    said = {name: str(texts[0]) for name, texts in table.about.items()}
    assert said["source"] == "Here"
    assert (said["label_make"], said["label_model"], said["label_year"]) == ("Rubin", "Rubin One", "")
    assert (said["answer_level"], said["answer"]) == ((wanted.level, wanted.name) if wanted else ("", ""))


def test_several_vehicles_of_a_photo_are_told_apart_by_their_boxes(tmp_path: Path) -> None:
    head, one, other = "path,make,x1,y1,x2,y2", "a.jpg,Audi,0,0,9,9", "a.jpg,Opel,5,0,9,9"
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join((head, one, other, "b.jpg,Audi,,,,")) + "\n")
    assert [photo.name for photo in from_labels(labels)] == ["a.jpg 0 0 9 9", "a.jpg 5 0 9 9", "b.jpg"]
    labels.write_text("\n".join((head, one, one)) + "\n")
    with pytest.raises(EvaluationError, match="occurs 2 times"):
        from_labels(labels)
