"""Tables as programs and people write them: headers, marks above them, encodings, lists and words for nothing."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import SourceError
from carspotter.sources.columns import FIELDS, SPELLINGS, field_of, plain
from carspotter.sources.table import TableSettings, read
from carspotter.sources.values import photo_ids

GOLF = {"ad_id": "4711", "make": "VW", "model": "Golf"}


def ads(path, content, **settings):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read(TableSettings(path=str(path), **settings)))


def refusal(path, content, **settings):
    with pytest.raises(SourceError) as caught:
        ads(path, content, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(ad):
    return [Path(photo["url"]).name for photo in ad.photos]


@pytest.mark.parametrize(
    "content",
    [
        "Inserat-Nr;Marke;Modell;Bilder\n4711;VW;Golf;a.jpg\n",
        "sep=;\nid;make;model;images\n4711;VW;Golf;a.jpg\n",
        '"sep=\t"\r\nid\tmake\tmodel\timages\r\n4711\tVW\tGolf\ta.jpg\r\n',
        "Our cars\n\nid,make,model,images\n4711,VW,Golf,a.jpg\n",
        "# written on Monday, by hand\n# twice\nid,make,model,images\n4711,VW,Golf,a.jpg\n",
        "Our cars;;;\n;;;\nid;make;model;images\n4711;VW;Golf;a.jpg\n",
        "\n\n  \nID,MAKE,MODEL,IMAGE_URL\n4711,VW,Golf,a.jpg\n",
        'ad_id, make, model, submodel, "image_id1, image_id2"\n4711, VW, Golf, , "a.jpg"\n',
        ",id,brand,model_name,Photo URLs\n0,4711,VW,Golf,a.jpg\n",
        "Unnamed: 0,id,brand,model,Price (EUR),photos\n0,4711,VW,Golf,,a.jpg\n",
        "id annonce;Marque;Modèle;photographies\n4711;VW;Golf;a.jpg\n",
        "объявление;Марка;Модель;Фото\n4711;VW;Golf;a.jpg\n",
        "nr ogłoszenia|Marka|Model|Zdjęcia\n4711|VW|Golf|a.jpg\n",
        "\ufeff\ufeffid,make,model,images\n4711,VW,Golf,a.jpg\n",
        '\ufeff"id","make","model","images"\n"4711","VW","Golf","a.jpg"\n',
        "id,make,model,images\r4711,VW,Golf,a.jpg\r",
        "id,make,model,images\n4711,VW,Golf,a.jpg,\n",
        "id,make,model,images,\n4711,VW,Golf,a.jpg,,\n",
        "id,make,model,image1,image2\n4711,VW,Golf,a.jpg,\n",
        "id,make,model,images,images\n4711,VW,Golf,,a.jpg\n",
        "id,make,model,images\n4711.0,VW,Golf,a.jpg\n",
    ],
)
def test_a_header_is_understood(tmp_path, content):
    (ad,) = ads(tmp_path / "t.csv", content)
    assert {name: ad.listing[name] for name in GOLF} == GOLF
    assert (ad.listing["status"], ad.listing.get("message"), names(ad)) == ("ok", None, ["a.jpg"])


def test_several_columns_of_photos_keep_their_order(tmp_path):
    header = "id,make," + ",".join(f"Bild {number}" for number in (10, 2, 1))
    (ad,) = ads(tmp_path / "t.csv", header + "\n1,VW,j.jpg,b.jpg,a.jpg\n")
    assert names(ad) == ["a.jpg", "b.jpg", "j.jpg"]
    (ad,) = ads(tmp_path / "t.csv", "1,VW,Golf,,a.jpg\n", header=False)
    assert names(ad) == ["a.jpg"]


def test_thousands_of_columns(tmp_path):
    header = ",".join(["id", "make", "images", *(f"c{number}" for number in range(5000))])
    (ad,) = ads(tmp_path / "t.csv", f"{header}\n1,VW,a.jpg" + ",x" * 5000 + "\n")
    assert len(json.loads(ad.listing["attributes"])) == 5000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "Zahl;Was;Wie;Wo\n1;VW;Golf;a.jpg\n", 'columns = {ad_id = "Zahl", photos = "Wo"}'),
        ("t.csv", "id,make,model,pixels,where\n1,VW,Golf,3,a.jpg\n", 'columns = {photos = "where"}, or photos = ""'),
        ("t.csv", "id,make,model,pixels\n1,VW,Golf,3\n", "understood: ad_id = 'id', make = 'make', model = 'model'"),
        ("t.csv", "id,firm,images\n1,VW,a.jpg\n", "no column make; its header is 'id', 'firm'"),
        ("t.csv", "id,make,make,images\n1,VW,VW,a.jpg\n", "names a column twice, 'make'"),
        ("t.csv", "1,VW,Golf,,a.jpg,2011\n", "nor an ad of the form ad_id, make, model, submodel, photos"),
        ("t.jsonl", '{"number": 1, "make": "VW"}\n', "no column ad_id and no column photos"),
        ("t.json", '[\n {"id": 1}\n]\n', "is one JSON array; write one object a line"),
        ("t.csv", b"PK\x03\x04\x14\x00\x06\x00", "an Excel or LibreOffice workbook, or another ZIP archive; export it"),
        ("t.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        ("t.csv", "<!DOCTYPE html><html>", "a web page"),
        ("t.csv.zst", "id", "unknown suffix '.zst'"),
        ("t.csv.gz", b"\x1f\x8b\x08\x00broken", "is packed with gzip and broken"),
        ("t.csv", "id,make,images\n1,VW,a.jpg\n".encode("utf-16-le"), "is UTF-16-LE; set encoding = 'utf-16-le'"),
        ("t.csv", "id,make,images\n1,VW,a.jpg\n".encode("utf-16-be"), "is UTF-16-BE; set encoding = 'utf-16-be'"),
        ("t.csv", "id,make,images\n1,VW,a.jpg\n".encode("utf-32"), "is UTF-32; set encoding = 'utf-32'"),
        ("t.csv", "id,make,images\n1,VW,a.jpg\n".encode("utf-32-be"), "is UTF-32-BE; set encoding = 'utf-32-be'"),
    ],
)
def test_what_cannot_be_told_is_one_error(tmp_path, name, content, message):
    assert message in refusal(tmp_path / name, content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_that_are_named(tmp_path, encoding):
    (ad,) = ads(tmp_path / "t.csv", "id,make,images\n1,Citroën,a.jpg\n".encode(encoding), encoding=encoding)
    assert ad.listing["make"] == "Citroën"


@pytest.mark.parametrize("encoding", ["hex", "rot13", "idna\0", "undefined"])
def test_codecs_that_read_no_text(tmp_path, encoding):
    assert "encoding" in refusal(tmp_path / "t.csv", "id,make,images\n1,VW,a.jpg\n", encoding=encoding)


def test_a_packed_table_and_odd_names(tmp_path):
    content = gzip.compress(b"id,make,model,images\n4711,VW,Golf,a.jpg\n")
    (ad,) = ads(tmp_path / "cars?no#1.csv.gz", content)
    assert (ad.listing["source"], names(ad)) == ("table:cars?no#1.csv.gz", ["a.jpg"])


def test_a_field_that_a_map_leaves_out(tmp_path):
    (ad,) = ads(tmp_path / "t.csv", "id,make,model\n1,VW,Golf\n", columns={"photos": ""})
    assert (ad.listing["status"], ad.photos) == ("ok", ())


def test_a_header_in_the_middle_and_bytes_of_zero(tmp_path):
    header = "id,make,images\n"
    found = ads(tmp_path / "t.csv", header + "1,VW,a.jpg\n" + header + "2,V\0W,b.jpg\n3,VW,c.jpg\n")
    assert [ad.listing["status"] for ad in found] == ["ok", "broken-row", "broken-row", "ok"]
    assert found[1].listing["message"] == "line 3: the header once more"
    assert found[2].listing["message"] == "line 4: a byte of zero, which no text has"


def test_a_line_without_an_end_is_one_broken_row(tmp_path):
    long = "x" * 250_000
    rows = f'id,make,images\n1,VW,a.jpg\n2,{long},b.jpg\n3,VW,"c.jpg\n{long}"\n5,VW,e.jpg\n'
    found = ads(tmp_path / "t.csv", rows)
    assert [(ad.listing["status"], ad.listing.get("message")) for ad in found] == [
        ("ok", None),
        ("broken-row", "line 3: a line of over 100000 characters"),
        ("broken-row", "line 4: a quote that is not closed"),
        ("broken-row", "line 5: a line of over 100000 characters"),
        ("ok", None),
    ]
    assert found[-1].listing["ad_id"] == "5"


A_B = ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "photos"),
    [
        ("['a.jpg', 'b.jpg']", A_B),
        ('["a.jpg", "b.jpg"]', A_B),
        ("('a.jpg', 'b.jpg')", A_B),
        ("('a.jpg',)", A_B[:1]),
        ("{'a.jpg', 'b.jpg'}", A_B),
        ("{a.jpg,b.jpg}", A_B),
        ('{a.jpg,"b c.jpg"}', ["a.jpg", "b c.jpg"]),
        ("[a.jpg, b.jpg]", A_B),
        ("['a.jpg' 'b.jpg']", A_B),
        ("['a.jpg'\n 'b.jpg']", A_B),
        ("['a.jpg', None, nan]", A_B[:1]),
        ('["a.jpg", null]', A_B[:1]),
        ('[{"url": "a.jpg"}, {"src": "b.jpg"}]', A_B),
        ("[{'url': 'a.jpg'}, {'url': 'b.jpg'}]", A_B),
        ('{"url": "a.jpg"}', A_B[:1]),
        (r"['a\'s.jpg']", ["a's.jpg"]),
        ('["https:\\/\\/h\\/a.jpg"]', ["https://h/a.jpg"]),
        ("a.jpg|b.jpg", A_B),
        ("a.jpg; b.jpg", A_B),
        ("a.jpg\r\nb.jpg", A_B),
        ("a.jpg b.jpg", A_B),
        ("a.gif b.jfif 3.HEIF", ["a.gif", "b.jfif", "3.HEIF"]),
        ("my car.jpg", ["my car.jpg"]),
        ("a;1.jpg,b.jpg", ["a;1.jpg", "b.jpg"]),
        ("https://h/a.jpg|https://h/b.jpg", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("https://h/a.jpg;https://h/b.jpg;", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("https://h/a.jpg https://h/b.jpg", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("https://h/a.jpg\nhttps://h/b.jpg", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("https://h/a.jpg, https://h/b.jpg", ["https://h/a.jpg", "https://h/b.jpg"]),
        ("https://h/a,1.jpg?x=1;2|3", ["https://h/a,1.jpg?x=1;2|3"]),
        ("12.0", ["12"]),
        *((nothing, []) for nothing in ("", " ", "[]", "{}", "()", "nan", "None", "NULL", r"\N", "#N/A", "<NA>")),
    ],
)
def test_lists_as_programs_write_them(text, photos):
    assert photo_ids(text, None)[0] == photos


def test_a_comma_and_a_blank_between_urls_are_no_hole():
    assert photo_ids("https://h/a.jpg , https://h/b.jpg,\nhttps://h/c.jpg", None)[1] == 0


def test_marks_of_thousands_make_no_two_ids_one(tmp_path):
    ids = ["1", "1,000", "1,001", "4711.000", "4712.0"]
    found = ads(tmp_path / "t.csv", "id;make;images\n" + "".join(f"{key};VW;a.jpg\n" for key in ids))
    assert [ad.listing["ad_id"] for ad in found] == ["1", "1,000", "1,001", "4711", "4712"]


def test_words_for_nothing(tmp_path):
    nothing = ["nan", "NaN", "None", "NULL", "\\N", "#N/A", "NA", "<NA>", "#REF!"]
    rows = "".join(f"{word},VW,{word},{word},{word}\n" for word in nothing)
    found = ads(tmp_path / "t.csv", "id,make,model,year,images\n" + rows + "4711.0,VW,Golf,2012.0,a.jpg\n")
    assert {ad.listing["status"] for ad in found[:-1]} == {"no-ad-id"}
    assert all("model" not in ad.listing and "year" not in ad.listing and not ad.photos for ad in found[:-1])
    assert (found[-1].listing["ad_id"], found[-1].listing["year"]) == ("4711", 2012)
    (ad,) = ads(tmp_path / "t.csv", "id,make,images\n1.23457E+11,VW,a.jpg\n")
    assert ad.listing["status"] == "no-ad-id"
    assert "a spreadsheet has rounded the id" in ad.listing["message"]


def test_description_and_split(tmp_path):
    parts = {"Training": "train", "dev": "validation", "val": "validation", "holdout": "test", "TEST": "test"}
    rows = "".join(f"{number},VW,a{number}.jpg,{part},One owner\n" for number, part in enumerate(parts))
    found = ads(tmp_path / "t.csv", "id,make,images,split,Beschreibung\n" + rows + "9,VW,b.jpg,seven,\n")
    assert [ad.photos[0].get("split") for ad in found] == [*parts.values(), None]
    assert found[0].listing["description"] == "One owner"
    assert "split" in found[-1].photos[0]["message"]


def test_names_of_columns_are_of_one_field():
    assert {field_of(name) for name in FIELDS} == set(FIELDS)
    assert {field_of(plain(name)) for name in ("Größe", "colour", "", "2")} == {None}
    assert all(plain(word) == word for word in SPELLINGS)


@given(st.text(max_size=60), st.sampled_from(["[{}]", "{{{}}}", "({})", "[{{'url': {}}}]", '["{}"]', "{}"]))
def test_any_list_is_read(text, form):
    ids, holes = photo_ids(form.format(text), None)
    assert holes >= 0
    assert all(ids)
