"""The lists of Office files: their numbers, as Word counts and shows them, and lists in lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from xml.etree.ElementTree import Element

from assistant.documents.page import Block, Item, List
from assistant.documents.parsing.html import counted
from assistant.options.office.formats.ooxml import find, is_on, number, value

DEEPEST_LEVEL = 8
_PLACEHOLDER = re.compile(r"%([1-9])")
_SHOWN_ITSELF = "•"
"""For a sign of a bullet that is a letter of a font of symbols."""


_KINDS = {"lowerLetter": "a", "upperLetter": "A", "lowerRoman": "i", "upperRoman": "I"}
"""Word's formats as HTML calls them. Another format is shown in digits."""


def shown(count: int, number_format: str) -> str:
    """Return a number in one of Word's formats, whose letters go on with "aa" and "bb" after "z"."""
    if number_format == "none":
        return ""
    if number_format == "decimalZero":
        return f"{count:02}"
    kind = _KINDS.get(number_format, "1")
    rounds, place = divmod(count - 1, 26) if kind in "aA" and count > 0 else (0, count - 1)
    return counted(place + 1, kind) * (rounds + 1)


class Numbering:
    """Counts the items of all lists of a document, in its order."""

    def __init__(self, root: Element, style_lists: Mapping[str, str]) -> None:
        """``style_lists``: the list of each style of lists, by the style's id."""
        kinds, lists = root.findall("abstractNum"), root.findall("num")
        self._levels = {
            kind.get("abstractNumId"): {_level_of(level): level for level in kind.findall("lvl")}
            for kind in kinds
        }
        self._lists = {entry.get("numId", ""): value(entry, "abstractNumId") for entry in lists}
        self._own = {
            (entry.get("numId", ""), _level_of(own)): own
            for entry in lists
            for own in entry.findall("lvlOverride")
        }
        """Levels that a list has instead of those of its kind, and where it starts again."""
        self._counts: dict[str, list[int | None]] = {}
        self._begun = set[str]()
        links = {
            kind.get("abstractNumId"): style_lists.get(value(kind, "numStyleLink"), "") for kind in kinds
        }
        for number_id, kind in self._lists.items():
            self._lists[number_id] = self._lists.get(links.get(kind, ""), kind)

    def level_of_style(self, number_id: str, style_id: str, default: int) -> int:
        """Return the level of a list that a paragraph's style stands for."""
        for place, level in self._levels.get(self._lists.get(number_id, ""), {}).items():
            if value(level, "pStyle") == style_id:
                return place
        return default

    def next(self, number_id: str, place: int) -> tuple[str, bool]:
        """Count an item. Return what stands before it, empty for nothing, and whether it is a number."""
        kind = self._lists.get(number_id)
        if kind is None or not 0 <= place <= DEEPEST_LEVEL:
            return "", False
        counts = self._counts.setdefault(kind, [None] * (DEEPEST_LEVEL + 1))
        if number_id not in self._begun:
            self._begun.add(number_id)
            for level in range(DEEPEST_LEVEL + 1):
                if self._start_again(number_id, level) is not None:
                    counts[level] = None
        for above in range(place):
            counts[above] = self._start(number_id, above) if counts[above] is None else counts[above]
        last = counts[place]
        counts[place] = self._start(number_id, place) if last is None else last + 1
        for below in range(place + 1, DEEPEST_LEVEL + 1):
            restart = find(self._level(number_id, below), "lvlRestart")
            if restart is None or number(restart) > place:
                counts[below] = None
        return self._shown(number_id, place, counts)

    def _level(self, number_id: str, place: int) -> Element | None:
        level = find(self._own.get((number_id, place)), "lvl")
        return self._levels.get(self._lists[number_id], {}).get(place) if level is None else level

    def _start_again(self, number_id: str, place: int) -> int | None:
        start = find(self._own.get((number_id, place)), "startOverride")
        return None if start is None else number(start)

    def _start(self, number_id: str, place: int) -> int:
        again = self._start_again(number_id, place)
        return number(find(self._level(number_id, place), "start")) if again is None else again

    def _shown(self, number_id: str, place: int, counts: list[int | None]) -> tuple[str, bool]:
        level = self._level(number_id, place)
        if level is None:
            return "", False
        pattern = value(level, "lvlText")
        if _format(level) == "bullet":
            sign = pattern.strip()
            is_shown = sign and sign.isprintable() and not sign.isalnum()
            return (sign if is_shown else _SHOWN_ITSELF) if pattern else "", False
        is_legal = is_on(level.find("isLgl"))

        def count(found: re.Match[str]) -> str:
            other = int(found[1]) - 1
            number_of, of = counts[other] or 0, self._level(number_id, other)
            return shown(number_of, "decimal" if is_legal or of is None else _format(of))

        marker = _PLACEHOLDER.sub(count, pattern).strip()
        return marker, any(map(str.isalnum, marker))


def _level_of(element: Element) -> int:
    value = element.get("ilvl", "0")
    return int(value) if value in tuple("012345678") else DEEPEST_LEVEL


def _format(level: Element) -> str:
    return value(level, "numFmt", default="decimal")


@dataclass(frozen=True, slots=True)
class Point:
    """An item of a list before the lists are nested."""

    level: int
    is_ordered: bool
    item: Item


def nested(entries: Iterable[Block | Point]) -> tuple[Block, ...]:
    """Return blocks with the items that follow each other as lists in lists."""
    blocks: list[Block] = []
    for is_list, group in groupby(entries, key=lambda entry: isinstance(entry, Point)):
        if is_list:
            blocks += _lists([entry for entry in group if isinstance(entry, Point)])
        else:
            blocks += [entry for entry in group if not isinstance(entry, Point)]
    return tuple(blocks)


def _lists(points: Sequence[Point]) -> Iterator[List]:
    start = 0
    groups: list[tuple[bool, Item]] = []
    while start < len(points):
        point, end = points[start], start + 1
        while end < len(points) and points[end].level > point.level:
            end += 1
        inner = (*point.item.blocks, *_lists(points[start + 1 : end]))
        groups.append((point.is_ordered, replace(point.item, blocks=inner)))
        start = end
    for is_ordered, group in groupby(groups, key=lambda entry: entry[0]):
        yield List(tuple(item for _, item in group), is_ordered=is_ordered)
