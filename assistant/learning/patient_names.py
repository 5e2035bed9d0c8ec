"""Recognises people's names by word lists, the words around them and their shape.

No language model is available. A name is reported when a list of given names or surnames knows it, when a
word before or after it says that a person is meant ("caller", "Mrs", "said"), or when two unknown words with
capital letters follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assistant.learning.patient_values import PATTERNS, Finding, PatientData
from assistant.text.language import fold, language, word_groups, word_set

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_MOST_WORDS = 5
"""Of one name."""
_NAMED, _GREETED = PATTERNS["named"], PATTERNS["greeted"]
"""What comes before a name that may be on no list; what comes before a name, and before much else."""
_CUES = word_groups("en_patient_cues")
_OTHER_ENDINGS = tuple(_CUES["endings"])
"""Of medicines, diseases and derived English words: no list of common words has them all."""
_PARTICLES, _SUFFIXES, _TITLES = _CUES["particles"], _CUES["suffixes"], _CUES["titles"]
_SAINTS = frozenset({"st", "saint", "mount"})
_ADDRESSES = _CUES["addresses"]
"""Titles that stand before names alone."""
_PEOPLE, _AFTER_PEOPLE, _THINGS_OF_PEOPLE = _CUES["people"], _CUES["after people"], _CUES["things of people"]
_DISEASES_AFTER = _CUES["diseases after"]
_NOT_PEOPLE_AFTER = _DISEASES_AFTER | _CUES["not people after"]
_NOT_ALONE = _CUES["not alone"]
"""Names that are oftener a word: a title before them or a surname after them must say that "
"a person is meant."""
_NOT_LOWER = _CUES["not lower"]
"""Names that are a word where they have no capital letter."""
_VERBS = _CUES["verbs"]
_MONTHS = _CUES["months"]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word with what the lists say of it. ``end`` is before a possessive "'s"."""

    start: int
    end: int
    folded: str
    has_capital: bool
    is_upper: bool
    is_possessive: bool
    is_given: bool
    is_surname: bool
    is_ambiguous: bool
    """A name that is also an English word or a place."""
    is_other: bool
    """Never a name: a common word, a medicine, a company, …"""
    is_common: bool
    """Among the common words, and none that tells of people."""

    @property
    def is_listed(self) -> bool:
        return self.is_given or self.is_surname

    @property
    def is_sure(self) -> bool:
        return self.is_listed and not self.is_ambiguous

    @property
    def is_unknown(self) -> bool:
        """With a capital letter and on no list: a rare name, or a product."""
        return self.has_capital and not self.is_listed and not self.is_other

    @property
    def is_initial(self) -> bool:
        return len(self.folded) == 1 and self.has_capital


class NameLists:
    """The lists of names and of words that are none, read once."""

    def __init__(self) -> None:
        self._given = word_set("en_given_names")
        self._surnames = word_set("en_surnames")
        self._ambiguous = word_set("en_name_words")
        self._never = frozenset[str]().union(*word_groups("en_never_names").values())
        self._is_common = language("en").is_common

    def words(self, text: str) -> list[_Word]:
        return [self._word(match) for match in _WORD.finditer(text)]

    def _is_word(self, part: str) -> bool:
        is_name = part in self._given or part in self._surnames
        return len(part) == 1 or part in self._ambiguous or (self._is_common(part) and not is_name)

    def _word(self, match: re.Match[str]) -> _Word:
        written = match[0].replace("\u2019", "'")
        is_possessive = written.lower().endswith("'s")
        whole, bare = fold(written), written[:-2] if is_possessive else written
        folded = fold(bare)
        parts = folded.split("-")
        is_compound = len(parts) > 1 and any(self._is_word(part) for part in parts)
        is_given = not is_compound and any(part in self._given for part in parts)
        is_surname = not is_compound and any(part in self._surnames for part in parts)
        is_surname = is_surname or (folded.startswith(("mc", "o'")) and not self._is_common(folded))
        is_never = whole in self._never or folded in self._never or folded in _TITLES or folded in _PEOPLE
        is_listed = (is_given or is_surname) and not (is_never and whole.endswith("'s"))
        is_common = self._is_common(folded) or (folded.endswith("s") and self._is_common(folded[:-1]))
        has_other_ending = folded.endswith(_OTHER_ENDINGS) and not folded.endswith(("vic", "vics"))
        return _Word(
            start=match.start(),
            end=match.end() - (2 if is_possessive else 0),
            folded=folded,
            has_capital=bare[:1].isupper(),
            is_upper=len(bare) > 1 and bare.isupper(),
            is_possessive=is_possessive,
            is_given=is_given and is_listed,
            is_surname=is_surname and is_listed,
            is_ambiguous=folded in self._ambiguous or is_never,
            is_common=is_common
            and not is_never
            and folded not in _AFTER_PEOPLE | _NOT_PEOPLE_AFTER | _THINGS_OF_PEOPLE,
            is_other=not is_listed and (is_never or is_common or (has_other_ending and len(folded) > 4)),
        )


class NameFinder:
    """Finds names in one text after another."""

    def __init__(self, lists: NameLists) -> None:
        self._lists = lists

    def find(self, text: str) -> list[Finding]:
        """Return the names of a text by their place. They do not overlap."""
        words = self._lists.words(text)
        named = {match.end() for pattern in (_NAMED, _GREETED) for match in pattern.finditer(text)}
        labelled = {match.end() for match in _NAMED.finditer(text)}
        read = _Reading(text, words, labelled=labelled, greeted=named - labelled)
        found = {name.start: name for name in read.names()}
        for name in _again(words, list(found.values())):
            found.setdefault(name.start, name)
        return sorted(found.values(), key=lambda name: name.start)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One text on its way through the rules."""

    text: str
    words: Sequence[_Word]
    labelled: set[int]
    """Places after words such as "her name is", where a name follows."""
    greeted: set[int]

    def names(self) -> Iterator[Finding]:
        at = 0
        while at < len(self.words):
            until = self._run(at) if self.words[at].has_capital else self._lower_run(at)
            score = self._score(at, until) if until > at else 0.0
            if score:
                last = self.words[until - 1]
                yield Finding(PatientData.PERSON, self.words[at].start, last.end, score)
            at = max(until, at + 1) if score else at + 1

    # where a name may end

    def _run(self, at: int) -> int:
        """Return the end of the run of words with capital letters that may be one name; ``at`` for none."""
        if not self._may_begin(at):
            return at
        until = at + 1
        while until < len(self.words) and until - at < _MOST_WORDS and self._goes_on(at, until):
            until += 1
        while until > at + 1 and (
            self.words[until - 1].folded in _PARTICLES and not self.words[until - 1].has_capital
        ):
            until -= 1
        return until

    def _may_begin(self, at: int) -> bool:
        word = self.words[at]
        following = self.text[word.end : word.end + 2].lstrip()
        is_date = word.folded in _MONTHS and following[:1].isdigit()
        if word.is_other or is_date or (word.is_initial and not self._is_before_name(at)):
            return False
        is_filler = word.folded in _NOT_ALONE and at + 1 < len(self.words) and self._adjoins(at + 1)
        return not (
            is_filler
            and self._is_sentence_start(at)
            and self.words[at + 1].is_sure
            and self.words[at + 1].is_given
        )

    def _is_before_name(self, at: int) -> bool:
        """Whether an initial has a word after it that may be a surname."""
        if at + 1 >= len(self.words) or self.text[self.words[at].end : self.words[at + 1].start] not in (
            ". ",
            ".",
            " ",
        ):
            return False
        following = self.words[at + 1]
        return following.has_capital and not following.is_other and not following.is_upper

    def _goes_on(self, at: int, until: int) -> bool:
        before, word = self.words[until - 1], self.words[until]
        gap = self.text[before.end : word.start]
        if before.is_possessive:
            return False
        if gap == ", ":
            is_turned = until == at + 1 and before.is_surname and word.is_given and word.has_capital
            return is_turned or (word.folded in _SUFFIXES and word.has_capital)
        if gap not in (" ", "  ") and not (gap in (". ", ".") and before.is_initial):
            return False
        if word.folded in _PARTICLES and not word.has_capital:
            following = self.words[until + 1 : until + 3]
            return any(each.has_capital and not each.is_other for each in following)
        is_date = word.folded in _MONTHS and self.text[word.end : word.end + 2].lstrip()[:1].isdigit()
        if word.folded in _SUFFIXES:
            return word.has_capital
        if word.is_upper and word.is_unknown and len(word.folded) < 4:
            return False  # an abbreviation
        is_common_surname = before.is_sure and before.is_given and word.is_common and not word.is_upper
        return word.has_capital and (not word.is_other or is_common_surname) and not is_date

    def _lower_run(self, at: int) -> int:
        """Return the end of a name that was written without capital letters; ``at`` for none."""
        first = self.words[at]
        is_addressed = self._follows(at, _ADDRESSES) or first.start in self.labelled
        if first.is_other or len(first.folded) < 2:
            return at
        if first.folded in _VERBS or (first.folded in _NOT_ALONE | _NOT_LOWER and not is_addressed):
            return at
        is_pair = self._follows(at, _PEOPLE) and self._is_rare_pair(at)
        if is_pair:
            return at + 2
        if not is_addressed and not first.is_listed:
            return at
        until = at + 1
        while until < len(self.words) and until - at < 3 and not self.words[until - 1].is_possessive:
            word = self.words[until]
            if self.text[self.words[until - 1].end : word.start] not in (" ", ", "):
                break
            is_comma = self.text[word.start - 2] == ","
            is_turned = until == at + 1 and first.is_surname and word.is_given and word.is_sure
            is_name = word.is_sure or (word.is_listed and first.is_given and word.folded not in _NOT_ALONE)
            is_rare = is_addressed and not word.is_other and not word.is_listed
            if not (is_name or is_rare) or (is_comma and not is_turned):
                break
            until += 1
        return until

    def _is_rare_pair(self, at: int) -> bool:
        """Whether two words without capital letters are on no list of words."""
        if at + 1 >= len(self.words) or not self._adjoins(at + 1):
            return False
        pair = self.words[at : at + 2]
        return all(not word.is_other and (word.is_sure or not word.is_listed) for word in pair)

    # whether it is a name

    def _score(self, at: int, until: int) -> float:
        """Return how sure a run of words is a name; 0 for none."""
        words = [
            word for word in self.words[at:until] if not word.is_initial and word.folded not in _SUFFIXES
        ]
        if not words or self._is_other_thing(at, until):
            return 0.0
        if words[0].start != self.words[at].start and len(words) == 1:
            return 0.7 if words[0].is_listed or words[0].is_unknown else 0.0
        is_told = self._follows(at, _TITLES) or self.words[at].start in self.labelled
        if is_told and not (words[0].is_upper and len(words[0].folded) < 4 and not words[0].is_sure):
            return 0.95
        if not words[0].has_capital:
            return self._score_of_lower(at, words)
        return self._score_of_several(words) if len(words) > 1 else self._score_of_one(at, words[0])

    def _is_other_thing(self, at: int, until: int) -> bool:
        """Whether the words around a run say that it names a company, a place or a disease."""
        last = self.words[until - 1]
        if self._follows(at, _SAINTS):
            return True
        if until >= len(self.words):
            return False
        following = self.words[until]
        gap = self.text[last.end : following.start]
        if last.is_possessive:
            return following.folded in _DISEASES_AFTER
        if gap.strip() == "&":
            return True
        if gap not in (" ", "-"):
            return False
        is_told = self._follows(at, _TITLES) or self.words[at].start in self.labelled
        return following.folded in (_DISEASES_AFTER if is_told else _NOT_PEOPLE_AFTER)

    @staticmethod
    def _score_of_several(words: Sequence[_Word]) -> float:
        first, last = words[0], words[-1]
        if any(word.is_sure for word in words):
            return 0.9
        if any(word.is_upper for word in words):
            return 0.9 if first.is_given and last.is_surname else 0.0
        is_turned = first.is_surname and last.is_given
        if is_turned or (first.is_given and (last.is_surname or last.is_unknown)):
            return 0.7
        if all(word.is_unknown for word in words) or (first.is_unknown and last.is_surname):
            return 0.6
        return 0.0

    def _score_of_one(self, at: int, word: _Word) -> float:
        if word.is_upper and (not word.is_sure or len(word.folded) < 5):
            return 0.0
        if word.is_sure:
            return 0.85 if word.is_given else 0.75
        has_person = self._follows(at, _PEOPLE) or word.start in self.greeted
        is_person = self._precedes(at, _AFTER_PEOPLE) or (
            word.is_possessive and self._precedes(at, _THINGS_OF_PEOPLE)
        )
        if word.folded in _NOT_ALONE:
            return 0.6 if has_person and word.folded not in _VERBS else 0.0
        return 0.6 if has_person or is_person else 0.0

    def _score_of_lower(self, at: int, words: Sequence[_Word]) -> float:
        has_person = self._follows(at, _PEOPLE)
        if len(words) > 1:
            is_rare = has_person and not words[0].is_listed
            return 0.85 if words[0].is_sure or (has_person and words[0].is_given) else 0.6 if is_rare else 0.0
        word = words[0]
        if not word.is_sure:
            return 0.0
        is_person = self._precedes(at, _AFTER_PEOPLE) or word.is_possessive
        if word.is_given:
            return 0.8
        return 0.65 if has_person or is_person else 0.0

    # the words around

    def _adjoins(self, at: int) -> bool:
        return self.text[self.words[at - 1].end : self.words[at].start] in (" ", "  ")

    def _follows(self, at: int, words: frozenset[str]) -> bool:
        """Whether one of ``words`` is directly before the word at ``at``."""
        if at == 0:
            return False
        before = self.words[at - 1]
        gap = self.text[before.end : self.words[at].start]
        return (
            before.folded in words and not before.is_possessive and gap in (" ", ". ", ".", ", ", ": ", "  ")
        )

    def _precedes(self, at: int, words: frozenset[str]) -> bool:
        """Whether one of ``words`` is directly after the word at ``at``."""
        if at + 1 >= len(self.words):
            return False
        after = self.words[at + 1]
        gap = self.text[self.words[at].end : after.start]
        return after.folded in words and gap.lower() in (" ", "'s ", "\u2019s ", ", ", " (")

    def _is_sentence_start(self, at: int) -> bool:
        start = self.words[at].start
        before = self.text[max(0, start - 4) : start].rstrip()[-1:]
        return before in ("", ".", "!", "?", ":", "\n")


def _again(words: Sequence[_Word], found: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the other places of names that were found: a first name that is used again alone."""
    taken: set[int] = set()
    known: set[str] = set()
    names = iter(sorted(found, key=lambda name: name.start))
    name = next(names, None)
    for word in words:
        while name and name.end <= word.start:
            name = next(names, None)
        if name and name.start <= word.start:
            taken.add(word.start)
            if len(word.folded) > 2 and not word.is_ambiguous and word.has_capital:
                known.add(word.folded)
    for word in words:
        if word.folded in known and word.has_capital and word.start not in taken:
            yield Finding(PatientData.PERSON, word.start, word.end, 0.7)
