"""The items of a catalogue by their names and categories, as questions say them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from assistant.domain.documents import KnownItem
from assistant.text.language import Language, fold
from assistant.text.measures import Amount, Span, span_of, unit_of

HERE = "\N{ASTERISM}"
"""In place of an item's name."""
BRAND = "Brand"
"""Of the fields of an item, not of its properties."""
_MIN_ALIAS, _MOST_OF_ALIAS = 2, 5
_PLAUSIBLE = 2.0
"""An amount is of a property whose values are within this factor of it."""
_PIECE = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Category:
    """What the items of a category have."""

    name: str
    stems: frozenset[str]
    head: str
    """Stem of its last word: "kettle" of "Electric kettles"."""
    names: Mapping[str, frozenset[str]]
    """Property = stems of its name."""
    numbers: Mapping[str, tuple[Span, ...]]
    """Of the properties with numbers."""
    choices: Mapping[str, tuple[str, ...]]
    """Values of the others, and the brands."""
    units: Mapping[str, tuple[str, float]]
    """Dimension and factor of the unit of each property with numbers."""
    currencies: tuple[str, ...]
    """Of the prices, as codes, the most usual one first; empty where the catalogue does not say."""

    @classmethod
    def of(cls, name: str, items: Sequence[KnownItem], words: Language) -> Category:
        values: dict[str, list[str]] = defaultdict(list)
        for item in items:
            for key, value in item.facts.properties.items():
                values[key].append(value)
        spans = {key: tuple(filter(None, map(span_of, own))) for key, own in values.items()}
        spelled = pieces(name)
        numbers = {key: own for key, own in spans.items() if 2 * len(own) > len(values[key])}
        choices = {
            key: tuple(dict.fromkeys(own))
            for key, own in values.items()
            if key not in numbers and not any(span.dimension for span in spans[key])
        }
        brands = tuple(dict.fromkeys(item.facts.brand for item in items if item.facts.brand))
        paid_in = Counter(item.facts.currency for item in items if item.facts.currency)
        return cls(
            name=name,
            stems=words.content_stems(name),
            head=words.stem(spelled[-1]) if spelled else "",
            names={key: words.content_stems(key) for key in values},
            numbers=numbers,
            units={
                key: unit for key, own in values.items() for unit in [unit_of(own[0])] if unit is not None
            },
            choices={**choices, **({BRAND: brands} if brands else {})},
            currencies=tuple(code for code, _ in paid_in.most_common()),
        )

    @property
    def counts(self) -> Sequence[str]:
        """Properties whose values are numbers without a unit: "Persons: 2"."""
        return [name for name, spans in self.numbers.items() if not spans[0].dimension]

    def is_range(self, name: str) -> bool:
        """Return whether the property's values are ranges that an amount may lie in: "22 to 42 cm"."""
        return any(span.low != span.high for span in self.numbers.get(name, ()))

    def is_plausible(self, name: str, amount: Amount) -> bool:
        return self.factor_outside(name, amount) <= _PLAUSIBLE

    def factor_outside(self, name: str, amount: Amount) -> float:
        """Return by what factor an amount is below or above all values of a property; 1 where it is among
        them."""
        spans, value = self.numbers[name], amount.value * amount.factor
        low, high = min(span.low for span in spans), max(span.high for span in spans)
        if value < low:
            return low / value if value > 0 else inf
        return value / high if value > high > 0 else 1.0


@dataclass(frozen=True)
class ItemDirectory:
    """The items of a tenant's catalogue, by name and by category."""

    words: Language
    categories: Mapping[str, Category] = field(default_factory=dict[str, Category])
    aliases: Mapping[tuple[str, ...], tuple[KnownItem, ...]] = field(
        default_factory=dict[tuple[str, ...], tuple[KnownItem, ...]]
    )
    longest: int = 0
    """Words of the longest name."""

    @classmethod
    def of(cls, items: Sequence[KnownItem], words: Language) -> ItemDirectory:
        grouped: dict[str, list[KnownItem]] = defaultdict(list)
        for item in items:
            grouped[item.facts.category].append(item)
        categories = {name: Category.of(name, own, words) for name, own in grouped.items()}
        aliases = _aliases_of(items)
        return cls(words, categories, aliases, max(map(len, aliases), default=0))

    def named(self, question: str) -> tuple[tuple[KnownItem, ...], str]:
        """Return the items that a question names, in its order, and the folded question with an asterism in
        place of each name."""
        folded = fold(question)
        tokens = list(_PIECE.finditer(folded))
        spelled = [token[0] for token in tokens]
        found: dict[str, KnownItem] = {}
        rest, end, at = "", 0, 0
        last: KnownItem | None = None
        while at < len(tokens):
            size, items = self._longest_alias(spelled, at)
            if not items and last is not None:
                size, items = 1, self._sibling(last, spelled, at)
            if items:
                found |= {item.document_id: item for item in _of_models(items, spelled[at + size :])}
                rest += folded[end : tokens[at].start()] + HERE
                end, last = tokens[at + size - 1].end(), items[-1]
            at += size if items else 1
        return tuple(found.values()), rest + folded[end:]

    def categories_in(self, text: str) -> list[Category]:
        """Return the categories that a text names: one as a whole, or those with its last word."""
        stems = self.words.content_stems(text)
        whole = [one for one in self.categories.values() if one.stems and one.stems <= stems]
        if whole:
            return [max(whole, key=lambda one: len(one.stems))]
        heads = [one for one in self.categories.values() if one.head in stems]
        return [one for one in heads if not any(other.stems < one.stems for other in heads)]

    def _longest_alias(self, tokens: Sequence[str], at: int) -> tuple[int, tuple[KnownItem, ...]]:
        for size in range(min(self.longest, len(tokens) - at), 0, -1):
            items = self.aliases.get(tuple(tokens[at : at + size]))
            if items:
                return size, items
        return 0, ()

    def _sibling(self, last: KnownItem, tokens: Sequence[str], at: int) -> tuple[KnownItem, ...]:
        """Return the second of "Calmora Mist 300 or 500"."""
        if not tokens[at].isdigit() or tokens[at - 1] not in ("or", "and", "vs", "versus", "the"):
            return ()
        items = self.aliases.get((*pieces(last.title)[:-1], tokens[at]), ())
        return items if len(items) == 1 else ()


def _aliases_of(items: Sequence[KnownItem]) -> dict[tuple[str, ...], tuple[KnownItem, ...]]:
    """Return the items by their names, by parts of names of two words or more, and by their numbers.

    A part that many items share names none of them.
    """
    parts: dict[tuple[str, ...], dict[str, KnownItem]] = defaultdict(dict)
    whole: dict[tuple[str, ...], tuple[KnownItem, ...]] = {}
    for item in items:
        tokens = tuple(pieces(item.title))
        whole.setdefault(tokens, (item,))
        whole.setdefault(tuple(pieces(item.facts.item_id)), (item,))
        for start in range(len(tokens)):
            for end in range(start + _MIN_ALIAS, len(tokens) + 1):
                parts[tokens[start:end]][item.document_id] = item
    shared = {alias: tuple(own.values()) for alias, own in parts.items() if len(own) <= _MOST_OF_ALIAS}
    return shared | whole


def _of_models(items: tuple[KnownItem, ...], after: Sequence[str]) -> tuple[KnownItem, ...]:
    """Return of a series the models whose numbers the question names, or those of its main category."""
    if len(items) == 1:
        return items
    models = tuple(item for item in items if pieces(item.title)[-1] in after)
    category = Counter(item.facts.category for item in items).most_common(1)[0][0]
    return models or tuple(item for item in items if item.facts.category == category)


def pieces(text: str) -> list[str]:
    """Return the words of a text, folded; "Wi-Fi" has two."""
    return _PIECE.findall(fold(text))
