"""Tables as sources: cars.csv with and without a header, any CSV, JSON Lines and Parquet, and how they break."""

import csv
import json
import os
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carspotter import storage
from carspotter.errors import SourceError
from carspotter.sources.listing import clean, merge
from carspotter.sources.table import TableSettings, read, understood
from carspotter.sources.values import tidy

CARS = '''\
4711, Audi, A4, S line, "p1, p2"
4712,BMW,X5,,"p3, , p4,p3"
,BMW,X5,,p5
4713, BMW, X5, , "p6,
4714, Alfa Romeo, Mito, 15" wheels, "p7"
4715,a,b,c,d,e
4716,VW

4717,"Škoda","Octavia ""RS""","two
lines",p8
'''


def ads(path, content=None, **settings):
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read(TableSettings(path=str(path), **settings)))


def refusal(path, content=None, **settings):
    with pytest.raises((SourceError, ValueError)) as caught:
        ads(path, content, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(ad):
    return [Path(photo["url"]).name for photo in ad.photos]


HEADERS = ("", "ad_id,make,model,submodel,photos\n", "ad_id, Make, Model, Submodel, image_ids\n")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_cars_csv(tmp_path, header, start):
    found = ads(tmp_path / "cars.csv", start + header + CARS, photos="https://h/{ad_id}/{image_id}.jpg")
    shift = 1 if header else 0
    assert [(ad.listing["ad_id"], ad.listing["status"]) for ad in found] == [
        ("4711", "ok"),
        ("4712", "ok"),
        ("row:cars.csv:3", "no-ad-id"),
        ("row:cars.csv:4", "broken-row"),
        ("4714", "ok"),
        ("row:cars.csv:6", "broken-row"),
        ("4716", "ok"),
        ("4717", "ok"),
    ]
    assert {k: found[0].listing[k] for k in ("make", "model", "submodel")} == {
        "make": "Audi",
        "model": "A4",
        "submodel": "S line",
    }
    assert [photo["url"] for photo in found[0].photos] == ["https://h/4711/p1.jpg", "https://h/4711/p2.jpg"]
    assert names(found[1]) == ["p3.jpg", "p4.jpg"]
    assert found[1].listing["message"] == "a hole in the list of photos; 1 photos named twice"
    assert found[2].listing["message"] == f"line {3 + shift}: ad_id is empty"
    assert [photo["status"] for photo in found[2].photos] == ["no-ad-id"]
    assert found[3].listing["message"] == f"line {4 + shift}: a quote that is not closed"
    assert json.loads(found[3].listing["attributes"]) == {"line": '4713, BMW, X5, , "p6,'}
    assert found[4].listing["submodel"] == '15" wheels'
    assert found[5].listing["message"] == f"line {6 + shift}: 6 fields, the table has 5 columns"
    assert (found[6].listing["message"], found[6].photos) == ("no photos", ())
    assert found[7].listing["model"] == 'Octavia "RS"'
    assert found[7].listing["submodel"] == "two lines"


def test_any_csv_with_a_map(tmp_path):
    content = "id;brand;Modell;built;pics;color;asks\n7;Fiat;500;2012-05;a.jpg|b.jpg;red;9.500,00\n8;Fiat;500;12;;;\n"
    columns = {"ad_id": "id", "model": "Modell", "year": "built", "photos": "pics", "price": "asks"}
    found = ads(tmp_path / "t.csv", content, columns=columns, photo_delimiter="|", name="dealer")
    assert found[0].listing == {
        "ad_id": "7",
        "source": "dealer",
        "make": "Fiat",
        "model": "500",
        "year": 2012,
        "price": 9500.0,
        "attributes": '{"color": "red"}',
        "status": "ok",
    }
    assert [photo["url"] for photo in found[0].photos] == [str(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    assert found[1].listing["message"] == "no photos; year '12' is none"


def test_one_row_a_photo_with_words(tmp_path):
    rows = ("path,ad_id,view,make", *(f"photos/7/{k}.jpg,7,{view},audi" for k, view in enumerate(("in", "left", "?"))))
    content = "\n".join(rows)
    words = {"kind": {"in": "interior", "left": "exterior"}, "viewpoint": {"left": "front-left"}}
    found = ads(tmp_path / "t.csv", content, columns={"kind": "view", "viewpoint": "view"}, words=words)
    photos = [photo for ad in found for photo in ad.photos]
    assert [photo["url"] for photo in photos] == [str(tmp_path / "photos" / "7" / f"{k}.jpg") for k in range(3)]
    assert [photo["position"] for photo in photos] == [0, 1, 2]
    assert [(photo.get("kind"), photo.get("viewpoint")) for photo in photos] == [
        ("interior", None),
        ("exterior", "front-left"),
        (None, None),
    ]
    assert {photo["status"] for photo in photos} == {"ok"}


def test_where_photos_are(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "p1.png").touch()
    content = '1,a,b,c,"p1,p2,/else/x.jpg,https://h/y,z.jpg,s3://b/k.jpg"\n'
    (ad,) = ads(tmp_path / "cars.csv", content, photos="pics")
    assert [photo["url"] for photo in ad.photos] == [
        str(tmp_path / "pics" / "p1.png"),
        str(tmp_path / "pics" / "p2"),
        "/else/x.jpg",
        "https://h/y,z.jpg",
        "s3://b/k.jpg",
    ]
    (ad,) = ads(tmp_path / "cars.csv", '1,a,b,c,"d/ü 1"\n', photos="https://h/i/{image_id}.jpg?w=9")
    assert ad.photos[0]["url"] == "https://h/i/d/%C3%BC%201.jpg?w=9"
    braces = tmp_path / "{x}"
    braces.mkdir()
    for photos in ("img/{image_id}.jpg", str(braces / "img" / "{image_id}.jpg")):
        (ad,) = ads(braces / "cars.csv", "1,a,b,c,p1\n", photos=photos)
        assert ad.photos[0]["url"] == str(braces / "img" / "p1.jpg")
    (ad,) = ads(braces / "cars.csv", "1,a,b,c,p1.jpg\n", photos=str(braces))
    assert ad.photos[0]["url"] == str(braces / "p1.jpg")
    (ad,) = ads(tmp_path / "cars.csv", "1,a,b,c,p1.jpg\n", photos="s3://bucket/photos/")
    assert ad.photos[0]["url"] == "s3://bucket/photos/p1.jpg"


def test_json_lines(tmp_path):
    lines = [
        '{"id": 5, "car": {"brand": "Kia"}, "images": ["a.jpg", {"url": "https://h/b"}, "", null], "seats": 5}',
        "{broken",
        "[1]",
        "",
        '{"id": null, "car": null, "images": null}',
        '{"id": 6, "images": "c, d"}',
    ]
    found = ads(tmp_path / "t.jsonl", "\n".join(lines), columns={"ad_id": "id", "make": "car.brand"})
    assert [(ad.listing["ad_id"], ad.listing["status"]) for ad in found] == [
        ("5", "ok"),
        ("row:t.jsonl:2", "broken-row"),
        ("row:t.jsonl:3", "broken-row"),
        ("row:t.jsonl:4", "no-ad-id"),
        ("6", "ok"),
    ]
    assert found[0].listing["make"] == "Kia"
    assert found[0].listing["attributes"] == '{"seats": 5}'
    assert names(found[0]) == ["a.jpg", "b"]
    assert found[0].listing["message"] == "2 holes in the list of photos"
    assert "line 2: no JSON" in found[1].listing["message"]
    assert "a JSON list, no object" in found[2].listing["message"]
    assert names(found[4]) == ["c", "d"]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"id": [1, 2], "brand": ["VW", None], "year": [2012.0, None], "images": [["a.jpg", "b.jpg"], []]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").rename(tmp_path / "caf\udce9.parquet")  # a name that is no UTF-8
    found = ads(tmp_path / "caf\udce9.parquet")
    assert [ad.listing["ad_id"] for ad in found] == ["1", "2"]
    assert found[0].listing["year"] == 2012
    assert names(found[0]) == ["a.jpg", "b.jpg"]
    data = (tmp_path / "caf\udce9.parquet").read_bytes()
    assert "no Parquet file that can be read" in refusal(tmp_path / "u.parquet", data[: len(data) // 2])


def parquet_ads(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({name: pyarrow.array(*column) for name, column in columns.items()}), path)
    return ads(path)


def test_numbers_of_a_table_are_not_guessed_at(tmp_path):
    amounts = [Decimal("12500.000"), Decimal("999.125"), Decimal("12.500")]
    path = tmp_path / "t.parquet"
    years = [Decimal(2012)] * 3
    found = parquet_ads(path, id=(years,), make=(["VW"] * 3,), price=(amounts,), year=(years,), images=(["a"] * 3,))
    assert [ad.listing["price"] for ad in found] == [12500.0, 999.125, 12.5]
    assert {(ad.listing["ad_id"], ad.listing["year"]) for ad in found} == {("2012", 2012)}
    rows = '{"id": 1, "make": "VW", "images": "a", "price": 999.125}\n{"id": 2, "make": "VW", "price": "9.990"}\n'
    assert [ad.listing["price"] for ad in ads(tmp_path / "t.jsonl", rows)] == [999.125, 9990.0]


def test_bytes_in_parquet_are_text_or_a_broken_row(tmp_path):
    photos = [[b"a.jpg", "ü.jpg".encode()], [b"\xff\xd8\xff"], None]
    makes = [b"Audi", b"Audi", b"\xc4"]
    found = parquet_ads(tmp_path / "t.parquet", id=([b"1", b"2", b"3"],), make=(makes,), images=(photos,), x=(makes,))
    assert (found[0].listing["ad_id"], found[0].listing["make"], names(found[0])) == ("1", "Audi", ["a.jpg", "ü.jpg"])
    assert [(ad.listing["status"], ad.listing["message"], ad.photos) for ad in found[1:]] == [
        ("broken-row", "line 2: images holds the bytes of photos, not their names", ()),
        ("broken-row", "line 3: make holds bytes that are no text", ()),
    ]
    boxed = [{"bytes": b"\xff", "path": "a.jpg"}, {"bytes": b"\xff", "path": None}]
    found = parquet_ads(tmp_path / "t.parquet", id=([1, 2],), make=(["VW"] * 2,), images=(boxed,), x=([b"\xff"] * 2,))
    assert (names(found[0]), "attributes" in found[0].listing) == (["a.jpg"], False)
    assert found[1].listing["status"] == "broken-row"


def test_odd_times_in_parquet_are_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    base = {"id": ([1],), "make": (["VW"],), "images": (["a"],)}
    for unit, time, shown in (
        (pyarrow.timestamp("us", tz="Europe/Berlin"), 253402300799000000, "10000-01-01 00:59:59.000000+0100"),
        (pyarrow.date32(), 10**7, "29349-01-26"),
    ):
        (ad,) = parquet_ads(tmp_path / "t.parquet", **base, seen=([time], unit))
        assert json.loads(ad.listing["attributes"]) == {"seen": shown}
    with pytest.raises(SourceError, match=r"column 'seen' cannot be read: .*; leave it out"):
        parquet_ads(tmp_path / "t.parquet", **base, seen=([[10**7]], pyarrow.list_(pyarrow.date32())))


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("t.csv", "id,brand\n1,VW\n", {"columns": {"make": "bran"}}, "no column 'bran' for make; did you mean 'brand'"),
        ("t.csv", "id,brand\n1,VW\n", {"columns": {"maker": "brand"}}, "unknown field 'maker'; did you mean 'make'?"),
        ("t.csv", "number,brand\n1,VW\n", {"header": True}, "no column ad_id and no column photos; its header"),
        ("t.csv", "", {}, "is empty"),
        ("t.jsonl", "\n\n", {}, "is empty"),
        ("t.csv", "1,caf\xe9,b,c,d\n".encode("latin1"), {}, "is not utf-8-sig: byte 0xE9 in line 1; set encoding"),
        ("t.csv", "1,a,b,c,d\n".encode("utf-16"), {}, "is UTF-16; set encoding = 'utf-16'"),
        ("t.csv", "1,a,b,c,d\n", {"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        ("t.csv", "id,a,a\n1,2,3\n", {"columns": {"ad_id": "id"}}, "names a column twice"),
        ("t.xlsx", "PK", {}, "unknown suffix '.xlsx'"),
        ("t.csv", "1,a,b,c,d\n", {"photos": "https://h/{id}.jpg"}, "has {id}; allowed: {image_id}, {ad_id}"),
        ("t.csv", "1,a,b,c,d\n", {"photos": "https://h/{"}, "is no pattern"),
        ("t.csv", "id,brand,photo\n1,VW,a\n", {"columns": {"ad_id": ""}}, "ad_id is empty; name the column"),
        ("t.csv", "1,a,b,c,d\n", {"delimiter": "::"}, "it must be one character"),
        ("t.csv", "1,a,b,c,d\n", {"form": "xls"}, "allowed: auto, csv, jsonl, parquet"),
    ],
)
def test_refusals(tmp_path, name, content, settings, message):
    assert message in refusal(tmp_path / name, content, **settings)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("t.xlsx", b"", {}),
        ("t.odd", b"", {}),
        ("t.csv.gz", b"\x1f\x8b\x08\x00broken", {}),
        ("t.csv", b"<html>", {}),
        ("t.csv", b"", {}),
        ("t.csv", b"number,firm,seen\n1,VW,2\n", {}),
        ("t.csv", b"number,firm,seen\n1,VW,2\n", {"header": True}),
        ("t.csv", b'"id,make\n', {"header": True}),
        ("t.csv", b"id,make,make,photos\n1,VW,VW,a.jpg\n", {}),
        ("t.csv", b"id,make,photos\n1,VW,a.jpg\n", {"columns": {"model": "modle"}}),
        ("t.csv", b"id,make,photos\n1,caf\xe9,a.jpg\n", {}),
        ("t.csv", b"id,make,photos\n1,VW,a.jpg\n", {"encoding": "utf-9"}),
        ("t.csv", "id,make,photos\n1,VW,a.jpg\n".encode("utf-16"), {}),
        ("t.csv", ("1,a,b,c,d\n" * 7_000).encode("utf-16")[:-1], {"encoding": "utf-16"}),
        ("t.jsonl", b"", {}),
        ("t.jsonl", b"{}", {}),
        ("t.jsonl", b"[", {}),
        ("t.parquet", b"PAR", {}),
    ],
)
def test_errors_show_no_password_and_no_signed_query(monkeypatch, name, content, settings):
    monkeypatch.setattr(storage, "read", lambda *_, **__: content)
    url = f"https://user:hunter2@host.example/{name}?X-Amz-Signature=SECRET"
    with pytest.raises(SourceError) as caught:
        list(read(TableSettings(path=url, **settings)))
    assert f"table https://host.example/{name}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_missing_tables(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "a folder" in refusal(tmp_path)
    assert "no such file or folder" in refusal("memory://nowhere/t.csv")


def test_other_encodings(tmp_path):
    for encoding in ("cp1251", "utf-16"):
        (ad,) = ads(tmp_path / "t.csv", "1,Лада,Нива,,p\n".encode(encoding), encoding=encoding)
        assert ad.listing["make"] == "Лада"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_wide_table_that_is_cut_is_one_error(tmp_path, name):
    line = "1,a,b,c,d\n" if name == "t.csv" else '{"id": 1, "make": "VW", "photos": "a.jpg"}\n'
    content = (line * 7_000).encode("utf-16")[:-1]
    assert f"{name} is cut, or not in utf-16" in refusal(tmp_path / name, content, encoding="utf-16")


def test_a_table_whose_first_lines_are_all_broken_is_read_on(tmp_path):
    lines = ["id,make,model,photo", *["1,Audi,A4,a.jpg,b.jpg"] * 250, "2,Audi,A4,a.jpg"]
    found = ads(tmp_path / "t.csv", "\n".join(lines))
    assert [ad.listing["status"] for ad in found] == ["broken-row"] * 250 + ["ok"]
    assert len({ad.listing["ad_id"] for ad in found}) == 251
    assert understood(TableSettings(path=str(tmp_path / "t.csv")))["photos"] == ["photo"]


def test_wrong_bytes_far_down_are_one_row(tmp_path):
    content = b"1,a,b,c,d\n" * 7_000 + b"2,caf\xe9,b,c,d\n3,a,b,c,d\n"
    found = ads(tmp_path / "t.csv", content)
    assert [ad.listing["status"] for ad in found[-3:]] == ["ok", "broken-row", "ok"]
    assert "not in the table's encoding" in found[-2].listing["message"]


def test_a_remote_table():
    storage.write("memory://tables/cars.csv", b"1,a,b,c,p.jpg\n")
    (ad,) = read(TableSettings(path="memory://tables/cars.csv"))
    assert ad.photos[0]["url"] == "memory://tables/p.jpg"
    storage.write("memory://tables/may/cars.csv", b"1,a,b,c,/m/p.jpg\n")
    (ad,) = read(TableSettings(path="memory://tables/may/cars.csv"))
    assert ad.photos[0]["url"] == "memory://tables/m/p.jpg"


@pytest.mark.parametrize(
    ("photos", "urls"),
    [
        ("https://cdn.example", ["https://cdn.example/m/1.jpg", "https://b.example/2.jpg"]),
        ("https://cdn.example/x/{image_id}", ["https://cdn.example/x/m/1.jpg", "https://b.example/2.jpg"]),
        ("http://h?path={image_id}", ["http://h?path=/m/1.jpg", "http://b.example/2.jpg"]),
        ("s3://bucket/", ["s3://bucket/m/1.jpg", "s3://bucket/b.example/2.jpg"]),
    ],
)
def test_photos_that_begin_with_a_slash_lie_where_photos_lead(tmp_path, photos, urls):
    (ad,) = ads(tmp_path / "cars.csv", '1,a,b,c,"/m/1.jpg,//b.example/2.jpg"\n', photos=photos)
    assert [photo["url"] for photo in ad.photos] == urls


def test_a_table_is_a_stream(tmp_path):
    # What is asked for first comes before the rest is read: the file ends in an error.
    path = tmp_path / "cars.csv"
    with path.open("w") as file:
        file.writelines(f'{number},Audi,A4,,"a{number},b{number}"\n' for number in range(8_000))
    stream = read(TableSettings(path=str(path)))
    first = list(islice(stream, 10))
    os.truncate(path, path.stat().st_size // 2)
    assert [ad.listing["ad_id"] for ad in first] == [str(number) for number in range(10)]
    assert 3_500 < 10 + sum(1 for _ in stream) < 5_000


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[0-9a-z]{1,8}", fullmatch=True),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
            st.lists(st.from_regex(r"[0-9a-z]{1,6}", fullmatch=True), max_size=4, unique=True),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_csv_writes_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ad_id", "make", "photos"), *((a, b, ", ".join(c)) for a, b, c in rows)])
    found = ads(path)
    assert [ad.listing["ad_id"] for ad in found] == [row[0] for row in rows]
    assert [names(ad) for ad in found] == [row[2] for row in rows]
    assert [ad.listing.get("make") for ad in found] == [clean(tidy(row[1])) for row in rows]


@given(st.binary(max_size=300))
@example(b"{}")
def test_any_bytes_end_in_rows_or_one_error(tmp_path_factory, data):
    for name in ("t.csv", "t.jsonl"):
        path = tmp_path_factory.mktemp("any") / name
        path.write_bytes(data)
        try:
            found = list(read(TableSettings(path=str(path))))
        except SourceError:
            continue
        assert all(ad.listing["status"] in ("ok", "no-ad-id", "broken-row") for ad in found)


SHARED = Path(os.environ.get("CARSPOTTER_SHARED") or Path(__file__).parents[2].parent / "shared")
ADS = SHARED / "data" / "used-car-ads" / "photos.csv"


@pytest.mark.skipif(not ADS.exists(), reason="real listings are not here")
def test_real_listings():
    words = {"kind": {"in": "interior", "d": "detail"}}
    known, photos = {}, {}
    for ad in read(TableSettings(path=str(ADS), columns={"kind": "view"}, words=words)):
        merged = merge(known, ad)
        known |= {merged.listing["ad_id"]: merged.listing} if merged.listing else {}
        photos |= {photo["photo_id"]: photo for photo in merged.photos}
    assert len(photos) == 1630
    assert {listing["status"] for listing in known.values()} <= {"ok", "no-ad-id"}
    assert sum(Path(photo["url"]).is_file() for photo in photos.values()) == 1630


@pytest.mark.parametrize("name", ["which? cars.csv", "a?b/cars.csv", "cars?.csv"])
def test_a_question_mark_in_a_path_is_a_letter(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,make,model,photos\n1,Audi,A4,a.jpg\n", encoding="utf-8")
    (ad,) = read(TableSettings(path=str(path)))
    assert ad.listing["source"] == f"table:{path.name}"
    assert ad.photos[0]["url"] == str(path.parent / "a.jpg")
