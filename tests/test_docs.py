"""Hold the documentation to the code: commands, examples, words and links.

In: README and the other pages, the commands, the package. Out: failures that name the page. Examples in Python are run
in an empty folder with one drawn photo; those marked as needing the shipped bundles are skipped where none ship.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from carspotter.pixels import decode
from carspotter.records import KINDS, VIEWPOINTS
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


@pytest.fixture(scope="module")
def cli_page() -> Iterator[object]:
    """Import the generator of docs/cli.md."""
    sys.path.insert(0, str(ROOT / "docs"))
    yield importlib.import_module("cli_page")
    sys.path.remove(str(ROOT / "docs"))


def test_the_page_of_commands_is_fresh(cli_page: object) -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == cli_page.page(), "run `make docs`"  # type: ignore[attr-defined]


def test_every_command_has_help_and_every_option_too(cli_page: object) -> None:
    for words, function in cli_page.commands().items():  # type: ignore[attr-defined]
        assert function.__doc__ or words == "carspotter", words
        for parameter in cli_page.parameters(function):  # type: ignore[attr-defined]
            assert parameter.info.help, f"{words}: {parameter.name} has no help"


def test_commands_in_examples_exist(cli_page: object) -> None:
    known = {
        words: {name for parameter in cli_page.parameters(function) for name in parameter.spellings}  # type: ignore[attr-defined]
        for words, function in cli_page.commands().items()  # type: ignore[attr-defined]
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


def test_every_folder_has_its_page() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"models"}
    missing = {folder for folder in folders if not (ROOT / "docs" / f"{folder}.md").exists()}
    assert not missing


def test_every_vocabulary_file_is_on_its_page() -> None:
    page = (ROOT / "docs" / "vocabulary.md").read_text(encoding="utf-8")
    assert {path.name for path in SOURCE.glob("[a-z]*.py") if f"`{path.name}`" not in page} == set()


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
    page = (ROOT / "docs" / "vehicles.md").read_text(encoding="utf-8")
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
