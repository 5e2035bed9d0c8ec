"""Understands a message: the question in a long message, two questions in one, follow-ups, terms, spelling.

The question is never replaced. The search text gains words: the glossary's, the long forms of abbreviations,
and for an unknown word the nearest spelling in the tenant's documents."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from assistant.answering.ports import PassageSearch
from assistant.domain.answers import Correction
from assistant.domain.clock import Clock
from assistant.domain.documents import KnownWords, SourceIds
from assistant.domain.errors import AssistantError
from assistant.settings.tenant import TenantConfig
from assistant.text.language import Language, fold, language, split_sentences

LONG_MESSAGE_WORDS = 45
"""A longer message is cut to its question."""
MOST_SENTENCES_KEPT = 3
MOST_CORRECTIONS = 4
MOST_LOOKED_UP = 8
"""Unknown words of one message. A lookup takes up to 5 ms among 60,000 words, and a message in another
language has hundreds of them."""
_LEAST_LETTERS = 5
"""A shorter word has too many neighbours to be corrected."""
_TWO_EDITS_FROM = 9
"""Letters from which a correction may take two edits."""
_LEAST_TERMS_OF_PART = 2
"""Content words that each half of a double question needs."""

_ASKING = re.compile(
    r"\?|\b(?:wants? to know|need(?:s|ed)? to know|wonder(?:s|ing)?|please (?:tell|confirm|advise|explain)|"
    r"ask(?:s|ed|ing)? (?:if|whether|what|how|who|when|where|which|about)|let me know|tell me|any idea|"
    r"how (?:do|can|should|long|soon|many|much|often|far|old|quick|fast|late)|"
    r"what(?:'s| is| are| do| should| can| happens)|which (?:form|desk|one|code|number)|"
    r"who (?:do|can|should|is|takes|handles)|where (?:do|can|should)|can (?:we|i|she|he|they|you)|"
    r"may (?:we|i|she|he|they)|do (?:we|i|they)|does (?:she|he|it|the)|"
    r"is (?:it|there|she|he|that|this)|are (?:we|they|there)|should (?:we|i|she|he|they))\b",
    re.IGNORECASE,
)
_SECOND_QUESTION = re.compile(
    r"(?:[?;]|[,;.]?\s(?:and|also|plus|&|as well as)(?:\s(?:also|then|one more thing|secondly))?[,:]?)\s+"
    r"(?=(?:(?:and|also)\s)?(?:who|whose|what|what's|whats|how|why|when|where|which|can|could|do|does|did|is|"
    r"are|was|has|have|should|would|may|must|will|if so|by when)\b)",
    re.IGNORECASE,
)
_OPENS = re.compile(
    rf"{_ASKING.pattern}|\b(?:who|whom|whose|what|when|where|which|how|why)\b|"
    r"\b(?:two|2|couple of|three) (?:things|questions|q's|qs|quick ones)\b",
    re.IGNORECASE,
)
"""Required in the first half of a double question."""
_PRONOUN = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|one|ones|same|there|then|instead|otherwise|"
    r"either|both|other)\b",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(
    r"^\W*(?:and|but|so|or|ok(?:ay)?|what about|how about|what if|and if|also|then|same|even if|"
    r"does (?:it|that|this)|is (?:it|that|this)|how (?:long|soon|much|many)\b[^?]{0,30}\?*$|"
    r"who\b[^?]{0,25}\?*$)",
    re.IGNORECASE,
)
_FEW_CONTENT_WORDS = 4
"""A question with fewer content words and a pronoun, or an opening like "and for …", is a follow-up."""
_MEDICINE_ENDING = re.compile(
    r"(?:ine|ol|pril|sartan|statin|azole|mycin|cillin|one|ide|ate|mab|nib|vir|parin|pam|lam|zepam|oxacin|triptan|"
    r"gliptin|gliflozin|glutide|setron|profen|phen|done|phine|barbital|cycline|thiazide|semide|lukast|dronate|in|"
    r"il|an|am|um|ax|ex|ix|or|ra|ta|va|za|ca)$"
)
"""How names of medicines end."""


@dataclass(frozen=True, slots=True)
class Understood:
    """The questions of one message."""

    parts: tuple[str, ...]
    """One question, or the two of a double question, in the asker's words."""
    corrections: tuple[Correction, ...] = ()


def understand(message: str, *, vocabulary: Vocabulary, known: KnownWords | None) -> Understood:
    """Return the questions of an agent's message or a pasted one. About 0.2 ms for a short one."""
    asked = cut_to_question(message, vocabulary=vocabulary)
    return Understood(
        parts=split_double(asked, vocabulary=vocabulary),
        corrections=corrections(asked, vocabulary=vocabulary, known=known) if known else (),
    )


def cut_to_question(message: str, *, vocabulary: Vocabulary) -> str:
    """Return a long message's sentences that ask, with the most specific others; a short message whole."""
    if len(message.split()) <= LONG_MESSAGE_WORDS:
        return message
    sentences = [span.text for span in split_sentences(message)]
    asking = [at for at, text in enumerate(sentences) if _ASKING.search(text)]
    weights = [sum(term.weight for term in vocabulary.terms(text)) for text in sentences]
    if not asking:
        asking = [max(range(len(sentences)), key=lambda at: weights[at])] if sentences else []
    asking = sorted(asking, key=lambda at: ("?" not in sentences[at], -weights[at]))[:MOST_SENTENCES_KEPT]
    kept = set(asking)
    others = sorted(set(range(len(sentences))) - kept, key=lambda at: -weights[at])
    kept.update(others[: max(1, MOST_SENTENCES_KEPT - len(asking) + 1)])
    return " ".join(sentences[at] for at in sorted(kept)) or message


def split_double(question: str, *, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the two questions of a double one, else the question alone. Each half has content words."""
    sentences = [span.text for span in split_sentences(question)]
    ends = [at for at, text in enumerate(sentences) if text.rstrip().endswith("?")]
    if len(ends) > 1:
        first, second = " ".join(sentences[: ends[0] + 1]), " ".join(sentences[ends[0] + 1 :])
        if _says_enough(first, vocabulary) and _says_enough(second, vocabulary):
            return first, second
    for found in _SECOND_QUESTION.finditer(question):
        halves = (question[: found.start() + (question[found.start()] == "?")], question[found.end() :])
        first, second = (half.strip() for half in halves)
        if all(_says_enough(half, vocabulary) for half in (first, second)) and _OPENS.search(first):
            return first, second
    return (question,)


def leans_on_history(question: str, *, vocabulary: Vocabulary) -> bool:
    """Return whether a question only makes sense after the one before it."""
    words = sum(1 for term in vocabulary.terms(question) if not term.word.isdigit())
    if _ELLIPSIS.search(question):
        return words <= 2 * _FEW_CONTENT_WORDS
    return words <= _FEW_CONTENT_WORDS and bool(_PRONOUN.search(question))


def corrections(question: str, *, vocabulary: Vocabulary, known: KnownWords) -> tuple[Correction, ...]:
    """Return the unknown words of a question with the nearest word of the tenant's documents.

    Both are searched. Numbers, codes, common English words and words of the documents or the glossary are not
    corrected, and no word becomes the name of a medicine: an unknown medicine is not in the knowledge base.
    """
    found: list[Correction] = []
    looked_up = 0
    for word in dict.fromkeys(vocabulary.language.content_words(fold(question))):
        if len(found) >= MOST_CORRECTIONS or looked_up >= MOST_LOOKED_UP:
            break
        if not word.isalpha() or len(word) < _LEAST_LETTERS or is_known(word, vocabulary, known.words):
            continue
        looked_up += 1
        nearest = _nearest(word, vocabulary, known.words)
        stems = vocabulary.language.content_stems
        if nearest is not None and stems(nearest) != stems(word):  # "recommend" finds "recommended" as it is
            found.append(Correction(said=word, read_as=nearest))
    return tuple(found)


def is_known(word: str, vocabulary: Vocabulary, words: Mapping[str, int], *, common: bool = True) -> bool:
    """Return whether a folded word is in the documents, the glossary or (``common``) common English."""
    forms = (word, word.removesuffix("s"))  # "grandmas": people omit the apostrophe
    return any(
        form in words or vocabulary.says(form) or (common and vocabulary.language.is_common(form))
        for form in forms
    )


def ends_like_a_medicine(word: str) -> bool:
    """Return whether a folded word may be a medicine's name, by its end."""
    return _MEDICINE_ENDING.search(word) is not None


def _nearest(word: str, vocabulary: Vocabulary, words: Mapping[str, int]) -> str | None:
    edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
    near = extract(word, words.keys(), scorer=OSA.distance, score_cutoff=edits, limit=8)
    safe = [
        (distance, -words[candidate], candidate)
        for candidate, distance, _ in near
        if candidate[0] == word[0]
        and (vocabulary.language.is_common(candidate) or not ends_like_a_medicine(candidate))
    ]
    stems = {
        vocabulary.language.stem(candidate) for distance, _, candidate in safe if distance == min(safe)[0]
    }
    return min(safe)[2] if len(stems) == 1 else None


def _says_enough(half: str, vocabulary: Vocabulary) -> bool:
    return sum(1 for _ in vocabulary.terms(half)) >= _LEAST_TERMS_OF_PART


# Terms and the glossary


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
_NAMED_CODE = re.compile(
    r"\b(?:codes?|rejects?|rejections?|errors?)\s+(?:code\s+)?([^\W\d_]{0,3}\d+[^\W\d_]?)\b"
)


@dataclass(frozen=True, slots=True)
class Term:
    """One content term of a question."""

    word: str
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
        self._said_words = frozenset(word for said in self._meanings for word in said.split())
        self._longest = max((len(said.split()) for said in self._meanings), default=0)

    @classmethod
    def of(cls, tenant: TenantConfig, *, more: Mapping[str, str] | None = None) -> Vocabulary:
        """Return a tenant's vocabulary; ``more``: glossary entries beside the tenant file's, which they
        replace. Raises ConfigurationError when its language is not supported."""
        return cls(language(tenant.language), glossary={**tenant.glossary, **(more or {})})

    def expand(
        self, question: str, *, known: KnownWords | None = None, corrections: Sequence[Correction] = ()
    ) -> str:
        """Return the search text: the question and the words that documents use for its words.

        These are the glossary's words, the long forms of abbreviations that documents define, and corrected
        spellings.
        """
        meant = dict.fromkeys(self.meanings(question, known=known).values())
        meant |= dict.fromkeys(one.read_as for one in corrections)
        return "\n".join([question, *([" ".join(meant)] if meant else [])])

    def meanings(self, question: str, *, known: KnownWords | None = None) -> dict[str, str]:
        """Return the glossary's words that a question says and the abbreviations that documents define, each
        with what documents call it."""
        folded = fold(question)
        found = {said: self._meanings[said] for said, _, _ in self._find(folded)}
        if known is not None:
            for word in _SHORT_FORM.findall(folded):
                long_form = self._long_form(word, known)
                if long_form:
                    found.setdefault(word, long_form)
        return found

    def says(self, word: str) -> bool:
        """Return whether a folded word is in the glossary's callers' words."""
        return word in self._said_words

    def terms(
        self, question: str, *, known: KnownWords | None = None, corrections: Sequence[Correction] = ()
    ) -> tuple[Term, ...]:
        """Return the question's content terms, each once, in order of first appearance.

        A glossary entry is one term with the words of both sides as its forms. So is an abbreviation that
        documents define, and a corrected word.
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
        """Return the codes that the question names ("reject 79"), without leading zeros."""
        return tuple(dict.fromkeys(code.lstrip("0") or "0" for code in _NAMED_CODE.findall(fold(question))))

    def _long_form(self, word: str, known: KnownWords | None) -> str | None:
        """Return the long form that documents define; none for a word that is common English too."""
        return None if known is None or self.language.is_common(word) else known.abbreviations.get(word)

    def _find(self, folded: str) -> list[tuple[str, int, int]]:
        """Return (entry, start, end) of the glossary's entries, the longest entry first at each place."""
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


# Known words of the tenant's documents


FRESH_FOR_S = 300.0
FIRST_WAIT_S = 0.5
"""How long the first question of a process waits for the words; later ones use what is loaded."""
_RETRY_AFTER_S = 15.0
_log = structlog.get_logger(__name__)


class KnownWordsReader:
    """Caches the words of the index. A read that finds them older than FRESH_FOR_S starts one refresh in the
    background. While the index fails, the last known words are used."""

    def __init__(self, search: PassageSearch, *, clock: Clock, items_of: Sequence[SourceIds] = ()) -> None:
        """``items_of``: sources whose items are read, too."""
        self._search = search
        self._items_of = tuple(items_of)
        self._clock = clock
        self._known: KnownWords | None = None
        self._due_s = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def read(self) -> KnownWords | None:
        """Return the words; None before they were first loaded. Raises nothing."""
        if self._reading is None and self._clock.monotonic_s() >= self._due_s:
            self._reading = asyncio.create_task(self._refresh())
        if self._known is None and self._reading is not None:
            await asyncio.wait([self._reading], timeout=FIRST_WAIT_S)
        return self._known

    async def _refresh(self) -> None:
        try:
            self._known = await self._search.known_words(items_of=self._items_of)
            self._due_s = self._clock.monotonic_s() + FRESH_FOR_S
        except AssistantError as error:
            self._due_s = self._clock.monotonic_s() + _RETRY_AFTER_S
            _log.warning("known_words_unavailable", code=error.code)
        finally:
            self._reading = None
