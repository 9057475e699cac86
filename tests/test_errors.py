"""The tree of errors: codes, messages that name the next step, and errors that survive a worker process."""

import pickle

import pytest

from carspotter import errors
from carspotter.errors import CarspotterError, ImageError, MissingExtraError, nearest, suggestion, typed


def test_every_error_is_in_the_tree_that_the_module_draws():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    for one in classes:
        assert issubclass(one, CarspotterError)
        assert one.__name__ in (errors.__doc__ or "")


def test_codes_differ():
    codes = [one.code for one in CarspotterError.__subclasses__() if one is not ImageError]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & set(errors.IMAGE_CODES)


def test_image_error_refuses_an_unknown_code():
    assert ImageError("cut", code="truncated").code == "truncated"
    with pytest.raises(ValueError, match="allowed: empty"):
        ImageError("?", code="odd")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ImageError("cut", "truncated"), MissingExtraError("torch", "train")])
def test_errors_survive_pickling(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code) == (type(error), str(error), error.code)


def test_a_missing_extra_names_its_command():
    assert 'pip install "carspotter[train]"' in str(MissingExtraError("torch", "train"))


@pytest.mark.parametrize(
    ("word", "expected"), [("trian", "train"), ("TRAIN", "train"), ("xyz", None), ("", None), ("largset", "largest")]
)
def test_nearest(word, expected):
    assert nearest(word, ["train", "export", "largest"]) == expected


def test_suggestion_lists_what_is_allowed_when_nothing_is_near():
    assert suggestion("Adui", ["Audi", "BMW"]) == "did you mean 'Audi'?"
    assert suggestion("q", ["Audi", "BMW"]) == "allowed: Audi, BMW"
    assert suggestion("q", [f"x{n}" for n in range(10)]).endswith("x7 and 2 more")
    assert suggestion("q", []) == "none is defined"


def test_a_path_is_typed_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed(tmp_path / "my cars") == "'my cars'"
    assert typed(tmp_path) == "."
    assert typed("my-cars") == "my-cars"
    assert typed(tmp_path.parent) == str(tmp_path.parent)
    assert typed("s3://cars/photos") == "s3://cars/photos"
