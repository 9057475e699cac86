"""Which column of a table is which: the names that people and programs give them, in some fifteen languages.

In: the words of a header. Out: our fields and the columns that hold them, or a SourceError that shows the header, what
was understood of it and the setting to write. It reads no file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from carspotter.errors import SourceError, suggestion

FIELDS = (
    "ad_id",
    "make",
    "model",
    "submodel",
    "photos",
    "url",
    "year",
    "body",
    "title",
    "price",
    "currency",
    "kind",
    "viewpoint",
    "description",
    "split",
)
"""What a column map may name; `photos`, `kind`, `viewpoint` and `split` are of the photos, the rest of the listing."""

CARS_CSV = FIELDS[:5]
"""The form without a header: ad_id, make, model, submodel, "image_id1, image_id2"."""

# Names that tables give these columns by themselves, the likelier first; a column map overrules them. English, German,
# French, Spanish, Portuguese, Italian, Dutch, Polish, Czech, Swedish, Danish, Finnish, Hungarian, Turkish, Russian.
_NAMES: dict[str, str] = {
    "ad_id": """id, listing_id, listing, ad, offer_id, item_id, post_id, car_id, vehicle_id, advert_id, ad_number,
        Inserat-Nr, Inserat, Inseratnummer, Inserat-ID, Anzeige, Anzeigen-ID, Anzeigennummer, Anzeigen-Nr, Fahrzeug-ID,
        Angebotsnummer, annonce, id annonce, annonce id, numéro d'annonce, référence, anuncio, id anuncio, annuncio,
        id annuncio, advertentie, advertentienummer, ogłoszenie, id ogłoszenia, nr ogłoszenia, inzerát, id inzerátu,
        annons, annonsid, ilmoitus, hirdetés, ilan, ilan no, объявление, номер объявления, id объявления""",
    "make": """brand, manufacturer, car_make, make_name, brand_name, car_brand, Marke, Hersteller, Fabrikat,
        Automarke, marque, constructeur, marca, fabricante, casa, merk, marka, značka, märke, mærke, bilmærke, merkki,
        márka, gyártmány, марка, производитель""",
    "model": """model_name, car_model, Modell, Baureihe, modèle, modelo, modello, malli, modell, модель""",
    "submodel": """trim, version, trim_level, sub_model, Variante, Modellvariante, Untermodell, Ausführung, finition,
        versión, acabado, versão, versione, allestimento, uitvoering, wersja, verze, utförande, versio, donanım,
        версия, комплектация, модификация""",
    "photos": """image_ids, images, photo_ids, image_id, photo_id, photo, image, path, image_urls, image_url,
        photo_urls, photo_url, pictures, picture, picture_urls, picture_url, image_links, image_link, photo_links,
        photo_link, image_path, image_paths, photo_path, image_file, image_files, image_name, image_filename, filename,
        file_name, filenames, file_path, files, file, img, imgs, img_url, img_urls, pic, pics, gallery, main_image,
        Bild, Bilder, Bild-URL, Bilder-URL, Bildlink, Bilddatei, Fotos, Foto, Foto-URL, Fotografie, photographies,
        photographie, imágenes, imagen, fotografías, imagens, imagem, immagini, immagine, afbeeldingen, afbeelding,
        zdjęcia, zdjęcie, obrázky, obrázek, fotky, fotografie, bilde, billeder, billede, kuvat, kuva, képek, kép,
        resimler, resim, fotoğraflar, fotoğraf, фото, фотографии, изображения, изображение, картинки""",
    "url": """link, ad_url, listing_url, href, permalink, page_url, ad_link, Inserat-Link, Inserat-URL, lien, enlace,
        collegamento, odkaz, länk, ссылка""",
    "year": """model_year, first_registration, registration_year, production_year, year_of_manufacture, Jahr, Baujahr,
        Erstzulassung, EZ, Modelljahr, année, año, ano, anno, bouwjaar, rok, rok produkcji, rok výroby, årsmodell,
        årgang, vuosi, vuosimalli, évjárat, yıl, model yılı, год, год выпуска""",
    "body": """body_type, body_style, Karosserie, Karosserieform, Aufbau, carrosserie, carrocería, carroceria,
        carrozzeria, nadwozie, typ nadwozia, karoserie, kaross, karosseri, kori, kasa tipi, karosszéria, кузов,
        тип кузова""",
    "title": """headline, name, heading, ad_title, Titel, Überschrift, titre, título, titolo, tytuł, název, rubrik,
        otsikko, cím, başlık, заголовок, название""",
    "price": """asking_price, list_price, price_eur, price_usd, price_gbp, Preis, Verkaufspreis, prix, precio, preço,
        prezzo, prijs, vraagprijs, cena, pris, hinta, ár, fiyat, цена""",
    "currency": """price_currency, currency_code, Währung, devise, moneda, moeda, valuta, waluta, měna, valuutta,
        pénznem, para birimi, валюта""",
    "kind": "",
    "viewpoint": "",
    "description": """text, ad_text, description_text, seller_notes, comments, remarks, Beschreibung, Bemerkung,
        Fahrzeugbeschreibung, Anzeigentext, descriptif, descripción, descrição, descrizione, omschrijving, opis, popis,
        beskrivning, beskrivelse, kuvaus, leírás, açıklama, описание""",
    "split": "subset, partition, data_split, dataset_split",
}
_AS_LETTERS = str.maketrans({"ł": "l", "ı": "i", "ø": "o", "æ": "ae", "ß": "ss"})


def plain(name: str) -> str:
    """Return a column's name without what varies: case, accents, blanks, marks and a unit in brackets."""
    text = unicodedata.normalize("NFKD", re.sub(r"\([^)]*\)|\[[^\]]*\]", "", name).casefold().translate(_AS_LETTERS))
    return "".join(sign for sign in text if sign.isalnum())


SPELLINGS: Mapping[str, str] = {
    plain(word): field for field in reversed(FIELDS) for word in (*_NAMES[field].split(","), field) if plain(word)
}
"""Each plain name that a column may bear by itself, and the field it stands for."""
_RANKS = {field: [plain(word) for word in (field, *_NAMES[field].split(","))] for field in FIELDS}


def field_of(name: str) -> str | None:
    """Return the field that a column stands for by its name, "Bild 2" and "image_id1, image_id2" among them."""
    word = plain(name)
    return SPELLINGS.get(word) or ("photos" if _photo_stem(name) else None)


def _photo_stem(name: str) -> str | None:
    """Return the plain name of a column of photos without its number."""
    stems = {re.sub(r"\d+", "", plain(part)) for part in name.split(",")}
    stem = stems.pop()
    return stem if not stems and SPELLINGS.get(stem) == "photos" else None


def _number(name: str) -> int:
    digits = re.search(r"\d{1,9}", plain(name))
    return int(digits[0]) if digits else -1


def is_header(words: Sequence[str], mapped: Iterable[str] = (), *, is_first: bool) -> bool:
    """Return whether the fields of a line are a header: the names of an ad and of another thing, and no numbers.

    The first line is also one if it names an ad, or two of our fields, or a column of a map.
    """
    texts = [word.strip() for word in words]
    if any(re.fullmatch(r"[\d.,]+", text) for text in texts):
        return False
    wanted = {column.partition(".")[0] for column in mapped if column} | {column for column in mapped if column}
    found = {field_of(text) for text in texts if text} - {None}
    hits = len(wanted.intersection(texts))
    if is_first:
        return "ad_id" in found or len(found) > 1 or hits > 0
    return hits > 1 or (len(found) + hits > 1 and (hits > 0 or not found.isdisjoint(("ad_id", "photos"))))


def resolve(
    table: str, there: Sequence[str], mapped: Mapping[str, str], looks: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return field → its columns: what the map says, checked, and names that are known.

    Only photos have several. A field that the map gives "" has none. `looks` are columns whose values look like photos.
    Raises SourceError where the map names no column, or no column is known to hold the ads, their photos, or any word
    about the car.
    """
    for name, column in mapped.items():
        if column and column not in there and column.partition(".")[0] not in there:
            raise SourceError(f"table {table}: no column {column!r} for {name}; {suggestion(column, there, limit=20)}")
    free = [column for column in there if column not in mapped.values()]
    columns = {name: found for name in FIELDS if name not in mapped and (found := _by_name(name, free))}
    columns |= {name: [column] for name, column in mapped.items() if column}
    lacks = [name for name in ("ad_id", "photos") if name not in columns and name not in mapped]
    if not any(name in columns or name in mapped for name in ("make", "model", "title", "description")):
        lacks.append("make")
    if lacks:
        raise _not_understood(table, there, columns, lacks=lacks, looks=looks)
    return columns


def _by_name(name: str, free: Sequence[str]) -> list[str]:
    named = {word: column for column in reversed(free) if SPELLINGS.get(word := plain(column)) == name}
    if name != "photos":
        return next(([named[word]] for word in _RANKS[name] if word in named), [])
    stems: dict[str, list[str]] = {}
    for column in free:
        if (stem := _photo_stem(column)) is not None:
            stems.setdefault(stem, []).append(column)
    best = next((stems[word] for word in _RANKS[name] if word in stems), [])
    return sorted(best, key=_number)


def _not_understood(
    table: str,
    there: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    *,
    lacks: Sequence[str],
    looks: Sequence[str],
) -> SourceError:
    """Return the error that shows the header, what was understood, and the line to write."""
    taken = {column for found in columns.values() for column in found}
    left = [column for column in there if column not in taken]
    guess = {"ad_id": left[:1], "photos": list(looks) or left[-1:], "make": left[:1]}
    wanted = ", ".join(f'{name} = "{(guess[name] or ["…"])[0]}"' for name in lacks)
    known = ", ".join(f"{name} = {found[0]!r}" for name, found in columns.items()) or "nothing"
    header = ", ".join(repr(column[:60]) for column in there[:20]) + (", …" if len(there) > 20 else "")
    none = "" if lacks == ["ad_id"] else f', or {lacks[-1]} = "" where it has none'
    return SourceError(
        f"table {table}: no column {' and no column '.join(lacks)}; its header is {header}; understood: {known}; say "
        f"which one it is, such as columns = {{{wanted}}}{none}"
    )
