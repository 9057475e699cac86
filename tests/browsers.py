"""Chromium and Firefox as tests drive them: what a machine has installed, none downloaded.

Chromium by Playwright. Firefox by Mozilla's own Marionette client: Playwright drives a Firefox of its own alone, which
is a download, and the released ones of a year ago (ESR) lack commands that it needs.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from waiting import NEVER_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Driver(Protocol):
    """A browser with one page."""

    def open(self, url: str) -> None:
        """Open a page."""

    def show(self, *, width: int, scheme: str) -> None:
        """Show it `width` pixels wide, 450 at least in Firefox, light or dark."""

    def run(self, script: str) -> Any:
        """Run the body of an async function on the page and return what it returns, as JSON has it."""


class _Chromium:
    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._page: Any = None

    def open(self, url: str) -> None:
        if self._page:
            self._page.context.close()
        self._page = self._browser.new_page(reduced_motion="reduce")
        self._page.set_default_timeout(1000 * NEVER_S)
        self._page.goto(url)

    def show(self, *, width: int, scheme: str) -> None:
        self._page.set_viewport_size({"width": width, "height": 900})
        self._page.emulate_media(color_scheme=scheme)

    def run(self, script: str) -> Any:
        return self._page.evaluate(f"async () => {{ {script} }}")


class _Firefox:
    def __init__(self, session: Any) -> None:
        self._session = session

    def open(self, url: str) -> None:
        self._session.navigate(url)

    def show(self, *, width: int, scheme: str) -> None:
        self._session.set_pref("layout.css.prefers-color-scheme.content-override", int(scheme == "light"))
        self._session.set_window_rect(width=width, height=900)

    def run(self, script: str) -> Any:
        told = self._session.execute_async_script(
            f"""const [tell] = arguments;
            (async () => {{ {script} }})().then((value) => tell([value ?? null]), (error) => tell(`${{error}}`));""",
            script_timeout=1000 * NEVER_S,
        )
        assert isinstance(told, list), told
        return told[0]


@contextmanager
def started() -> Iterator[Any]:
    """Start Chromium, as Playwright gives it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


@contextmanager
def chromium() -> Iterator[Driver]:
    """Start Chromium as a driver of one page."""
    with started() as browser:
        yield _Chromium(browser)


@contextmanager
def firefox(folder: Path) -> Iterator[Driver]:
    """Start Firefox; its log goes to `folder`."""
    quiet = {"ui.prefersReducedMotion": 1, "app.update.enabled": False}
    with warnings.catch_warnings():  # of libraries that Mozilla's client brings
        warnings.simplefilter("ignore")
        from marionette_driver.marionette import Marionette

        session = Marionette(bin=FIREFOX, headless=True, port=0, prefs=quiet, gecko_log=str(folder / "gecko.log"))
        session.start_session()
    try:
        yield _Firefox(session)
    finally:
        session.quit(in_app=False)
        session.cleanup()
