"""The tree of makes, models, generations and years: names, sums, merging, files."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import TaxonomyError
from carspotter.taxonomy import LEVELS, Taxon, Taxonomy

TTS = Taxon(make="Audi", model="TTS Coupe", generation="2006-2014", year=2012, body="Coupe")
TTS_OLD = Taxon(make="Audi", model="TTS Coupe", generation="2006-2014", year=2009, body="Coupe")
GOLF = Taxon(make="Volkswagen", model="Golf", year=1991, body="Hatchback")
RAM = Taxon(make="Ram", model="C/V", generation="2011-2015")
SMART = Taxon(make="smart")
CLASSES = (TTS, GOLF, TTS_OLD, RAM, SMART)
TAXONOMY = Taxonomy(CLASSES, {"VW": "Volkswagen"})

_TAXA = st.builds(
    Taxon,
    make=st.sampled_from(["Audi", "BMW", "Kia"]),
    model=st.sampled_from(["A", "B", "C"]),
    generation=st.sampled_from([None]),
    year=st.sampled_from([None, 2001, 2002, 2003]),
    body=st.sampled_from([None, "Coupe", "Van"]),
)
TAXONOMIES = st.lists(_TAXA, min_size=1, max_size=20, unique=True).map(lambda taxa: Taxonomy(tuple(taxa)))


def test_names_go_down_to_their_level():
    assert TAXONOMY.names("make") == ("Audi", "Volkswagen", "Ram", "smart")
    assert TAXONOMY.names("model") == ("Audi TTS Coupe", "Volkswagen Golf", "Ram C/V", "smart")
    assert TAXONOMY.names("generation") == ("Audi TTS Coupe 2006-2014", "Volkswagen Golf", "Ram C/V 2011-2015", "smart")
    assert TAXONOMY.names("year") == (
        "Audi TTS Coupe 2012",
        "Volkswagen Golf 1991",
        "Audi TTS Coupe 2009",
        "Ram C/V 2011-2015",
        "smart",
    )
    assert TAXONOMY.index("make").tolist() == [0, 1, 0, 2, 3]
    assert TAXONOMY.bodies == ("Coupe", "Hatchback")
    assert len(TAXONOMY) == 5


def test_the_extent_counts_what_can_be_named():
    assert TAXONOMY.extent() == {"makes": 4, "models": 3, "years": [1991, 2015]}
    assert Taxonomy((SMART,)).extent() == {"makes": 1, "models": 0, "years": None}
    alone = Taxonomy((Taxon(make="Audi"), Taxon(make="Audi", model="100"), Taxon(make="Audi", model="2002 tii")))
    assert alone.extent() == {"makes": 1, "models": 2, "years": None}, "a model that is called like a year is none"


def test_sums():
    sums = TAXONOMY.sum_to("make", np.array([[0.1, 0.2, 0.3, 0.4, 0.0]], dtype=np.float32))
    assert sums.dtype == np.float32
    assert sums == pytest.approx(np.array([[0.4, 0.2, 0.4, 0.0]]))
    with pytest.raises(TaxonomyError, match="last side must be 5"):
        TAXONOMY.sum_to("make", np.zeros(4))


@given(TAXONOMIES, st.integers(0, 1000))
def test_the_way_down_takes_the_likeliest_child(taxonomy, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(taxonomy)), size=3)
    sums = {level: taxonomy.sum_to(level, probabilities) for level in LEVELS}
    way = taxonomy.descend(sums)
    for row in range(3):
        inside = np.ones(len(taxonomy), bool)  # the classes of the branch so far
        for level in LEVELS:
            children = set(taxonomy.index(level)[inside].tolist())
            chosen = int(way[level][row])
            assert chosen in children
            assert sums[level][row, chosen] == max(sums[level][row, child] for child in children)
            inside &= taxonomy.index(level) == chosen


def test_names_that_say_no_more_than_the_level_above():
    found = {level: np.array(TAXONOMY.names(level))[TAXONOMY.repeats(level)].tolist() for level in LEVELS}
    assert found == {
        "make": [],
        "model": ["smart"],
        "generation": ["Volkswagen Golf", "smart"],
        "year": ["Ram C/V 2011-2015", "smart"],
    }


@given(TAXONOMIES, st.integers(0, 1000))
def test_a_level_is_the_sum_of_its_children(taxonomy, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(taxonomy)), size=3)
    for upper, lower in itertools.pairwise(LEVELS):
        above, below = taxonomy.sum_to(upper, probabilities), taxonomy.sum_to(lower, probabilities)
        parents = np.zeros(len(taxonomy.names(lower)), dtype=int)
        parents[taxonomy.index(lower)] = taxonomy.index(upper)
        for number in range(len(taxonomy.names(upper))):
            assert below[:, parents == number].sum(axis=1) == pytest.approx(above[:, number])


@given(TAXONOMIES, st.sampled_from(LEVELS), st.integers(0, 1000))
def test_merging_to_a_level_keeps_the_probability(taxonomy, level, seed):
    merged, new = taxonomy.merge(level=level)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(taxonomy)))
    sums = np.zeros(len(merged))
    np.add.at(sums, new, probabilities)
    assert sums.sum() == pytest.approx(1)
    assert merged.names(level) == taxonomy.names(level)
    assert merged.sum_to(level, sums) == pytest.approx(taxonomy.sum_to(level, probabilities))


def test_merging_groups():
    van = Taxon(make="Dodge", model="C/V")
    merged, new = TAXONOMY.merge(groups={van: ["Ram C/V 2011-2015"], Taxon(make="Audi", model="TTS Coupe"): [0, 2]})
    assert new.tolist() == [0, 1, 0, 2, 3]
    assert merged.classes == (Taxon(make="Audi", model="TTS Coupe"), GOLF, van, SMART)
    assert merged.aliases == {"VW": "Volkswagen"}


def test_merging_to_a_model_keeps_a_shared_body():
    merged, new = TAXONOMY.merge(level="model")
    assert new.tolist() == [0, 1, 0, 2, 3]
    assert merged.classes[0] == Taxon(make="Audi", model="TTS Coupe", body="Coupe")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of the two"),
        ({"level": "make", "groups": {}}, "one of the two"),
        ({"level": "modle"}, "did you mean 'model'"),
        ({"groups": {SMART: [0, 0]}}, "twice in one"),
        ({"groups": {SMART: [9]}}, "out of range"),
        ({"groups": {SMART: ["Audi TTS Coupe 2013"]}}, "did you mean 'Audi TTS Coupe 2012'"),
    ],
)
def test_impossible_merges(arguments, message):
    with pytest.raises(TaxonomyError, match=message):
        TAXONOMY.merge(**arguments)


def test_a_class_keeps_its_body_apart_from_its_namesake():
    classes = (GOLF, Taxon(make="Volkswagen", model="Golf", year=1991, body="Van"))
    taxonomy = Taxonomy(classes)
    assert taxonomy.names("year") == ("Volkswagen Golf 1991",)
    assert taxonomy.index("year").tolist() == [0, 0]
    with pytest.raises(TaxonomyError, match="ambiguous, its bodies are Hatchback, Van"):
        taxonomy.class_index("Volkswagen Golf 1991")


def test_find():
    assert TAXONOMY.find("vw") == TAXONOMY.find(" VOLKSWAGEN ") == "Volkswagen"
    assert TAXONOMY.find("Smart") == "smart"
    assert TAXONOMY.class_index("Ram C/V 2011-2015") == 3
    with pytest.raises(TaxonomyError, match="did you mean 'Audi'"):
        TAXONOMY.find("Adui")


@pytest.mark.parametrize(
    ("classes", "aliases", "message"),
    [
        ((), {}, "no classes"),
        ((GOLF, GOLF), {}, "twice"),
        ((Taxon(make="A", model="B C"), Taxon(make="A B", model="C")), {}, "are called 'A B C'"),
        ((GOLF,), {"VW": "Volkswagn"}, "did you mean 'Volkswagen'"),
    ],
)
def test_impossible_taxonomies(classes, aliases, message):
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy(classes, aliases)


@pytest.mark.parametrize(
    "parts", [{"make": ""}, {"make": " Audi"}, {"make": "A", "year": 2012}, {"make": "A", "model": "B", "year": "2012"}]
)
def test_impossible_taxa(parts):
    with pytest.raises(TaxonomyError, match="taxon"):
        Taxon(**parts)


def test_a_file_and_back(tmp_path):
    TAXONOMY.save(tmp_path / "taxonomy.json")
    assert Taxonomy.load(tmp_path / "taxonomy.json") == TAXONOMY
    content = json.loads((tmp_path / "taxonomy.json").read_text(encoding="utf-8"))
    assert content == TAXONOMY.to_dict()
    assert content["classes"][3] == {"make": "Ram", "model": "C/V", "generation": "2011-2015"}
    assert [path.name for path in tmp_path.iterdir()] == ["taxonomy.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", r"expected keys and values, got \[\]"),
        ('{"format": 2, "classes": []}', "reads format 1"),
        ('{"format": 1, "clases": []}', "did you mean 'classes'"),
        ('{"format": 1, "classes": [1]}', r"content: classes\[0\]: expected keys and values, got 1"),
        ('{"format": 1, "classes": [{"model": "A"}]}', r"classes\[0\]: make must be given"),
        ('{"format": 1, "classes": [{"make": "A", "modle": "A"}]}', "did you mean 'model'"),
        ('{"format": 1, "classes": [{"make": "A"}], "aliases": []}', r"aliases: expected a table, got \[\]"),
        ('{"format": 1, "classes": [{"make": "A"}], "levels": ["make"]}', "levels are"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "taxonomy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaxonomyError, match=message) as caught:
        Taxonomy.load(path)
    assert "taxonomy.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TaxonomyError, match="cannot be read"):
        Taxonomy.load(tmp_path / "none.json")
