"""How a text that was sent differs from the answer that the agent began with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from assistant.domain.answers import AnswerRecord, Support
from assistant.text.language import fold

MARKUP = re.compile(r"\[\d{1,3}\]|[*_#>`|]+|^[^\S\n]*(?:-|\d{1,3}[.)])\s", re.MULTILINE)
_WORD = re.compile(r"[^\W_]+(?:[.,:/'-][^\W_]+)*")


def drafts_of(record: AnswerRecord) -> Sequence[str]:
    """Return the texts that an agent may have begun with: the reply's draft, the supported sentences, all.

    ``record`` has the documents' texts in it (``fill_record``).
    """
    supported = "\n".join(sentences_of(record, Support.SUPPORTED))
    return [text for text in (record.reply_draft or "", supported, record.text) if text.strip()]


def sentences_of(record: AnswerRecord, support: Support) -> list[str]:
    """Return the sentences with this support that are not gone."""
    sentences = (
        record.text[sentence.start : sentence.end]
        for sentence in record.sentences
        if sentence.support is support
    )
    return [text for text in sentences if text]


def words_of(text: str) -> list[str]:
    """Return the folded words of a text without Markdown and citations."""
    return _WORD.findall(fold(MARKUP.sub(" ", text)))


def nearest_draft(drafts: Sequence[str], sent: str) -> tuple[str, int, int]:
    """Return the draft that is nearest to a sent text, the words between them (word Levenshtein distance),
    and the words of the longer one."""
    after = words_of(sent)
    begun = [(text, words_of(text)) for text in drafts] or [("", [])]
    before, words = min(begun, key=lambda each: Levenshtein.distance(each[1], after))
    return before, Levenshtein.distance(words, after), max(len(words), len(after))
