"""What a tenant's callers say and what its documents say: the content terms of a question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from assistant.answering.language import Language, fold, language
from assistant.settings import TenantConfig

_COMMON_WEIGHT = 0.05
"""What the commonest word still counts, against 1.05 of the rarest."""
_CODE_WEIGHT = 2.0
"""A token of letters and digits ("A5", "340B") names one thing and has no synonym."""
_NUMBER_WEIGHT = 0.2
"""An age, a count or an amount ("68", "90 tablets", "3rd") is the caller's own, rarely the document's."""
_GLOSSARY_RARITY = 0.5
_CODE = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[^\W_]+")
_WITH_DIGIT = re.compile(r"[^\W_]*\d[^\W_]*")
_COUNTED = re.compile(
    r"\d+(?:st|nd|rd|th|s|x|k|am|pm|yo|y|yr|yrs|mo|h|hr|hrs|wk|wks|min|mg|mcg|ml|g|kg|lb|lbs)"
)
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
    return frozenset(token.lstrip("0") for token in _WITH_DIGIT.findall(fold(text)))


class Vocabulary:
    """Reads questions with one language and one tenant's glossary."""

    def __init__(self, words: Language, *, glossary: Mapping[str, str]) -> None:
        self.language = words
        self._meanings = {fold(said): meant for said, meant in glossary.items()}
        longest_first = sorted(self._meanings, key=len, reverse=True)
        self._said = (
            re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(said) for said in longest_first)})(?!\w)")
            if longest_first
            else None
        )

    @classmethod
    def of(cls, tenant: TenantConfig) -> Vocabulary:
        """Raises ConfigurationError when the tenant's language is not known."""
        return cls(language(tenant.language), glossary=tenant.glossary)

    def expand(self, question: str) -> str:
        """Return the question with what the documents call its words joined on: what is retrieved."""
        meant = dict.fromkeys(self._meanings[said] for said in self._find(question))
        return "\n".join([question, *([" ".join(meant)] if meant else [])])

    def terms(self, question: str) -> tuple[Term, ...]:
        """Return the question's content terms, each once, in order of first appearance.

        What the glossary knows is one term, with the words of both sides as its forms.
        """
        terms: dict[str, Term] = {}
        for said in self._find(question):
            forms = self.language.content_stems(said + " " + self._meanings[said])
            terms.setdefault(said, Term(said, forms, _COMMON_WEIGHT + _GLOSSARY_RARITY**2))
        rest = fold(question) if self._said is None else self._said.sub(" ", fold(question))
        for word in self.language.content_words(rest):
            if word not in terms:
                terms[word] = Term(word, frozenset([self.language.stem(word)]), self._weight(word))
        return tuple(terms.values())

    def named_codes(self, question: str) -> tuple[str, ...]:
        """Return the codes that the question calls so ("reject 79"), without leading zeros."""
        return tuple(dict.fromkeys(code.lstrip("0") for code in _NAMED_CODE.findall(fold(question))))

    def _find(self, question: str) -> list[str]:
        return [] if self._said is None else self._said.findall(fold(question))

    def _weight(self, word: str) -> float:
        if not word[0].isdigit() and not _CODE.fullmatch(word):
            return _COMMON_WEIGHT + self.language.rarity(word)
        return _NUMBER_WEIGHT if word.isdigit() or _COUNTED.fullmatch(word) else _CODE_WEIGHT
