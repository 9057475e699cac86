"""Hold the documentation to the code: commands, examples, words and links.

In: README and the other pages, the commands, the package. Out: failures that name the page. Examples in Python are run
in an empty folder with one drawn photo; those marked as needing the shipped bundles are skipped where none ship.
"""

import importlib.util
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from carspotter import errors, storage_errors
from carspotter.catalog import funnel
from carspotter.catalog.tables import ERROR, OK
from carspotter.labels import classes, resolution
from carspotter.photos import checks, disk, fetch
from carspotter.pixels import decode
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.review.apply import DROPPED
from carspotter.serving import problems
from carspotter.sources.showroom import pictures
from carspotter.taxonomy import LEVELS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "carspotter"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NEEDS_BUNDLES = "<!-- needs the shipped bundles -->"
NOT_RUN = "<!-- not run:"


def relative(path: Path) -> str:
    """Name a page as a reader would."""
    return path.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """Read a page."""
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Give a page's text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, *languages: str) -> Iterator[tuple[str, str]]:
    """Yield the line before each block of code in one of the languages, and the code."""
    pattern = rf"^([^\n]*)\n```(?:{'|'.join(languages)})\n(.*?)^```"
    for match in re.finditer(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        yield match.group(1), match.group(2)


EXAMPLES = [(page, number, *block) for page in PAGES for number, block in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize(
    ("page", "number", "mark", "code"), EXAMPLES, ids=[f"{relative(page)}-{number}" for page, number, *_ in EXAMPLES]
)
def test_example_runs(
    page: Path, number: int, mark: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mark.startswith(NOT_RUN):
        pytest.skip(mark.removeprefix(NOT_RUN).removesuffix("-->").strip())
    if (mark == NEEDS_BUNDLES or "Recognizer.open()" in code) and not list(SOURCE.glob("models/*/bundle.json")):
        pytest.skip("no bundles ship yet")
    photo, _ = next(pictures())
    Image.fromarray(decode(photo).pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{relative(page)} example {number}", "exec"), {"__name__": "example"})


def generator(name: str) -> Any:
    """Import a script of docs/."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def cli_page() -> Any:
    """Import the generator of docs/cli.md."""
    return generator("cli_page")


@pytest.mark.parametrize("name", ["cli", "settings", "http"])
def test_a_page_that_is_written_from_the_code_is_fresh(name: str) -> None:
    written = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert written == generator(f"{name}_page").page(), "run `make docs`"


def test_every_command_has_help_and_every_option_too(cli_page: Any) -> None:
    for words, function in cli_page.commands().items():
        assert function.__doc__ or words == "carspotter", words
        for parameter in cli_page.parameters(function):
            assert parameter.info.help, f"{words}: {parameter.name} has no help"


def test_commands_in_examples_exist(cli_page: Any) -> None:
    known = {
        words: {name for parameter in cli_page.parameters(function) for name in parameter.spellings}
        for words, function in cli_page.commands().items()
    }
    for page in PAGES:
        for _, code in blocks(page, "sh", "console"):
            for line in re.findall(r"^(?:\$ )?(carspotter .*)$", code, flags=re.MULTILINE):
                words = " ".join(line.split()[:2])
                assert words in known, f"{relative(page)}: no command `{words}`"
                unknown = set(re.findall(r"(?<=\s)--[\w-]+", line)) - known[words]
                assert not unknown, f"{relative(page)}: `{words}` has no {', '.join(sorted(unknown))}"


def test_targets_of_make_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))) <= targets, relative(page)


def test_every_part_of_the_package_is_in_the_tree() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {f"  {path.parent.name}/ " for path in SOURCE.glob("*/__init__.py")}
    files = {f"  {path.name} " for path in SOURCE.glob("[a-z]*.py")}
    assert {part for part in folders | files if part not in tree} == set()


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = re.findall(r"[\w-]+\.md", json.dumps(site["project"]["nav"]))
    staged = [*generator("build_site").MOVED.values(), *(path.name for path in (ROOT / "docs").glob("*.md"))]
    assert sorted(named) == sorted(staged)


# ---- errors and statuses


TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_error_has_an_entry() -> None:
    classes = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    missing = {name for name in classes - {"CarspotterError"} if f"### {name}\n" not in TROUBLE}
    assert not missing
    assert [code for code in errors.IMAGE_CODES if f"| `{code}` |" not in TROUBLE] == []


def test_every_code_of_the_service_has_an_entry() -> None:
    codes = set()
    for path in [*SOURCE.glob("serving/*.py"), SOURCE / "review" / "app.py"]:
        text = path.read_text(encoding="utf-8")
        codes |= set(re.findall(r'ProblemError\(\s*\d+,\s*"([\w-]+)"', text))
    codes |= {problems.FAULT, problems.DEADLINE, problems.QUEUE_FULL, problems.BUSY}
    assert len(codes) > 15  # the pattern above finds them
    assert {code for code in codes if f"`{code}`" not in TROUBLE} == set()


def test_the_messages_that_are_explained_are_still_given() -> None:
    given = "\n".join(generator("build_site").messages()) + (ROOT / "Makefile").read_text(encoding="utf-8")
    given = re.sub(r"[`'\"]", "", given + str(errors.MissingExtraError("a package", "extra")))
    for row in re.findall(r"^\| (`.+?) \|", TROUBLE, flags=re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            for part in message.split("…"):
                assert re.sub(r"[`'\"]", "", part).strip() in given or part in errors.IMAGE_CODES, (
                    f"no error says {part!r}"
                )


def test_every_reason_to_drop_a_photo_is_explained() -> None:
    page = (ROOT / "docs" / "dropped-photos.md").read_text(encoding="utf-8")
    table = page[: page.index("## Damaged files")]
    of_funnel = re.findall(r"THEN '([a-z-]+)'", funnel.STOPS.partition("AS stage")[2])
    of_files = {*fetch.LASTING, fetch.NOT_ASKED, disk.CHANGED, *get_args(storage_errors.Reason)}
    of_labels = {resolution.UNRESOLVED, DROPPED, classes.IGNORED, classes.TOO_FEW, classes.TOO_VAGUE}
    reasons = {*errors.IMAGE_CODES, *checks.FLAGS, *KINDS, *of_funnel, *of_files, *of_labels, ERROR} - {"exterior", OK}
    assert {reason for reason in reasons if f"`{reason}`" not in table} == set()


def market_rows(page: Path, columns: tuple[int, ...]) -> dict[str, list[int]]:
    """Read the percents of a table of markets: the name before a comma or bracket, then the columns asked for."""
    rows = {}
    for line in re.findall(
        r"^\| (?:Stanford|used-car|Europe|Malaysia|lead|India|Austral|world|Korea|China).*$",
        text_of(page),
        re.MULTILINE,
    ):
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if len(cells) > max(columns) and cells[1].isdigit():
            numbers = [float(re.match(r"[\d.]+", cells[at])[0]) for at in columns]  # type: ignore[index]
            rows[re.split(r"[,(]", cells[0])[0].strip()] = [round(n * 100) if n <= 1 else round(n) for n in numbers]
    return rows


@pytest.mark.parametrize("page", ["README.md", "docs/accuracy.md"])
def test_the_figures_of_each_market_are_those_of_the_results(page: str) -> None:
    measured = market_rows(ROOT / "RESULTS.md", (2, 3, 5, 6))
    said = market_rows(ROOT / page, (2, 3, 4, 5))
    assert len(said) == 10
    assert all(abs(a - b) <= 1 for market, row in said.items() for a, b in zip(row, measured[market], strict=True))


def glossary() -> dict[str, str]:
    """Read the words and their sentences."""
    text = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", text, flags=re.MULTILINE))


def test_the_glossary_is_sorted_and_says_one_sentence_a_word() -> None:
    words = glossary()
    assert list(words) == sorted(words)
    for word, meaning in words.items():
        assert meaning.endswith("."), word


def test_the_closed_words_are_in_the_glossary() -> None:
    text = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in text for word in (*KINDS, *LEVELS, VIEWPOINTS[0]))
    page = (ROOT / "docs" / "identify.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in page for word in (*KINDS, *VIEWPOINTS))


def test_the_records_are_in_the_glossary() -> None:
    records = ("kind", "viewpoint", "candidate", "answer", "detection", "vehicle", "prediction")
    assert set(records) <= set(glossary())


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{relative(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{relative(page)} links to {target}"


def test_no_placeholder_is_left() -> None:
    left = [relative(page) for page in PAGES if "TODO" in page.read_text(encoding="utf-8")]
    assert not left, f"real output is still missing in {', '.join(left)}"
