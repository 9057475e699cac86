"""Fetching as a project does it: whose photographs may be where, who asks, and what became of files on a disk."""

import json
import os
import sys
import threading
from collections import Counter
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from carspotter import storage
from carspotter.errors import ProjectError
from carspotter.photos.rules import FetchSettings
from carspotter.project.folder import Project, create
from carspotter.project.pipeline import build
from hostile import encoded, photo

PHOTO = encoded(photo(), "JPEG", quality=90)
OTHER = encoded(photo(), "JPEG", quality=80)


class Handler(BaseHTTPRequestHandler):
    """Answer what `server.answers` says of a path: bytes, a status, or an address to go to."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        answer = self.server.answers.get(self.path.partition("?")[0], 404)
        self.send_response(200 if isinstance(answer, bytes) else 302 if isinstance(answer, str) else answer)
        body = answer if isinstance(answer, bytes) else b""
        if isinstance(answer, str):
            self.send_header("Location", answer)
        self.send_header("Content-Type", "text/html" if body[:1] == b"<" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Give a function that starts a server with some answers."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    started = []

    def start(answers=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads, server.answers, server.asked = True, dict(answers or {}), []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()


def project_of(folder, source, fetch="retries = 0"):
    """Make a project of one source."""
    return create(folder, f"[fetch]\n{fetch}\n\n[[sources]]\n{source}\n")


def table(folder, *photos, **more):
    """Make a project of a table with one ad a photo."""
    folder.mkdir(exist_ok=True)
    lines = [f'{n},Audi,A4,"{place}"' for n, place in enumerate(photos)]
    (folder / "cars.csv").write_text("id,make,model,photos\n" + "\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "cars.csv"
    return project_of(folder / "p", f'kind = "table"\npath = {json.dumps(str(path))}', **more)


def fetched(project, **options):
    """Build up to the fetch; return the rows of the files by ad, and what the step said."""
    stats = build(project, until="fetch", workers=0, **options)["fetch"]
    return rows_of(project), {name: value for name, value in stats.items() if name != "warnings"}


def rows_of(project):
    with project.catalog() as catalog:
        sql = "SELECT p.ad_id, p.url, f.* FROM listing_photos p JOIN files f USING (photo_id) ORDER BY p.url"
        return {row["ad_id"]: row for row in catalog.rows(sql)}


# ---- files on a disk


def test_a_photo_that_changed_on_the_disk_is_read_again_and_no_other(tmp_path):
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")]
    for path in paths:
        path.write_bytes(PHOTO)
    project = table(tmp_path, *paths)
    before, stats = fetched(project)
    assert stats == {"done": 5}
    assert all(row["sha256"] and row["modified"] for row in before.values())
    assert fetched(project) == (before, {"done": 0})
    paths[0].write_bytes(OTHER)  # another photo
    state = paths[1].stat()
    paths[1].write_bytes(PHOTO[:-1] + b"\0")  # of the same size
    os.utime(paths[1], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    os.utime(paths[2], ns=(1, 1))  # touched
    paths[3].unlink()
    after, stats = fetched(project)
    assert stats == {"done": 3, "changed on the disk": 3, "no longer there": 1}
    assert after["0"]["sha256"] != before["0"]["sha256"]
    assert after["0"]["bytes"] == len(OTHER)
    assert after["1"]["sha256"] != before["1"]["sha256"]
    assert after["2"]["sha256"] == before["2"]["sha256"]
    assert (after["3"]["status"], after["3"]["path"]) == ("missing", None)
    assert after["4"] == before["4"]
    assert fetched(project)[1] == {"done": 0}
    paths[3].write_bytes(OTHER)
    again, stats = fetched(project)
    assert stats == {"done": 1, "changed on the disk": 1}
    assert again["3"]["sha256"] == after["0"]["sha256"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no time of the last change")
@pytest.mark.parametrize("fetch", ["copy_local = false", "copy_local = true"])
def test_a_photo_that_was_replaced_under_its_time_and_size_is_read_again(tmp_path, fetch):
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        path.write_bytes(PHOTO)
    project = table(tmp_path, *paths, fetch=fetch)
    before, _ = fetched(project)
    state = paths[0].stat()
    paths[0].write_bytes(PHOTO[:-3] + b"\0\xff\xd9")
    other = tmp_path / "other.jpg"
    other.write_bytes(PHOTO[:-3] + b"\1\xff\xd9")
    other.rename(paths[1])
    for path in paths[:2]:
        os.utime(path, ns=(state.st_atime_ns, before["0" if path == paths[0] else "1"]["modified"]))
        assert path.stat().st_size == state.st_size
    after, stats = fetched(project)
    assert stats == {"done": 2, "changed on the disk": 2}
    for ad, path in zip("012", paths, strict=True):
        assert after[ad]["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert fetched(project)[1] == {"done": 0}


def test_a_disk_that_was_away_for_a_build_costs_no_second_reading(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.jpg").write_bytes(PHOTO)
    project = table(tmp_path, *(folder / f"{n}.jpg" for n in range(3)))
    before, _ = fetched(project)
    folder.rename(tmp_path / "away")
    assert fetched(project)[1] == {"done": 0, "no longer there": 3}
    assert {row["status"] for row in rows_of(project).values()} == {"missing"}
    (tmp_path / "away").rename(folder)
    after, stats = fetched(project)
    assert stats == {"done": 0, "there again": 3}
    kept = ("photo_id", "path", "bytes", "sha256", "modified", "status")
    assert [[row[name] for name in kept] for row in after.values()] == [
        [row[name] for name in kept] for row in before.values()
    ]


def test_photos_are_copied_once_the_settings_say_so(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(PHOTO)
    project = table(tmp_path, tmp_path / "a.jpg", tmp_path / "b.jpg", fetch="copy_local = false")
    before, _ = fetched(project)
    settings = project.folder / "carspotter.toml"
    settings.write_text(settings.read_text().replace("copy_local = false", "copy_local = true"))
    project = Project.open(project.folder)
    after, stats = fetched(project)
    assert stats == {"done": 2}
    assert all((project.photos / ad).is_dir() and after[ad]["path"].startswith(f"photos/{ad}/") for ad in after)
    assert [row["sha256"] for row in after.values()] == [row["sha256"] for row in before.values()]
    assert fetched(project) == (after, {"done": 0})


def test_photos_that_were_not_there_at_first_are_found_when_they_come(tmp_path):
    project = table(tmp_path, tmp_path / "late" / "a.jpg", tmp_path / "b.jpg")
    rows, stats = fetched(project)
    assert stats == {"done": 2, "stopped": {"missing": 2}}
    assert fetched(project)[1] == {"done": 0}
    storage.write(tmp_path / "late" / "a.jpg", PHOTO)
    rows, stats = fetched(project)
    assert stats == {"done": 1, "changed on the disk": 1}
    assert [rows[ad]["status"] for ad in "01"] == ["ok", "missing"]


def test_rows_of_an_older_catalogue_are_looked_at_once(tmp_path):
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    project = table(tmp_path, tmp_path / "a.jpg")
    (row,) = fetched(project)[0].values()
    with project.catalog() as catalog:
        old = {name: row[name] for name in ("photo_id", "path", "bytes", "sha256", "status")}
        catalog.append("files", [old], version=row["stage_version"])
    after, stats = fetched(project)
    assert stats == {"done": 1, "changed on the disk": 1}
    assert after["0"]["sha256"] == row["sha256"]
    assert fetched(project)[1] == {"done": 0}


def test_a_fetched_photo_that_was_removed_or_cut_is_fetched_again(serve, tmp_path):
    server = serve({"/a.jpg": PHOTO, "/b.jpg": OTHER, "/c.jpg": PHOTO})
    project = table(tmp_path, *(f"{server.url}/{name}.jpg" for name in "abc"))
    before, _ = fetched(project)
    (project.folder / before["0"]["path"]).unlink()
    (project.folder / before["1"]["path"]).write_bytes(OTHER[:100])
    os.utime(project.folder / before["2"]["path"], ns=(1, 1))  # as a copy of the project has it
    server.asked.clear()
    after, stats = fetched(project)
    assert stats["changed on the disk"] == 2
    assert {path for path, _ in server.asked} == {"/a.jpg", "/b.jpg"}
    for ad, data in (("0", PHOTO), ("1", OTHER), ("2", PHOTO)):
        assert (project.folder / after[ad]["path"]).read_bytes() == data


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("A\u0308 b.jpg", "Ä b.jpg"),
        ("Ä b.jpg", "A\u0308 b.jpg"),
        ("sub\\a.jpg", "sub/a.jpg"),
        ("sub\\Ä.jpg", "sub/A\u0308.jpg"),
    ],
)
def test_a_name_is_found_as_another_system_wrote_it(tmp_path, written, on_disk):
    storage.write(tmp_path / on_disk, PHOTO)
    project = table(tmp_path, written)
    rows, _ = fetched(project)
    assert rows["0"]["status"] == "ok"
    assert (project.folder / rows["0"]["path"]).read_bytes() == PHOTO
    assert fetched(project)[1] == {"done": 0}
    (tmp_path / on_disk).write_bytes(OTHER)
    assert fetched(project)[1] == {"done": 1, "changed on the disk": 1}


# ---- asked again


def test_a_status_is_asked_again_when_somebody_says_so(serve, tmp_path):
    server = serve({"/gone.jpg": 410, "/a.jpg": PHOTO, "/html.jpg": b"<!doctype html><title>secret"})
    project = table(tmp_path, *(f"{server.url}/{name}.jpg" for name in ("gone", "none", "html", "a")))
    rows, _ = fetched(project)
    assert [rows[ad]["status"] for ad in "0123"] == ["gone", "missing", "not-a-photo", "ok"]
    server.answers |= {"/gone.jpg": PHOTO, "/none.jpg": PHOTO, "/html.jpg": PHOTO, "/a.jpg": 403}
    for status, ad in (("gone", "0"), ("missing", "1"), ("not-a-photo", "2")):
        server.asked.clear()
        rows, stats = fetched(project, again=(status,))
        assert (rows[ad]["status"], len(server.asked), stats) == ("ok", 1, {"done": 1})
    rows, _ = fetched(project, again=("ok",))  # what is here is not lost
    assert (rows["3"]["status"], rows["3"]["bytes"]) == ("ok", len(PHOTO))
    assert "asked again in vain (forbidden)" in rows["3"]["message"]
    with pytest.raises(ProjectError, match="no photo has the status 'unreadable'; there are: ok"):
        fetched(project, again=("unreadable",))


def test_photos_that_a_check_stopped_are_fetched_again(serve, tmp_path):
    server = serve({"/a.jpg": PHOTO})
    project = table(tmp_path, f"{server.url}/a.jpg")
    rows, _ = fetched(project)
    with project.catalog() as catalog:
        catalog.append("checks", [{"photo_id": rows["0"]["photo_id"], "status": "unsupported-format"}])
    server.answers["/a.jpg"] = OTHER
    rows, stats = fetched(project, again=("unsupported-format",))
    assert stats == {"done": 1}
    assert (project.folder / rows["0"]["path"]).read_bytes() == OTHER


# ---- whose photographs may be where


def test_an_own_table_may_name_the_own_network_but_no_redirect_there(serve, tmp_path):
    inside = serve({"/secret": b"SECRET-TOKEN=abc123", "/a.jpg": PHOTO})
    server = serve({"/a.jpg": PHOTO, "/same": "/a.jpg", "/there": f"http://localhost:{inside.server_address[1]}/a.jpg"})
    urls = [f"{server.url}/{name}" for name in ("a.jpg", "same", "there")]
    urls += ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", f"{inside.url}/secret"]
    rows, _ = fetched(table(tmp_path, *urls))
    statuses = [rows[ad]["status"] for ad in "012345"]
    assert statuses == ["ok", "ok", "private-address", "private-address", "private-address", "not-a-photo"]
    assert not any("SECRET" in (row["message"] or "") for row in rows.values())
    assert "name it in [fetch] allow" in rows["3"]["message"]
    assert [path for path, _ in inside.asked] == ["/secret"]


@pytest.mark.parametrize(
    ("fetch", "status"),
    [
        ('private = "never"', "private-address"),
        ('private = "never"\nallow = ["127.0.0.0/8"]', "ok"),
        ('private = "never"\nallow = ["127.0.0.1:{port}"]', "ok"),
        ('private = "never"\nallow = ["127.0.0.1"]', "ok"),
        ('private = "never"\nallow = ["127.0.0.1:1", "10.0.0.0/8"]', "private-address"),
        ('private = "always"', "ok"),
    ],
)
def test_settings_say_what_is_private(serve, tmp_path, fetch, status):
    server = serve({"/a.jpg": PHOTO})
    fetch = fetch.replace("{port}", str(server.server_address[1]))
    rows, _ = fetched(table(tmp_path, f"{server.url}/a.jpg", fetch=fetch))
    assert rows["0"]["status"] == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow": ("http://nas/",)},
        {"allow": ("a b/c",)},
        {"allow": ("",)},
        {"private": "maybe"},
        {"user_agent": "a\nb"},
    ],
)
def test_settings_that_are_none(wrong):
    with pytest.raises(ValueError, match=r"allow|private|user_agent"):
        FetchSettings(**wrong)


def test_a_table_from_elsewhere_names_its_own_host_and_no_file_of_ours(serve, tmp_path, monkeypatch):
    (tmp_path / "mine.jpg").write_bytes(PHOTO)
    inside = serve({"/a.jpg": PHOTO})
    server = serve({"/a.jpg": PHOTO, "/moved.jpg": f"{inside.url}/a.jpg"})
    storage.write("memory://bucket/a.jpg", PHOTO)
    places = [
        f"{server.url}/a.jpg",
        f"{inside.url}/a.jpg",
        f"{server.url}/moved.jpg",
        str(tmp_path / "mine.jpg"),
        (tmp_path / "mine.jpg").as_uri(),
        (tmp_path / "mine.jpg").as_uri().replace("file", "FILE"),
        "memory://bucket/a.jpg",
        f"http://localhost:{server.server_address[1]}/a.jpg",
    ]
    lines = [f'{n},Audi,A4,"{place}"' for n, place in enumerate(places)]
    server.answers["/cars.csv"] = ("id,make,model,photos\n" + "\n".join(lines)).encode()
    project = project_of(tmp_path / "p", f'kind = "table"\npath = "{server.url}/cars.csv"')
    rows, _ = fetched(project)
    refused = "private-address"
    assert [rows[ad]["status"] for ad in "01234567"] == [
        "ok",
        refused,
        refused,
        "missing",  # a path begins at the table's own host
        refused,
        refused,
        "forbidden",
        "ok",
    ]
    assert inside.asked == []


@pytest.mark.parametrize("name", ["mine", "{mine}"])
def test_a_folder_that_the_settings_name_is_open_to_a_table_from_elsewhere(serve, tmp_path, name):
    storage.write(tmp_path / name / "a.jpg", PHOTO)
    storage.write(tmp_path / "secret.jpg", PHOTO)
    server = serve({"/cars.csv": b"id,make,model,photos\n1,Audi,A4,a.jpg\n2,Audi,A4,../secret.jpg\n"})
    folder = json.dumps(str(tmp_path / name))
    project = project_of(tmp_path / "p", f'kind = "table"\npath = "{server.url}/cars.csv"\nphotos = {folder}')
    rows, _ = fetched(project)
    assert [rows[ad]["status"] for ad in "12"] == ["ok", "private-address"]


# ---- a crawl's photographs


def page(*photos):
    """Write a page of one car."""
    car = {"@context": "https://schema.org", "@type": "Car", "brand": "Mazda", "model": "3", "image": list(photos)}
    return f'<script type="application/ld+json">{json.dumps(car)}</script>'.encode()


def crawl(tmp_path, server, fetch="retries = 0"):
    pytest.importorskip("scrapy")
    source = f'kind = "crawl"\nstart = ["{server.url}/"]\ncontact = "anna@cars.example"\ndelay_s = 0.0'
    return project_of(tmp_path / "p", source, fetch)


def site(serve, inside, robots):
    server = serve({"/robots.txt": robots, "/": b'<a href="/car/900001">x</a><a href="/car/900002">y</a>'})
    server.answers["/car/900001"] = page(
        f"{server.url}/img/a.jpg", f"{inside.url}/img/a.jpg", f"{server.url}/img/in.jpg"
    )
    server.answers["/car/900002"] = page(f"{server.url}/no/a.jpg", "http://169.254.169.254/latest/a.jpg")
    server.answers |= {"/img/a.jpg": PHOTO, "/no/a.jpg": PHOTO, "/img/in.jpg": f"{inside.url}/secret.jpg"}
    return server


def statuses(project):
    with project.catalog() as catalog:
        sql = "SELECT p.url, f.status, f.message FROM listing_photos p JOIN files f USING (photo_id)"
        return {row["url"]: (row["status"], row["message"]) for row in catalog.rows(sql)}


def test_a_crawls_photographs_are_asked_politely_and_never_inside(serve, tmp_path):
    inside = serve({"/img/a.jpg": PHOTO, "/secret.jpg": b"SECRET"})
    server = site(serve, inside, b"User-agent: *\nDisallow: /no/\n")
    project = crawl(tmp_path, server)
    fetched(project)
    found = statuses(project)
    assert {url.removeprefix(server.url): status for url, (status, _) in found.items() if server.url in url} == {
        "/img/a.jpg": "ok",
        "/img/in.jpg": "private-address",
        "/no/a.jpg": "robots",
    }
    assert found[f"{inside.url}/img/a.jpg"][0] == found["http://169.254.169.254/latest/a.jpg"][0] == "private-address"
    assert not any("SECRET" in (message or "") for _, message in found.values())
    assert inside.asked == []
    agents = {agent for path, agent in server.asked if path.startswith(("/img", "/robots"))}
    assert len(agents) == 1
    assert "carspotter/" in agents.copy().pop()
    assert "anna@cars.example" in agents.pop()
    assert Counter(path for path, _ in server.asked)["/no/a.jpg"] == 0


def test_a_redirect_leads_to_nothing_that_robots_txt_forbids(serve, tmp_path):
    other = serve({"/robots.txt": b"User-agent: *\nDisallow: /no/\n", "/no/a.jpg": PHOTO, "/img/a.jpg": PHOTO})
    server = serve({"/robots.txt": b"User-agent: *\nDisallow: /no/\n", "/": b'<a href="/car/900001">x</a>'})
    led = {"own": f"{server.url}/no/a.jpg", "far": f"{other.url}/no/a.jpg", "good": f"{other.url}/img/a.jpg"}
    led |= {"two": f"{server.url}/img/far.jpg", "round": f"{server.url}/img/round.jpg"}
    server.answers |= {f"/img/{name}.jpg": place for name, place in led.items()}
    server.answers |= {"/no/a.jpg": PHOTO, "/car/900001": page(*(f"{server.url}/img/{name}.jpg" for name in led))}
    project = crawl(tmp_path, server, fetch=f'retries = 0\nallow = ["{other.url.removeprefix("http://")}"]')
    fetched(project)
    found = {url.rpartition("/")[2].removesuffix(".jpg"): status for url, (status, _) in statuses(project).items()}
    assert found == {"own": "robots", "far": "robots", "two": "robots", "good": "ok", "round": "forbidden"}
    assert {path for path, _ in other.asked} == {"/robots.txt", "/img/a.jpg"}
    assert "/no/a.jpg" not in {path for path, _ in server.asked}
    assert Counter(path for path, _ in server.asked)["/img/round.jpg"] == 6  # the first, and five redirects


def test_a_site_that_cannot_say_what_it_allows_is_asked_at_the_next_build(serve, tmp_path):
    server = site(serve, serve(), b"User-agent: *\nAllow: /\n")
    project = crawl(tmp_path, server)
    build(project, until="import", workers=0)
    server.answers["/robots.txt"] = 503
    fetched(project)
    assert statuses(project)[f"{server.url}/img/a.jpg"][0] == "server-error"
    server.answers["/robots.txt"] = 404  # none at all
    fetched(project)
    assert statuses(project)[f"{server.url}/img/a.jpg"][0] == "ok"


def test_a_name_of_your_own_for_all_servers(serve, tmp_path):
    server = serve({"/a.jpg": PHOTO})
    fetched(table(tmp_path, f"{server.url}/a.jpg", fetch='user_agent = "Mozilla/5.0 (anna)"'))
    assert [agent for _, agent in server.asked] == ["Mozilla/5.0 (anna)"]


def test_a_retired_ad_and_a_retired_photo_are_left_alone(serve, tmp_path):
    server = serve({"/a.jpg": PHOTO, "/b.jpg": PHOTO, "/c.jpg": PHOTO})
    project = table(tmp_path, *(f"{server.url}/{name}.jpg" for name in "abc"))
    build(project, until="import", workers=0)
    with project.catalog() as catalog:
        photos = {row["ad_id"]: row for row in catalog.rows("SELECT * EXCLUDE (stage_version) FROM listing_photos")}
        listings = {row["ad_id"]: row for row in catalog.rows("SELECT * EXCLUDE (stage_version) FROM listings")}
        catalog.append("listing_photos", [photos["0"] | {"status": "retired"}])
        catalog.append("listings", [listings["1"] | {"status": "retired"}])
    build(project, only=("fetch",), workers=0)
    assert [path for path, _ in server.asked] == ["/c.jpg"]


def test_a_project_in_a_folder_with_a_question_mark(tmp_path):
    folder = Path(tmp_path, "which cars?")
    folder.mkdir()
    (folder / "a?b.jpg").write_bytes(PHOTO)
    rows, _ = fetched(table(folder, "a?b.jpg"))
    assert rows["0"]["status"] == "ok"
