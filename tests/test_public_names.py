"""Hold the public face: the names in `carspotter.__all__` exist, are documented, and load nothing before they are used.

In: the package, and its `errors`. Out: failures that name the name. What the names do is tested beside their modules.
"""

import inspect
import re
from pathlib import Path

import pytest

import carspotter
from carspotter import errors

PAGES = [Path(__file__).parent.parent / "README.md", *(Path(__file__).parent.parent / "docs").glob("*.md")]


def test_the_list_has_no_name_twice() -> None:
    assert len(carspotter.__all__) == len(set(carspotter.__all__))


@pytest.mark.parametrize("name", carspotter.__all__)
def test_the_name_exists_and_is_documented(name: str) -> None:
    value = getattr(carspotter, name)
    assert name in dir(carspotter)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
        assert value.__module__.startswith("carspotter.")
        text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
        assert re.search(rf"\b{name}\b", text), f"{name} is on no page"


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="Recognizer"):
        carspotter.Recogniser  # noqa: B018


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:\.dev\d+|rc\d+)?", carspotter.__version__)


def exception_classes() -> set[str]:
    """Name every exception that `errors` defines."""
    return {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.CarspotterError) and value.__module__ == errors.__name__
    }


def test_the_drawn_tree_of_errors_is_the_tree() -> None:
    drawn = set(re.findall(r"^(?:[├└]── )?(\w+Error)\b", errors.__doc__ or "", flags=re.MULTILINE))
    assert drawn == exception_classes()


@pytest.mark.parametrize("name", sorted(exception_classes()))
def test_every_error_has_a_code_and_a_sentence(name: str) -> None:
    error = getattr(errors, name)
    assert inspect.getdoc(error)
    assert name == "ImageError" or re.fullmatch(r"[a-z-]+", error.code)
