"""The service, its pages and the review behind a proxy that shows them below a path, looked at by a real browser.

The proxy is a small one of our own on loopback. One takes the path away before it asks, the other leaves it there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, DummyCookieJar, web

from carspotter.client import Client
from carspotter.project.pipeline import build
from carspotter.review.app import review_app
from carspotter.review.decisions import DecisionStore
from review_project import review_project, served
from serving.conftest import RED, Serve, jpeg
from waiting import NEVER_S

PATH = "/cars"


@contextmanager
def proxy(target: str, *, strips: bool, keeps_host: bool = True) -> Iterator[str]:
    """Show what answers at `target` below PATH, and nothing beside it; give the address with the path."""

    async def forward(request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix(PATH) if strips else request.raw_path
        dropped = {"transfer-encoding", "content-length"} | (set() if keeps_host else {"host"})
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        async with ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
            asked = session.request(
                request.method, target + path, headers=headers, data=await request.read(), allow_redirects=False
            )
            async with asked as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", PATH, forward)
    app.router.add_route("*", PATH + "/{rest:.*}", forward)
    started = threading.Event()
    told: dict[str, Any] = {}

    async def run() -> None:
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.update(port=runner.addresses[0][1], loop=asyncio.get_running_loop(), stop=asyncio.Event())
        started.set()
        await told["stop"].wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(NEVER_S)
    try:
        yield f"http://127.0.0.1:{told['port']}{PATH}"
    finally:
        told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join()


@pytest.fixture(params=[True, False], ids=["strips", "keeps"])
def below(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[str]:
    """Serve below a path, by both kinds of proxy."""
    service = serve(feedback=tmp_path / "feedback", root_path="" if request.param else PATH)
    with proxy(service.url, strips=request.param) as address:
        yield address


@contextmanager
def visited(browser: Any, address: str) -> Iterator[Any]:
    """Open a page whose every request must go below the path and be answered well, and whose scripts make no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(1000 * NEVER_S)
    page, wrong = context.new_page(), []
    root = address.partition(PATH)[0] + PATH
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((f"{root}/", "blob:", "data:")) else wrong.append(r.url))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.goto(address)
    yield page
    context.close()
    assert wrong == []


def test_programs_are_answered(below: str) -> None:
    assert Client(below).photo(jpeg(RED)).vehicles
    with httpx.Client(trust_env=False) as http:
        described = http.get(f"{below}/openapi.json").json()
        assert described.get("servers", [{"url": PATH}]) == [{"url": PATH}]
        assert http.get(f"{below}/static/style.css").status_code == 200
        assert http.get(f"{below}/static/../app.py").status_code == 404


def test_the_path_without_a_slash_leads_to_the_page(serve: Serve) -> None:
    service = serve(root_path=PATH)
    answer = service.http.get(PATH)
    assert (answer.status_code, answer.headers["location"]) == (308, f"{PATH}/")
    assert service.http.get("/readyz").status_code == 200  # probes do not come through the proxy
    assert service.http.get("/carsick").status_code == 404


@pytest.mark.parametrize("path", ["cars", "/cars/", "/ca rs", "//evil.example", "/", "/a\n"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    from carspotter.serving.settings import ServeSettings

    with pytest.raises(ValueError, match=r"root_path is .* write it as /cars"):
        ServeSettings(root_path=path)


def test_the_photo_page(below: str, browser: Any, tmp_path: Path) -> None:
    with visited(browser, f"{below}/") as page:
        page.wait_for_selector("main[data-ready]")
        page.click("[data-example=front-left]")
        page.wait_for_selector("main[data-state=answered]:not(.busy)")
        assert f"{below}/v1/photos" in page.inner_text("#curl")
        assert page.evaluate("getComputedStyle(document.body).fontFamily") != "serif"
        page.click("#feedback >> text=Yes")
        page.wait_for_selector("#feedback >> text=It was kept")
    assert list((tmp_path / "feedback").rglob("*.jpg"))


def test_the_ad_page(below: str, browser: Any) -> None:
    with visited(browser, f"{below}/") as page:
        page.click("nav >> text=Whole ad")
        page.wait_for_selector("main[data-ready]")
        page.click("[data-example=right]")
        page.wait_for_selector("main[data-state=answered]:not(.busy)")


@pytest.mark.parametrize("keeps_host", [True, False])
def test_the_review(keeps_host: bool, browser: Any, tmp_path: Path) -> None:
    project = review_project(tmp_path / "project")
    build(project, only=("resolve", "classes", "split"))
    with (
        served(review_app(project.folder, person="Ann")) as address,
        proxy(address, strips=True, keeps_host=keeps_host) as shown,
        visited(browser, f"{shown}/") as page,
    ):
        page.wait_for_selector("#photo[data-photo]")
        page.keyboard.press("e")
        page.wait_for_selector("#saved:text-is('saved')")
    assert [decision.says for decision in DecisionStore(project.labels / "decisions.jsonl").decisions()] == ["exterior"]
