"""How a text that was sent differs from the answer that the agent began with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from assistant.domain.answers import AnswerRecord, Sent, Support
from assistant.text.language import fold

MARKUP = re.compile(r"\[\d{1,3}\]|[*_#>`|]+|^[^\S\n]*(?:-|\d{1,3}[.)])\s", re.MULTILINE)
_WORD = re.compile(r"[^\W_]+(?:[.,:/'-][^\W_]+)*")


def begun_with(sent: Sent, record: AnswerRecord) -> list[str]:
    """Return the texts of an answer of which a sent text may be an edit: the lines that it names; where its
    client does not say, the supported sentences, and all. Empty for the agent's own words.

    ``sent`` is from no written reply; ``record`` has the documents' texts in it (``fill_record``).
    """
    match sent.began_with:
        case None:
            texts = "\n".join(sentences_of(record, Support.SUPPORTED)), record.text
        case "lines":
            lines = [one for one in record.sentences if one.index in sent.lines]
            texts = ("\n".join(record.text[one.start : one.end] for one in lines),)
        case _:
            texts = ()
    return [text for text in texts if text.strip()]


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


def nearest_text(texts: Sequence[str], sent: str) -> tuple[str, int, int]:
    """Return the text that is nearest to a sent one, the words between them (word Levenshtein distance),
    and the words of the longer one."""
    after = words_of(sent)
    begun = [(text, words_of(text)) for text in texts] or [("", [])]
    before, words = min(begun, key=lambda each: Levenshtein.distance(each[1], after))
    return before, Levenshtein.distance(words, after), max(len(words), len(after))
