"""Finds the terms of questions: their stems, how specific they are, the glossary's words, known words.

The question is never replaced. The search text gains words: the glossary's, and the long forms of
abbreviations that documents define.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from assistant.answer.services import Loaded
from assistant.domain.clock import Clock
from assistant.domain.documents import KnownWords, SourceIds
from assistant.stores.ports import PassageSearch
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import Language, fold, language, longest_names

_COMMON_WEIGHT = 0.05
"""Of the most common word; the rarest weighs 1.05."""
_CODE_WEIGHT = 2.0
"""A token of letters and digits ("A5", "340B") names one thing and has no synonym."""
_NUMBER_WEIGHT = 0.2
"""An age, a count or an amount ("68", "90 tablets", "3rd") is the caller's own, rarely the document's."""
_GLOSSARY_RARITY = 0.5
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[^\W_]+")
_TOKEN = re.compile(r"[^\W_]+")
_DIGIT = re.compile(r"\d")
_COUNTED = re.compile(
    r"\d+(?:st|nd|rd|th|s|x|k|am|pm|yo|y|yr|yrs|mo|h|hr|hrs|wk|wks|min|mg|mcg|ml|g|kg|lb|lbs)"
)
_SAID_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}&/.-][^\W_]+)*")
_SHORT_FORM = re.compile(r"(?<!\w)[a-z][a-z0-9-]{1,5}(?!\w)")


@dataclass(frozen=True, slots=True)
class Term:
    """One content term of a question."""

    forms: frozenset[str]
    """Stems; a passage with any of them contains the term."""
    weight: float


def codes_in(text: str) -> frozenset[str]:
    """Return every token of a text that has a digit, without leading zeros: "079" is "79"."""
    return frozenset(token.lstrip("0") or "0" for token in _TOKEN.findall(fold(text)) if _DIGIT.search(token))


def _joined(said: str) -> str:
    """Return a glossary entry as its words are matched in a question, with one space between them."""
    return " ".join(word[0] for word in _SAID_WORD.finditer(fold(said)))


class Vocabulary:
    """Finds the terms of questions, with one language and one tenant's glossary."""

    def __init__(self, words: Language, *, glossary: Mapping[str, str]) -> None:
        self.language = words
        self._meanings = {_joined(said): meant for said, meant in glossary.items()}
        self._longest = max((len(said.split()) for said in self._meanings), default=0)

    @classmethod
    def of(cls, tenant: TenantConfig, *, more: Mapping[str, str] | None = None) -> Vocabulary:
        """Return a tenant's vocabulary; ``more``: glossary entries beside the tenant file's, which they
        replace. Raises ConfigurationError when its language is not supported."""
        return cls(language(tenant.language), glossary={**tenant.glossary, **(more or {})})

    @property
    def words(self) -> frozenset[str]:
        """Folded words that the glossary explains."""
        return frozenset(word for said in self._meanings for word in said.split())

    def expand(self, question: str, *, known: KnownWords | None = None) -> str:
        """Return the search text: the question, then the glossary's words and the long forms of its
        abbreviations that documents define."""
        meant = dict.fromkeys(self.meanings(question, known=known).values())
        return "\n".join([question, *([" ".join(meant)] if meant else [])])

    def meanings(self, question: str, *, known: KnownWords | None = None) -> dict[str, str]:
        """Return the glossary's words that a question says and the abbreviations that documents define, each
        with what documents call it."""
        folded = fold(question)
        meanings = {said: self._meanings[said] for said, _, _ in self._find(folded)}
        if known is not None:
            for word in _SHORT_FORM.findall(folded):
                long_form = self._long_form(word, known)
                if long_form:
                    meanings.setdefault(word, long_form)
        return meanings

    def terms(self, question: str, *, known: KnownWords | None = None) -> tuple[Term, ...]:
        """Return the question's content terms, each once, in order of first appearance.

        A glossary entry is one term with the words of both sides as its forms. So is an abbreviation that
        documents define.
        """
        terms: dict[str, Term] = {}
        rest, end, folded = "", 0, fold(question)
        for said, start, stop in self._find(folded):
            forms = self.language.content_stems(said + " " + self._meanings[said])
            terms.setdefault(said, Term(forms, _COMMON_WEIGHT + _GLOSSARY_RARITY**2))
            rest += folded[end:start] + " "
            end = stop
        rest += folded[end:]
        for word in self.language.content_words(rest):
            if word not in terms:
                forms = frozenset([self.language.stem(word)])
                if long_form := self._long_form(word, known):
                    forms |= self.language.content_stems(long_form)
                terms[word] = Term(forms, self._weight(word))
        return tuple(terms.values())

    def _long_form(self, word: str, known: KnownWords | None) -> str | None:
        """Return the long form that documents define; none for a word that is common English too."""
        return None if known is None or self.language.is_common(word) else known.abbreviations.get(word)

    def _find(self, folded: str) -> list[tuple[str, int, int]]:
        """Return (entry, start, end) of the glossary's entries, the longest entry first at each place."""
        words = list(_SAID_WORD.finditer(folded)) if self._meanings else []
        said = longest_names([word[0] for word in words], self._meanings, longest=self._longest)
        return [(entry, words[first].start(), words[last].end()) for entry, first, last in said]

    def _weight(self, word: str) -> float:
        if not word[0].isdigit() and not _CODE.fullmatch(word):
            return _COMMON_WEIGHT + self.language.rarity(word)
        return _NUMBER_WEIGHT if word.isdigit() or _COUNTED.fullmatch(word) else _CODE_WEIGHT


FRESH_FOR_S = 300.0
FIRST_WAIT_S = 2.0
"""How long a question of a new process waits for the words; later ones use what is loaded."""


class KnownWordsReader(Loaded[KnownWords]):
    """Reads the words of the index. While the index fails, the last known words are used."""

    def __init__(self, search: PassageSearch, *, clock: Clock, items_of: Sequence[SourceIds] = ()) -> None:
        """``items_of``: sources whose items are read, too."""
        read = partial(search.known_words, items_of=tuple(items_of))
        super().__init__(read, clock=clock, failure="known_words_unavailable", fresh_for_s=FRESH_FOR_S)

    async def read(self) -> KnownWords | None:
        """Return the words; None where they were never loaded and are late. Raises nothing."""
        return await self.get(within_s=FIRST_WAIT_S)
