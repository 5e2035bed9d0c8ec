"""Words, sentences and quantities of a text, in one language.

en = language("en")
en.content_stems("Which fees are due?")  # {"fee", "due"}
[span.text for span in split_sentences("Ask Dr. Smith. He knows.")]  # ["Ask Dr. Smith.", "He knows."]
quantities("two tablets of 10mg").measures  # {("2", "tablet"), ("10", "mg")}
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from math import log
from threading import Lock
from typing import cast

from snowballstemmer import stemmer  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from assistant.domain.errors import ConfigurationError

WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")
"""A word or number of folded text: "don't", "a1c". A hyphen separates words."""
_APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MODIFIER LETTER APOSTROPHE}": "'"})
_PUNCTUATION = ".,;:?!()[]\"'\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_CACHED_STEMS = 50_000
"""Words whose stems a language keeps."""
_LETTER_WORD = re.compile(r"[^\W\d_]{2,}")
_LONGEST_SHORT = 5
"""Letters of a short word. Of 27 texts in as many languages 26 to 80 % of these are among the commonest of
their language; where letters of like frequency are exchanged, at most 20 % in nineteen of twenty texts."""
_LEAST_KNOWN = 0.25
_LEAST_COMMON = 0.35
"""Share of all words that are common English ones."""
_FEWEST_SHORT = 8
_LEAST_SHORT = 0.2
"""Share of all words that are short ones, in small letters, where there are sentences."""
_COMMON_RANK = 1_500
"""Rank, by frequency, up to which a word tells next to nothing about the subject of a question."""


def word_file(name: str) -> list[str]:
    """Return the lines of a word list beside this module; empty lines and comments (``#``) are left out."""
    text = files("assistant.text").joinpath("words", f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def word_set(name: str) -> frozenset[str]:
    """Return all words of a word list."""
    return frozenset(" ".join(word_file(name)).split())


@cache
def word_groups(name: str) -> dict[str, frozenset[str]]:
    """Return the words of a list whose lines are "group: words", by group."""
    groups: dict[str, frozenset[str]] = {}
    for line in word_file(name):
        group, _, words = line.partition(": ")
        groups[group] = groups.get(group, frozenset()) | frozenset(words.split())
    return groups


class Language:
    """Tokens, stems and word rarity of one language. Use ``language(code)``, which makes one for each code.

    ``algorithm`` is snowball's name of the language; ``ranks``: rank of each common word, 0 the most
    frequent.
    """

    def __init__(self, *, algorithm: str, stop_words: frozenset[str], ranks: Mapping[str, int]) -> None:
        self._stop_words = stop_words
        self._ranks = ranks
        stem = cast("Callable[[str], str]", stemmer(algorithm).stemWord)  # pyright: ignore[reportUnknownMemberType]
        one_at_a_time = Lock()

        def stem_of(word: str) -> str:
            with one_at_a_time:  # the stemmer has the word in its state while it works
                return stem(word)

        # The stemmer takes some 20 µs a word and questions repeat words: the cache makes it 0.1 µs.
        self.stem: Callable[[str], str] = lru_cache(maxsize=_CACHED_STEMS)(stem_of)

    def content_words(self, text: str) -> Iterator[str]:
        """Return the words of a text that carry content, folded, not stemmed, in order."""
        return self._content(WORD.findall(fold(text)))

    def content_stems(self, text: str) -> frozenset[str]:
        """Return the set of stems of a text's content words."""
        return frozenset(map(self.stem, self._content(frozenset(WORD.findall(fold(text))))))

    def _content(self, words: Iterable[str]) -> Iterator[str]:
        """Yield the folded words, less "'s", that are neither stop words nor single letters."""
        for word in words:
            if word in self._stop_words:
                continue
            bare = word.removesuffix("'s")
            if bare not in self._stop_words and (len(bare) > 1 or bare.isdigit()):
                yield bare

    def question_key(self, text: str) -> str:
        """Return a key that two wordings of a question share if they differ only in case, white space,
        punctuation around words or inflection. Stop words stay in it: "to us" and "from us" ask for
        opposites."""
        words = (word.strip(_PUNCTUATION) for word in fold(text).split())
        return " ".join(self.stem(word) for word in words if word)

    def is_common(self, word: str) -> bool:
        """Return whether a folded word is one of about 12,000 common ones, or a stop word."""
        return word in self._ranks or word in self._stop_words

    def rarity(self, word: str) -> float:
        """Return how specific a word is, from 0.0 (very common) to 1.0 (not among the common words)."""
        rank = self._ranks.get(word)
        if rank is None:
            return 1.0
        # 0.0 at rank 0, 1.0 at rank 20,000; the square keeps words up to _COMMON_RANK below 0.07.
        return (log(1 + rank / _COMMON_RANK) / log(1 + 20_000 / _COMMON_RANK)) ** 2


def fold(text: str) -> str:
    """Return the text with compatibility characters, case and apostrophes normalised."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    return text.casefold()


def letters_of(name: str) -> str:
    """Return the folded letters and digits of a name: "bodyhtml" of "body_html" and "bodyHtml"."""
    return "".join(filter(str.isalnum, fold(name)))


@lru_cache
def language(code: str) -> Language:
    """Return the language of an ISO 639-1 code. Raises ConfigurationError when it is not supported."""
    if code != "en":
        raise ConfigurationError(f'language = "{code}": stop words and word ranks exist for "en" only.')
    # Stop words are closed word classes ("the", "of") and words of asking ("please"). Negations are stop
    # words too: they tell nothing about the subject, and the check of support reads them separately.
    ranks = {word: rank for rank, word in enumerate(word_file("en"))}
    return Language(algorithm="english", stop_words=word_set("en_stop"), ranks=ranks)


def tells_language(words: Iterable[str]) -> bool | None:
    """Return whether the words of a text in Latin letters are of a language.

    A text has the commonest short words of its language, whatever it is about, or common English words. One
    with short words as sentences have them ("suo" for each "the") that has neither is of none. None: too few
    words are short to tell, as in a list of names.
    """
    parts = [part for word in words for part in _LETTER_WORD.findall(unicodedata.normalize("NFC", word))]
    short = [part for part in parts if len(part) <= _LONGEST_SHORT and part.islower()]
    known = max(sum(map(group.__contains__, short)) for group in word_groups("short_words").values())
    common = sum(map(language("en").is_common, map(str.lower, parts)))
    expected = _LEAST_KNOWN * len(short)
    if (short and known >= expected) or common >= _LEAST_COMMON * len(parts):
        return True
    has_sentences = len(short) >= max(_FEWEST_SHORT, _LEAST_SHORT * len(parts))
    return False if has_sentences and known < expected - 1 else None


def is_compound(first: str, second: str) -> bool:
    """Return whether a hyphen at a line's end stays between two parts: beside a number, after a letter, and
    between words that make none together. "48-hour", "X-ray" and "well-known" have it, "anticoag-ulants" and
    "be-fore" do not."""
    en, (first, second) = language("en"), (fold(first), fold(second))
    if len(first) == 1 or first[-1:].isdigit() or second[:1].isdigit():
        return True
    # "in" of "in-network" is a word, "re" of "re-fill" is none: of two letters only stop words are
    is_word = en.is_common(first) and (len(first) > 2 or not [*en.content_words(first)])
    return is_word and en.is_common(second) and not en.is_common(first + second)


def longest_names(
    words: Sequence[str], names: Collection[str], *, longest: int
) -> Iterator[tuple[str, int, int]]:
    """Yield the names among folded words, the longest at each place: name, index of its first and last word.

    ``names``: folded words joined by spaces, at most ``longest`` words each. In ["the", "new", "york",
    "office"] the names "york" and "new york" give ("new york", 1, 2).
    """
    at = 0
    while at < len(words):
        sizes = range(min(longest, len(words) - at), 0, -1)
        candidates = (" ".join(words[at : at + size]) for size in sizes)
        name = next((candidate for candidate in candidates if candidate in names), None)
        if name is None:
            at += 1
            continue
        first, at = at, at + name.count(" ") + 1
        yield name, first, at - 1


# Sentences


_END_MARK = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\n]")
_CLOSING_SIGNS = r"[.!?\u2026\"'\u201d\u2019\u00bb)\]*_]"
"""Further end marks, closing quotation marks, brackets and emphasis, which belong to the sentence."""
_REFERENCE = r"\d{1,3}(?:\.\d{1,3})?"
"""A document, or a unit of it: "2", "2.4"."""
_REFERENCES = rf"{_REFERENCE}(?:[ \t]?[,;\u2013-][ \t]?{_REFERENCE}){{0,9}}"
"""Up to ten: "1.3, 1.5", "2.4-2.6"."""
CITATION = re.compile(
    rf"[ \t]{{0,8}}(?:\[[ \t]?(?P<cited>{_REFERENCES})[ \t]?\]|</?document(?: \d{{1,3}})?>)"
)
"""A citation with the blanks before it, " [2.4]"; or a delimiter of the prompt that the model repeats,
"</document>"."""
_CITATION_BEGUN = re.compile(r"[ \t]{0,8}(?:\[[\d.,;\u2013 \t-]*|<[/a-z\d ]{0,14})\Z")
"""The end of a text that may become a ``CITATION`` when more comes: " [2.", "</docu"."""
_AFTER_MARK, _AFTER_MARK_CITED = (
    re.compile(rf"(?P<closers>(?:{closers})*)(?P<space>[^\S\n]*)(?P<follows>\S|\n)?")
    for closers in (_CLOSING_SIGNS, f"{_CLOSING_SIGNS}|{CITATION.pattern}")
)
"""The text after an end mark: closing signs, white space, and the first character that ``follows``; without
that the text ends there so far."""
_FULL_WIDTH = frozenset("\u3002\uff01\uff1f")
"""End marks of Chinese and Japanese, after which no white space is written."""
_LIST_NUMBER = re.compile(r"[\s*_#>-]*(?:step\s+)?(?:\d{1,3}|[A-Za-z])\Z", re.IGNORECASE)
"""The number before the full stop of a list item: "1", "- Step 2", "b"."""
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018]+\Z")
_LONGEST_BEFORE = 40
"""Characters that are checked before a full stop: longer than any abbreviation or list number."""
_LONGEST_FUNCTION_WORD = 3
"""Letters of "by", "von" or "and", which may be before an initial; "plan" or "vitamin" is a thing that has a
letter."""
_SUBSTANCE = re.compile(r"[^\W_]")

_BEFORE_A_STOP = word_groups("en_abbreviations")
_ALWAYS_CONTINUES = _BEFORE_A_STOP["always"]
"""Abbreviations whose full stop never ends a sentence."""
_MAY_CONTINUE = _BEFORE_A_STOP["maybe"]
"""Abbreviations whose full stop ends a sentence only before a capital letter."""
_TIMES_OF_DAY = frozenset({"a.m", "p.m"})
_ZONES = _BEFORE_A_STOP["zone"]
"""Names of time zones, which may follow "p.m." although they begin with a capital letter."""
_LONGEST_ZONE = max(map(len, _ZONES))
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class SentenceSpan:
    """[start, end) of a sentence in the answer's text, without surrounding white space."""

    start: int
    end: int
    text: str


class SentenceSplitter:
    """Splits one answer into sentences while it is written, part by part.

    A sentence is yielded as soon as its end is certain: a line break, or an end mark with its closing signs
    and the character after them. The text is scanned once, and the ends do not depend on how it was cut into
    parts.

        splitter = SentenceSplitter()
        [*splitter.push("It is $2. A")]  # [SentenceSpan(0, 9, "It is $2.")]
        [*splitter.push("sk us")]  # []
        [*splitter.flush()]  # [SentenceSpan(10, 16, "Ask us")]
    """

    __slots__ = ("_after_mark", "_looked_at", "_pending", "_start", "_taken")

    def __init__(self, *, cites: bool = False) -> None:
        """``cites``: whether citations after the end mark belong to the sentence."""
        self._after_mark = _AFTER_MARK_CITED if cites else _AFTER_MARK
        self._pending = ""
        """Text whose sentences are not complete, after what is ``_taken``."""
        self._start = 0
        """Where ``_pending`` begins in the answer's text."""
        self._taken = 0
        """Characters of ``_pending`` that were yielded; they are cut off with the next part, not with each
        sentence."""
        self._looked_at = 0
        """Characters of ``_pending`` that are searched: from ``_taken`` up to here no sentence ends."""

    def push(self, text: str) -> Iterator[SentenceSpan]:
        """Take the next part and yield the sentences whose end is certain now."""
        self._pending = self._pending[self._taken :] + text
        self._start += self._taken
        self._looked_at -= self._taken
        self._taken = 0
        while (end := self._next_end(final=False)) is not None:
            yield from self._take(end)

    def flush(self) -> Iterator[SentenceSpan]:
        """Yield the remaining sentences; call it once, at the end of the text."""
        while (end := self._next_end(final=True)) is not None:
            yield from self._take(end)
        yield from self._take(len(self._pending))

    def _next_end(self, *, final: bool) -> int | None:
        """Return where the next sentence ends in ``_pending``; None when no end is certain yet."""
        while mark := _END_MARK.search(self._pending, self._looked_at):
            if mark[0] == "\n":
                return mark.end()
            after = self._after_mark.match(self._pending, mark.end())
            ends = None if after is None else self._ends(mark, after, final=final)
            if after is None or ends is None:
                self._looked_at = mark.start()
                return None
            if ends:
                return after.end("closers")
            # An end mark among the closing signs ends no sentence either: the same character follows it.
            self._looked_at = after.end("closers")
        self._looked_at = len(self._pending)
        return None

    def _ends(self, mark: re.Match[str], after: re.Match[str], *, final: bool) -> bool | None:
        """Return whether a mark ends a sentence; None if that depends on text that has not come yet.
        ``final``: none will."""
        is_begun = _CITATION_BEGUN.match(self._pending, after.end("closers"))
        if not final and (after["follows"] is None or is_begun):
            return None
        if not self._can_end(mark, after):
            return False
        zone_follows = self._zone_follows(mark.start(), after, final=final)
        return None if zone_follows is None else not zone_follows

    def _can_end(self, mark: re.Match[str], after: re.Match[str]) -> bool:
        """Return whether a mark ends a sentence, by the characters after it; time zones are left out."""
        follows = after["follows"]
        if mark[0] in _FULL_WIDTH or follows is None or follows == "\n":
            return True
        if not after["space"]:
            return False  # "0.5", "e.g.", an address: no white space after it
        if mark[0] in "!?" or any(closer in "!?" for closer in after["closers"]):
            return not follows.islower()
        return self._full_stop_ends(mark.start(), after, follows)

    def _full_stop_ends(self, at: int, after: re.Match[str], follows: str) -> bool:
        """Return whether the full stop at ``at``, with white space after it, ends a sentence and no
        abbreviation."""
        if follows.islower():
            return False
        if after["closers"]:
            return True  # closed by a quotation mark, a bracket or a citation
        start = self._taken
        if at - start < _LONGEST_BEFORE and _LIST_NUMBER.fullmatch(self._pending, start, at):
            return False  # "1. Ask for the card."
        first = max(start, at - _LONGEST_BEFORE)
        word = _LAST_WORD.search(self._pending, first, at)
        last = word[0].casefold() if word else ""
        if follows.isupper() and _is_initial(self._pending[first:at]):
            return False
        return last not in _ALWAYS_CONTINUES and (follows.isupper() or last not in _MAY_CONTINUE)

    def _zone_follows(self, at: int, after: re.Match[str], *, final: bool) -> bool | None:
        """Return whether a time of day is followed by its zone: "10 p.m. Eastern". None: not known yet."""
        if after["closers"] or after["follows"] in (None, "\n"):
            return False
        word = _LAST_WORD.search(self._pending, max(self._taken, at - _LONGEST_BEFORE), at)
        if word is None or word[0].casefold() not in _TIMES_OF_DAY:
            return False
        zone = _LETTERS.match(self._pending, after.end("space"))
        if zone is None:
            return False
        if zone.end() == len(self._pending) and not final and len(zone[0]) <= _LONGEST_ZONE:
            return None
        return zone[0] in _ZONES

    def _take(self, end: int) -> Iterator[SentenceSpan]:
        """Yield the text up to ``end`` of ``_pending`` as a sentence, if it has a letter or digit. Count it
        as taken."""
        piece = self._pending[self._taken : end]
        text = piece.strip()
        if _SUBSTANCE.search(text):
            start = self._start + self._taken + len(piece) - len(piece.lstrip())
            yield SentenceSpan(start, start + len(text), text)
        self._taken = self._looked_at = end


def _is_initial(before: str) -> bool:
    """Return whether a text ends in an initial, "by K", ", N" or "Dr. K", and not in a letter that names a
    thing, "plan B", or ends a list, "II, IV or V"."""
    second, last, initial = ["", "", "", *before.split()][-3:]
    if initial[:1] in "([" and initial[1:].isupper():
        return len(initial) == 2
    second = second.rstrip(",")
    is_listed = len(second) == 1 or (second.isalnum() and second.isupper())
    if len(initial) != 1 or not initial.isupper() or is_listed:
        return False
    if last.endswith("."):
        return len(last) == 2 or last[:-1].casefold() in _ALWAYS_CONTINUES
    is_short = last.islower() and len(last) <= _LONGEST_FUNCTION_WORD and initial != "I"
    return is_short or (last.endswith(",") and len(last) > 2)


def split_sentences(text: str) -> list[SentenceSpan]:
    """Return the sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.flush()]


# Quantities


_UNIT_LINES = [line.partition(" = ") for line in word_file("en_units")]
"""Lines of names of a unit and, if it is converted, its size, cut at " = ": "kg, kilogram = 1000 g"."""
_UNITS = {name: names.split(", ")[0] for names, _, _ in _UNIT_LINES for name in names.split(", ")}
"""First name of a unit by each folded name: "kg" by "kilogram"."""
UNIT_SIZES = {
    name: (counted_in, float(size))
    for names, _, converted in _UNIT_LINES
    if converted
    for size, counted_in in [converted.split()]
    for name in names.split(", ")
}
"""By each folded name of a unit: the unit that it is converted to, and how many of those it is: ("g", 1000.0)
by "kg"."""
_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_TO_NINETEEN.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
"""Value of a word for a number: 12 by "twelve", 40 by "forty"."""
_NUMBER_WORDS = "|".join(sorted(_WORDS, key=len, reverse=True))
_DIGITS_VALUE = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
"""A number in digits: "1,000.5" or "0.5"."""
_VALUE = rf"(?:{_DIGITS_VALUE}|\b(?:{_NUMBER_WORDS})(?:[- ](?:{'|'.join(_TO_NINETEEN.split()[1:10])}))?\b)"
"""A number in digits or words: "12", "twelve", "forty-two"."""
_UNIT = "|".join(sorted((re.escape(name) for name in _UNITS), key=len, reverse=True))
_QUALIFIER = "(?:business|calendar|working|full|whole|consecutive|more|other)"
"""Words between a number and its unit: "two business days"."""
# A value, maybe with its ordinal ("nd" in "2nd"), then one of two: for the 5 in "5-10 mg" or "5 to 10 mg" the
# unit of the second value as ``later_unit``; or its own ``unit``, as in "10mg" and "two business days".
_QUANTITY = re.compile(
    rf"(?<![\w.])(?P<value>{_VALUE})(?P<ordinal>st|nd|rd|th)?"
    rf"(?:(?=\s?(?:-|\u2013|to|or|and)\s?{_VALUE}\s?-?(?P<later_unit>{_UNIT})(?!\w))|\s?-?(?:{_QUALIFIER}\s)?(?P<unit>{_UNIT})(?!\w))?"
)
_HYPHENATED_WORD = re.compile(r"(?<!\w)[^\W_]+(?:-[^\W_]+)*(?!\w)")
_LETTER = re.compile(r"[^\W\d_]")
_COUNTED = re.compile(r"\d+-[^\W\d_]+")
"""An adjective with a number, "2-digit": a quantity and no code."""
_DIGIT = re.compile(r"\d")
_BARE_DECIMAL_POINT = re.compile(r"\.(?<![\w.]\.)(?=\d)")
"""The dot of ".5", not that of "1.5" or "..5". The pattern begins with the literal dot and then looks back at
the character before it: that makes the search ten times faster."""
_ITEM_NUMBER = re.compile(r"\A[\s*_#>-]*(?:step\s+)?\d{1,3}[.):](?=\s)", re.IGNORECASE)
"""The number of a list item at the begin of a text: "2. ", "- Step 3: "."""


@dataclass(frozen=True, slots=True)
class Quantities:
    """Numbers, doses and codes of a text in one form.

    ``1,000`` is 1000, ``10mg`` is 10 mg, ``two`` is 2, ``75 percent`` is 75 %, ``5-10 mg`` is 5 mg and 10 mg.
    Units are not converted: 0.5 g is not 500 mg.
    """

    values: frozenset[str]
    """Every number, without its unit: "10" for "10 mg"."""
    measures: frozenset[tuple[str, str]]
    """(value, unit) of every number that has a unit."""
    bare: frozenset[str]
    """Every number that occurs without a unit at least once."""
    codes: frozenset[str]
    """Tokens of letters and digits: "a1c", "pr-2"."""

    @staticmethod
    def joined(parts: Sequence[Quantities]) -> Quantities:
        """Return the quantities of several texts together."""
        return Quantities(
            values=frozenset[str]().union(*(part.values for part in parts)),
            measures=frozenset[tuple[str, str]]().union(*(part.measures for part in parts)),
            bare=frozenset[str]().union(*(part.bare for part in parts)),
            codes=frozenset[str]().union(*(part.codes for part in parts)),
        )


def quantities(text: str) -> Quantities:
    """Return the numbers and codes of a text, without the number of a list item."""
    folded = _BARE_DECIMAL_POINT.sub("0.", _ITEM_NUMBER.sub("", fold(text)))
    measures: set[tuple[str, str]] = set()
    bare: set[str] = set()
    for match in _QUANTITY.finditer(folded):
        value = _value(match["value"])
        unit = match["unit"] or match["later_unit"]
        if unit:
            measures.add((value, _UNITS[unit]))
        else:
            bare.add(value)
    return Quantities(
        values=frozenset({value for value, _ in measures} | bare),
        measures=frozenset(measures),
        bare=frozenset(bare),
        codes=frozenset(filter(_is_code, _HYPHENATED_WORD.findall(folded))),
    )


def has_unsupported_numbers(claimed: Quantities, held: Quantities) -> bool:
    """Return whether a text claims a number, dose or code that another one (``held``) does not have.

    A number with a unit matches the same number with that unit or with none, because tables have units in
    their headings. A bare "one" is a pronoun as often as a number, and is ignored.
    """
    if not claimed.codes <= held.codes:
        return True
    if any(value not in held.values for value in claimed.bare - {"1"}):
        return True
    return any(measure not in held.measures and measure[0] not in held.bare for measure in claimed.measures)


def _is_code(token: str) -> bool:
    """Return whether a token has digits and letters, and is no number with a unit or adjective."""
    if _DIGIT.search(token) is None or _LETTER.search(token) is None:
        return False
    return not (_QUANTITY.fullmatch(token) or _COUNTED.fullmatch(token))


def _value(literal: str) -> str:
    """Return a match of ``_VALUE`` in one form: "1,000.50" is "1000.5", "forty-two" is "42"."""
    if literal[0].isdigit():
        number = literal.replace(",", "")
        whole, _, fraction = number.partition(".")
        fraction = fraction.rstrip("0")
        whole = whole.lstrip("0") or "0"
        return f"{whole}.{fraction}" if fraction else whole
    return str(sum(_WORDS[word] for word in re.split(r"[- ]", literal)))
