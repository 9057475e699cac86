"""Make a folder of two bundles that any static web server can serve, whose page recognises photos in the browser.

The page's own files lie in `web_browser/`, what it shares with the service's pages in `serving/web/`. ONNX Runtime's
WebAssembly comes from npm, pinned by version and checksum in `web_browser/package-lock.json`. It serves nothing, and
needs no extra; a learned bundle needs `onnx`, which puts its head into the network.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from carspotter import __version__, storage
from carspotter.errors import BundleError, MissingExtraError, StorageError
from carspotter.runtime.bundle import ModelBundle, Task
from carspotter.storage_errors import refusal

PAGE = Path(__file__).parent / "web_browser"
WEB = Path(__file__).parent.parent / "serving" / "web"

MANIFEST = "site.json"
"""What the page reads first and the build writes last; a folder with it is a site of ours and may be replaced."""

_SHARED = ("style.css", "favicon.svg", "draw.js", "take.js", "answer.js", "known.js")
_EXAMPLES = ("front-left", "back-right", "two-cars", "right", "interior", "wheel")
_LOCKS = ("package.json", "package-lock.json")
# File of the npm package → its name on the site. Some servers do not know `.mjs`, and browsers then refuse it.
_RUNTIME = {
    "ort.wasm.min.mjs": "ort.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm.bin",
}
_NPM_TIMEOUT_S = 900.0
_NPM_WORDS = ("code", "errno", "syscall", "A complete log", "network ")  # lines of npm that say nothing by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site: its `folder`, and the bytes that a visitor fetches once for runtime and networks."""

    folder: Path
    download_bytes: int


def build_site(out: Path, *, finder: ModelBundle, identifier: ModelBundle, cache: Path) -> Site:
    """Write the static site into the folder `out`, which must be empty, missing, or a site that an earlier call wrote.

    `cache` keeps what npm fetched. Raises BundleError for bundles whose network is
    no ONNX file or cannot be opened, StorageError where npm is missing or fails, or the folder cannot be written.
    """
    _check_bundle(finder, "finder")
    _check_bundle(identifier, "identifier")
    _check_folder(out)
    runtime = fetch_runtime(cache)
    with _replacing(out) as part:
        for name in _SHARED:
            shutil.copyfile(WEB / name, part / name)
        for path in (*PAGE.glob("*.js"), *PAGE.glob("*.css")):
            shutil.copyfile(path, part / path.name)
        (part / "index.html").write_text(page_html(), encoding="utf-8")
        (part / "examples").mkdir()
        for name in _EXAMPLES:
            shutil.copyfile(WEB / "examples" / f"{name}.jpg", part / "examples" / f"{name}.jpg")
        shutil.copytree(runtime, part / "runtime")
        shutil.copyfile(PAGE / "runtime-licence.txt", part / "runtime" / "LICENSE.txt")
        for bundle in (finder, identifier):
            _copy_bundle(bundle, part / "networks" / bundle.task)
        manifest = _manifest(part, finder, identifier)
        (part / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False) + "\n", encoding="utf-8")
    return Site(folder=out, download_bytes=sum(file["bytes"] for file in manifest["files"].values()))


def page_html() -> str:
    """Return the HTML of the page; its forms for a photo and for an answer are those of the service's page."""
    photo = (WEB / "photo.html").read_text(encoding="utf-8").replace('src="static/', 'src="')
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    for name in ("take", "result"):
        (section,) = re.findall(rf'^  <section [^>]*class="{name}".*?</section>\n', photo, re.MULTILINE | re.DOTALL)
        page = page.replace(f"  <!-- {name} -->\n", section)
    return page


def cache_folder() -> Path:
    """Return the folder for files that can be fetched again, where the platform keeps such."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "carspotter" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carspotter"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carspotter"
    except RuntimeError as error:  # HOME is unset, and the user has no entry
        raise StorageError("there is no home folder to cache files in; set XDG_CACHE_HOME or HOME") from error


def fetch_runtime(cache: Path) -> Path:
    """Return a folder with ONNX Runtime's files for the page, fetched by `npm ci` where the cache lacks them.

    Raises StorageError where npm is missing, the registry cannot be reached, or what came is not what the lock names.
    """
    locked = b"".join((PAGE / name).read_bytes() for name in _LOCKS)
    folder = cache / sha256(locked).hexdigest()[:16]
    if all((folder / name).is_file() for name in _RUNTIME.values()):
        return folder
    with TemporaryDirectory(prefix="carspotter-npm-") as place:
        for name in _LOCKS:
            shutil.copyfile(PAGE / name, Path(place) / name)
        _npm_ci(Path(place))
        with _replacing(folder) as part:
            for name, ours in _RUNTIME.items():
                content = (Path(place) / "node_modules" / "onnxruntime-web" / "dist" / name).read_bytes()
                (part / ours).write_bytes(_packed(content) if name.endswith(".wasm") else _without_map(content))
    return folder


# ---- parts


def _npm_ci(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise StorageError(
            "npm is not installed, and the page's runtime (onnxruntime-web) comes from it; install Node.js 18 or newer"
        )
    # No script of any package runs, and an unreachable registry is reported after seconds, not after minutes.
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    command = [npm, "ci", *options, "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StorageError(
            f"npm ci did not end within {_NPM_TIMEOUT_S:g} s; check the network and try again"
        ) from error
    if done.returncode != 0:
        raise StorageError(
            f"npm could not fetch onnxruntime-web ({_npm_reason(done.stderr)}); "
            "check the network, the registry that npm is set to, and try again"
        )


def _npm_reason(stderr: str) -> str:
    lines = [line.removeprefix("npm error").strip() for line in stderr.splitlines() if line.startswith("npm error")]
    telling = [line for line in lines if line and not line.startswith(_NPM_WORDS)]
    return (telling or lines or ["it said nothing"])[0][:200]


def _packed(content: bytes) -> bytes:
    """Compress the WebAssembly, a quarter of its size, since few static servers do; the page unpacks it."""
    return gzip.compress(content, 9, mtime=0)


def _without_map(content: bytes) -> bytes:
    """Drop the last line's pointer to a source map, which is not on the site."""
    return content.rpartition(b"//# sourceMappingURL=")[0] or content


def _check_bundle(bundle: ModelBundle, task: Task) -> None:
    if bundle.task != task:
        raise BundleError(f"bundle {bundle.name}: task is {bundle.task!r}, but the page needs a {task} here")
    if bundle.model_path.suffix != ".onnx":
        raise BundleError(
            f"bundle {bundle.name}: its network is {bundle.model_path.name}, but browsers run model.onnx alone; "
            "take a bundle that was exported to onnx"
        )
    bundle.open_session("onnxruntime", threads=1)


def _check_folder(out: Path) -> None:
    here = Path.cwd()
    if out.resolve() in (here, *here.parents):  # it is replaced as a whole
        raise StorageError(f"{str(out) or '.'} is the folder that you stand in; go one up, and name it from there")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MANIFEST).is_file())):
        raise StorageError(f"{out} is there and no site of carspotter's; name an empty or a new folder")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    try:
        with storage.replacing_folder(folder) as part:
            yield part
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {refusal(error)}") from error


def _copy_bundle(bundle: ModelBundle, folder: Path) -> None:
    folder.mkdir(parents=True)
    source = bundle.model_path.parent
    names = ["model.onnx", "bundle.json", "card.json", "CARD.md", *(["taxonomy.json"] if bundle.taxonomy else [])]
    for name in names:
        shutil.copyfile(source / name, folder / name)
    if bundle.head is None:
        return
    # The head goes into the network, so that the page knows of no heads.
    try:
        from carspotter.export.answers import whole
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", "export") from error
    (folder / "model.onnx").write_bytes(whole(bundle)[1])


def _manifest(part: Path, finder: ModelBundle, identifier: ModelBundle) -> dict[str, Any]:
    paths = {
        "runtime": "runtime/ort-wasm.bin",
        "finder": "networks/finder/model.onnx",
        "identifier": "networks/identifier/model.onnx",
    }
    classes = identifier.taxonomy.to_dict()["classes"] if identifier.taxonomy else []
    return {
        "carspotter": __version__,
        "files": {name: _file(part, path) for name, path in paths.items()},
        "finder": _told(finder),
        "identifier": _told(identifier),
        "taxonomy": {"classes": classes},
        "outline": identifier.taxonomy.outline() if identifier.taxonomy else {},
    }


def _file(part: Path, path: str) -> Mapping[str, Any]:
    content = (part / path).read_bytes()
    return {"path": path, "bytes": len(content), "sha256": sha256(content).hexdigest()}


def _told(bundle: ModelBundle) -> Mapping[str, Any]:
    return {
        "name": bundle.name,
        "preprocessing": bundle.preprocessing.to_dict(),
        "calibration": dict(bundle.calibration),
        "attributes": {name: list(words) for name, words in bundle.attributes.items()},
    }
