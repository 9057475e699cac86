"""Turn sellers' words into taxa, each with a score, how it was found, and who said so.

The order is: what a person decided, the known name, another spelling, an engine designation ("320d"), a name that the
words begin with, sound like or hold, a name that they nearly are; a code of a type ("W205"); a model that is not known
stays as the seller wrote it. Make and model are read first, then the title, then the description. The same words always
give the same answer, whatever the order of rows. It opens no catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from carspotter.catalog.tables import OK
from carspotter.labels.corrections import Corrections, Words, words_of
from carspotter.labels.described import cars_in, is_of_another, own_words
from carspotter.labels.generations import makes_of, of_make
from carspotter.labels.known import Known, Make
from carspotter.labels.make_words import MakeWords
from carspotter.labels.models import Match, Models, NearMiss
from carspotter.labels.resolution import ADVICE, DOUBTED, FROM_CODE, checked, is_foreign, unhyphened, without
from carspotter.labels.resolution import UNRESOLVED as UNRESOLVED
from carspotter.labels.resolution import Resolution as Resolution
from carspotter.labels.spellings import parted
from carspotter.labels.words import lookalike, tokens
from carspotter.taxonomy import Taxon

OFTEN = 20
"""Ads from which on an unknown model of a known make is a name: some 8 photos each make a class of 150."""
MOST_ANSWERS = 100_000
"""Wordings whose answers are held at a time, of some 3 KB each: a service asks for years."""

_SIGNS = "[€$£¥₽₴₺₹]"
# A number in front of one of these is a volume, a weight, a mileage or a price. Between two numbers the latter belong
# to the second where that is long enough: "2012 km 150000", "2014 €5000"; and "Euro 5" is no price.
_UNITS = r"(?:ccm|cm[23²³]?|cc|cui|kg|см[23²³]?|куб\w*|кг)(?!\w)"
_COUNTS = (
    rf"(?:(?:km|км|miles?|eur|euros?(?!\W?(?:[1-7]|iv|vi?)\b)|usd|chf|pln|zł|zl|kč|kc|czk|ft|huf|lei|ron|kr|sek|nok|dkk|"
    rf"руб\w*|грн)(?!\w)|{_SIGNS}(?!\d))(?!\W?\s?(?:0\b|\d{{4}}|\d{{1,3}}[ .,']\d{{3}}))"
)
_YEAR = re.compile(rf"(?<!\d)(?:19[5-9]\d|20[0-4]\d)(?!\d)(?!\s*(?:{_UNITS}|{_COUNTS}))", re.IGNORECASE)
_PRICED = re.compile(rf"(?:^|[^\d\s])\s?{_SIGNS}\s*$")  # "€ 1950"; in "5000 € 2014" the sign is of the first
# Scores rank how much was assumed; they are no probabilities.
_FROM_TITLE = 0.9
_FROM_DESCRIPTION = 0.7
_FROM_MODEL_ALONE = 0.8


class Resolver:
    """Resolve words by known names and by what people corrected; a wording that is held is not worked out again."""

    def __init__(
        self,
        known: Known | None = None,
        *,
        corrections: Corrections | None = None,
        seen: Mapping[tuple[str | None, str | None], int] | None = None,
    ) -> None:
        """Take known names (the bundled ones by default); `seen` counts the ads of each (make, model) as written.

        A model that is written in at least `OFTEN` ads of a known make is a name too, which mistyped ones are near to.
        """
        self._known = known or Known.bundled()
        self._corrections = corrections or Corrections()
        # Makes that a person named are known from the first row on, or labels would depend on the order of rows.
        fresh = [taxon for taxon in self._corrections.taxa.values() if self._known.make_of(tokens(taxon.make)) is None]
        self._known.add(taxon.up_to("model") for taxon in fresh)
        self._models = {name: Models(make) for name, make in self._known.makes.items()}
        self._makes = MakeWords(self._known)
        self._answers: dict[tuple[str | None, ...], Resolution] = {}
        if seen:
            self._learn(seen)

    def resolve(
        self,
        make: str | None = None,
        model: str | None = None,
        submodel: str | None = None,
        *,
        year: int | None = None,
        title: str | None = None,
        description: str | None = None,
    ) -> Resolution:
        """Return the taxon that words name; title and description are asked only for what the others do not say."""
        words = words_of({"make": make, "model": model, "submodel": submodel, "title": title})
        found = self._answer(words)
        if words[1] == title and not any((make, model, submodel)) and found.said_by != "person":
            found = self._from_title(found, title or "")
        elif found.status != OK and title:
            found = self._with_title(words, title, found)
        if found.status != OK and description:
            found = self._with_description(description, found)
        for text in (title, description):
            found = self._typed(found, text)
        if year is None and title:
            year = _year(title, found.model)
        return self._dated(found, year)

    def _typed(self, found: Resolution, text: str | None) -> Resolution:
        """Return what was found with the type that a text names of it, where its own words named none."""
        if not text or found.status != OK or found.generation or found.said_by == "person" or found.model is None:
            return found
        make = self._known.makes[found.make or ""]
        table = of_make(make.name)
        code = table.of(found.model, parted(own_words(text), make.models, table), make.models)
        if code is not None:
            return replace(found, generation=code.type)
        return found

    def _dated(self, found: Resolution, year: int | None) -> Resolution:
        if found.model is None or (year is None and found.year is None):
            return found
        when = found.year or year
        own = self._known.makes[found.make or ""].generation(found.model, when)  # as a taxonomy spells it
        generation = found.generation if found.said_by == "person" else own or found.generation
        return replace(found, year=when, generation=generation)

    def _answer(self, words: Words) -> Resolution:
        return self._once(words, lambda: self._work_out(words))

    def _once(self, place: tuple[str | None, ...], work: Callable[[], Resolution]) -> Resolution:
        """Return the answer to words, worked out where it is not held; those held are dropped when they are many."""
        answer = self._answers.get(place)
        if answer is None:
            answer = work()
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            self._answers[place] = answer
        return answer

    def _work_out(self, words: Words) -> Resolution:
        corrected = self._corrections.find(words)
        if corrected is not None:
            return self._by_person(corrected)
        answers = [self._read(words)]
        if any(lookalike(word) for word in words):
            looks = tuple(lookalike(word) or word for word in words)
            # First, so that it wins where both fit: "С-класс" is typed for a C, and only said like an S.
            answers.insert(0, self._read((looks[0], looks[1], looks[2])))
        return max(answers, key=lambda answer: (answer.status == OK, answer.score))

    def _by_person(self, taxon: Taxon) -> Resolution:
        make = self._known.make_of(tokens(taxon.make)) or self._known.makes[taxon.make]
        listed, model = make.spelled(taxon.model or "")
        code = of_make(make.name).spelled(listed, taxon.generation or "", make.models)
        return Resolution(
            make=make.name,
            model=model,
            generation=code.type if code else taxon.generation,
            year=taxon.year,
            score=1.0,
            method="person",
            said_by="person",
        )

    def _read(self, words: Words) -> Resolution:
        make_words, model_words, more = (tokens(word) for word in words)
        found = self._makes.find(make_words, model_words)
        if found is not None:
            make, rest, sureness = found
            return unhyphened(self._of_make(make, rest, more, sureness), words)
        if not make_words and (alone := self._makes.by_model(model_words or more)):
            return self._of_make(alone, model_words or more, more if model_words else (), _FROM_MODEL_ALONE)
        if not make_words and (coded := self._by_code((*model_words, *more))):
            return self._of_make(coded, (*model_words, *more), (), _FROM_MODEL_ALONE)
        said = " ".join(word for word in words if word)
        if not said:
            return Resolution(status=UNRESOLVED, message="neither make nor model is given, nor a title")
        near = self._makes.near(make_words or model_words)
        return Resolution(status=UNRESOLVED, message=f"no known make in {said!r}; {_guesses(near)}{ADVICE}")

    def _by_code(self, words: tuple[str, ...]) -> Make | None:
        """Return the only make that has a code in the words."""
        owners = set().union(*makes_of(words).values())
        return self._known.makes[owners.pop()] if len(owners) == 1 else None

    def _of_make(self, make: Make, words: tuple[str, ...], more: tuple[str, ...], sureness: float) -> Resolution:
        models = self._models_of(make)
        every = parted((*words, *more), make.models, of_make(make.name))
        codes = of_make(make.name).find(every)
        sureness = min(sureness, DOUBTED) if is_foreign(every, make) else sureness
        hit = self._hit(models, *without(codes, words, more, make))
        if isinstance(hit, Match):
            return checked(make, hit, every, codes, sureness=sureness)
        owners = {code.model for found in codes for code in found.codes if code.alone}
        if len(owners) == 1:
            model = owners.pop()
            code = of_make(make.name).of(model, every, make.models)
            return Resolution(
                make=make.name,
                model=model,
                generation=code.type if code else None,
                score=round(FROM_CODE * sureness, 4),
                method="code",
            )
        if not (words or more):
            return Resolution(make=make.name, status=UNRESOLVED, message=f"{make.name} without a model; {ADVICE}")
        said = " ".join(words or more)
        near = [f"{other} {model}" for other, model in self._makes.models(words or more) if other != make.name]
        start = self._known.starts_with_make(words or more)
        near += [start[0].name] if start is not None and start[0] is not make else []
        coded = [f"{code.model} {code.type}" for found in codes for code in found.codes]
        if hit.name is None or near or coded or of_make(make.name).is_half((words or more)[0]):
            guesses = _guesses(coded + near + [f"{name} ({score:.2f})" for name, score in hit.guesses])
            return Resolution(
                make=make.name,
                status=UNRESOLVED,
                message=f"no known model of {make.name} in {said!r}; {guesses}{ADVICE}",
            )
        return Resolution(make=make.name, model=hit.name, score=round(hit.score * sureness, 4), method="seller")

    def _models_of(self, make: Make) -> Models:
        return self._models[make.name]

    def _hit(self, models: Models, words: tuple[str, ...], more: tuple[str, ...]) -> Match | NearMiss:
        found = models.find(words or more, more if words else ())
        if words and more and not isinstance(found, Match):
            joined = models.find((*words, *more), ())  # "3" and "серия" are one name that fell into two columns
            found = joined if isinstance(joined, Match) else found
        return found

    def _with_description(self, description: str, found: Resolution) -> Resolution:
        """Return the one car that a description names as its own, or what was found."""
        cars = cars_in(description, self._known, self._models_of, make=found.make)
        if len(cars) != 1:
            said = f"; the description names {', '.join(sorted(f'{a} {b}' for a, b in cars))}" if cars else ""
            return replace(found, message=f"{found.message}{said}")
        make, model = cars.pop()
        return Resolution(make=make, model=model, score=_FROM_DESCRIPTION, method="description")

    def _with_title(self, words: Words, title: str, found: Resolution) -> Resolution:
        def work() -> Resolution:
            answer = self._work_out((found.make or words[0], title, None))
            # A whole title always holds some words; only known names in it count.
            is_known = answer.status == OK and answer.method not in ("seller", "sound", "fuzzy")
            return self._from_title(answer, title) if is_known or answer.said_by == "person" else found

        return self._once((*words, title), work)

    def _from_title(self, found: Resolution, title: str) -> Resolution:
        """Return what a title says, with less trust than a column has; a part of a car is no car."""
        if found.status != OK or found.said_by == "person":
            return found
        if is_of_another(title, self._known):
            message = f"{title!r} offers or seeks something of {found.make} {found.model}; {ADVICE}"
            return Resolution(status=UNRESOLVED, message=message)
        # Where the title tells of another car or a part too, `_typed` reads the type from its own words alone.
        generation = found.generation if own_words(title) == tokens(title) else None
        return replace(found, generation=generation, score=round(found.score * _FROM_TITLE, 4), method="title")

    def _learn(self, seen: Mapping[tuple[str | None, str | None], int]) -> None:
        """Take up names that many sellers write, the most frequent spelling first."""
        ads: dict[tuple[str, tuple[str, ...]], int] = {}
        for (make_word, model_word), count in seen.items():
            found = self._makes.find(tokens(make_word), tokens(model_word))
            if found is not None and found[1]:
                place = found[0].name, found[1]
                ads[place] = ads.get(place, 0) + count
        often = [(make, words) for (make, words), count in sorted(ads.items()) if count >= OFTEN]
        for make, words in often:
            models = self._models_of(self._known.makes[make])
            if not isinstance(models.find(words, ()), Match):
                models.learn(words)
        self._answers.clear()


def label_rows(
    listings: Iterable[Mapping[str, Any]], resolver: Resolver, *, curated: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield a row of table `labels` for each listing; of `curated` sources the source itself says the label."""
    for listing in listings:
        found = resolver.resolve(
            listing.get("make"),
            listing.get("model"),
            listing.get("submodel"),
            year=listing.get("year"),
            title=listing.get("title"),
            description=listing.get("description"),
        )
        said_by = "source" if found.said_by == "seller" and listing.get("source") in curated else found.said_by
        row = {
            "ad_id": listing["ad_id"],
            "make": found.make,
            "model": found.model,
            "generation": found.generation,
            "year": found.year if found.model else None,
            "name": found.name,
            "score": found.score,
            "method": found.method,
            "said_by": said_by,
            "status": found.status,
            "message": found.message,
        }
        yield {name: value for name, value in row.items() if value is not None}


def _year(title: str, model: str | None) -> int | None:
    """Return the one year that a title names, or None; a Peugeot 2008 is no year, and 1968 ccm are none."""
    found = {year[0] for year in _YEAR.finditer(title) if not _PRICED.search(title[: year.start()])}
    years = found - {model}
    return int(years.pop()) if len(years) == 1 else None


def _guesses(near: Iterable[str]) -> str:
    names = list(dict.fromkeys(near))[:3]
    return f"near are {', '.join(names)}; " if names else ""
