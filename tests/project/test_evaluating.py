"""What is true of a photo, in the words of a bundle's taxonomy."""

from __future__ import annotations

from carspotter.project.evaluating import truths
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy

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
