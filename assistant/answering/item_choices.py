"""Reads wishes for properties without a number: "with GPS", "that folds", "not plastic", "glass or steel"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from assistant.answering.item_directory import Category, pieces
from assistant.answering.item_words import PIECE, Stance, stance
from assistant.text.language import Language, fold

DISCONTINUED = "Discontinued"
"""Property of an item that is not sold any more: it is compared, never recommended."""
_NO_WISH = frozenset({DISCONTINUED, "Fits", "In the box", "Works with", "Returns"})
"""Properties whose values are no words for what an item is like."""
_PARTS = re.compile(r"[,;/]|\b(?:and|or)\b", re.IGNORECASE)
_LACKS = re.compile(r"\A\W*(?:no|non|without|not)\b", re.IGNORECASE)
_ENDINGS = ("able", "ible")
_WEAK = frozenset({"safe", "proof", "alert", "alarm", "function"})
"""Words of a property's name that questions leave out: "goes into the dishwasher"."""
_LEAST_OF_NAME = 4
"""Letters of a name's only other word, so that it may stand for the name."""
_LESS = re.compile(r"\b([^\W\d_]{4,})less\b")


class Part(NamedTuple):
    """One part of a value: "forehead" and "no contact" of "forehead, no contact"."""

    stems: frozenset[str]
    lacks: bool
    """Whether the item lacks it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the value of a property must be."""

    any_of: frozenset[Part] = frozenset()
    all_of: frozenset[Part] = frozenset()
    none_of: frozenset[Part] = frozenset()

    def is_met(self, text: str, words: Language) -> bool:
        parts = frozenset(part for part, _ in parts_of(text, words))
        has_any = not self.any_of or bool(self.any_of & parts)
        return has_any and self.all_of <= parts and not self.none_of & parts


class SaidChoice(NamedTuple):
    """A property without a number that a question says."""

    name: str
    said: str
    """As it is shown; empty where the asker does not mind."""
    choice: Choice
    stems: frozenset[str]
    """Stems of the words that say it."""


def parts_of(value: str, words: Language) -> list[tuple[Part, str]]:
    """Return the parts of a value, each with its words."""
    found: list[tuple[Part, str]] = []
    for written in _PARTS.split(value):
        own = pieces(written)
        lacks = len(own) > 1 and _LACKS.match(written) is not None
        stems = words.content_stems(written) or frozenset(own)
        if stems:
            found.append((Part(stems, lacks), written.strip()))
    return found


def blanked(text: str, start: int, end: int, *, by: str = " ") -> str:
    """Return a text of the same length with blanks, or another character, at [start, end)."""
    return text[:start] + by * (end - start) + text[end:]


def roots(word: str, words: Language) -> frozenset[str]:
    """Return the stems that a word is matched by: "foldable" is "fold", too."""
    found = {words.stem(word)}
    for ending in _ENDINGS:
        root = word.removesuffix(ending)
        if root != word and len(root) > 2:
            found |= {words.stem(root), words.stem(f"{root}e")}
    return frozenset(found)


class ChoiceReader:
    """Reads the choices of one category from folded questions."""

    def __init__(self, category: Category, words: Language) -> None:
        self._category = category
        self._words = words
        self._values: Mapping[str, Sequence[tuple[Part, str]]] = {
            name: [part for value in values for part in parts_of(value, words)]
            for name, values in category.choices.items()
        }
        spelled = [pieces(name) for name in category.names if len(pieces(name)) > 1]
        spelled += [pieces(written) for own in self._values.values() for _, written in own]
        self._phrases = frozenset(tuple(map(words.stem, own)) for own in spelled)
        self._longest = max(map(len, self._phrases), default=0)
        named = (word for name in category.choices for word in pieces(name))
        self._own = frozenset(map(words.stem, named)).union(
            *(part.stems for parts in self._values.values() for part, _ in parts)
        )

    def plain(self, text: str) -> str:
        """Return a text with "no contact" for "contactless", where the category's values say "contact"."""

        def spelled(found: re.Match[str]) -> str:
            is_own = self._words.stem(found[1]) in self._own and self._words.stem(found[0]) not in self._own
            return f"no {found[1]}" if is_own else found[0]

        return _LESS.sub(spelled, text)

    def without_names(self, text: str) -> str:
        """Return a text with blanks for names of properties, of two words or more, and for values.

        "Red light" asks for nothing light.
        """
        tokens = list(PIECE.finditer(text))
        stems = [self._words.stem(token[0]) for token in tokens]
        for start in range(len(tokens)):
            for end in range(start + 1, min(len(tokens), start + self._longest) + 1):
                if tuple(stems[start:end]) in self._phrases:
                    text = blanked(text, tokens[start].start(), tokens[end - 1].end())
        return text

    def said(self, text: str) -> Iterator[SaidChoice]:
        """Yield what a text says of each property, once each."""
        places = self._places(text)
        for name, values in self._category.choices.items():
            if name in _NO_WISH:
                continue
            if {fold(value) for value in values} <= {"yes", "no"}:
                found = self._said_yes_or_no(name, text, places)
            else:
                found = self._said_values(name, text, places)
            if found is not None:
                yield found

    def _places(self, text: str) -> Mapping[str, tuple[int, int]]:
        """Return where the first word with each stem is, [start, end); "water proof" is one word, too."""
        tokens = list(PIECE.finditer(text))
        found: dict[str, tuple[int, int]] = {}
        for at, token in enumerate(tokens):
            for stem in roots(token[0], self._words):
                found.setdefault(stem, token.span())
            if at + 1 < len(tokens) and tokens[at + 1].start() - token.end() == 1:
                joined = token[0] + tokens[at + 1][0]
                found.setdefault(self._words.stem(joined), (token.start(), tokens[at + 1].end()))
        return found

    def _said_yes_or_no(
        self, name: str, text: str, places: Mapping[str, tuple[int, int]]
    ) -> SaidChoice | None:
        own = [word for word in pieces(name) if self._words.content_stems(word)] or pieces(name)
        wanted = [roots(word, self._words) for word in own]
        free, joined = [word for word in own if word != "free"], "".join(pieces(name))
        if len(free) < len(own):  # "Latex-free": "without latex", "latex-free"
            place = _place([roots(word, self._words) for word in free], places)
            is_yes = "unwanted"
        else:
            place = _place(wanted, places) or places.get(self._words.stem(joined))
            is_yes = "wanted"
            if place is None:
                strong = [word for word in own if word not in _WEAK]
                if len(strong) < len(own) and (len(strong) > 1 or own[-1] == "safe"):
                    place = _place([roots(word, self._words) for word in strong], places)
        if place is None:
            return None
        stems = frozenset[str]().union(*wanted, {self._words.stem(joined)}) | roots("free", self._words)
        way = stance(text, *place)
        if way == "open":
            return SaidChoice(name, "", Choice(), stems)
        said = "yes" if way == is_yes else "no"
        part = Part(frozenset({said}), lacks=False)
        return SaidChoice(name, said, Choice(any_of=frozenset({part})), stems)

    def _said_values(self, name: str, text: str, places: Mapping[str, tuple[int, int]]) -> SaidChoice | None:
        said: dict[Part, tuple[str, Stance, tuple[int, int]]] = {}
        for part, written in self._values[name]:
            place = _place([frozenset({stem}) for stem in part.stems], places)
            if place is not None:
                way = stance(text, *place)
                if part.lacks and way != "open":
                    way = "wanted" if way == "unwanted" else "unwanted"
                said[part] = (written, way, place)
        longest = {
            part: one for part, one in said.items() if not any(part.stems < other.stems for other in said)
        }
        if not longest:
            return None
        stems = frozenset[str]().union(*(part.stems for part in longest))
        wanted = {part: one for part, one in longest.items() if one[1] == "wanted"}
        unwanted = {part: one[0] for part, one in longest.items() if one[1] == "unwanted"}
        if not (wanted or unwanted):
            return SaidChoice(name, "", Choice(), stems)
        together = self._are_together(name, wanted, text, [place for _, _, place in wanted.values()])
        words = [(" and " if together else " or ").join(one[0] for one in wanted.values())]
        words += [f"not {written}" for written in unwanted.values()]
        choice = Choice(
            any_of=frozenset() if together else frozenset(wanted),
            all_of=frozenset(wanted) if together else frozenset(),
            none_of=frozenset(unwanted) - frozenset(wanted),
        )
        return SaidChoice(name, ", ".join(filter(None, words)), choice, stems)

    def _are_together(
        self, name: str, wanted: Iterable[Part], text: str, places: Sequence[tuple[int, int]]
    ) -> bool:
        """Return whether one value has all parts, and the question does not join them by "or"."""
        parts = frozenset(wanted)
        if len(parts) < 2:
            return False
        between = text[min(start for start, _ in places) : max(end for _, end in places)]
        values = self._category.choices[name]
        has_all = any(parts <= {part for part, _ in parts_of(value, self._words)} for value in values)
        return has_all and " or " not in between


def _place(wanted: Sequence[frozenset[str]], places: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Return [start, end) of the words that have a stem of each set, from the first to the last; None where
    one is missing. Words far apart count as the first of them."""
    found: list[tuple[int, int]] = []
    for stems in wanted:
        place = min((places[stem] for stem in stems if stem in places), default=None)
        if place is None:
            return None
        found.append(place)
    if not found:
        return None
    first, last = min(found), max(found)
    return first if last[1] - first[0] > _NEAR else (first[0], last[1])


_NEAR = 30
"""Characters from the first to the last word of one phrase."""
