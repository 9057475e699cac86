"""Build the site of documentation as `make docs` does, and open it from its files, without a network.

In: a copy of the pages. Out: a site whose search answers in a browser that reaches nothing, and a refusal where a link
is dead. Skipped where the extra `docs`, or a browser, is not installed.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from waiting import NEVER_S

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="the extra docs is not installed")


def build(folder: Path, *, planted: str = "") -> subprocess.CompletedProcess[str]:
    """Build the site of a copy of the pages, with a text planted at the end of one."""
    for name in ("docs", "release"):
        shutil.copytree(ROOT / name, folder / name)
    for path in [*ROOT.glob("*.md"), ROOT / "zensical.toml", ROOT / "LICENSE", ROOT / "NOTICE"]:
        shutil.copy(path, folder)
    (folder / "src").symlink_to(ROOT / "src")
    with (folder / "docs" / "privacy.md").open("a", encoding="utf-8") as page:
        page.write(planted)
    return subprocess.run(
        [sys.executable, "docs/build_site.py"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; give its folder."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


def test_the_site_has_its_pages_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert {"index", "get-started", "settings", "cli", "python", "http", "results"} <= set(pages)
    assert [name for name, text in pages.items() if 'src="http' in text or 'rel="stylesheet" href="http' in text] == []
    assert "recognize_batch" in pages["python"], "the API is read from the docstrings"
    assert "Messages of ProjectError" in pages["troubleshooting"]


def test_search_answers_from_files_without_a_network(site: Path, browser: Any) -> None:
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(1000 * NEVER_S)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox", name="Search").fill("quarantine")
    page.get_by_role("option", name="Damaged files").wait_for()  # a section of another page
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []


@pytest.mark.slow  # a second build of the site; test_docs.py finds a dead link among the pages themselves
def test_a_dead_link_is_an_error(tmp_path: Path) -> None:
    done = build(tmp_path, planted="[a section](serving.md#that-is-not-there)")
    assert done.returncode != 0
    assert "anchor does not exist" in done.stdout + done.stderr
