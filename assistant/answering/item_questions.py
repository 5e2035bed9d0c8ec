"""Reads what a question wants of a catalogue's items: which items or category, limits, and what comes first.

The catalogue's own names, properties and units and closed word lists decide everything. A limit for which the
catalogue has no property is kept as unknown, so that no item seems to meet it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from assistant.answering.item_choices import Choice, ChoiceReader, SaidChoice, blanked, roots
from assistant.answering.item_directory import BRAND, HERE, Category, ItemDirectory, pieces
from assistant.answering.item_words import (
    ABOUT,
    AFTER_LOWER,
    AFTER_UPPER,
    AGAINST,
    ASKS_WHAT_TO_DO,
    AT_LEAST,
    BEARS_AMOUNT,
    BETTER,
    BOUNDS,
    COLDEST,
    COMPARES,
    EITHER,
    FILLER,
    FITS,
    FOR_PERSONS,
    GOOD_IS_LOW,
    LASTS,
    LESS,
    LEXICON,
    LOADS,
    LOWER,
    MATERIAL_ASKED,
    MORE,
    MORE_IS_LOW,
    NAMES_ONLY,
    OCCASION,
    OF_OPINION,
    OTHER_QUESTION,
    OTHER_TOPIC,
    PERSONS,
    PIECE,
    PRICE_ASKED,
    RATING_ASKED,
    RECOMMENDS,
    SLEEPS,
    STRICT,
    TOKEN,
    UPPER,
    WEIGHS,
    WELL_RATED,
    Direction,
    bound_before,
    is_flipped,
    respelled,
    stance,
)
from assistant.domain.documents import ItemFacts, KnownItem
from assistant.text.language import Language, fold
from assistant.text.measures import (
    NAMED_DIMENSIONS,
    Amount,
    amounts,
    currencies_of,
    dimension_of,
    shown_amount,
    span_of,
)

PRICE, RATING = "Price", "Rating"
MOST_COMPARED = 5
"""Items of one table."""


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
    choice: Choice | None = None
    """What the value is, of a property without a number."""
    is_known: bool = True
    currency: str = ""
    """Of a price: prices in another currency are not compared with it."""

    def miss(self, facts: ItemFacts, words: Language) -> float | None:
        """Return by what share an item misses it, 0 where it is met; None where its document is silent."""
        text = value_of(facts, self.name) if self.is_known else None
        if self.currency and facts.currency and facts.currency != self.currency:
            return None
        if text is None:
            return None
        if self.choice:
            return float(not self.choice.is_met(text, words))
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
    """A question that a table of items answers, or customers' opinions on one item."""

    kind: Literal["comparison", "recommendation", "opinion"]
    items: tuple[KnownItem, ...]
    """Those that it names; of a recommendation the one that others are held against, or none."""
    category: str
    wishes: tuple[Wish, ...] = ()
    orders: tuple[Order, ...] = ()
    mentioned: tuple[str, ...] = ()
    """Other properties that it names."""
    by_shown_rating: bool = False
    """Whether it asks for the rating itself, so that items are ordered by the number that is shown."""
    unread: tuple[str, ...] = ()
    """Its words that may be a wish and that nothing here was chosen by, as they are written."""
    occasions: frozenset[str] = frozenset()
    """Those of ``unread`` that decide nothing: "which is lighter for travelling, A or B?"."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Properties that it asks about, in the order in which a table shows them."""
        names = [order.name for order in self.orders]
        names += [wish.name for wish in self.wishes if wish.is_known]
        return tuple(dict.fromkeys((*names, *self.mentioned)))

    @property
    def is_checked(self) -> bool:
        """Whether every wish that may decide was applied."""
        return set(self.unread) <= self.occasions


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
    """Return a property's value as text, price, rating and brand among them; None without one."""
    if name == PRICE:
        return None if facts.price is None else f"{facts.price} {facts.currency or '$'}"
    if name == RATING:
        return None if facts.rating is None else f"{facts.rating} stars"
    if name == BRAND:
        return facts.brand or None
    return facts.properties.get(name)


def number_of(text: str | None) -> float | None:
    """Return the number that items are ordered by: the upper end of a range; None without a number."""
    span = span_of(text) if text is not None else None
    return span.high if span is not None else None


NO_MEANINGS: Mapping[str, str] = {}
_SHORTEST_UNIT = 2
_NEAR_WORDS = 6
_BEFORE, _AFTER = 36, 24
"""Characters around an amount that say which bound it is."""
_ABOUT_SHARE = 0.2
_TOUCH = 1e-6
_A_DAY_S = 86_400.0
_MOST_UNREAD = 4
_MOST_PERSONS = 12
_LONGEST_UNREAD = 40
_WORD = re.compile(r"[^\W\d_]{3}")


# --- questions --------------------------------------------------------------------------------------------
class ItemReader:
    """Reads questions about the items of a directory."""

    def __init__(self, directory: ItemDirectory, *, is_known: Callable[[str], bool] | None = None) -> None:
        """``is_known``: whether a folded word is spelled right; by default common words are."""
        self.directory = directory
        self._words = directory.words
        self._is_known = is_known or directory.words.is_common
        self._choices = {
            name: ChoiceReader(category, directory.words) for name, category in directory.categories.items()
        }

    def read(self, question: str, *, meanings: Mapping[str, str] = NO_MEANINGS) -> ItemQuestion | None:
        """Return what a question wants of items; None for a question that no table answers.

        ``meanings``: words of the glossary that the question says, and what documents call them.
        """
        named, rest = self.directory.named(respelled(fold(question), self._is_known))
        asked = _Asked(question, tuple(named), _with_meanings(rest, meanings), meanings)
        if len(named) > 1:
            return self._comparison(asked)
        if named:
            categories = [self.directory.categories[named[0].facts.category]]
        else:
            categories = self.directory.categories_in(asked.rest)
        read = [self._recommendation(asked, category) for category in categories]
        found = sorted((one for one in read if one is not None), key=lambda one: -len(one.asked))
        if len(found) > 1 and len(found[0].asked) == len(found[1].asked):
            return None  # "a monitor": of babies or of blood pressure?
        if not found:
            return None
        apart = self._in_other_currency(asked.rest, self.directory.categories[found[0].category])
        return replace(found[0], unread=(*apart, *found[0].unread))

    def named(self, question: str) -> NamedItems | None:
        """Return the items that a question is about; None where it names none, or too many to know."""
        items, rest = self.directory.named(question)
        if not 0 < len(items) <= MOST_COMPARED:
            return None
        category = self.directory.categories[items[0].facts.category]
        words = frozenset(TOKEN.findall(rest))
        meant = {word: name for word in words for name in [self._meant(word, category, rest)] if name}
        stems = {word: self._words.content_stems(name) for word, name in meant.items()}
        return NamedItems(items, rest.replace(HERE, " "), " ".join(rest.replace(HERE, " it ").split()), stems)

    def properties_of(
        self, named: NamedItems, *, meanings: Mapping[str, str] = NO_MEANINGS
    ) -> tuple[str, ...]:
        """Return the properties of one named item that a question asks for, price and rating among them; none
        where it says as much about something else."""
        category = self.directory.categories[named.items[0].facts.category]
        rest = _with_meanings(named.rest, meanings)
        if ASKS_WHAT_TO_DO.search(rest):
            return ()
        stems = frozenset[str]().union(*(roots(word, self._words) for word in PIECE.findall(rest)))
        found = {PRICE: None} if PRICE_ASKED.search(rest) else {}
        found |= {RATING: None} if RATING_ASKED.search(rest) else {}
        found |= {name: None for name, own in category.names.items() if own and own <= stems}
        named_by = frozenset[str]().union(*(category.names[name] for name in found if name in category.names))
        meant = (
            self._meant(word, category, rest)
            for word in dict.fromkeys(TOKEN.findall(rest))
            if word not in OF_OPINION and self._words.stem(word) not in named_by  # "light" of "Night light"
        )
        found |= {name: None for name in meant if name is not None}
        said = [one for one in self._choices[category.name].said(rest) if one.name != BRAND]
        found |= {one.name: None for one in said}
        if MATERIAL_ASKED.search(rest):
            found |= {name: None for name in category.names if "material" in pieces(name)}
        read = named_by.union(category.stems, *(one.stems for one in said))
        others = {
            word for word in PIECE.findall(rest) if not self._is_read(word, rest, category, found, read)
        }
        others -= {word for word in others if self._meant(word, category, rest)}
        return tuple(found) if len(others) < max(2, len(found)) else ()

    def asks_of(self, named: NamedItems, question: str, *, meanings: Mapping[str, str] = NO_MEANINGS) -> bool:
        """Return whether a question that names neither item nor category asks for properties of an item."""
        folded = fold(question)
        if len(named.items) != 1 or OTHER_TOPIC.search(folded) or self.directory.categories_in(folded):
            return False
        return bool(self.properties_of(replace(named, rest=folded), meanings=meanings))

    def forms(self, question: str, *, meanings: Mapping[str, str] = NO_MEANINGS) -> frozenset[str]:
        """Return what a question asks of items, as words that a router of sources learns weights for.

        Whether it names an item, one or several; whether the data sheet has the property that it asks for, or
        one of a similar name; without an item, whether it names a category; whether a table answers.
        ``meanings``: as of ``read``.
        """
        table, named = self.read(question, meanings=meanings), self.named(question)
        more = fold(" ".join(dict.fromkeys(meanings.values())))
        found = set[str]() if table is None else {f"#{table.kind}"}
        if named is None:
            has_category = self.directory.categories_in(f"{fold(question)} {more}")
            return frozenset(found | {"#no-item", "#category" if has_category else "#no-category"})
        found.add("#item" if len(named.items) == 1 else "#items")
        category = self.directory.categories[named.items[0].facts.category]
        stems = self._words.content_stems(f"{named.rest}\n{more}")
        names = [own for own in category.names.values() if own]
        if named.meant or any(own <= stems for own in names):
            found.add("#property")
        else:
            found.add("#near-property" if any(own & stems for own in names) else "#no-property")
        return frozenset(found)

    def _meant(self, word: str, category: Category, rest: str) -> str | None:
        """Return the property that a word asks for: "loud", or a unit such as "grams"."""
        if word in LEXICON:
            return self._property_of(LEXICON[word].properties, category, rest)
        dimension, factor = dimension_of(word)
        if dimension not in NAMED_DIMENSIONS or len(word) < _SHORTEST_UNIT:
            return None
        return next((name for name, unit in category.units.items() if unit == (dimension, factor)), None)

    def _comparison(self, asked: _Asked) -> ItemQuestion | None:
        of_items = Counter(item.facts.category for item in asked.named).most_common(1)[0][0]
        category, rest = self.directory.categories[of_items], asked.rest
        mentioned = tuple(self._mentioned(rest, category, partly=True))
        orders = self._orders(rest, category, mentioned)
        if not (orders or mentioned or COMPARES.search(rest) or EITHER.search(rest)):
            return None
        if FITS.search(rest) and not orders:
            return None
        said = list(self._choices[of_items].said(rest))
        found = ItemQuestion(
            "comparison",
            asked.named[:MOST_COMPARED],
            of_items,
            orders=orders,
            mentioned=(*mentioned, *(one.name for one in said)),
            by_shown_rating=RATING_ASKED.search(rest) is not None,
        )
        limits = list(self._limits(rest, category))
        unread = self._unread(asked, rest, found, said, limits)
        is_by_fact = any(order.name != RATING for order in orders)  # "better for travelling" is not
        occasions = (one for one in unread if is_by_fact and _is_occasion(rest, fold(one)))
        return replace(found, unread=unread, occasions=frozenset(occasions))

    def _recommendation(self, asked: _Asked, category: Category) -> ItemQuestion | None:
        named, rest = asked.named, self._choices[category.name].plain(asked.rest)
        mentioned = tuple(self._mentioned(rest, category))
        orders = self._orders(rest, category, mentioned)
        limits = list(self._limits(rest, category))
        others = rest  # than what the limits have used
        for amount, _ in limits:
            others = blanked(others, amount.start, amount.end)
        said = list(self._choices[category.name].said(others))
        wishes = [wish for _, wish in limits]
        wishes += [Wish(one.name, one.said, choice=one.choice) for one in said if one.said]
        if named:
            if not AGAINST.search(rest.partition(HERE)[0]):
                return None
            wishes += [_against(order, named[0]) for order in orders if order.name != RATING]
        else:
            is_asked = RECOMMENDS.search(rest) is not None or self._in_other_currency(rest, category)
            if OTHER_QUESTION.search(rest) or not (wishes or orders or is_asked):
                return None
        found = ItemQuestion(
            "recommendation",
            named,
            category.name,
            wishes=tuple(wishes),
            orders=orders,
            mentioned=mentioned,
            by_shown_rating=RATING_ASKED.search(rest) is not None,
        )
        return replace(found, unread=self._unread(asked, rest, found, said, limits))

    # words that nothing was chosen by

    def _unread(
        self,
        asked: _Asked,
        rest: str,
        found: ItemQuestion,
        said: Sequence[SaidChoice],
        limits: Sequence[tuple[Amount, Wish]],
    ) -> tuple[str, ...]:
        """Return the words of the question that may be a wish and that nothing was chosen by, as phrases.

        Closed word classes and ``FILLER`` are no wish. A property that is only mentioned is shown: that is
        enough, unless the question denies it.
        """
        category = self.directory.categories[found.category]
        names = {*found.asked, PRICE, RATING} if found.kind == "comparison" else {*found.asked}
        read = category.stems.union(*(one.stems for one in said))
        counted = (category.units[name][0] for name in names if name in category.units)
        read |= {self._words.stem(unit) for unit in counted}  # "temperature settings"
        read = read.union(*(category.names.get(name, self._words.content_stems(name)) for name in names))
        masked = rest
        for amount, _ in limits:
            bearer = BEARS_AMOUNT.match(masked, amount.end)
            masked = blanked(masked, amount.start, amount.end if bearer is None else bearer.end(), by="\n")
        is_read = {
            word: self._is_read(word, rest, category, names, read)
            for word in dict.fromkeys(PIECE.findall(masked))
        }
        denied = self._only_shown(found, category)
        tokens = [
            token
            for token in PIECE.finditer(masked)
            if not is_read[token[0]]
            or (self._words.stem(token[0]) in denied and stance(rest, *token.span()) == "unwanted")
        ]
        phrases = dict.fromkeys(asked.as_written(rest, phrase) for phrase in _phrases(tokens, rest))
        return tuple(one for one in phrases if one)[:_MOST_UNREAD]

    def _is_read(
        self, word: str, rest: str, category: Category, names: Collection[str], read: frozenset[str]
    ) -> bool:
        if word in FILLER or not self._words.content_stems(word):
            return True
        if word in LEXICON and self._property_of(LEXICON[word].properties, category, rest) in names:
            return True
        return bool(roots(word, self._words) & read)  # "light" of "Red light", too

    def _only_shown(self, found: ItemQuestion, category: Category) -> frozenset[str]:
        """Return the stems of the properties that a recommendation shows and does not choose by."""
        if found.kind != "recommendation":
            return frozenset()
        chosen = {one.name for one in (*found.orders, *found.wishes)}
        shown = (category.names.get(name, frozenset[str]()) for name in found.mentioned if name not in chosen)
        return frozenset[str]().union(*shown)

    # orders

    def _orders(self, rest: str, category: Category, mentioned: Sequence[str]) -> tuple[Order, ...]:
        """Return what the question orders by: "lightest", "the longest range"; each property once."""
        rest = BOUNDS.sub(" ", rest)
        found: dict[str, Direction] = {}
        for name in mentioned:
            direction = self._stated_direction(rest, name)
            if direction is not None:
                found[name] = direction
        seen = set[str](NAMES_ONLY)
        for token in TOKEN.finditer(self._choices[category.name].without_names(rest)):
            meant = LEXICON.get(token[0])
            if meant is None or token[0] in seen:
                continue
            seen.add(token[0])
            name = self._property_of(meant.properties, category, rest)
            if name is not None:
                flips = is_flipped(rest, token.start())
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
        for word in PIECE.findall(rest):
            if word in NAMES_ONLY:
                name = self._property_of(LEXICON[word].properties, category, rest)
                found |= {name: None} if name is not None else {}
        yield from found

    def _stated_direction(self, rest: str, name: str) -> Direction | None:
        """Return "high" for "the longest range" and "low" for "less noise"; None where nothing is stated."""
        before = rest[: self._place(rest, self._words.content_stems(name))][-_AFTER:]
        if BETTER.search(before) or (name == RATING and WELL_RATED.search(before)):
            return "low" if _good_is_low(name) else "high"
        stated: Direction | None = "high" if MORE.search(before) else "low" if LESS.search(before) else None
        is_error = not MORE_IS_LOW.isdisjoint(pieces(name))
        return _other(stated) if stated is not None and is_error else stated

    def _place(self, text: str, stems: frozenset[str]) -> int:
        """Return where the first word with one of the stems begins; the text's end without one."""
        places = (token.start() for token in PIECE.finditer(text) if self._words.stem(token[0]) in stems)
        return next(places, len(text))

    # limits

    def _limits(self, rest: str, category: Category) -> Iterator[tuple[Amount, Wish]]:
        for amount in map(partial(_paid, rest=rest, category=category), amounts(rest)):
            counted = self._count(amount, rest, category)
            if counted is not None:
                yield counted
            elif not _is_other_currency(amount, category):
                wish = self._limit(amount, rest, category)
                if wish is not None:
                    yield amount, wish

    def _count(self, amount: Amount, rest: str, category: Category) -> tuple[Amount, Wish] | None:
        """Return the wish for a number of a property without a unit, and the amount without other words: "2
        persons", "a tent for two", "size 42"; None for another amount."""
        if amount.dimension in NAMED_DIMENSIONS:
            return None
        name = self._counted_after(amount, category)
        if name is None:
            name = self._counted_before(amount, rest, category)
            amount = amount._replace(unit="", end=amount.number_end)
        if name is None:
            return None
        before, after = rest[max(0, amount.start - _BEFORE) : amount.start], rest[amount.end :][:_AFTER]
        number, bound = f"{amount.value:g}", bound_before(before)
        if amount.to is not None:
            said = f"between {min(amount.value, amount.to):g} and {max(amount.value, amount.to):g}"
            return amount, Wish(name, said, least=amount.least, most=amount.most)
        is_strict = STRICT.search(before) is not None and (UPPER.search(before) is None) == (bound == "lower")
        if bound == "upper" or AFTER_UPPER.match(after):
            said = f"{'less than' if is_strict else 'at most'} {number}"
            return amount, Wish(name, said, most=amount.value, is_strict=is_strict)
        if bound == "lower" or AFTER_LOWER.match(after):
            said = f"{'more than' if is_strict else 'at least'} {number}"
            return amount, Wish(name, said, least=amount.value, is_strict=is_strict)
        return amount, Wish(name, number, least=amount.value, most=amount.value)

    def _counted_after(self, amount: Amount, category: Category) -> str | None:
        """Return the property without a unit that the word after a number names: "2 vestibules"."""
        if not amount.unit:
            return None
        stem, counts = self._words.stem(amount.unit), category.counts
        found = min((name for name in counts if stem in category.names[name]), key=len, default=None)
        return self._persons(category) if found is None and amount.dimension in PERSONS else found

    def _counted_before(self, amount: Amount, rest: str, category: Category) -> str | None:
        """Return the property without a unit that the words before a number name: "size 42", "tent for 2"."""
        before = rest[max(0, amount.start - _BEFORE) : amount.start]
        bound = UPPER.search(before) or LOWER.search(before)
        lead = before[: bound.start("said")] if bound else before
        words = PIECE.findall(lead)
        if not words or (amount.is_word and amount.unit):
            return None
        stem = self._words.stem(words[-1])
        named = next((name for name in category.counts if category.names[name] == frozenset({stem})), None)
        if named is not None or amount.unit or amount.most > _MOST_PERSONS:
            return named
        is_for = FOR_PERSONS.search(lead)
        is_for_persons = is_for is not None and self._words.stem(is_for["what"]) in category.stems
        return self._persons(category) if is_for_persons or SLEEPS.search(lead) else None

    def _persons(self, category: Category) -> str | None:
        stems = frozenset(map(self._words.stem, PERSONS))
        return next((name for name in category.counts if category.names[name] & stems), None)

    def _in_other_currency(self, rest: str, category: Category) -> tuple[str, ...]:
        """Return the amounts of money that prices cannot be compared with, as an answer lists them."""
        found = map(partial(_paid, rest=rest, category=category), amounts(rest))
        reason = f"prices are in {' and '.join(category.currencies)}"
        return tuple(f"{one.shown} ({reason})" for one in found if _is_other_currency(one, category))

    def _limit(self, amount: Amount, rest: str, category: Category) -> Wish | None:
        before = rest[max(0, amount.start - _BEFORE) : amount.start]
        after = rest[amount.end : amount.end + _AFTER]
        is_paid = amount.dimension == "money"
        is_load, bound = LOADS.search(before) is not None, bound_before(before)
        is_upper = not is_load and (bound == "upper" or AFTER_UPPER.match(after) is not None)
        is_lower = is_load or (bound == "lower" or AFTER_LOWER.match(after) is not None)
        if not amount.unit:
            if not (is_upper or is_lower) or amount.is_word:
                return None
            of_stars = RATING_ASKED.search(before) is not None  # "rated above 4"; else "under 80"
            unit, dimension = ("stars", "stars") if of_stars else ("$", "money")
            amount = amount._replace(unit=unit, dimension=dimension)
        name = self._limited(amount, rest, category)
        currency = ""
        if name == PRICE and category.currencies:
            currency = amount.unit.upper() if is_paid else category.currencies[0]
            amount = amount._replace(unit=currency.casefold())
        if name is None:
            is_limit = (is_upper or is_lower) and amount.dimension in NAMED_DIMENSIONS - {"time"}
            return Wish(amount.shown, amount.shown, is_known=False) if is_limit else None
        if amount.to is not None or ABOUT.search(before):
            return replace(_between(name, amount), currency=currency)
        if category.is_range(name):
            return Wish(name, f"for {amount.shown}", least=amount.least, most=amount.most)
        is_colder = _is_coldest(name) and AT_LEAST.search(before) is not None
        if is_upper or is_colder or (not is_lower and (name == PRICE or _good_is_low(name))):
            return Wish(name, f"at most {amount.shown}", most=amount.most, currency=currency)
        return Wish(name, f"at least {amount.shown}", least=amount.least, currency=currency)

    def _limited(self, amount: Amount, rest: str, category: Category) -> str | None:
        """Return the property that an amount limits: by its unit and size; of several by the words near, or
        the one that has values around it."""
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
        for word in PIECE.findall(near):
            meant = self._property_of(LEXICON[word].properties, category, near) if word in LEXICON else None
            if meant in having:
                return meant
        if amount.dimension == "time" and amount.factor >= _A_DAY_S and not LASTS.search(near):
            return None  # an age, or a wait
        return min(having, key=lambda name: category.factor_outside(name, amount), default=None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it is read."""

    question: str
    named: tuple[KnownItem, ...]
    rest: str
    """Folded, with an asterism for each item and the documents' words for the glossary's."""
    meanings: Mapping[str, str]

    def as_written(self, rest: str, place: tuple[int, int]) -> str:
        """Return the words of the question at a place of ``rest``, with the negation before them."""
        phrase = rest[slice(*place)]
        meant = (said for said, own in self.meanings.items() if phrase in pieces(own))
        said = next(meant, phrase)
        at = fold(self.question).find(said)
        if at >= 0 and len(fold(self.question)) == len(self.question):
            said = self.question[at : at + len(said)]
        no = "no " if stance(rest, *place) == "unwanted" else ""
        return f"{no}{said}" if len(said) <= _LONGEST_UNREAD else ""


def _is_occasion(rest: str, phrase: str) -> bool:
    """Return whether a phrase of a folded question says when or what for, not what is wanted."""
    before, found, _ = rest.partition(phrase)
    return bool(found) and OCCASION.search(before) is not None


def _with_meanings(rest: str, meanings: Mapping[str, str]) -> str:
    """Return a folded question with what documents call its words of the glossary in their place."""
    if not meanings:
        return rest
    words = (r"\W{1,2}".join(map(re.escape, PIECE.findall(said))) for said in sorted(meanings, key=len)[::-1])
    pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(words)})(?![^\W_])")
    by_words = {tuple(PIECE.findall(said)): fold(meant) for said, meant in meanings.items()}
    return pattern.sub(lambda found: by_words.get(tuple(PIECE.findall(found[0])), found[0]), rest)


def _phrases(tokens: Sequence[re.Match[str]], text: str) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of the words that stand side by side; none without a word of three letters."""
    start = end = 0
    for token in (*tokens, None):
        if token is not None and end and text[end : token.start()] in (" ", "-"):
            end = token.end()
            continue
        if _WORD.search(text, start, end):
            yield start, end
        if token is not None:
            start, end = token.span()


def _paid(amount: Amount, *, rest: str, category: Category) -> Amount:
    """Return an amount of money with the code of the prices' currency, where its name may mean that one.

    "Pounds" are money where the prices are, or where no item has such a mass, unless words near say a mass.
    """
    if amount.unit in ("pound", "pounds"):
        near = rest[max(0, amount.start - _BEFORE) : amount.end + _AFTER]
        massive = [name for name, spans in category.numbers.items() if spans[0].dimension == "mass"]
        is_mass = any(category.is_plausible(name, amount) for name in massive)
        if not WEIGHS.search(near) and ("GBP" in category.currencies or not is_mass):
            amount = amount._replace(unit="gbp", dimension="money", factor=1.0)
    meant = currencies_of(amount.unit)
    code = next((code for code in category.currencies if code in meant), None)
    return amount if code is None else amount._replace(unit=code.casefold())


def _is_other_currency(amount: Amount, category: Category) -> bool:
    is_priced = amount.dimension == "money" and bool(category.currencies)
    return is_priced and amount.unit.upper() not in category.currencies


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
    around = abs(amount.value) * _ABOUT_SHARE
    ends = (
        (amount.value, amount.to) if amount.to is not None else (amount.value - around, amount.value + around)
    )
    low, high = min(ends), max(ends)
    said = f"between {shown_amount(low, amount.unit)} and {shown_amount(high, amount.unit)}"
    return Wish(name, said, least=amount.in_first_unit(low), most=amount.in_first_unit(high))


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
    return _is_coldest(name) or (bool(words & GOOD_IS_LOW) and not {"run", "time"} <= words)


def _is_coldest(name: str) -> bool:
    """Return whether a property is the lowest temperature that an item is good for: lower is better."""
    words = frozenset(pieces(name))
    return "temperature" in words and bool(words & COLDEST)
