"""What is asked: the question inside a long message, two questions in one, what leans on the turn before.

Nothing of the question is ever replaced. What is searched gains words: the glossary's, the long forms of
abbreviations, and for an unknown word the nearest spelling of the tenant's own vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from assistant.answering.vocabulary import Vocabulary
from assistant.domain.answers import Correction
from assistant.domain.retrieval import KnownWords
from assistant.text.language import fold
from assistant.text.sentences import split_sentences

LONG_MESSAGE_WORDS = 45
"""Over it a message is cut to what is asked; shorter ones are searched whole."""
MOST_SENTENCES_KEPT = 3
MOST_CORRECTIONS = 4
MOST_LOOKED_UP = 8
"""Unknown words of one message. Each takes up to 5 ms among 60,000 words; a message in another language has
hundreds of them."""
_LEAST_LETTERS = 5
"""A shorter word has too many neighbours to be read as another."""
_TWO_EDITS_FROM = 9
"""Letters from which two edits still name one word."""
_LEAST_SHARE_OF_PART = 2
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
"""In the first half of a double question."""
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
"""A shorter question with a pronoun or an opening like "and for …" says too little alone."""
_MEDICINE_ENDING = re.compile(
    r"(?:ine|ol|pril|sartan|statin|azole|mycin|cillin|one|ide|ate|mab|nib|vir|parin|pam|lam|zepam|oxacin|triptan|"
    r"gliptin|gliflozin|glutide|setron|profen|phen|done|phine|barbital|cycline|thiazide|semide|lukast|dronate|in|"
    r"il|an|am|um|ax|ex|ix|or|ra|ta|va|za|ca)$"
)
"""How names of medicines end. An unknown word is read as such a word only if that one is common English."""


@dataclass(frozen=True, slots=True)
class Understood:
    """One message as it is searched."""

    parts: tuple[str, ...]
    """What is asked: one question, or the two of a double question, in the asker's words."""
    corrections: tuple[Correction, ...] = ()


def understand(message: str, *, vocabulary: Vocabulary, known: KnownWords | None) -> Understood:
    """Read a message of a care agent or a pasted one of a customer. Pure; about 0.2 ms for a short one."""
    asked = cut_to_question(message, vocabulary=vocabulary)
    return Understood(
        parts=split_double(asked, vocabulary=vocabulary),
        corrections=corrections(asked, vocabulary=vocabulary, known=known) if known else (),
    )


def cut_to_question(message: str, *, vocabulary: Vocabulary) -> str:
    """Return a long message's sentences that ask, with the telling one before them; a short one as it is."""
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
    """Return the two questions of a double one, else the question alone. Each half has words of its own."""
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
    """Say whether a question only makes sense after the one before it."""
    words = sum(1 for term in vocabulary.terms(question) if not term.word.isdigit())
    if _ELLIPSIS.search(question):
        return words <= 2 * _FEW_CONTENT_WORDS
    return words <= _FEW_CONTENT_WORDS and bool(_PRONOUN.search(question))


def corrections(question: str, *, vocabulary: Vocabulary, known: KnownWords) -> tuple[Correction, ...]:
    """Return the unknown words of a question with the nearest word of the tenant's documents.

    Additive: both are searched. Never a number or a code, never a word that is common English or stands in
    the documents or the glossary, and never towards the name of a medicine: an unknown medicine is not in
    the knowledge base.
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
        if nearest is not None:
            found.append(Correction(said=word, read_as=nearest))
    return tuple(found)


def is_known(word: str, vocabulary: Vocabulary, words: Mapping[str, int], *, common: bool = True) -> bool:
    """Say whether a folded word is in the documents, the glossary or (``common``) common English."""
    forms = (word, word.removesuffix("s"))  # "grandmas": an apostrophe is the first thing to be left out
    return any(
        form in words or vocabulary.says(form) or (common and vocabulary.language.is_common(form))
        for form in forms
    )


def _nearest(word: str, vocabulary: Vocabulary, words: Mapping[str, int]) -> str | None:
    edits = 2 if len(word) >= _TWO_EDITS_FROM else 1
    near = extract(word, words.keys(), scorer=OSA.distance, score_cutoff=edits, limit=8)
    safe = [
        (distance, -words[candidate], candidate)
        for candidate, distance, _ in near
        if candidate[0] == word[0]
        and (vocabulary.language.is_common(candidate) or not _MEDICINE_ENDING.search(candidate))
    ]
    stems = {
        vocabulary.language.stem(candidate) for distance, _, candidate in safe if distance == min(safe)[0]
    }
    return min(safe)[2] if len(stems) == 1 else None


def _says_enough(half: str, vocabulary: Vocabulary) -> bool:
    return sum(1 for _ in vocabulary.terms(half)) >= _LEAST_SHARE_OF_PART
