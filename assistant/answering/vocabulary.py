"""What a tenant's callers say and what its documents say: the content terms of a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assistant.domain.answers import Correction
from assistant.domain.retrieval import KnownWords
from assistant.settings import TenantConfig
from assistant.text.language import Language, fold, language

_COMMON_WEIGHT = 0.05
"""What the commonest word still counts, against 1.05 of the rarest."""
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
_NAMED_CODE = re.compile(
    r"\b(?:codes?|rejects?|rejections?|errors?)\s+(?:code\s+)?([^\W\d_]{0,3}\d+[^\W\d_]?)\b"
)


@dataclass(frozen=True, slots=True)
class Term:
    """One content term of a question."""

    word: str
    forms: frozenset[str]
    """Stems, any of which stands for the term in a passage."""
    weight: float


def codes_in(text: str) -> frozenset[str]:
    """Return every token of a text that has a digit, without leading zeros: "079" is "79"."""
    return frozenset(token.lstrip("0") or "0" for token in _TOKEN.findall(fold(text)) if _DIGIT.search(token))


def _joined(said: str) -> str:
    """Return a glossary entry as its words stand in a question, one space between them."""
    return " ".join(word[0] for word in _SAID_WORD.finditer(fold(said)))


class Vocabulary:
    """Reads questions with one language and one tenant's glossary."""

    def __init__(self, words: Language, *, glossary: Mapping[str, str]) -> None:
        self.language = words
        self._meanings = {_joined(said): meant for said, meant in glossary.items()}
        self._said_words = frozenset(word for said in self._meanings for word in said.split())
        self._longest = max((len(said.split()) for said in self._meanings), default=0)

    @classmethod
    def of(cls, tenant: TenantConfig) -> Vocabulary:
        """Raises ConfigurationError when the tenant's language is not known."""
        return cls(language(tenant.language), glossary=tenant.glossary)

    def expand(
        self, question: str, *, known: KnownWords | None = None, corrections: Sequence[Correction] = ()
    ) -> str:
        """Return the question with what the documents call its words joined on: what is retrieved.

        That is the glossary's words, the long forms of abbreviations that documents define, and corrected
        spellings.
        """
        meant = dict.fromkeys(self._meanings[said] for said, _, _ in self._find(fold(question)))
        if known is not None:
            long_forms = (self._long_form(word, known) for word in _SHORT_FORM.findall(fold(question)))
            meant |= dict.fromkeys(long for long in long_forms if long)
        meant |= dict.fromkeys(one.read_as for one in corrections)
        return "\n".join([question, *([" ".join(meant)] if meant else [])])

    def says(self, word: str) -> bool:
        """Say whether the glossary has a folded word on its callers' side."""
        return word in self._said_words

    def terms(
        self, question: str, *, known: KnownWords | None = None, corrections: Sequence[Correction] = ()
    ) -> tuple[Term, ...]:
        """Return the question's content terms, each once, in order of first appearance.

        What the glossary knows is one term, with the words of both sides as its forms; so is an abbreviation
        that documents define, and a word that was read in another spelling.
        """
        read_as = {one.said: one.read_as for one in corrections}
        terms: dict[str, Term] = {}
        rest, end, folded = "", 0, fold(question)
        for said, start, stop in self._find(folded):
            forms = self.language.content_stems(said + " " + self._meanings[said])
            terms.setdefault(said, Term(said, forms, _COMMON_WEIGHT + _GLOSSARY_RARITY**2))
            rest += folded[end:start] + " "
            end = stop
        rest += folded[end:]
        for word in self.language.content_words(rest):
            if word not in terms:
                others = [read_as.get(word), self._long_form(word, known)]
                forms = frozenset([self.language.stem(word)]).union(
                    *(self.language.content_stems(other) for other in others if other)
                )
                terms[word] = Term(word, forms, self._weight(read_as.get(word, word)))
        return tuple(terms.values())

    def named_codes(self, question: str) -> tuple[str, ...]:
        """Return the codes that the question calls so ("reject 79"), without leading zeros."""
        return tuple(dict.fromkeys(code.lstrip("0") or "0" for code in _NAMED_CODE.findall(fold(question))))

    def _long_form(self, word: str, known: KnownWords | None) -> str | None:
        """Return what documents abbreviate so; never of a word that is common English as well."""
        return None if known is None or self.language.is_common(word) else known.abbreviations.get(word)

    def _find(self, folded: str) -> list[tuple[str, int, int]]:
        """Return (entry, start, end) of what the glossary knows, the longest entry first at each place."""
        words = list(_SAID_WORD.finditer(folded)) if self._meanings else []
        found: list[tuple[str, int, int]] = []
        at = 0
        while at < len(words):
            for size in range(min(self._longest, len(words) - at), 0, -1):
                said = " ".join(word[0] for word in words[at : at + size])
                if said in self._meanings:
                    found.append((said, words[at].start(), words[at + size - 1].end()))
                    at += size - 1
                    break
            at += 1
        return found

    def _weight(self, word: str) -> float:
        if not word[0].isdigit() and not _CODE.fullmatch(word):
            return _COMMON_WEIGHT + self.language.rarity(word)
        return _NUMBER_WEIGHT if word.isdigit() or _COUNTED.fullmatch(word) else _CODE_WEIGHT
