"""Build the site of documentation from `docs/`, the pages of the repository's root, and the messages of all errors.

In: Markdown as GitHub shows it. Out: `build/site`, which opens from its files. Pages of the root (README, RESULTS, …)
become pages of the site, README its first one. A link to another page leads there; a link to a file that is no page
becomes the file's path in words; one that leads nowhere is left as it is, for the builder to refuse.

    python docs/build_site.py          # the generated pages anew, then the site
"""

import ast
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cli_page
import http_page
import settings_page

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "carspotter"
STAGED = ROOT / "build" / "pages"  # as zensical.toml names it
SITE = ROOT / "build" / "site"
GENERATED = (cli_page, settings_page, http_page)

MOVED = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "GLOSSARY.md": "glossary.md",
    "RESULTS.md": "results.md",
    "release/phone.md": "phone-files.md",
}
"""Pages outside of `docs/`, by their path in the repository, and their names in the site."""

MARK = "<!-- every message: written when the site is built -->"
LINK = re.compile(r"(?<!\\)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")


def main() -> int:
    """Write the generated pages, stage all of them, and build; return the builder's exit code."""
    for module in GENERATED:
        module.PAGE.write_text(module.page(), encoding="utf-8")
    stage(STAGED)
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if done.returncode == 0:
        print(f"The site: {SITE / 'index.html'}")
    return done.returncode


def stage(folder: Path) -> None:
    """Write every page and picture into a folder, as the builder wants them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in (ROOT / "docs").iterdir():
        if path.suffix in (".jpg", ".svg", ".css", ".js"):
            shutil.copyfile(path, folder / path.name)
        elif path.suffix == ".md":
            (folder / path.name).write_text(staged(path.read_text("utf-8"), f"docs/{path.name}"), encoding="utf-8")
    shutil.copyfile(SOURCE / "serving" / "web" / "favicon.svg", folder / "favicon.svg")
    for place, name in MOVED.items():
        (folder / name).write_text(staged((ROOT / place).read_text("utf-8"), place), encoding="utf-8")


def staged(text: str, place: str) -> str:
    """Turn the links of the page that stands at `place` in the repository, and write the messages where they belong."""
    head, mark, _ = text.partition(MARK)
    parts = re.split(r"(^```.*?^```)", head, flags=re.DOTALL | re.MULTILINE)  # code is left alone
    turned = "".join(part if part.startswith("```") else LINK.sub(lambda m: link(m, place), part) for part in parts)
    return turned + ("\n".join(messages()) + "\n" if mark else "")


def link(match: re.Match[str], place: str) -> str:
    """Turn one link."""
    target, hash_mark, anchor = match[2].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    if path in MOVED or path.startswith("docs/") or not (ROOT / path).exists():
        return f"[{match[1]}]({MOVED.get(path, path.removeprefix('docs/'))}{hash_mark}{anchor})"
    return match[1] if match[1].startswith("`") else f"`{path}`"


def messages() -> Iterator[str]:
    """Yield the lines of a list of all errors' messages, by the class that is raised."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                name = node.func.id
                argument = node.args[2 if name == "ProblemError" and len(node.args) > 2 else 0]
                message = words(argument)
                if name.endswith("Error") and len(message.replace("…", "").strip()) > 8:  # else it is passed on
                    found.setdefault(name, set()).add(message)
    titles = re.findall(r"^class (\w+Error)\(", (SOURCE / "errors.py").read_text(encoding="utf-8"), re.MULTILINE)
    for name in [*titles, "ServerError", "ProblemError"]:
        if name in found:
            yield f"\n### Messages of {name}\n"
            yield from (f"- `{message}`" for message in sorted(found[name]))


def words(node: ast.expr) -> str:
    """Write a message as it stands in the code, with … for what it fills in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("`", "'")
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part) for part in node.values)
    return "…"


if __name__ == "__main__":
    sys.exit(main())
