"""One car on pages of our own, written in the many ways in which sites write schema.org; and pages that are no ad."""

import html
import json
from typing import Any

URL = "https://cars.example/a/b"
PHOTO = "https://cars.example/a/a.jpg"
CAR: dict[str, Any] = {
    "@context": "https://schema.org",
    "@type": "Car",
    "name": "Audi A4 Avant",
    "brand": "Audi",
    "model": "A4",
    "vehicleModelDate": "2014",
    "image": "a.jpg",
    "offers": {"@type": "Offer", "price": 9000, "priceCurrency": "EUR"},
}
PRODUCT = {**CAR, "@type": "Product"}
PLAIN = json.dumps(CAR)
MICRODATA = (
    '<div itemscope itemtype="https://schema.org/Car"><span itemprop="name">Audi A4 Avant</span>'
    '<span itemprop="brand">Audi</span><span itemprop="model">A4</span><img itemprop="image" src="a.jpg">'
    '<meta itemprop="vehicleModelDate" content="2014"></div>'
)
RDFA = (
    '<div vocab="https://schema.org/" typeof="Car"><span property="name">Audi A4 Avant</span>'
    '<span property="brand">Audi</span><span property="model">A4</span><img property="image" src="a.jpg">'
    '<meta property="vehicleModelDate" content="2014"></div>'
)


def script(text: str, kind: str = 'type="application/ld+json"') -> str:
    return f"<script {kind}>{text}</script>"


def ld(*contents: object) -> str:
    return "".join(script(json.dumps(content)) for content in contents)


def car(**changes: object) -> dict[str, Any]:
    return {**CAR, **changes}


def without(name: str, **changes: object) -> dict[str, Any]:
    return {key: value for key, value in car(**changes).items() if key != name}


def similar(number: int) -> dict[str, Any]:
    return car(name=f"BMW {number}", brand="BMW", model=str(number), image=f"{number}.jpg", url=f"/c/{number}")


_BRAND, _IMAGE = {"@id": "#make"}, {"@id": "#picture"}
_GRAPH = [
    {"@type": "ImageObject", "@id": "#picture", "url": "a.jpg", "contentUrl": "a.jpg"},
    {"@type": "Brand", "@id": "#make", "name": "Audi"},
    car(brand=_BRAND, image=_IMAGE),
]

READ: dict[str, str] = {
    # around the data
    "a html comment": script(f"<!--\n{PLAIN}\n-->"),
    "a javascript comment before": script(f"// the car {{of the page}}\n{PLAIN}"),
    "a block comment inside": script(PLAIN.replace('"brand"', '/* of the maker */ "brand"')),
    "cdata": script(f"<![CDATA[{PLAIN}]]>"),
    "cdata behind slashes": script(f"//<![CDATA[\n{PLAIN}\n//]]>"),
    "cdata in block comments": script(f"/*<![CDATA[*/{PLAIN}/*]]>*/"),
    "a last semicolon": script(PLAIN + ";"),
    "a last comma": script(PLAIN + ","),
    "an assignment": script(f"window.car = {PLAIN};"),
    "a byte order mark": script("\ufeff" + PLAIN),
    "no-break spaces around": script(f"\xa0{PLAIN}\xa0"),
    "a script inside the script": script(f'<script type="application/ld+json">{PLAIN}'),
    "two values in a row": script(json.dumps({"@type": "WebSite"}) + "\n" + PLAIN),
    "two values and a comma": script(json.dumps({"@type": "WebSite"}) + "," + PLAIN),
    "json in a text of json": script(json.dumps(PLAIN)),
    "in the body, beside a broken block": script("{oops") + "<p>car</p>" + ld(CAR),
    # inside the data
    "a trailing comma": script(PLAIN[:-1] + ",}"),
    "a trailing comma in a list": script(PLAIN.replace('"a.jpg"', '["a.jpg",]')),
    "entities": script(html.escape(PLAIN)),
    "numeric entities": script(PLAIN.replace('"', "&#34;")),
    "single quotes": script(PLAIN.replace('"', "'")),
    "names without quotes": script(PLAIN.replace('"brand"', "brand")),
    "a line end in a text": script(PLAIN.replace("A4 Avant", "A4\nAvant")),
    "a tab in a text": script(PLAIN.replace("A4 Avant", "A4\tAvant")),
    "a control character in a text": script(PLAIN.replace("A4 Avant", "A4 \x07Avant")),
    "an escaped apostrophe": script(PLAIN.replace("Avant", "Avant \\'s")),
    "a slash escaped": script(PLAIN.replace("/", "\\/")),
    "a line separator": script(PLAIN.replace("A4 Avant", "A4\u2028Avant")),
    "half a surrogate": script(PLAIN.replace("Avant", "Avant \\ud83d")),
    "not a number": script(PLAIN.replace("9000", "NaN")),
    # the script's type
    "a charset in the type": script(PLAIN, 'type="application/ld+json; charset=utf-8"'),
    "a type without quotes": script(PLAIN, "type=application/ld+json"),
    "a type in capitals": script(PLAIN, "TYPE='APPLICATION/LD+JSON'"),
    "a type with blanks": script(PLAIN, 'type=" application/ld+json "'),
    "a type with entities": script(PLAIN, 'type="application&#x2F;ld&#x2B;json"'),
    "further attributes": script(PLAIN, 'id="x" class="yoast" type="application/ld+json" data-n=">"'),
    # types and names
    "types in a list": ld(car(**{"@type": ["Product", "Car"]})),
    "schema: before the type": ld(car(**{"@type": "schema:Car"})),
    "schema: before all names": ld({f"schema:{name}".replace("schema:@", "@"): word for name, word in CAR.items()}),
    "another prefix": ld(
        {
            "@context": {"s": "http://schema.org/"},
            "@type": "s:Car",
            "s:brand": "Audi",
            "s:model": "A4",
            "s:vehicleModelDate": "2014",
            "s:image": "a.jpg",
        }
    ),
    "addresses as names": ld(
        {
            "@type": "http://schema.org/Car",
            "http://schema.org/brand": [{"@value": "Audi"}],
            "http://schema.org/model": [{"@value": "A4"}],
            "http://schema.org/image": ["a.jpg"],
            "http://schema.org/vehicleModelDate": 2014,
        }
    ),
    "a type of https": ld(car(**{"@type": "https://schema.org/Vehicle"})),
    "a type with a last slash": ld(car(**{"@type": "http://www.schema.org/Car/"})),
    "no context": ld(without("@context")),
    "a context of a list": ld(car(**{"@context": ["http://schema.org", {"@language": "de"}]})),
    "type without @": ld(without("@type", type="Car")),
    "a product with an additional type": ld({**PRODUCT, "additionalType": "https://schema.org/Car"}),
    "a product with a make and a model": ld(PRODUCT),
    # where the car stands
    "a list of one": ld([CAR]),
    "a graph": ld({"@context": "https://schema.org", "@graph": [{"@type": "WebPage"}, CAR]}),
    "a graph of references": ld({"@graph": _GRAPH}),
    "references between blocks": ld(*_GRAPH),
    "the page and its car under one @id": ld(
        {"@graph": [{"@type": "WebPage", "@id": "#x", "name": "page"}, car(**{"@id": "#x"})]}
    ),
    "the main entity of a page": ld({"@type": "ItemPage", "mainEntity": CAR}),
    "the item of an offer": ld({"@type": "Offer", "price": 9000, "itemOffered": without("offers")}),
    "the item of an offer without a type": ld({"@type": "Offer", "itemOffered": without("@type")}),
    "the item of a product's offer": ld(
        {
            **without("model"),
            "@type": "Product",
            "offers": {
                "@type": "Offer",
                "itemOffered": {"@type": "Car", "brand": "Audi", "model": "A4", "modelDate": "2014"},
            },
        }
    ),
    "an item of a dealer's offer": ld({"@type": "AutoDealer", "makesOffer": {"@type": "Offer", "itemOffered": CAR}}),
    "the item of a list of one": ld({"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": CAR}]}),
    # words and pictures
    "a make that is a thing": ld(car(brand={"@type": "Brand", "name": " Audi "})),
    "makes in a list": ld(car(brand=[{"@type": "Brand", "name": "Audi"}])),
    "the maker": ld(without("brand", manufacturer={"@type": "Organization", "name": "Audi"})),
    "a model that is a thing": ld(car(model={"@type": "ProductModel", "name": "A4"})),
    "values with a language": ld(car(brand={"@value": "Audi", "@language": "de"})),
    "a picture that is a thing": ld(car(image={"@type": "ImageObject", "contentUrl": "a.jpg"})),
    "pictures in a list of JSON-LD": ld(car(image={"@list": ["a.jpg"]})),
    "a picture with blanks": ld(car(image=" \n a.jpg ")),
    "an empty picture first": ld(car(image=["", None, "a.jpg"])),
    "a gallery": ld(car(image={"@type": "ImageGallery", "associatedMedia": [{"contentUrl": "a.jpg"}]})),
    # one car twice, others beside it
    "JSON-LD and microdata": ld(CAR) + MICRODATA,
    "JSON-LD and RDFa": ld(CAR) + RDFA,
    "microdata and RDFa": MICRODATA + RDFA,
    "a car and a product": ld(CAR, {**PRODUCT, "model": "A4 2.0 TDI"}),
    "the same block twice": ld(CAR, CAR),
    "similar cars by property": ld(car(isSimilarTo=[similar(1), similar(2)])),
    "similar cars in a list": ld({"@type": "ItemList", "itemListElement": [similar(1), similar(2)]}, CAR),
    "similar cars with addresses": ld(CAR, similar(1), similar(2)),
    "similar cars that the page links to": ld(car(url=URL), similar(1)) + '<a href="/c/1">BMW</a>',
    "similar cars, and a title": "<title>Audi A4 Avant | cars</title>"
    + ld(CAR, car(name="BMW 3", brand="BMW", model="3")),
    "similar cars in microdata": ld(CAR)
    + MICRODATA.replace("Audi", "BMW")
    .replace("A4", "X5")
    .replace('"name"', '"url" content="/c/9"><span itemprop="name"'),
    "similar cars of its model in microdata": ld(CAR)
    + "".join(
        f'<div itemscope itemtype="http://schema.org/Car"><a itemprop="url" href="/c/{n}">x</a><span itemprop="brand">'
        f'Audi</span><span itemprop="model">A4</span><img itemprop="image" src="{n}.jpg"></div>'
        for n in range(2)
    ),
    "similar cars by reference": ld(
        {
            "@graph": [
                car(**{"@id": "#2", "brand": "BMW", "model": "X5"}),
                car(**{"@id": "#1", "isSimilarTo": [{"@id": "#2"}]}),
            ]
        }
    ),
    "similar cars that hold one more": ld(car(isRelatedTo=car(model="A6", isSimilarTo=similar(1)))),
    # other syntaxes
    "microdata": MICRODATA,
    "microdata of http": MICRODATA.replace("https:", "http:"),
    "microdata that is not closed": MICRODATA.replace("</div>", ""),
    "RDFa": RDFA,
    "RDFa with a prefix": RDFA.replace(
        'vocab="https://schema.org/" typeof="', 'prefix="s: http://schema.org/" typeof="s:'
    ).replace('property="', 'property="s:'),
    "a page in capitals": MICRODATA.replace("div", "DIV").replace("itemprop", "ITEMPROP"),
    "a base address": '<base href="/a/">' + ld(CAR),
}
"""Pages that say: an Audi A4 of 2014, with a picture, by what is peculiar to them."""

OPEN_GRAPH = (
    '<meta property="og:type" content="product"><meta property="og:title" content="Audi A4 2014">'
    '<meta property="og:image" content="a.jpg"><meta property="og:description" content="one owner">'
    '<meta property="product:price:amount" content="9000"><meta property="product:price:currency" content="EUR">'
)

NO_AD: dict[str, str] = {
    "an article": OPEN_GRAPH.replace("product", "article"),
    "a cap with a badge": ld({"@type": "Product", "brand": "Audi", "name": "a cap", "image": "c.jpg"}),
    "a dealer": ld({"@type": "AutoDealer", "name": "dealer", "image": "d.jpg"}),
    "two cars without addresses": ld(CAR, car(model="A6")),
    "cars that the page links to": ld(similar(1), similar(2)) + '<a href="/c/1">1</a><a href="/c/2">2</a>',
    "a list of cars": ld(
        {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": similar(n)} for n in range(3)]}
    ),
    "a list of one car that stands elsewhere": ld({"@type": "ItemList", "itemListElement": [similar(1)]})
    + '<a href="/c/1">1</a>',
    "variants of a product": ld({"@type": "ProductGroup", "hasVariant": [similar(1), similar(2)]}),
    "cars in microdata": MICRODATA + MICRODATA.replace("A4", "A6"),
    "nothing": "<p>no cars here</p>",
}
"""Pages that sell no car, or several."""
