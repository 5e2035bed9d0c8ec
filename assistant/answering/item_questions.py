"""Reads what a question wants of a catalogue's items: which items or category, limits, and what comes first.

The catalogue's own names, properties and units and closed word lists decide everything. A limit for which the
catalogue has no property is kept as unknown, so that no item seems to meet it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from assistant.answering.item_directory import HERE, Category, ItemDirectory, pieces
from assistant.domain.documents import ItemFacts, KnownItem
from assistant.text.language import Language, fold, word_file
from assistant.text.measures import (
    NAMED_DIMENSIONS,
    Amount,
    amounts,
    dimension_of,
    shown_amount,
    span_of,
)

PRICE, RATING = "Price", "Rating"
DISCONTINUED = "Discontinued"
"""Property of an item that is not sold any more: it is compared, never recommended."""
MOST_COMPARED = 5
"""Items of one table."""
Direction = Literal["low", "high"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an item must have."""

    name: str
    """Property, PRICE or RATING; the asker's words where the catalogue has no such property."""
    said: str
    """As it is shown: "at most $80", "yes"."""
    least: float | None = None
    most: float | None = None
    """In the first unit of the dimension (``assistant.text.measures``)."""
    is_strict: bool = False
    """Whether the bound itself is excluded: cheaper than another item."""
    choice: frozenset[str] = frozenset()
    """Stems that the value has; "yes" or "no" alone."""
    is_known: bool = True

    def miss(self, facts: ItemFacts, words: Language) -> float | None:
        """Return by what share an item misses it, 0 where it is met; None where its document is silent."""
        text = value_of(facts, self.name) if self.is_known else None
        if text is None:
            return None
        if self.choice:
            return float(not self.choice <= words.content_stems(text) | frozenset(pieces(text)))
        span = span_of(text)
        if span is None:
            return None
        return max(
            _miss(span.high, self.least, below=True, is_strict=self.is_strict),
            _miss(span.low, self.most, below=False, is_strict=self.is_strict),
        )


class Order(NamedTuple):
    """The items with less, or more, of a property come first."""

    name: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class ItemQuestion:
    """A question that a table of items answers."""

    kind: Literal["comparison", "recommendation"]
    items: tuple[KnownItem, ...]
    """Those that it names; of a recommendation the one that others are held against, or none."""
    category: str
    wishes: tuple[Wish, ...] = ()
    orders: tuple[Order, ...] = ()
    mentioned: tuple[str, ...] = ()
    """Other properties that it names."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Properties that it asks about, in the order in which a table shows them."""
        names = [order.name for order in self.orders]
        names += [wish.name for wish in self.wishes if wish.is_known]
        return tuple(dict.fromkeys((*names, *self.mentioned)))


@dataclass(frozen=True, slots=True)
class NamedItems:
    """The items that a question names, and the rest of it."""

    items: tuple[KnownItem, ...]
    rest: str
    """The folded question without their names."""
    pronouns: str
    """The same with "it" for each name."""
    meant: Mapping[str, frozenset[str]]
    """Words of the rest = stems of the property that they ask for: "loud" = noise, level."""

    @property
    def item_ids(self) -> frozenset[str]:
        return frozenset(item.facts.item_id for item in self.items)


def value_of(facts: ItemFacts, name: str) -> str | None:
    """Return a property's value as text, the price and the rating among them; None without one."""
    if name == PRICE:
        return None if facts.price is None else f"{facts.price} $"
    if name == RATING:
        return None if facts.rating is None else f"{facts.rating} stars"
    return facts.properties.get(name)


def number_of(text: str | None) -> float | None:
    """Return the number that items are ordered by: the upper end of a range; None without a number."""
    span = span_of(text) if text is not None else None
    return span.high if span is not None else None


# --- word lists -------------------------------------------------------------------------------------------
_SHORTEST_UNIT = 2
_NEAR_WORDS = 6
_BEFORE, _AFTER = 36, 24
"""Characters around an amount that say which bound it is."""
_ABOUT_SHARE = 0.2
_TOUCH = 1e-6
_PIECE = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_UPPER = re.compile(
    r"(?:under|below|less than|at (?:the )?most|up to|no more than|not more than|max(?:imum)?(?: of)?|within|"
    r"(?:cheap|light|quiet|short|small|low|few|fast|quick|thin|narrow|slow)i?er than|budget(?: of| is)?|"
    r"not? (?:over|above)|not? (?:loud|heavi|bigg|larg|long|great|high|wid|slow|thick)er than|"
    r"<=?|≤)\W{0,3}$"
)
_LOWER = re.compile(
    r"(?:over|above|more than|at least|no less than|not less than|min(?:imum)?(?: of)?|"
    r"(?:long|heavi|bigg|larg|great|high|wid|thick|loud|strong)er than|>=?|≥)\W{0,3}$"
)
_AFTER_UPPER = re.compile(
    r"\W{0,2}(?:or|and) (?:less|under|below|lighter|cheaper|quieter|smaller)|\W{0,2}max\b"
)
_AFTER_LOWER = re.compile(
    r"\W{0,2}(?:or|and) (?:more|over|above|up|longer|larger|bigger|higher)|\+|\W{0,2}min\b"
)
_ABOUT = re.compile(r"(?:about|around|roughly|approximately|circa)\W{0,3}$")
_LOADS = re.compile(
    r"\b(?:carr(?:y|ies)|holds?|takes?|supports?|bears?|manages?|can weigh|to weigh)(?: up to)?\W{0,3}$"
)
_COMPARES = re.compile(
    r"\b(?:compare[ds]?|comparing|comparison|versus|vs|differences?|differs?|different|which|better|best|"
    r"instead of|side by side|both|than|against)\b"
)
_EITHER = re.compile(rf"{HERE}[^.?!{HERE}]{{0,12}}\bor\b[^.?!{HERE}]{{0,12}}{HERE}")
_FITS = re.compile(r"\b(?:fits?|compatible|(?:works?|goes?) with|use)\b")
_RECOMMENDS = re.compile(
    r"\b(?:recommend\w*|suggest\w*|looking for|looks for|look for|which|find (?:me|us|her|him|them)|"
    r"(?:an?|any) (?:good|decent)|best)\b"
)
_OTHER_QUESTION = re.compile(
    r"\b(?:return(?:ed|s)?|refund\w*|warranty|guarantee|ship\w*|deliver\w*|exchange\w*|repair\w*|cancel\w*|"
    r"orders?|ordered|why|how (?:do|can|should|to|often|long)|broken|broke|stopped|arrived|reviews?|"
    r"complain\w*|way to|(?:customers|people) (?:say|think))\b|"
    r"\A\W*(?:does|did|is (?:the|this|my|it)|are (?:the|these|my)|when|where|"
    r"can (?:i|she|he|they|we|you) (?:use|put|wash))\b"
)
_AGAINST = re.compile(r"\b(?:than|alternatives? to|instead of|similar to)\W{0,3}(?:the |an? )?$")
_MORE = re.compile(
    r"\b(?:most|more|high(?:er|est)|larg(?:er|est)|bigg(?:er|est)|long(?:er|est)|maximum|greatest|better|best|"
    r"wid(?:er|est)|strong(?:er|est))\b"
)
_LESS = re.compile(
    r"\b(?:least|less|low(?:er|est)|small(?:er|est)|short(?:er|est)|few(?:er|est)|minimum|fast(?:er|est)|"
    r"quick(?:er|est))\b"
)
_BOUNDS = re.compile(r"\bat (?:the )?(?:least|most)\b")
_BETTER = re.compile(r"\b(?:better|best)\b")
_FLIPS = re.compile(r"\b(?:less|least|not (?:so|too|very|as|that)|no|not)\s$")
_DENIES = re.compile(r"\b(?:no|not|without|non|isn't|doesn't|don't|lacks?)\b[^.,;?!]{0,24}$")
_GOOD_IS_LOW = frozenset({"noise", "weight", "price", "accuracy", "precision", "time", "folded"})


class _Meaning(NamedTuple):
    """What a word such as "quiet" asks for."""

    direction: Direction
    properties: tuple[frozenset[str], ...]


def _lexicon() -> dict[str, _Meaning]:
    found: dict[str, _Meaning] = {}
    for line in word_file("en_item_words"):
        said, _, meant = line.partition(": ")
        direction, _, names = meant.partition(" ")
        properties = tuple(frozenset(_PIECE.findall(name)) for name in names.split(", "))
        for word in said.split(", "):
            found[word] = _Meaning("low" if direction == "low" else "high", properties)
    return found


_LEXICON = _lexicon()
_NAMES_ONLY = frozenset({"weigh", "weighs", "weight", "cost", "costs", "price", "prices", "rated"})
"""Words that name a property without saying which end is wanted."""


# --- questions --------------------------------------------------------------------------------------------
class ItemReader:
    """Reads questions about the items of a directory."""

    def __init__(self, directory: ItemDirectory) -> None:
        self._directory = directory
        self._words = directory.words

    def read(self, question: str, *, more: str = "") -> ItemQuestion | None:
        """Return what a question wants of items; None for a question that no table answers.

        ``more``: words of the glossary and corrected spellings of its words.
        """
        named, rest = self._directory.named(question)
        if len(named) > 1:
            return self._comparison(named, rest, fold(more))
        if named:
            categories = [self._directory.categories[named[0].facts.category]]
        else:
            categories = self._directory.categories_in(f"{rest} {fold(more)}")
        read = [self._recommendation(named, rest, fold(more), category) for category in categories]
        found = sorted((one for one in read if one is not None), key=lambda one: -len(one.asked))
        if len(found) > 1 and len(found[0].asked) == len(found[1].asked):
            return None  # "a monitor": of babies or of blood pressure?
        return found[0] if found else None

    def named(self, question: str) -> NamedItems | None:
        """Return the items that a question is about; None where it names none, or too many to know."""
        items, rest = self._directory.named(question)
        if not 0 < len(items) <= MOST_COMPARED:
            return None
        category = self._directory.categories[items[0].facts.category]
        words = frozenset(_TOKEN.findall(rest))
        meant = {word: name for word in words for name in [self._meant(word, category, rest)] if name}
        stems = {word: self._words.content_stems(name) for word, name in meant.items()}
        return NamedItems(items, rest.replace(HERE, " "), " ".join(rest.replace(HERE, " it ").split()), stems)

    def forms(self, question: str, *, more: str = "") -> frozenset[str]:
        """Return what a question asks of items, as words that a router of sources learns weights for.

        Whether it names an item, one or several; whether the data sheet has the property that it asks for, or
        one of a similar name; without an item, whether it names a category; whether a table answers.
        ``more``: as of ``read``.
        """
        table, named = self.read(question, more=more), self.named(question)
        found = set[str]() if table is None else {f"#{table.kind}"}
        if named is None:
            has_category = self._directory.categories_in(f"{fold(question)} {fold(more)}")
            return frozenset(found | {"#no-item", "#category" if has_category else "#no-category"})
        found.add("#item" if len(named.items) == 1 else "#items")
        category = self._directory.categories[named.items[0].facts.category]
        stems = self._words.content_stems(f"{named.rest}\n{fold(more)}")
        names = [own for own in category.names.values() if own]
        if named.meant or any(own <= stems for own in names):
            found.add("#property")
        else:
            found.add("#near-property" if any(own & stems for own in names) else "#no-property")
        return frozenset(found)

    def _meant(self, word: str, category: Category, rest: str) -> str | None:
        """Return the property that a word asks for: "loud", or a unit such as "grams"."""
        if word in _LEXICON:
            return self._property_of(_LEXICON[word].properties, category, rest)
        dimension, factor = dimension_of(word)
        if dimension not in NAMED_DIMENSIONS or len(word) < _SHORTEST_UNIT:
            return None
        return next((name for name, unit in category.units.items() if unit == (dimension, factor)), None)

    def _comparison(self, named: Sequence[KnownItem], rest: str, more: str) -> ItemQuestion | None:
        of_items = Counter(item.facts.category for item in named).most_common(1)[0][0]
        category = self._directory.categories[of_items]
        mentioned = tuple(self._mentioned(f"{rest}\n{more}", category, partly=True))
        orders = self._orders(rest, category, mentioned)
        if not (orders or mentioned or _COMPARES.search(rest) or _EITHER.search(rest)):
            return None
        if _FITS.search(rest) and not orders:
            return None
        items = tuple(named[:MOST_COMPARED])
        return ItemQuestion("comparison", items, of_items, orders=orders, mentioned=mentioned)

    def _recommendation(
        self, named: Sequence[KnownItem], rest: str, more: str, category: Category
    ) -> ItemQuestion | None:
        mentioned = tuple(self._mentioned(f"{rest}\n{more}", category))
        orders = self._orders(rest, category, mentioned)
        wishes = [*self._limits(rest, category), *self._choices(f"{rest}\n{more}", category)]
        if named:
            if not _AGAINST.search(rest.partition(HERE)[0]):
                return None
            wishes += [_against(order, named[0]) for order in orders if order.name != RATING]
        else:
            is_asked = _RECOMMENDS.search(rest) is not None
            if _OTHER_QUESTION.search(rest) or not (wishes or orders or is_asked):
                return None
        return ItemQuestion(
            "recommendation",
            tuple(named),
            category.name,
            wishes=tuple(wishes),
            orders=orders,
            mentioned=mentioned,
        )

    # orders

    def _orders(self, rest: str, category: Category, mentioned: Sequence[str]) -> tuple[Order, ...]:
        """Return what the question orders by: "lightest", "the longest range"; each property once."""
        rest = _BOUNDS.sub(" ", rest)
        found: dict[str, Direction] = {}
        for name in mentioned:
            direction = self._stated_direction(rest, name)
            if direction is not None:
                found[name] = direction
        for token in _TOKEN.finditer(rest):
            meant = _LEXICON.get(token[0])
            if meant is None or token[0] in _NAMES_ONLY:
                continue
            name = self._property_of(meant.properties, category, rest)
            if name is not None:
                flips = _FLIPS.search(rest[max(0, token.start() - _BEFORE) : token.start()]) is not None
                found.setdefault(name, _other(meant.direction) if flips else meant.direction)
        if found.get(RATING) == "high" and (len(found) > 1 or mentioned) and RATING not in mentioned:
            del found[RATING]  # "the better battery" is about the battery
            if not found:
                found[mentioned[0]] = "low" if _good_is_low(mentioned[0]) else "high"
        return tuple(Order(name, direction) for name, direction in found.items())

    def _property_of(self, properties: Iterable[frozenset[str]], category: Category, rest: str) -> str | None:
        """Return the category's first property of these words; before it the one that the question names."""
        having = {name: frozenset(pieces(name)) for name in (*category.numbers, PRICE, RATING)}
        fitting = [name for wanted in properties for name, own in having.items() if wanted <= own]
        stems = self._words.content_stems(rest)
        said = (name for name in fitting if category.names.get(name, frozenset({name})) <= stems)
        return next(said, fitting[0] if fitting else None)

    def _mentioned(self, rest: str, category: Category, *, partly: bool = False) -> Iterator[str]:
        """Yield the properties with numbers that the question says, by name or by a word for it, once each.

        ``partly``: a word that only one of the names has is enough, like "battery" for "Battery life".
        """
        stems = self._words.content_stems(rest)
        found = {name: None for name in category.numbers if category.names[name] <= stems}
        if partly:
            counts = Counter(stem for name in category.numbers for stem in category.names[name])
            own = frozenset(stem for stem, count in counts.items() if count == 1) & stems
            found |= {name: None for name in category.numbers if category.names[name] & own}
        for word in _PIECE.findall(rest):
            if word in _NAMES_ONLY:
                name = self._property_of(_LEXICON[word].properties, category, rest)
                found |= {name: None} if name is not None else {}
        yield from found

    def _stated_direction(self, rest: str, name: str) -> Direction | None:
        """Return "high" for "the longest range" and "low" for "less noise"; None where nothing is stated."""
        before = rest[: self._place(rest, self._words.content_stems(name))][-_AFTER:]
        if _BETTER.search(before):
            return "low" if _good_is_low(name) else "high"
        return "high" if _MORE.search(before) else "low" if _LESS.search(before) else None

    def _place(self, text: str, stems: frozenset[str]) -> int:
        """Return where the first word with one of the stems begins; the text's end without one."""
        places = (token.start() for token in _PIECE.finditer(text) if self._words.stem(token[0]) in stems)
        return next(places, len(text))

    # limits

    def _limits(self, rest: str, category: Category) -> Iterator[Wish]:
        for amount in amounts(rest):
            wish = self._limit(amount, rest, category)
            if wish is not None:
                yield wish

    def _limit(self, amount: Amount, rest: str, category: Category) -> Wish | None:
        before = rest[max(0, amount.start - _BEFORE) : amount.start]
        after = rest[amount.end : amount.end + _AFTER]
        is_load = _LOADS.search(before) is not None
        is_upper = not is_load and bool(_UPPER.search(before) or _AFTER_UPPER.match(after))
        is_lower = is_load or bool(_LOWER.search(before) or _AFTER_LOWER.match(after))
        if not amount.unit:
            if not (is_upper or is_lower) or amount.is_word:
                return None
            amount = amount._replace(unit="$", dimension="money")  # "under 80"
        name = self._limited(amount, rest, category)
        if name is None:
            is_limit = (is_upper or is_lower) and amount.dimension in NAMED_DIMENSIONS - {"time"}
            return Wish(amount.shown, amount.shown, is_known=False) if is_limit else None
        if amount.to is not None or _ABOUT.search(before):
            return _between(name, amount)
        if category.is_range(name):
            value = amount.value * amount.factor
            return Wish(name, f"for {amount.shown}", least=value, most=value)
        if is_upper or (not is_lower and (name == PRICE or _good_is_low(name))):
            return Wish(name, f"at most {amount.shown}", most=amount.value * amount.factor)
        return Wish(name, f"at least {amount.shown}", least=amount.value * amount.factor)

    def _limited(self, amount: Amount, rest: str, category: Category) -> str | None:
        """Return the property that an amount limits: by its unit and size; of several by the words near."""
        if amount.dimension in ("money", "stars"):
            return PRICE if amount.dimension == "money" else RATING
        having = [name for name, spans in category.numbers.items() if spans[0].dimension == amount.dimension]
        having = [name for name in having if category.is_plausible(name, amount)] or having
        words_near = rest[: amount.start].split()[-_NEAR_WORDS:] + rest[amount.end :].split()[:_NEAR_WORDS]
        near = " ".join(words_near)
        stems = self._words.content_stems(near)
        named = max(having, key=lambda name: len(category.names[name] & stems), default=None)
        if named is not None and category.names[named] & stems:
            return named
        for word in _PIECE.findall(near):
            meant = self._property_of(_LEXICON[word].properties, category, near) if word in _LEXICON else None
            if meant in having:
                return meant
        if amount.dimension == "time" and amount.factor >= _A_DAY_S and not _LASTS.search(near):
            return None  # an age, or a wait
        return having[0] if having else None

    def _choices(self, text: str, category: Category) -> Iterator[Wish]:
        """Yield the wishes for properties without a number: "with GPS", "no Wi-Fi", "a glass jug"."""
        stems = self._words.content_stems(text)
        written = {token[0]: token.start() for token in _TOKEN.finditer(text)}
        for name, values in category.choices.items():
            wanted, folded = category.names[name], {fold(value) for value in values}
            if folded <= {"yes", "no"}:
                free, joined = wanted - {"free"}, "".join(pieces(name))
                if wanted <= stems or joined in written:  # "wifi" is "Wi-Fi"
                    place = min(self._place(text, wanted), written.get(joined, len(text)))
                    said = "no" if _DENIES.search(text[:place]) else "yes"
                elif free != wanted and free <= stems:  # "without latex" of "Latex-free"
                    said = "yes" if _DENIES.search(text[: self._place(text, free)]) else "no"
                else:
                    continue
                yield Wish(name, said, choice=frozenset({said}))
                continue
            of_value = {value: self._words.content_stems(value) for value in values}
            said_values = [value for value, own in of_value.items() if own and own <= stems]
            if said_values:
                longest = max(said_values, key=lambda value: len(of_value[value]))
                yield Wish(name, longest, choice=of_value[longest])


_A_DAY_S = 86_400.0
_LASTS = re.compile(r"\b(?:lasts?|battery|charges?|holidays?|trips?)\b")


def _against(order: Order, item: KnownItem) -> Wish:
    """Return the wish for less, or more, than another item has."""
    number = number_of(value_of(item.facts, order.name))
    said = f"{'less' if order.direction == 'low' else 'more'} than the {item.title}"
    if number is None:
        return Wish(order.name, said, is_known=False)
    if order.direction == "low":
        return Wish(order.name, said, most=number, is_strict=True)
    return Wish(order.name, said, least=number, is_strict=True)


def _between(name: str, amount: Amount) -> Wish:
    """Return the wish for a range, or for about an amount."""
    around = amount.value * _ABOUT_SHARE
    low, high = (
        (amount.value, amount.to) if amount.to is not None else (amount.value - around, amount.value + around)
    )
    said = f"between {shown_amount(low, amount.unit)} and {shown_amount(high, amount.unit)}"
    return Wish(name, said, least=low * amount.factor, most=high * amount.factor)


def _miss(value: float, bound: float | None, *, below: bool, is_strict: bool) -> float:
    """Return the share of the bound by which a value is below it, or above it; 0 where it is not."""
    if bound is None:
        return 0.0
    apart = bound - value if below else value - bound
    if apart < 0 or (apart == 0 and not is_strict):
        return 0.0
    return apart / (abs(bound) or 1.0) + _TOUCH


def _other(direction: Direction) -> Direction:
    return "high" if direction == "low" else "low"


def _good_is_low(name: str) -> bool:
    words = frozenset(pieces(name))
    return bool(words & _GOOD_IS_LOW) and not {"run", "time"} <= words
