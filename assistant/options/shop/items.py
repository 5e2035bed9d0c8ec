"""The items of a catalogue by name and category, and what a question asks of them.

Names and item numbers are exact keys. Beside them a question names properties as the catalogue names them,
and bounds a price or a number ("under $40", "at least 1.5 l"). Nothing else is read: it is kept as not
checked.
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
_HERE = "\N{ASTERISM}"
"""In place of an item's name."""
_LEAST_OF_NAME = 2
"""Words of a part of a name that names an item."""
_MOST_UNREAD = 8
_TEXTS_KEPT = 500
"""Messages and titles whose named items are known: a message is asked for several times on its way."""
_TOUCH = 1e-6
"""Added to what is missed, so that a bound that is only touched counts as missed where it is excluded."""
_PIECE = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_CLAUSE_END = re.compile(r"[.,;:?!\n]")
_NEGATIONS = word_groups("en_marks")["negation"]

# --- numbers with units -----------------------------------------------------------------------------------
_CURRENCIES = {
    code.casefold(): frozenset(names.split(", "))
    for code, _, names in (line.partition(": ") for line in word_file("en_currencies"))
}
"""Folded ISO code = folded names, in the singular; a name may be of several currencies."""
_MONEY = frozenset[str]().union(*_CURRENCIES.values())
_SIGNS = "-+\N{MINUS SIGN}\N{EN DASH}"
_SIGNED = rf"[{_SIGNS}]?\d(?:[\d,]{{0,11}}\d)?(?:\.\d{{1,4}})?"
_TO = "(?:[-\N{EN DASH}]|to\\b)"
_VALUE = re.compile(rf"[±~]?\s?({_SIGNED})(?:\s?{_TO}\s?({_SIGNED}))?(?:\s?([^\s\d,;][^\d(;]{{0,24}}))?")
_DECIMAL_COMMA = re.compile(r"\d{1,12},\d{1,2}")


def _any_of(names: Sequence[str] | frozenset[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))


_UNIT = rf"(?:{_any_of(_MONEY | UNIT_SIZES.keys())})s?(?![^\W_])|°\w?|[^\W\d_]+"
_SIGN = rf"(?:{_any_of(_MONEY)})\s?"
_BOUND = re.compile(
    r"\b(?:(?P<most>(?P<under>under|below|less than|fewer than)|at most|up to|(?:no|not) more than|not over)"
    r"|(?P<least>(?P<over>over|above|more than)|at least|(?:no|not) (?:less|fewer) than|not under)"
    rf"|(?:between|from))\s(?:an?\s)?(?P<sign>{_SIGN})?(?P<number>{_SIGNED})"
    rf"(?:\s?(?:{_TO}|and\b)\s?(?:{_SIGN})?(?P<to>{_SIGNED}))?(?(sign)|(?:\s?-?\s?(?P<unit>{_UNIT}))?)"
)


class Span(NamedTuple):
    """A value, or both ends of a range."""

    low: float
    high: float
    unit: str
    """What it is counted in ("g" of "2 kg", "reading" of "60 readings", "usd"); empty for a bare number."""


def span_of(text: str) -> Span | None:
    """Return the value of a property: "4.5 L", "17 to 22 cm", "±2 mmHg", "2"; None for other text."""
    found = _VALUE.fullmatch(text.casefold().strip())
    if found is None:
        return None
    unit, size = _counted_in(fold(found[3] or "").strip())
    low = _number(found[1]) * size
    return Span(low, _number(found[2]) * size if found[2] else low, unit)


def value_of(facts: ItemFacts, name: str) -> Span | None:
    """Return the number of a property, price and rating among them; None without one."""
    if name == PRICE and facts.price is not None:
        return Span(float(facts.price), float(facts.price), (facts.currency or "").casefold())
    if name == RATING and facts.rating is not None:
        return Span(facts.rating, facts.rating, "star")
    return span_of(facts.properties.get(name, ""))


def _counted_in(unit: str) -> tuple[str, float]:
    """Return what a folded unit is counted in, and its size; of an unknown unit its own singular, and 1."""
    return UNIT_SIZES.get(unit, (unit.removesuffix("s"), 1.0))


def _number(written: str) -> float:
    bare = written.lstrip(_SIGNS)
    value = float(bare.replace(",", "." if _DECIMAL_COMMA.fullmatch(bare) else ""))
    return -value if written[0] not in f"+{bare[0]}" else value


# --- what a question asks ---------------------------------------------------------------------------------
class Bound(NamedTuple):
    """What a number of an item must be."""

    name: str
    """Property, PRICE or RATING."""
    said: str
    """In the question's words, folded: "under $80"."""
    least: float
    most: float
    """In ``unit``; infinite where there is no such end."""
    unit: str
    is_strict: bool
    """Whether the bound itself is excluded."""

    def missed_by(self, facts: ItemFacts) -> float:
        """Return by what share of the bound an item misses it: 0 where it is met, 1 where its document is
        silent or has another currency."""
        span = value_of(facts, self.name)
        if span is None or span.unit != self.unit:
            return 1.0
        below, above = self.least - span.high, span.low - self.most
        apart, bound = (below, self.least) if below > above else (above, self.most)
        if apart < 0 or (apart == 0 and not self.is_strict):
            return 0.0
        return apart / (abs(bound) or 1.0) + _TOUCH


@dataclass(frozen=True, slots=True)
class ItemQuestion:
    """A question that a table of items answers, or customers' opinions on one item."""

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
    """The items that a question names, and the rest of it."""

    items: tuple[KnownItem, ...]
    rest: str
    """The folded question without their names."""
    pronouns: str
    """The same with "it" for each name."""
    catalogue: Catalogue

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(item.facts.item_id for item in self.items)

    @property
    def document_ids(self) -> tuple[str, ...]:
        return tuple(item.document_id for item in self.items)

    def are_subject_of(self, document: StoredDocument) -> bool:
        """Return whether it is of these items, and its title names no other."""
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
    """Property = stems of its name; price and rating among them."""
    ranges: Mapping[str, Span]
    """The least and the greatest value of each property with numbers, in the unit that most items have."""

    @classmethod
    def of(cls, name: str, items: Sequence[KnownItem], words: Language) -> Category:
        names = dict.fromkeys((PRICE, RATING, *(key for item in items for key in item.facts.properties)))
        spelled, ranges = _pieces(name), dict[str, Span]()
        for key in names:
            spans = [span for item in items if (span := value_of(item.facts, key)) is not None]
            usual = Counter(span.unit for span in spans).most_common(1)
            if usual:
                same_unit = [span for span in spans if span.unit == usual[0][0]]
                ranges[key] = Span(
                    min(span.low for span in same_unit), max(span.high for span in same_unit), usual[0][0]
                )
        return cls(
            name=name,
            stems=words.content_stems(name),
            head=words.stem(spelled[-1]) if spelled else "",
            names={key: words.content_stems(key) for key in names},
            ranges=ranges,
        )

    def named_in(self, stems: frozenset[str]) -> tuple[str, ...]:
        """Return the properties whose names have these stems: "clean air rate", and not "rating" by it."""
        matching = {name: own for name, own in self.names.items() if own and own <= stems}
        return tuple(
            name for name, own in matching.items() if not any(own < other for other in matching.values())
        )


# --- catalogues -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Catalogue:
    """The items of a tenant, and the reading of questions about them."""

    words: Language
    categories: Mapping[str, Category]
    aliases: Mapping[str, tuple[KnownItem, ...]]
    """Items by the folded words of a name, of a part of it, or of a number, joined by spaces."""
    longest: int
    """Words of the longest alias."""

    @classmethod
    def of(cls, items: Sequence[KnownItem], words: Language) -> Catalogue:
        grouped: dict[str, list[KnownItem]] = defaultdict(list)
        for item in items:
            grouped[item.facts.category].append(item)
        aliases = _aliases_of(items)
        categories = {name: Category.of(name, own, words) for name, own in grouped.items()}
        longest = max((len(alias.split()) for alias in aliases), default=0)
        return cls(words, categories, aliases, longest)

    def read(self, question: str, *, meanings: Mapping[str, str]) -> ItemQuestion | None:
        """Return the table that a question asks for: of the items of one category that it names, or of a
        category under a bound; None for any other question.

        ``meanings``: words of the glossary that the question says, and what documents call them.
        """
        items, rest = self._split(question)
        stems = self.words.content_stems(" ".join((rest, *meanings.values())))
        of_items = {item.facts.category for item in items}
        if items and (len(of_items) > 1 or rest.count(_HERE) < 2 or not 1 < len(items) <= MOST_NAMED):
            return None  # a part of a name that several items share compares nothing
        categories = [self.categories[name] for name in of_items] or self.categories_in(stems)
        bounded = [(category, self._bounds(rest, category, stems)) for category in categories]
        if not items:
            bounded = [(category, bounds) for category, bounds in bounded if bounds]
        if len(bounded) != 1:
            return None  # "a monitor under $80": of babies or of blood pressure?
        category, bounds = bounded[0]
        names = category.named_in(stems)
        # Of a recommendation, a property without a number is a wish that nothing is chosen by.
        read = [name for name in names if items or name in category.ranges]
        read += [bound.name for bound in bounds]
        return ItemQuestion(
            "comparison" if items else "recommendation",
            items,
            category.name,
            bounds=tuple(bounds),
            names=names,
            unread=self._unread(rest, bounds, self._stems_of(category, read, meanings)),
        )

    def named(self, question: str) -> NamedItems | None:
        """Return the items that a question is about; None where it names none, or too many to know."""
        return self._named(question)

    @cached_property
    def _named(self) -> Callable[[str], NamedItems | None]:
        return remember_texts(_TEXTS_KEPT)(self._read_names)

    def _read_names(self, question: str) -> NamedItems | None:
        items, rest = self._split(question)
        if not 0 < len(items) <= MOST_NAMED:
            return None
        pronouns = " ".join(rest.replace(_HERE, " it ").split())
        return NamedItems(items, rest.replace(_HERE, " "), pronouns, self)

    def categories_in(self, stems: frozenset[str]) -> list[Category]:
        """Return the categories that a text of these stems names: one as a whole, or those with its last
        word."""
        whole = [
            category for category in self.categories.values() if category.stems and category.stems <= stems
        ]
        if whole:
            return [max(whole, key=lambda category: len(category.stems))]
        heads = [category for category in self.categories.values() if category.head in stems]
        return [head for head in heads if not any(other.stems < head.stems for other in heads)]

    def _split(self, question: str) -> tuple[tuple[KnownItem, ...], str]:
        """Return the items that a question names, in its order, and the folded question with an asterism in
        place of each name."""
        folded = fold(question)
        tokens = list(_PIECE.finditer(folded))
        spelled = [token[0] for token in tokens]
        by_stem: dict[str, KnownItem] = {}
        rest, end = "", 0
        for alias, first, last in longest_names(spelled, self.aliases, longest=self.longest):
            items = self.aliases[alias]
            main = Counter(item.facts.category for item in items).most_common(1)[0][0]
            by_stem |= {item.document_id: item for item in items if item.facts.category == main}
            rest += folded[end : tokens[first].start()] + _HERE
            end = tokens[last].end()
        return tuple(by_stem.values()), rest + folded[end:]

    def _bounds(self, rest: str, category: Category, stems: frozenset[str]) -> list[Bound]:
        read = (self._bound(found, category, stems) for found in _BOUND.finditer(rest))
        return [bound for bound in read if bound is not None]

    def _bound(self, found: re.Match[str], category: Category, stems: frozenset[str]) -> Bound | None:
        clause = _CLAUSE_END.split(found.string[: found.start()])[-1]
        if _NEGATIONS.intersection(_TOKEN.findall(clause)):
            return None  # "it must not cost over $80"
        low = _number(found["number"])
        high = low if found["to"] is None else _number(found["to"])
        if found["to"] is None and not (found["most"] or found["least"]):
            return None
        written = (found["sign"] or found["unit"] or "").strip()
        unit, size = _counted_in(written)
        name = self._bounded(written, unit, low * size, category, stems)
        if name is None:
            return None
        return Bound(
            name,
            found[0],
            least=-inf if found["most"] else min(low, high) * size,
            most=inf if found["least"] else max(low, high) * size,
            unit=category.ranges[name].unit,
            is_strict=bool(found["under"] or found["over"]),
        )

    def _bounded(
        self, written: str, unit: str, amount: float, category: Category, stems: frozenset[str]
    ) -> str | None:
        """Return the property that an amount is of: by its unit; of several the one that the question names,
        or the only one that has values around the amount."""
        counted = self.words.stem(written)
        having = [
            name
            for name, span in category.ranges.items()
            if (name == PRICE and _is_money(written, span.unit))
            or (name != PRICE and unit and span.unit == unit)
            or (not span.unit and counted in category.names[name])
        ]
        named = [name for name in having if category.names[name] <= stems]
        around = [
            name for name in having if category.ranges[name].low <= amount <= category.ranges[name].high
        ]
        return next((fitting[0] for fitting in (named, having, around) if len(fitting) == 1), None)

    def _unread(self, rest: str, bounds: Sequence[Bound], read: Collection[str]) -> tuple[str, ...]:
        """Return what of the question the table was not chosen by, folded: other bounds, and words with
        content, each with the negation before it. ``read``: stems of the words that were read; a word that is
        denied is not."""
        chosen_by = [bound.said for bound in bounds]
        unread = [found[0] for found in _BOUND.finditer(rest) if found[0] not in chosen_by]
        negation = ""
        for word in _TOKEN.findall(_BOUND.sub(_HERE, rest)):
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
        """Return the stems of the words that name the category or one of these properties."""
        read = category.stems.union(*(category.names[name] for name in names))
        said = (word for word, meant in meanings.items() if self.words.content_stems(meant) & read)
        return read.union(*map(self.words.content_stems, said))


def _is_money(written: str, currency: str) -> bool:
    """Return whether a folded unit names a currency, by its code; any currency where there is none."""
    names = _CURRENCIES.get(currency, frozenset({currency})) if currency else _MONEY
    return bool(names & {written, written.removesuffix("s")})


def _aliases_of(items: Sequence[KnownItem]) -> dict[str, tuple[KnownItem, ...]]:
    """Return the items by their names, by parts of names, and by their numbers. A part that many items share
    names none of them."""
    parts: dict[str, dict[str, KnownItem]] = defaultdict(dict)
    whole: dict[str, tuple[KnownItem, ...]] = {}
    for item in items:
        words = _pieces(item.title)
        whole.setdefault(" ".join(words), (item,))
        whole.setdefault(" ".join(_pieces(item.facts.item_id)), (item,))
        for start in range(len(words)):
            for end in range(start + _LEAST_OF_NAME, len(words) + 1):
                parts[" ".join(words[start:end])][item.document_id] = item
    shared = {alias: tuple(own.values()) for alias, own in parts.items() if len(own) <= MOST_NAMED}
    return shared | whole


def _pieces(text: str) -> list[str]:
    """Return the words of a text, folded; "Wi-Fi" has two."""
    return _PIECE.findall(fold(text))
