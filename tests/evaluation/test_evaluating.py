"""What is true of a photo, in the words of a bundle's taxonomy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from carspotter.errors import EvaluationError
from carspotter.evaluation.evaluating import from_labels, predict, truths
from carspotter.pixels import decode, network_input
from carspotter.recognition.identifier import Identifier
from carspotter.runtime.bundle import shipped
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


def test_a_label_without_generation_is_of_the_dated_class_or_of_none() -> None:
    taxonomy = Taxonomy(
        (
            Taxon(make="Audi", model="S5", generation="2007-2016", year=2012, body="Coupe"),
            Taxon(make="Audi", model="S5", generation="2007-2016", year=2012, body="Convertible"),
            Taxon(make="Audi", model="S5"),
            Taxon(make="Kia", model="Ray", generation="TAM"),
            Taxon(make="Kia", model="Ray"),
        )
    )
    s5, ray = Taxon(make="Audi", model="S5", year=2012), Taxon(make="Kia", model="Ray", year=2020)
    labels = [s5, replace(s5, body="convertible"), replace(s5, year=2009), ray, replace(ray, generation="TAM")]
    truth, levels = truths(labels, taxonomy)
    assert truth.tolist() == [-1, 1, 2, -1, 3]
    assert levels["year"].tolist()[0] == taxonomy.names("year").index("Audi S5 2012")
    assert levels["generation"].tolist()[3] == -1, "a Ray of 2020 may be a TAM"


def test_classes_labelled_by_themselves_are_found_and_by_model_and_year_never_another() -> None:
    taxonomy = shipped("identifier").taxonomy
    assert taxonomy is not None
    assert truths(taxonomy.classes, taxonomy)[0].tolist() == list(range(len(taxonomy)))
    dated = [number for number, taxon in enumerate(taxonomy.classes) if taxon.year]
    labels = [replace(taxonomy.classes[number], generation=None, body=None) for number in dated]
    found = truths(labels, taxonomy)[0].tolist()
    assert {truth for truth, number in zip(found, dated, strict=True) if truth != number} <= {-1}
    assert found.count(-1) < len(found) / 8, "only those that differ in their bodies"


def test_what_the_taxonomy_lacks_is_unlabelled() -> None:
    assert known(Taxon(make="Lada", model="Niva")) == (-1, ["", "", "", ""])
    assert known(None) == (-1, ["", "", "", ""])


def test_a_row_may_say_more_than_its_class(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("class_id,make,model\n1,Audi,\n2,Audi,A4\n")
    rows = (
        "path,class_id,make,model,year,source",
        "a.jpg,1,Audi,Q9,2012,Here",
        "b.jpg,2,,,2010.0,Here",
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


def test_classes_of_a_file_may_differ_in_their_bodies(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("class_id,make,model,year,body\n1,Audi,S5,2012,Coupe\n2,Audi,S5,2012,Sedan\n")
    (tmp_path / "labels.csv").write_text("path,class_id,body\na.jpg,1,coupe\nb.jpg,2,\n")
    photos = from_labels(tmp_path / "labels.csv", classes=tmp_path / "classes.csv")
    taxa = [photo.taxon for photo in photos]
    assert taxa == [Taxon(make="Audi", model="S5", year=2012, body=body) for body in ("Coupe", "Sedan")]
    assert truths(taxa, Taxonomy(tuple(taxon for taxon in taxa if taxon)))[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2.0,,,", r"labels.csv: a.jpg: class_id '2.0' is not in .*classes.csv; allowed: 1, 2"),
        (",Audi,A4,2012.5", r"labels.csv: a.jpg: year is '2012.5'; it must be a year such as 2012, a span"),
    ],
)
def test_a_class_or_year_that_is_none_is_refused(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "classes.csv").write_text("class_id,make,model\n1,Audi,\n2,Audi,A4\n")
    (tmp_path / "labels.csv").write_text(f"path,class_id,make,model,year\na.jpg,{row}\nb.jpg,,Audi,A4,2008-2015\n")
    with pytest.raises(EvaluationError, match=message):
        from_labels(tmp_path / "labels.csv", classes=tmp_path / "classes.csv")


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
