"""The items of a catalogue by name and category, and what a question asks of them.

A question is read in four steps, all on folded text (``fold``: lower case, no accents):

1. Names: item names, parts of names and item numbers are exact keys of ``Catalogue.aliases``.
2. Bounds of a number with its unit, as ``_BOUND`` reads them: "under $40", "at least 1.5 l". The unit decides
   which property is bounded.
3. Properties that the question names as the catalogue names them: "noise level".
4. All other words with content are returned as ``unread``, so that an answer can say what it did not check.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Literal, NamedTuple

from assistant.domain.documents import ItemFacts, KnownItem, StoredDocument
from assistant.text.caches import remember_texts
from assistant.text.language import UNIT_SIZES, Language, fold, longest_names, word_file, word_groups

PRICE, RATING = "Price", "Rating"
MOST_NAMED = 5
"""Items that one question may name, and that one part of a name may be shared by."""
_NAME_MARK = "\N{ASTERISM}"
"""In place of an item's name: no letter, so that no word or bound reaches over it."""
_LEAST_WORDS_OF_PART = 2
"""Words of a part of a name that names an item: "rivulet 400", not "rivulet"."""
_MOST_UNREAD = 8
_TEXTS_KEPT = 500
"""Messages and titles whose named items are known: a message is asked for several times on its way."""
_EXCLUDED_BOUND = 1e-6
"""Added to what is missed, so that an item at a bound misses it where the bound itself is excluded."""
_PIECE = re.compile(r"[^\W_]+")
"""A word of a name: "Wi-Fi" has two."""
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
"""A word of a sentence: "wi-fi" and "don't" are one each."""
_CLAUSE_END = re.compile(r"[.,;:?!\n]")
_NEGATIONS = word_groups("en_marks")["negation"]

# --- numbers with units -----------------------------------------------------------------------------------
_CURRENCIES = {
    code.casefold(): frozenset(names.split(", "))
    for code, _, names in (line.partition(": ") for line in word_file("en_currencies"))
}
"""Folded ISO code = folded names and signs, in the singular: "usd" = {"$", "dollar", …}. A name may be of
several currencies."""
_MONEY = frozenset[str]().union(*_CURRENCIES.values())
_MINUS = "-\N{MINUS SIGN}\N{EN DASH}"
_NUMBER = rf"[{_MINUS}+]?\d(?:[\d,]{{0,11}}\d)?(?:\.\d{{1,4}})?"
"""A number as it is written: "40", "1,200", "-4.5"."""
_TO = "(?:[-\N{EN DASH}]|to\\b)"
_VALUE = re.compile(rf"[±~]?\s?({_NUMBER})(?:\s?{_TO}\s?({_NUMBER}))?(?:\s?([^\s\d,;][^\d(;]{{0,24}}))?")
"""The value of a property: number, end of a range, unit. "17 to 22 cm" is ("17", "22", "cm")."""
_DECIMAL_COMMA = re.compile(r"\d{1,12},\d{1,2}")


def _any_of(names: Sequence[str] | frozenset[str]) -> str:
    """Return a pattern of the names, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))


_UNIT = rf"(?:{_any_of(_MONEY | UNIT_SIZES.keys())})s?(?![^\W_])|°\w?|[^\W\d_]+"
_CURRENCY = rf"(?:{_any_of(_MONEY)})\s?"
_AT_MOST = (
    r"(?P<most>(?P<under>under|below|less than|fewer than)|at most|up to|(?:no|not) more than|not over)"
)
_AT_LEAST = r"(?P<least>(?P<over>over|above|more than)|at least|(?:no|not) (?:less|fewer) than|not under)"
_BOUND = re.compile(
    rf"\b(?:{_AT_MOST}|{_AT_LEAST}|(?:between|from))\s(?:an?\s)?(?P<currency>{_CURRENCY})?(?P<number>{_NUMBER})"
    rf"(?:\s?(?:{_TO}|and\b)\s?(?:{_CURRENCY})?(?P<to>{_NUMBER}))?"
    rf"(?(currency)|(?:\s?-?\s?(?P<unit>{_UNIT}))?)"
)
"""A bound in a folded question. Its groups, by example:

- "under $40": ``most`` and ``under`` are "under", ``currency`` "$", ``number`` "40"
- "at least 1.5 l": ``least`` is "at least", ``number`` "1.5", ``unit`` "l"
- "between $20 and $60": ``currency`` "$", ``number`` "20", ``to`` "60", and neither ``most`` nor ``least``

``under`` and ``over`` exclude the number itself. A currency before the number is its unit: the word after it
is another ("a $40 kettle").
"""


class Span(NamedTuple):
    """A value, or both ends of a range."""

    low: float
    high: float
    unit: str
    """What it is counted in ("g" of "2 kg", "reading" of "60 readings", "usd"); empty for a bare number."""


def span_of(text: str) -> Span | None:
    """Return the value of a property; None for text that is no number with a unit.

    "4.5 L" is Span(4500.0, 4500.0, "ml"), "17 to 22 cm" a range, "2" a bare number.
    """
    value = _VALUE.fullmatch(text.casefold().strip())
    if value is None:
        return None
    number, to, written_unit = value.groups()
    unit, size = _counted_in(fold(written_unit or "").strip())
    low = _number(number) * size
    return Span(low, _number(to) * size if to else low, unit)


def value_of(facts: ItemFacts, name: str) -> Span | None:
    """Return the number of a property, price and rating among them; None without one."""
    if name == PRICE and facts.price is not None:
        return Span(float(facts.price), float(facts.price), (facts.currency or "").casefold())
    if name == RATING and facts.rating is not None:
        return Span(facts.rating, facts.rating, "star")
    return span_of(facts.properties.get(name, ""))


def _counted_in(unit: str) -> tuple[str, float]:
    """Return what a folded unit is counted in, and how many of these it is: "kg" is ("g", 1000.0).

    An unknown unit is counted in its own singular: "readings" is ("reading", 1.0).
    """
    return UNIT_SIZES.get(unit, (unit.removesuffix("s"), 1.0))


def _number(written: str) -> float:
    """Return a number that ``_NUMBER`` matched: "1,200" is 1200.0, "1,5" is 1.5."""
    digits = written.lstrip(f"{_MINUS}+")
    value = float(digits.replace(",", "." if _DECIMAL_COMMA.fullmatch(digits) else ""))
    return -value if written[0] in _MINUS else value


# --- what a question asks ---------------------------------------------------------------------------------
class Bound(NamedTuple):
    """What a number of an item must be.

    Example::

        bound = Bound("Price", "under $80", least=-inf, most=80.0, unit="usd", is_strict=True)
        bound.missed_by(facts)  # 0.0 for $70; 0.000001 for $80; 0.250001 for $100; 1.0 for €70
    """

    name: str
    """Property, PRICE or RATING."""
    text: str
    """In the question's words, folded: "under $80"."""
    least: float
    most: float
    """In ``unit``; infinite where there is no such end."""
    unit: str
    is_strict: bool
    """Whether the bound itself is excluded."""

    def missed_by(self, facts: ItemFacts) -> float:
        """Return by what share of the bound an item misses it: 0 where it is met, 1 where its document is
        silent or has another unit or currency."""
        span = value_of(facts, self.name)
        if span is None or span.unit != self.unit:
            return 1.0
        below, above = self.least - span.high, span.low - self.most
        distance, bound = (below, self.least) if below > above else (above, self.most)
        if distance < 0 or (distance == 0 and not self.is_strict):
            return 0.0
        return distance / (abs(bound) or 1.0) + _EXCLUDED_BOUND


@dataclass(frozen=True, slots=True)
class ItemQuestion:
    """A question that a table of items answers, or customers' opinions on one item.

    ``Catalogue.read`` makes comparisons and recommendations, ``tables.py`` makes opinions. Examples:

    - "rivulet 400 vs rivulet 500": a comparison of these two ``items``
    - "a quiet humidifier under $80": a recommendation, ``bounds`` on Price, "quiet" ``unread``
    """

    kind: Literal["comparison", "recommendation", "opinion"]
    items: tuple[KnownItem, ...]
    """Those that it names; none of a recommendation."""
    category: str
    bounds: tuple[Bound, ...] = ()
    names: tuple[str, ...] = ()
    """Properties that it names, price and rating among them."""
    unread: tuple[str, ...] = ()
    """Its words that nothing was chosen by."""


@dataclass(frozen=True, slots=True)
class NamedItems:
    """The items that a question names, and the rest of it: the ``Named`` of ``assistant/answer/offers.py``.

    Example: of "HU-1011: night light?" ``rest`` is " : night light?", ``pronouns`` "it : night light?".
    """

    items: tuple[KnownItem, ...]
    rest: str
    """The folded question without their names."""
    pronouns: str
    """The folded question with "it" for each name."""
    catalogue: Catalogue
    """Reads the items that titles name."""

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(item.facts.item_id for item in self.items)

    @property
    def document_ids(self) -> tuple[str, ...]:
        return tuple(item.document_id for item in self.items)

    def are_subject_of(self, document: StoredDocument) -> bool:
        """Return whether a document describes one of these items, and its title names no other."""
        item = document.card.item
        if item is None or item.item_id not in self.ids:
            return False
        titled = self.catalogue.named(document.card.title)
        return titled is None or titled.ids <= self.ids


@dataclass(frozen=True)
class Category:
    """What the items of a category have."""

    name: str
    stems: frozenset[str]
    head: str
    """Stem of its last word: "kettle" of "Electric kettles"."""
    names: Mapping[str, frozenset[str]]
    """Stems of the name, by property; price and rating are properties too."""
    ranges: Mapping[str, Span]
    """The least and the greatest value of each property with numbers, in the unit that most items have."""

    @classmethod
    def of(cls, name: str, items: Sequence[KnownItem], words: Language) -> Category:
        keys = dict.fromkeys((PRICE, RATING, *(key for item in items for key in item.facts.properties)))
        words_of_name, ranges = _pieces(name), dict[str, Span]()
        for key in keys:
            spans = [span for item in items if (span := value_of(item.facts, key)) is not None]
            if spans:
                unit = Counter(span.unit for span in spans).most_common(1)[0][0]
                same_unit = [span for span in spans if span.unit == unit]
                highest = max(span.high for span in same_unit)
                ranges[key] = Span(min(span.low for span in same_unit), highest, unit)
        return cls(
            name=name,
            stems=words.content_stems(name),
            head=words.stem(words_of_name[-1]) if words_of_name else "",
            names={key: words.content_stems(key) for key in keys},
            ranges=ranges,
        )

    def named_in(self, stems: frozenset[str]) -> tuple[str, ...]:
        """Return the properties that a text of these stems names.

        A name inside a longer one does not count: "clean air rate" names that property, and not "rating".
        """
        whole = {name: of_name for name, of_name in self.names.items() if of_name and of_name <= stems}
        return tuple(
            name for name, of_name in whole.items() if not any(of_name < other for other in whole.values())
        )


# --- catalogues -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Catalogue:
    """The items of a tenant, and the reading of questions about them.

    Example::

        catalogue = Catalogue.of(known.items, language("en"))
        catalogue.named("HU-1011: night light?").ids  # {"HU-1011"}
        asked = catalogue.read("a quiet humidifier under $80", meanings={})
        (asked.kind, asked.category)  # ("recommendation", "Humidifiers")
        asked.bounds[0]  # Bound("Price", "under $80", -inf, 80.0, "usd", is_strict=True)
        asked.unread  # ("quiet",)
    """

    words: Language
    categories: Mapping[str, Category]
    aliases: Mapping[str, tuple[KnownItem, ...]]
    """Items by ``_aliases_of``."""
    longest_alias: int
    """Words of the longest alias."""

    @classmethod
    def of(cls, items: Sequence[KnownItem], words: Language) -> Catalogue:
        by_category: dict[str, list[KnownItem]] = defaultdict(list)
        for item in items:
            by_category[item.facts.category].append(item)
        aliases = _aliases_of(items)
        categories = {name: Category.of(name, members, words) for name, members in by_category.items()}
        longest = max((len(alias.split()) for alias in aliases), default=0)
        return cls(words, categories, aliases, longest)

    def read(self, question: str, *, meanings: Mapping[str, str]) -> ItemQuestion | None:
        """Return the table that a question asks for: a comparison of the items that it names, or a
        recommendation from a category under a bound; None for any other question.

        ``meanings``: words of the glossary that the question says, and what documents call them.
        """
        items, rest = self._split(question)
        stems = self.words.content_stems(" ".join((rest, *meanings.values())))
        if items and (rest.count(_NAME_MARK) < 2 or not 1 < len(items) <= MOST_NAMED):
            return None  # one name that several items share compares nothing
        of_items = {item.facts.category for item in items}
        categories = [self.categories[name] for name in of_items] or self.categories_in(stems)
        bounded = [(category, self._bounds(rest, category, stems)) for category in categories]
        readings = [(category, bounds) for category, bounds in bounded if items or bounds]
        if len(readings) != 1:
            return None  # "a monitor under $80": of babies or of blood pressure?
        [(category, bounds)] = readings
        names = category.named_in(stems)
        # Of a recommendation, a property without a number is a wish that nothing is chosen by.
        chosen_by = [name for name in names if items or name in category.ranges]
        chosen_by += [bound.name for bound in bounds]
        return ItemQuestion(
            "comparison" if items else "recommendation",
            items,
            category.name,
            bounds=tuple(bounds),
            names=names,
            unread=self._unread(rest, bounds, self._stems_of(category, chosen_by, meanings)),
        )

    def named(self, question: str) -> NamedItems | None:
        """Return the items that a question is about; None where it names none, or too many to know."""
        return self._remembered_names(question)

    @cached_property
    def _remembered_names(self) -> Callable[[str], NamedItems | None]:
        """``_read_names``, which keeps what it returned for the last texts."""
        return remember_texts(_TEXTS_KEPT)(self._read_names)

    def _read_names(self, question: str) -> NamedItems | None:
        items, rest = self._split(question)
        if not 0 < len(items) <= MOST_NAMED:
            return None
        pronouns = " ".join(rest.replace(_NAME_MARK, " it ").split())
        return NamedItems(items, rest.replace(_NAME_MARK, " "), pronouns, self)

    def categories_in(self, stems: frozenset[str]) -> list[Category]:
        """Return the categories that a text of these stems names.

        The longest whose whole name is there ("electric kettles"), or all that end in its word ("kettles").
        """
        categories = self.categories.values()
        whole = [category for category in categories if category.stems and category.stems <= stems]
        if whole:
            return [max(whole, key=lambda category: len(category.stems))]
        by_head = [category for category in categories if category.head in stems]
        return [kind for kind in by_head if not any(other.stems < kind.stems for other in by_head)]

    def _split(self, question: str) -> tuple[tuple[KnownItem, ...], str]:
        """Return the items that a question names, in its order, and the folded question with a mark in place
        of each name: "Is HU-1011 quiet?" gives HU-1011 and "is ⁂ quiet?"."""
        folded = fold(question)
        words = list(_PIECE.finditer(folded))
        spelled = [word[0] for word in words]
        by_id: dict[str, KnownItem] = {}
        rest, end = "", 0
        for alias, first, last in longest_names(spelled, self.aliases, longest=self.longest_alias):
            sharing = self.aliases[alias]
            category = Counter(item.facts.category for item in sharing).most_common(1)[0][0]
            by_id |= {item.document_id: item for item in sharing if item.facts.category == category}
            rest += folded[end : words[first].start()] + _NAME_MARK
            end = words[last].end()
        return tuple(by_id.values()), rest + folded[end:]

    def _bounds(self, rest: str, category: Category, stems: frozenset[str]) -> list[Bound]:
        read = (self._bound(match, category, stems) for match in _BOUND.finditer(rest))
        return [bound for bound in read if bound is not None]

    def _bound(self, match: re.Match[str], category: Category, stems: frozenset[str]) -> Bound | None:
        """Return a match of ``_BOUND`` as a bound of a property of the category; None where it is none."""
        clause = _CLAUSE_END.split(match.string[: match.start()])[-1]
        if _NEGATIONS.intersection(_TOKEN.findall(clause)):
            return None  # "it must not cost over $80"
        if match["to"] is None and not (match["most"] or match["least"]):
            return None  # "from $20"
        first = _number(match["number"])
        second = first if match["to"] is None else _number(match["to"])
        written_unit = (match["currency"] or match["unit"] or "").strip()
        unit, size = _counted_in(written_unit)
        name = self._property_of(first * size, written_unit, unit, category, stems)
        if name is None:
            return None
        return Bound(
            name,
            match[0],
            least=-inf if match["most"] else min(first, second) * size,
            most=inf if match["least"] else max(first, second) * size,
            unit=category.ranges[name].unit,
            is_strict=bool(match["under"] or match["over"]),
        )

    def _property_of(
        self, amount: float, written_unit: str, unit: str, category: Category, stems: frozenset[str]
    ) -> str | None:
        """Return the property that an amount is of, by its unit; None where that is not clear.

        ``written_unit``: as in the question, "kilos"; ``unit``: what it is counted in, "g". A count has no
        unit in the catalogue, and its property's name says what is counted: "60 readings". Of several
        properties with the unit it is the one that the question names, or the only one that has values
        around the amount.
        """
        stem = self.words.stem(written_unit)
        having = [
            name
            for name, span in category.ranges.items()
            if (name == PRICE and _is_money(written_unit, span.unit))
            or (name != PRICE and unit and span.unit == unit)
            or (not span.unit and stem in category.names[name])
        ]
        named = [name for name in having if category.names[name] <= stems]
        around = [
            name for name in having if category.ranges[name].low <= amount <= category.ranges[name].high
        ]
        return next((fitting[0] for fitting in (named, having, around) if len(fitting) == 1), None)

    def _unread(self, rest: str, bounds: Sequence[Bound], read: Collection[str]) -> tuple[str, ...]:
        """Return what of the question the table was not chosen by, folded.

        These are bounds of no property, and words with content: those whose stems are not ``read``, and
        those after a negation, with it ("not steel"), for nothing is chosen by what is denied.
        """
        chosen_by = [bound.text for bound in bounds]
        unread = [match[0] for match in _BOUND.finditer(rest) if match[0] not in chosen_by]
        negation = ""
        for word in _TOKEN.findall(_BOUND.sub(_NAME_MARK, rest)):
            stems = self.words.content_stems(word)
            if word in _NEGATIONS:
                negation = word
            elif stems and (negation or not stems.issubset(read)):
                unread.append(f"{negation} {word}".lstrip())
                negation = ""
        if negation:
            unread.append(negation)
        return tuple(dict.fromkeys(unread))[:_MOST_UNREAD]

    def _stems_of(
        self, category: Category, names: Sequence[str], meanings: Mapping[str, str]
    ) -> frozenset[str]:
        """Return the stems of the words that name the category or one of these properties, those of the
        glossary too."""
        stems = category.stems.union(*(category.names[name] for name in names))
        words = (word for word, meaning in meanings.items() if self.words.content_stems(meaning) & stems)
        return stems.union(*map(self.words.content_stems, words))


def _is_money(written_unit: str, currency: str) -> bool:
    """Return whether a folded unit names a currency, by its code; any currency where the code is empty."""
    names = _CURRENCIES.get(currency, frozenset({currency})) if currency else _MONEY
    return bool(names & {written_unit, written_unit.removesuffix("s")})


def _aliases_of(items: Sequence[KnownItem]) -> dict[str, tuple[KnownItem, ...]]:
    """Return the items by each text that names them: folded words, joined by spaces.

    "Brightmoor Rivulet 400", HU-1010, has the aliases "brightmoor rivulet 400", "hu 1010", and the parts
    "brightmoor rivulet" and "rivulet 400". A part may name several items; one that more than MOST_NAMED share
    names none. A whole name or number comes before a part of another name.
    """
    parts: dict[str, dict[str, KnownItem]] = defaultdict(dict)
    whole: dict[str, tuple[KnownItem, ...]] = {}
    for item in items:
        words = _pieces(item.title)
        whole.setdefault(" ".join(words), (item,))
        whole.setdefault(" ".join(_pieces(item.facts.item_id)), (item,))
        for start in range(len(words)):
            for end in range(start + _LEAST_WORDS_OF_PART, len(words) + 1):
                parts[" ".join(words[start:end])][item.document_id] = item
    known_parts = {alias: tuple(by_id.values()) for alias, by_id in parts.items() if len(by_id) <= MOST_NAMED}
    return known_parts | whole


def _pieces(text: str) -> list[str]:
    """Return the words of a text, folded; "Wi-Fi" has two."""
    return _PIECE.findall(fold(text))
