"""Finds the terms of questions: their stems, how specific they are, the glossary's words, known words.

A *term* is a content word of a question, or an entry of the tenant's glossary in it. The glossary says what
documents call the words of agents: "blue card" means "member id card". The question is never replaced. Words
are added to it for the search: the glossary's meanings, and the long forms of abbreviations that documents
define.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from assistant.answer.call import Loaded
from assistant.domain.clock import Clock
from assistant.domain.documents import KnownWords, SourceIds
from assistant.stores.ports import PassageSearch
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import Language, fold, language, longest_names

_COMMON_WEIGHT = 0.05
"""Weight of the most common word; the rarest weighs 1.05."""
_CODE_WEIGHT = 2.0
"""A token of letters and digits ("A5", "340B") names one thing and has no synonym."""
_NUMBER_WEIGHT = 0.2
"""An age, a count or an amount ("68", "90 tablets", "3rd") is the caller's own, rarely the document's."""
_GLOSSARY_RARITY = 0.5
"""An entry of the glossary weighs as much as a word of the square of this rarity (0 to 1)."""
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[^\W_]+")
"""A token of letters and digits."""
_COUNTED = re.compile(
    r"\d+(?:st|nd|rd|th|s|x|k|am|pm|yo|y|yr|yrs|mo|h|hr|hrs|wk|wks|min|mg|mcg|ml|g|kg|lb|lbs)"
)
"""A number with an ordinal ending or a unit: "3rd", "20mg"."""
_ENTRY_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}&/.-][^\W_]+)*")
"""A word of an entry, with marks inside: "t-shirt", "p&l", "24/7"."""
_SHORT_FORM = re.compile(r"(?<!\w)[a-z][a-z0-9-]{1,5}(?!\w)")
"""What may be an abbreviation: two to six characters."""


@dataclass(frozen=True, slots=True)
class Term:
    """One content term of a question."""

    forms: frozenset[str]
    """Stems; a passage with any of them contains the term."""
    weight: float
    """How specific it is: 0.05 for the most common word, 1.05 for the rarest, 2 for a code."""


def _joined(entry: str) -> str:
    """Return a glossary entry as it is matched in a question: its words folded, with one space between
    them."""
    return " ".join(word[0] for word in _ENTRY_WORD.finditer(fold(entry)))


class Vocabulary:
    """Finds the terms of questions, with one language and one tenant's glossary.

    Example: with the glossary {"blue card": "member id card"}::

        vocabulary.meanings("Lost my blue card")  # {"blue card": "member id card"}
        vocabulary.expand("Lost my blue card")  # "Lost my blue card\\nmember id card"
        [term.forms for term in vocabulary.terms("Lost my blue card")]
        # one term with the stems of blue, card, member and id, and one with that of "lost"
    """

    def __init__(self, words: Language, *, glossary: Mapping[str, str]) -> None:
        """``glossary``: what agents say, and what documents call it."""
        self.language = words
        self._meanings = {_joined(entry): meaning for entry, meaning in glossary.items()}
        self._longest = max((len(entry.split()) for entry in self._meanings), default=0)

    @classmethod
    def of(cls, tenant: TenantConfig, *, more: Mapping[str, str] | None = None) -> Vocabulary:
        """Return a tenant's vocabulary. ``more``: further glossary entries; one for the same words replaces
        that of the tenant file. Raises ConfigurationError when the tenant's language is not supported."""
        return cls(language(tenant.language), glossary={**tenant.glossary, **(more or {})})

    @property
    def words(self) -> frozenset[str]:
        """Folded words that the glossary explains."""
        return frozenset(word for entry in self._meanings for word in entry.split())

    def expand(self, question: str, *, known: KnownWords | None = None) -> str:
        """Return the search text: the question, and on a second line the ``meanings`` of its words."""
        added = dict.fromkeys(self.meanings(question, known=known).values())
        return "\n".join([question, *([" ".join(added)] if added else [])])

    def meanings(self, question: str, *, known: KnownWords | None = None) -> dict[str, str]:
        """Return the glossary's entries in a question and its abbreviations that documents define, folded,
        each with what documents call it. ``known`` None: no abbreviations."""
        folded = fold(question)
        meanings = {entry: self._meanings[entry] for entry, _, _ in self._find(folded)}
        for word in _SHORT_FORM.findall(folded) if known is not None else ():
            if long_form := self._long_form(word, known):
                meanings.setdefault(word, long_form)
        return meanings

    def terms(self, question: str, *, known: KnownWords | None = None) -> tuple[Term, ...]:
        """Return the question's content terms, each once: the glossary's entries, then the other words in
        order.

        A glossary entry is one term with the words of both sides as its forms. So is an abbreviation that
        documents define, with its long form.
        """
        terms: dict[str, Term] = {}
        # ``rest``: the question without its glossary entries
        rest, end, folded = "", 0, fold(question)
        for entry, start, stop in self._find(folded):
            forms = self.language.content_stems(entry + " " + self._meanings[entry])
            terms.setdefault(entry, Term(forms, _COMMON_WEIGHT + _GLOSSARY_RARITY**2))
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
        """Return the long form that documents define; None for a word that is common English too."""
        return None if known is None or self.language.is_common(word) else known.abbreviations.get(word)

    def _find(self, folded: str) -> list[tuple[str, int, int]]:
        """Return (entry, start, end) of the glossary's entries in a folded text, in order; at each place the
        longest."""
        words = list(_ENTRY_WORD.finditer(folded)) if self._meanings else []
        names = longest_names([word[0] for word in words], self._meanings, longest=self._longest)
        return [(entry, words[first].start(), words[last].end()) for entry, first, last in names]

    def _weight(self, word: str) -> float:
        """Return the weight of a content word: of a word, a number or count, or a code."""
        if not word[0].isdigit() and not _CODE.fullmatch(word):
            return _COMMON_WEIGHT + self.language.rarity(word)
        return _NUMBER_WEIGHT if word.isdigit() or _COUNTED.fullmatch(word) else _CODE_WEIGHT


FRESH_FOR_S = 300.0
"""How long the words of the index are used before they are read again."""
FIRST_WAIT_S = 2.0
"""How long a question of a new process waits for the words; later ones use what is loaded."""


class KnownWordsReader(Loaded[KnownWords]):
    """Reads what the documents of the index define and name, in the background. While the index fails, the
    last words stay."""

    def __init__(self, search: PassageSearch, *, clock: Clock, items_of: Sequence[SourceIds] = ()) -> None:
        """``items_of``: document ids of the sources whose items are read, too: catalogues."""
        read = partial(search.known_words, items_of=tuple(items_of))
        super().__init__(read, clock=clock, failure="known_words_unavailable", fresh_for_s=FRESH_FOR_S)

    async def read(self) -> KnownWords | None:
        """Return the words; None where they were never loaded and are late. Raises nothing."""
        return await self.get(within_s=FIRST_WAIT_S)
