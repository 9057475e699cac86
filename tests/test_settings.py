"""Settings from plain values: types, defaults, and errors that name the nearest known key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from carspotter.errors import ProjectError
from carspotter.settings import read_section


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    path: str
    count: int = 3
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    words: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def read(content: dict[str, Any]) -> Outer:
    return read_section(Outer, content, where="carspotter.toml: [outer]", error=ProjectError)


def test_every_kind_of_value_is_read() -> None:
    content = {
        "path": "cars.csv",
        "count": 4,
        "mode": "slow",
        "limit": 2,
        "words": ["a"],
        "columns": {"make": "brand"},
        "inner": {"share": 1},
    }
    assert read(content) == Outer(
        path="cars.csv", count=4, mode="slow", limit=2, words=("a",), columns={"make": "brand"}, inner=Inner(share=1.0)
    )
    assert isinstance(read(content).inner.share, float)


def test_defaults_hold_where_nothing_is_said() -> None:
    assert read({"path": "x"}) == Outer(path="x")
    assert read({"path": "x", "limit": None}).limit is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"\[outer\]: path must be given"),
        ({"path": "x", "cuont": 1}, r"unknown key 'cuont'; did you mean 'count'\?"),
        ({"path": 1}, "path: expected a text, got 1"),
        ({"path": "x", "count": True}, "count: expected a whole number, got True"),
        ({"path": "x", "count": 1.5}, "count: expected a whole number, got 1.5"),
        ({"path": "x", "mode": "fsat"}, r"mode: 'fsat' is not possible; did you mean 'fast'\?"),
        ({"path": "x", "limit": "3"}, "limit: expected a whole number, got '3'"),
        ({"path": "x", "words": "a"}, "words: expected a list, got 'a'"),
        ({"path": "x", "words": [1]}, r"words\[0\]: expected a text, got 1"),
        ({"path": "x", "columns": {"make": 1}}, "columns: make: expected a text, got 1"),
        ({"path": "x", "columns": "make"}, "columns: expected a table, got 'make'"),
        ({"path": "x", "inner": {"shrae": 1}}, r"inner: unknown key 'shrae'; did you mean 'share'\?"),
        ({"path": "x", "inner": {"share": 2}}, "inner: share is 2.0; it must be from 0 to 1"),
        ({"path": "x", "inner": 3}, "inner: expected keys and values, got 3"),
    ],
)
def test_a_wrong_value_is_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        read(content)
