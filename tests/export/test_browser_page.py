"""The page that recognises in the browser: built as a site, served by a plain static server, driven in Chromium.

Its answers are compared with `Recognizer`; every request is noted, so that a photo that leaves would be seen. Building
needs npm and its registry once (rings `slow` and `network`); what goes wrong while building is tested without.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image, ImageCms

from browsers import CHROMIUM
from carspotter.cli.browser import browser as browser_command
from carspotter.errors import BundleError, StorageError
from carspotter.export.browser import MANIFEST, PAGE, WEB, build_site, cache_folder, page_html
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.recognizer import Recognizer
from carspotter.runtime.bundle import ModelBundle, shipped
from serving.conftest import RED, jpeg
from tiny_bundles import TOY_COLOR
from waiting import NEVER_S

EXAMPLES = ("front-left", "back-right", "two-cars", "right", "interior", "wheel")
TOLERANCE = 0.02  # of a probability: decoders differ by about one of 255 where they scale
DESK, PHONE = (1360, 900), (390, 844)

in_chromium = pytest.mark.skipif(
    CHROMIUM is None or shutil.which("npm") is None, reason="there is no chromium to drive, or no npm to build with"
)
Answer = dict[str, Any]


# ---- the files


SCRIPTS = sorted(path.name for path in PAGE.glob("*.js"))


@pytest.mark.parametrize("name", [*SCRIPTS, "index.html", "page.css"])
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|(?<![:\w])//\w|@import|\burl\(|data:\w|[\"']/\w", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|console\.", text
    )
    assert not re.search(r"XMLHttpRequest|sendBeacon|WebSocket|\bmethod:", text), "it fetches, and sends nothing"
    assert len(text.splitlines()) <= 200


def test_what_the_scripts_look_for_is_on_the_page() -> None:
    html = page_html()
    ids = re.findall(r'id="([\w-]+)"', html)
    scripts = (PAGE / "page.js").read_text(encoding="utf-8") + "".join(
        (WEB / name).read_text(encoding="utf-8") for name in ("answer.js", "known.js")
    )
    wanted = set(re.findall(r'find\("#([\w-]+)"\)', scripts))
    assert len(ids) == len(set(ids))
    assert len(wanted) > 12
    assert wanted <= set(ids)
    for name in re.findall(r'(?:src|href)="([\w./-]+)"', html):
        assert name == "./" or (PAGE / name).is_file() or (WEB / name).is_file(), name


def test_the_policy_lets_nothing_out() -> None:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = dict(
        part.strip().split(" ", 1)
        for part in re.search(r'Policy" content="([^"]+)"', page)[1].split(";")  # type: ignore[index]
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["form-action"] == "'none'"
    assert "unsafe-inline" not in page


def test_the_runtime_is_pinned_by_checksum() -> None:
    wanted = json.loads((PAGE / "package.json").read_text())["dependencies"]
    locked = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    assert list(wanted) == ["onnxruntime-web"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", wanted["onnxruntime-web"])
    assert locked["node_modules/onnxruntime-web"]["version"] == wanted["onnxruntime-web"]
    assert all(package["integrity"].startswith("sha512-") for name, package in locked.items() if name)


# ---- building that goes wrong


build = functools.partial(build_site, cache=cache_folder() / "browser")


def tiny(bundles: dict[str, Path]) -> dict[str, ModelBundle]:
    return {task: ModelBundle.load(folder) for task, folder in bundles.items()}


def test_without_npm_it_is_said_what_to_install(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match=r"npm is not installed, .* install Node\.js 18 or newer"):
        build_site(tmp_path / "site", **tiny(bundles), cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/carspotter"),
        ("linux", {"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/carspotter"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/carspotter"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/carspotter/Cache"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder().as_posix() == expected


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_a_registry_that_is_away_is_told(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    with pytest.raises(
        StorageError, match=r"npm could not fetch onnxruntime-web \(.*127\.0\.0\.1:9.*check the network"
    ):
        build_site(tmp_path / "site", **tiny(bundles), cache=tmp_path / "cache")
    assert not (tmp_path / "site").exists()


def test_the_folder_that_one_stands_in_is_left_alone(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.chdir(tmp_path / "site")
    for out in (Path(), tmp_path / "site", Path("..")):
        with pytest.raises(StorageError, match="is the folder that you stand in; go one up"):
            build_site(out, **tiny(bundles), cache=tmp_path / "cache")
    assert (tmp_path / "site").is_dir()


def test_a_folder_of_others_is_left_alone(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="is there and no site of carspotter's; name an empty or a new folder"):
        build(tmp_path, **tiny(bundles))
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_bundles_that_no_browser_runs_are_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    both = tiny(bundles)
    with pytest.raises(BundleError, match="task is 'identifier', but the page needs a finder here"):
        build(tmp_path / "site", finder=both["identifier"], identifier=both["finder"])
    shutil.copytree(bundles["finder"], tmp_path / "finder")
    damaged = both["finder"].save(tmp_path / "finder", b"no network at all")
    with pytest.raises(BundleError, match="is no network that ONNX Runtime"):
        build(tmp_path / "site", finder=damaged, identifier=both["identifier"])
    text = (tmp_path / "finder" / "bundle.json").read_text()
    other = {**json.loads(text), "model": {"file": "model.tflite"}}
    (tmp_path / "finder" / "bundle.json").write_text(json.dumps(other))
    (tmp_path / "finder" / "model.tflite").write_bytes(b"other")
    phone = ModelBundle.load(tmp_path / "finder")
    with pytest.raises(BundleError, match=r"its network is model\.tflite, but browsers run model\.onnx alone"):
        build(tmp_path / "site", finder=phone, identifier=both["identifier"])


# ---- the page in Chromium


class Files(SimpleHTTPRequestHandler):
    """A plain static server that notes what it is asked."""

    asked: ClassVar[list[str]] = []  # each server makes a list of its own
    isolated = False

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(f"{self.command} {self.path}")

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


Serving = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def serve() -> Iterator[Serving]:
    servers = []

    def start(folder: Path, *, isolated: bool = False) -> tuple[str, list[str]]:
        asked: list[str] = []
        kind = type("Noted", (Files,), {"asked": asked, "isolated": isolated})
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/", asked

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of the shipped bundles."""
    folder = tmp_path_factory.mktemp("site") / "site"
    build(folder, finder=shipped("finder"), identifier=shipped("identifier"))
    return folder


@pytest.fixture(scope="module")
def tiny_site(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "site"
    build(folder, **tiny(bundles))
    return folder


Open = Callable[..., Any]


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    contexts, wrong = [], []

    def go(url: str, *, size: tuple[int, int] = DESK, scheme: str = "light", expected: str = "$^") -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        context.set_default_timeout(1000 * NEVER_S)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("console", lambda said: None if re.search(expected, said.text) else wrong.append(said.text))
        page.goto(url)
        page.wait_for_selector("main[data-ready]")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def answer(page: Any) -> Answer:
    """Wait until the page has looked, and return its answer as JSON; `error` where it could not."""
    page.wait_for_function("() => document.querySelector('main').ariaBusy === 'false'")
    said = page.locator("#messages .error")
    result: Answer = {"error": said.inner_text()} if said.count() else json.loads(page.text_content("#json"))
    return result


def give(page: Any, name: str, data: bytes) -> Answer:
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
    return answer(page)


def same(page: Answer, recognizer: Recognizer, data: bytes, *, probability: float = TOLERANCE) -> None:
    """Hold the page's answer against the recognizer's."""
    prediction = recognizer.recognize(data)
    want = prediction.to_dict()
    assert (page["width"], page["height"]) == (want["width"], want["height"])
    assert page["kind"] == {
        "name": want["kind"]["name"],
        "probability": pytest.approx(want["kind"]["probability"], abs=probability),
    }
    assert page["undecided"] == why_no_vehicle(prediction)
    assert len(page["vehicles"]) == len(want["vehicles"])
    for told, vehicle in zip(page["vehicles"], want["vehicles"], strict=True):
        assert told["box"] == pytest.approx(vehicle["box"], abs=2)
        assert told["viewpoint"]["name"] == vehicle["viewpoint"]["name"]
        assert told["undecided"] == vehicle["undecided"]
        for name in ("colour", "body"):
            assert (told[name] or {}).get("name") == (vehicle[name] or {}).get("name")
        assert (told["answer"] or {}).get("name") == (vehicle["answer"] or {}).get("name")
        assert (told["answer"] or {}).get("level") == (vehicle["answer"] or {}).get("level")
        for level, candidates in vehicle["levels"].items():
            found = {one["name"]: one["probability"] for one in told["levels"][level]}
            for one in candidates[:3]:
                assert found.get(one["name"], 0) == pytest.approx(one["probability"], abs=probability)


@pytest.fixture(scope="module")
def shipped_recognizer() -> Recognizer:
    return Recognizer.open(engine="onnxruntime", threads=1, select="all")


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_drawn_examples_are_answered_as_by_the_server_and_nothing_leaves(
    visit: Open, serve: Serving, site: Path, shipped_recognizer: Recognizer
) -> None:
    url, asked = serve(site)
    page = visit(url)
    assert page.get_attribute("main", "data-ready") == "yes"
    own, requests = len(asked), []
    page.context.on("request", lambda request: requests.append((request.method, request.url, request.post_data)))
    for name in EXAMPLES:
        page.click(f"[data-example={name}]")
        page.wait_for_function("(name) => document.querySelector('#caption').innerText.startsWith(name)", arg=name)
        same(answer(page), shipped_recognizer, (site / "examples" / f"{name}.jpg").read_bytes())
    # A photo that nobody has: it is looked at, and not one byte is asked for or sent.
    after = len(asked)
    photo = (site / "examples" / "right.jpg").read_bytes() + b"\0"
    same(give(page, "mine.jpg", photo), shipped_recognizer, photo)
    page.wait_for_load_state("networkidle")
    assert asked[after:] == []
    assert all(line.split()[0] == "GET" and line.split()[1].startswith("/examples/") for line in asked[own:])
    assert {(method, body) for method, _, body in requests} == {("GET", None)}
    assert all(address.startswith((url, "blob:")) for _, address, _ in requests)
    assert "mine.jpg" not in " ".join(asked)


def other_colours() -> bytes:
    """Return an sRGB profile under another name, in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = profile.replace("sRGB".encode("utf-16-be"), "Own ".encode("utf-16-be"))
    return named.replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_photos_of_all_kinds_are_answered_as_by_the_server(
    visit: Open, serve: Serving, site: Path, shipped_recognizer: Recognizer
) -> None:
    page = visit(serve(site)[0])
    drawn = Image.open(site / "examples" / "front-left.jpg").resize((720, 540))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = drawn.transpose(Image.Transpose.ROTATE_90)
    cut_out = drawn.convert("RGBA")
    cut_out.putalpha(drawn.convert("L").point(lambda value: 255 if value < 180 else value // 3))
    files = {
        "jpeg": encoded(drawn, "JPEG", quality=90),
        "large": encoded(drawn.resize((2880, 2160)), "JPEG", quality=90),
        "large, lying": encoded(lying.resize((1080, 1440)), "JPEG", quality=90, progressive=True, exif=exif),
        "lying jpeg": encoded(lying, "JPEG", quality=90, exif=exif),
        "lying png": encoded(lying, "PNG", exif=exif),
        "lying webp": encoded(lying, "WEBP", lossless=True, exif=exif),
        "avif": encoded(drawn, "AVIF", quality=90),
        "gif": encoded(drawn, "GIF"),
        "cut out": encoded(cut_out, "PNG"),
        "other colours": encoded(drawn, "JPEG", quality=90, icc_profile=other_colours()),
        "cmyk": encoded(drawn.convert("CMYK"), "JPEG", quality=90),
    }
    files |= {"jpeg without its end": files["jpeg"][:-2], "png without its end": files["lying png"][:-12]}
    for name, data in files.items():
        same(give(page, name, data), shipped_recognizer, data)


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_bad_input_is_told_in_words_and_the_next_photo_works(
    visit: Open, serve: Serving, tiny_site: Path, bundles: dict[str, Path]
) -> None:
    page = visit(serve(tiny_site)[0])
    whole = jpeg(RED)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    cuts = {form: encoded(noise, form) for form in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP")}
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"x" * 200
    huge = BytesIO()
    Image.new("L", (10_000, 5_050)).save(huge, "PNG")
    huge_jpeg = whole.replace((600).to_bytes(2, "big") + (800).to_bytes(2, "big"), b"\x4e\x20" * 2)  # by its header
    scan = whole[whole.index(b"\xff\xda") : -2]
    bomb = whole[:-2] + scan * 2_100 + whole[-2:]
    for name, data, words in (
        ("bomb.jpg", bomb, "JPEG with 2101 scans of 480000 pixels: a bomb, or damaged"),
        ("text.jpg", b"hello world", 'Not a photo that can be read: it begins with "hello wo"; allowed: JPEG'),
        ("empty.jpg", b"", "The file is empty (0 bytes)"),
        *((f"cut.{form}", data[: -len(data) // 3], f"{form} photo is") for form, data in cuts.items()),
        ("cut.jpg", cuts["JPEG"][:-40], "JPEG photo is truncated"),
        ("noise.jpg", whole[:3] + b"\x12" * 400, "JPEG photo is"),
        ("phone.heic", heic, "This browser cannot read HEIC; save the photo as JPEG"),
        ("huge.png", huge.getvalue(), "Photo of 10000x5050 is over the limit of 50.4 million pixels"),
        ("huge.jpg", huge_jpeg, "Photo of 20000x20000 is over the limit of 50.4 million pixels"),
    ):
        assert words in give(page, name, data)["error"], name
        assert f"{name} was not recognised." in page.inner_text("#messages")
        assert page.locator("#result").is_hidden()
    recognizer = Recognizer.open(**bundles, engine="onnxruntime", threads=1, select="all")  # type: ignore[arg-type]
    empty = jpeg()
    same(give(page, "empty.jpg", empty), recognizer, empty)
    assert page.inner_text("#answer h2") == "No vehicle to name"
    same(give(page, "car.jpg", whole), recognizer, whole)
    assert page.inner_text("#answer h2") == "Rubin Alpha 2012"
    assert page.inner_text(".says").split()[0] == "red"
    toy = jpeg((TOY_COLOR, RED[1]))
    same(give(page, "toy.jpg", toy), recognizer, toy)
    assert page.inner_text("#answer .verdict p").startswith("Not decidable: this does not look like")
    page.click("#known summary")
    assert page.locator(".listed .make").count() == 3
    assert page.inner_text("#knows").startswith("It knows 3 makes and 5 models")
    small = jpeg(("red", (300, 200, 340, 230)))
    same(give(page, "small.jpg", small), recognizer, small)


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_the_next_visit_fetches_no_network_and_threads_need_isolation(
    visit: Open, serve: Serving, tiny_site: Path, bundles: dict[str, Path]
) -> None:
    url, asked = serve(tiny_site)
    page = visit(url)
    assert "on one thread" in page.inner_text("#bundles")
    large = [line for line in asked if ".onnx" in line or ".bin" in line]
    assert len(large) == 3
    asked.clear()
    page.reload()
    page.wait_for_selector("main[data-ready=yes]")
    assert not [line for line in asked if ".onnx" in line or ".bin" in line]
    isolated = visit(serve(tiny_site, isolated=True)[0])
    assert isolated.evaluate("crossOriginIsolated")
    recognizer = Recognizer.open(**bundles, engine="onnxruntime", threads=1, select="all")  # type: ignore[arg-type]
    same(give(isolated, "car.jpg", jpeg(RED)), recognizer, jpeg(RED))


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_the_worker_is_under_the_pages_policy(visit: Open, serve: Serving, tiny_site: Path) -> None:
    other, there = serve(tiny_site)
    url, _ = serve(tiny_site)
    page = visit(url, expected="Content Security Policy|violates")
    tried = "(url) => fetch(url, {method: 'POST', body: 'photo'}).then(() => 'sent', () => 'refused')"
    assert page.evaluate(tried, other) == "refused"
    assert len(page.workers) == 1
    assert page.workers[0].evaluate(tried, other) == "refused"
    assert there == []


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_a_site_that_lacks_a_file_says_so(visit: Open, serve: Serving, tiny_site: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_site, tmp_path / "site")
    model = tmp_path / "site" / "networks" / "finder" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-10])
    page = visit(serve(tmp_path / "site")[0])
    assert "networks/finder/model.onnx arrived with" in page.inner_text("#messages .error")
    model.unlink()
    page = visit(serve(tmp_path / "site")[0], expected="404")
    assert "lacks /networks/finder/model.onnx (status 404)" in page.inner_text("#messages .error")


@in_chromium
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)])
def test_the_page_fits_its_width_in_light_and_dark(
    scheme: str, size: tuple[int, int], visit: Open, serve: Serving, tiny_site: Path
) -> None:
    page = visit(serve(tiny_site)[0], size=size, scheme=scheme)
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(too_wide) <= 0
    assert "The photo stays on this device." in page.inner_text(".stays")
    give(page, f"{'long' * 40}.jpg", jpeg(RED, ("blue", (560, 60, 780, 190))))
    assert page.evaluate(too_wide) <= 0
    assert page.locator(".stays").is_visible()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")


@in_chromium
@pytest.mark.slow
@pytest.mark.network
def test_the_command_writes_a_site_and_replaces_it_as_a_whole(
    bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = build(tmp_path / "site", **tiny(bundles))
    (tmp_path / "site" / "old.txt").write_text("of an older version")
    browser_command(tmp_path / "site", finder=bundles["finder"], identifier=bundles["identifier"])
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'site'}\n"
    assert f"a visitor fetches {first.download_bytes / 1e6:.1f} MB once" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert not (tmp_path / "site" / "old.txt").exists()
    files = json.loads((tmp_path / "site" / MANIFEST).read_text())["files"]
    assert first.download_bytes == sum((tmp_path / "site" / one["path"]).stat().st_size for one in files.values())
    assert np.isclose(first.download_bytes, 3.7e6, rtol=0.2), "the runtime travels compressed"
