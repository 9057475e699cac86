"""A used-car site of our own making, served on loopback: result pages, listings in several ways of writing, traps."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from waiting import NEVER_S

CAR = {
    "@context": "https://schema.org",
    "@type": "Car",
    "name": "BMW 320d Touring",
    "sku": "",
    "brand": {"@type": "Brand", "name": "BMW"},
    "model": "3 Series",
    "vehicleModelDate": "2012",
    "bodyType": "Estate",
    "image": ["/img/{n}-1.jpg", {"@type": "ImageObject", "contentUrl": "/img/{n}-2.jpg"}, "file:///etc/passwd"],
    "offers": {"@type": "Offer", "price": "9000", "priceCurrency": "EUR"},
}
PER_PAGE, PAGES = 4, 3


def json_ld(content: object) -> str:
    """Write data as a page holds it."""
    return f'<script type="application/ld+json">{json.dumps(content)}</script>'


def listing(number: int) -> str:
    """Write the page of one car, with a broken block of data beside the good one."""
    car = json.loads(json.dumps(CAR).replace("{n}", str(number)))
    return f"<html><head>{json_ld(car)}<script type='application/ld+json'>{{broken</script></head></html>"


def results(number: int) -> str:
    """Write a page of results: its listings twice, what robots.txt forbids, another site, a file, the next page."""
    ids = [100000 + 100 * number + k for k in range(PER_PAGE)]
    anchors = [f'<a href="/car/{n}">car</a><a href="/car/{n}#photos">again</a>' for n in ids]
    anchors += [
        '<a href="/private/1">no</a>',
        '<a href="http://other.example/car/1">off</a>',
        '<a href="/a.pdf">pdf</a>',
    ]
    if number < PAGES:
        anchors.append(f'<a href="/search?page={number + 1}">next</a>')
    return f"<html><body>{''.join(anchors)}</body></html>"


class Site(ThreadingHTTPServer):
    """The site, what was asked of it, and how many were served at once."""

    daemon_threads = True

    def __init__(self, *, robots: str = "User-agent: *\nDisallow: /private\n", delay_s: float = 0.0) -> None:
        """Serve on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.robots, self.delay_s = robots, delay_s
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.pages: dict[str, str] = {}  # further pages: path → text
        self.moved: dict[str, str] = {}  # path → where it leads
        self.statuses: dict[str, int] = {}  # path → what is answered in place of the page
        self.max_concurrency = self.most_at_once = 0
        self.held_from, self.go = 10**9, threading.Event()  # from so many pages on, none is answered before `go`
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Give the address without a path."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        """Answer, and note who asked for what."""
        site = self.server
        with site.lock:
            site.asked[self.path] += 1
            site.agents.add(self.headers.get("User-Agent", ""))
            site.max_concurrency += 1
            site.most_at_once = max(site.most_at_once, site.max_concurrency)
            is_held = sum(site.asked.values()) > site.held_from
        if is_held:
            site.go.wait(NEVER_S)
        time.sleep(site.delay_s)  # the pace of a site: what is asked at once meets here
        with site.lock:  # before the answer: who has it may ask again at once
            site.max_concurrency -= 1
        self._answer(*self._page(site.asked[self.path]))

    def _page(self, times: int) -> tuple[int, str]:
        path = self.path
        if path in self.server.moved:
            return 302, self.server.moved[path]
        if path in self.server.statuses:
            return self.server.statuses[path], "sorry"
        if path in self.server.pages:
            return 200, self.server.pages[path]
        if path == "/robots.txt":
            return 200, self.server.robots
        if path.startswith("/search"):
            return 200, results(int(path.partition("page=")[2] or 1))
        if path.startswith("/car/100101") and times == 1:
            return 500, "sorry"
        if path.startswith("/car/"):
            return 200, listing(int(path.removeprefix("/car/")))
        if path.startswith("/calendar/"):
            day = int(path.removeprefix("/calendar/"))
            return 200, f'<a href="/calendar/{day + 1}">tomorrow</a><a href="/calendar/{day + 2}">later</a>'
        if path == "/empty":
            return 200, "<html><body>no cars here</body></html>"
        return 404, "not here"

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if self.path == "/robots.txt" else "text/html; charset=utf-8")
        if status == 302:
            self.send_header("Location", text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def served(**settings: object) -> Iterator[Site]:
    """Serve a site for a while."""
    site = Site(**settings)  # type: ignore[arg-type]
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
