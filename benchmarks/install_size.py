"""How much disk carspotter takes: the base install package by package, and the bundles.

Installs the project into a fresh environment in a temporary folder (or looks at one with `--venv`), counts the bytes
below its site-packages without pip and setuptools, and removes it. Target: base under 240 MB, both bundles together at
most 9 MB.

    python benchmarks/install_size.py [--extra openvino] [--venv FOLDER]
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import parser, report

PROJECT = Path(__file__).parent.parent
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")
MEGABYTE = 1_000_000


def n_bytes(path: Path) -> int:
    """Count the bytes of a file or of all files below a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def install(folder: Path, extra: str | None) -> Path:
    """Make an environment with carspotter in it."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    wanted = f"{PROJECT}[{extra}]" if extra else str(PROJECT)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", wanted], check=True)
    return folder


def packages(venv: Path) -> dict[str, int]:
    """Give the bytes of each top-level entry of site-packages, `name.libs` and metadata counted to `name`."""
    site = next(venv.glob("lib/python3*/site-packages"))
    sizes: dict[str, int] = {}
    for entry in site.iterdir():
        name = entry.name.split(".")[0].split("-")[0]
        if name not in INSTALLERS:
            sizes[name] = sizes.get(name, 0) + n_bytes(entry)
    return sizes


def rows(venv: Path) -> list[dict[str, Any]]:
    """List the sum, the eight largest packages and the bundles."""
    sizes = packages(venv)
    ranked = sorted(sizes.items(), key=lambda item: -item[1])
    bundles = sorted(path.parent for path in (PROJECT / "src/carspotter/models").glob("*/bundle.json"))
    listed = [("all of site-packages", sum(sizes.values())), *ranked[:8], ("others", sum(s for _, s in ranked[8:]))]
    listed += [(f"bundle {bundle.name}", n_bytes(bundle)) for bundle in bundles]
    listed += [("bundles together", sum(n_bytes(bundle) for bundle in bundles))]
    return [{"what": name, "MB": round(size / MEGABYTE, 1)} for name, size in listed]


def main() -> None:
    """Install, count, print, remove."""
    options = parser(__doc__)
    options.add_argument("--extra", help="measure with this extra")
    options.add_argument("--venv", type=Path, help="measure this environment instead of a fresh one")
    chosen = options.parse_args()
    conditions = {"extra": chosen.extra or "none", "MB": "10^6 bytes, compiled .pyc files included"}
    with tempfile.TemporaryDirectory() as folder:
        venv = chosen.venv or install(Path(folder) / "venv", chosen.extra)
        report("install size", rows(venv), as_json=chosen.json, conditions=conditions)


if __name__ == "__main__":
    main()
