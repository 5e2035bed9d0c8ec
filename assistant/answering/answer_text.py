"""The text of one answer: checked sentences that a model wrote, or quoted units.

A sentence is streamed only after its end was seen and its checks passed. The first sentence that fails ends
the written part, and the quote replaces it.

``[n]`` markers and echoes of the prompt's delimiters are removed from the model's text, whether or not they
name a source: attribution decides what a sentence cites, and the citation is shown beside it. The text is
what an agent copies into a reply. Markers that name no source are kept for the record.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from assistant.answering.events import SentenceEnded, Token
from assistant.answering.prepare import QuotedBlock
from assistant.answering.support import SupportChecker
from assistant.domain.answers import QuotedUnit, Sentence, Support
from assistant.text.language import Language, SentenceSpan, SentenceSplitter, fold
from assistant.text.safe_markdown import safe_markdown

_NUMBERS = r"\d{1,3}(?:\s?[,;\u2013-]\s?\d{1,3}){0,4}"
_MARKER = re.compile(rf"[ \t]{{0,8}}(?:\[\s?{_NUMBERS}\s?\]|</?passage>)")
_POSSIBLE_START = re.compile(
    rf"[ \t]{{1,8}}\Z|[ \t]{{0,8}}\[(?:\s?|\s?{_NUMBERS}\s?|\s?{_NUMBERS}\s?[,;\u2013-]\s?)\Z"
    r"|[ \t]{0,8}</?(?:p(?:a(?:s(?:s(?:a(?:g(?:e)?)?)?)?)?)?)?\Z"
)
_OPENING = re.compile(r"[\[<]")
_NUMBER = re.compile(r"\d+")


class MarkerFilter:
    """One answer's text, part by part. What comes out does not depend on where the parts were cut.

    White space before a marker goes with it, and so does what begins the text. What can begin a marker is
    held back until it is one or cannot be: at most 46 characters.
    """

    __slots__ = ("_begun", "_held", "_sources", "removed")

    def __init__(self, *, sources: int) -> None:
        """``sources``: the numbers 1 to ``sources`` name a source."""
        self._sources = sources
        self._held = ""
        self._begun = False
        self.removed: list[str] = []
        """Markers that name no source, in order."""

    def push(self, text: str) -> str:
        """Take the next part and return the text that is certain, which may be empty."""
        if self._begun and not self._held and not _OPENING.search(text) and text[-1:] not in (" ", "\t"):
            return text
        whole = self._held + text
        start = _POSSIBLE_START.search(whole)
        certain = whole[: start.start()] if start else whole
        self._held = whole[len(certain) :]
        return self._clean(certain)

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        rest, self._held = self._held, ""
        return self._clean(rest).rstrip()

    def _clean(self, text: str) -> str:
        if _OPENING.search(text):
            text = _MARKER.sub(self._remove, text)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _remove(self, marker: re.Match[str]) -> str:
        if not all(1 <= int(number) <= self._sources for number in _NUMBER.findall(marker[0])):
            self.removed.append(marker[0].strip())
        return ""


# The text of one answer: sentences that a model wrote and that passed their checks, or quoted units.


LONGEST_SENTENCE_CHARACTERS = 1_500
"""Text without an end of a sentence beyond this is debris; it also bounds what is held back."""
_DEBRIS = re.compile(
    r"^\W*(?:(?:the )?(?:passage|answer|question|context|source|document|response|assistant|user|system)s?"
    r"\s*(?:\d+\s*)?(?:is|are|says?)?\s*[:>\]]|[aq]\s*:|</?\w+|\[/?\w+\]|#+\s*(?:passage|question|answer)\b|"
    r"(?:according to|based on) the (?:passage|context|text)\W*$)",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_ECHO_SHARE = 0.9
_LOOP_WORDS = 12
"""From this many words on a sentence may loop inside itself."""
_LOOP_DIFFERENT = 0.4


class AnswerText:
    """What was streamed and what is stored are one: ``text`` is the sum of all ``Token`` texts."""

    __slots__ = (
        "_allowed_urls",
        "_checker",
        "_filter",
        "_language",
        "_parts",
        "_question",
        "_raw",
        "_seen",
        "_splitter",
        "_taken",
        "failure",
        "quoted",
        "sentences",
    )

    def __init__(
        self,
        *,
        checker: SupportChecker,
        question: str,
        sources: int,
        allowed_urls: Collection[str],
        language: Language,
    ) -> None:
        self._checker = checker
        self._question = language.content_stems(question)
        self._language = language
        self._allowed_urls = allowed_urls
        self._filter = MarkerFilter(sources=sources)
        self._splitter = SentenceSplitter()
        self._raw = ""
        """The model's text, cleaned of markers, from ``_taken`` on."""
        self._taken = 0
        """Where ``_raw`` begins in the model's cleaned text."""
        self._parts: list[str] = []
        self._seen: set[str] = set()
        self.failure: str | None = None
        """Why the written part ended before the model did: a code of ``done.fallback``."""
        self.sentences: list[Sentence] = []
        self.quoted: list[QuotedUnit] = []

    def write(self, text: str) -> Iterator[Token | SentenceEnded]:
        """Take the model's next text; yield the sentences that it ended and that passed. After a failure
        nothing more is taken."""
        if self.failure is not None:
            return
        visible = self._filter.push(text)
        if visible:
            self._raw += visible
            yield from self._release(self._splitter.push(visible))
        if self.failure is None and len(self._raw.strip()) > LONGEST_SENTENCE_CHARACTERS:
            self.failure = "debris"

    def end(self, *, cut_short: bool) -> Iterator[Token | SentenceEnded]:
        """Yield the last sentence. When the model was cut short, a sentence without its end is dropped."""
        if self.failure is not None:
            return
        rest = self._filter.flush()
        self._raw += rest
        yield from self._release(self._splitter.push(rest))
        last = list(self._splitter.flush())
        if cut_short and last and not last[-1].text.rstrip("\"”')*_ ").endswith((".", "!", "?", "…")):
            last.pop()
        yield from self._release(last)

    def quote(self, blocks: Sequence[QuotedBlock]) -> Iterator[Token | SentenceEnded]:
        """Yield quoted units, each as one token and its sentence."""
        for at, block in enumerate(blocks):
            before = "\n\n" + block.before.lstrip("\n") if at == 0 and self._parts else block.before
            start = self._length + len(before)
            self._parts.append(before + block.text)
            yield Token(before + block.text)
            self.quoted.append(
                QuotedUnit(
                    document_id=block.passage.document_id,
                    content_hash=block.passage.content_hash,
                    span=block.span,
                )
            )
            sentence = Sentence(
                index=len(self.sentences),
                start=start,
                end=start + len(block.text),
                citations=(block.n,),
                support=Support.SUPPORTED,
                relevance=self._relevance(block.text),
            )
            self.sentences.append(sentence)
            yield SentenceEnded(**dict(sentence))

    @property
    def begun(self) -> bool:
        """Whether any text was given to the reader."""
        return bool(self._parts)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def citations(self) -> tuple[int, ...]:
        """Numbers of the sources that the sentences cite, ascending."""
        return tuple(sorted({n for sentence in self.sentences for n in sentence.citations}))

    @property
    def removed_markers(self) -> tuple[str, ...]:
        return tuple(self._filter.removed)

    @property
    def _length(self) -> int:
        return sum(map(len, self._parts))

    def _release(
        self, spans: Iterator[SentenceSpan] | Sequence[SentenceSpan]
    ) -> Iterator[Token | SentenceEnded]:
        for span in spans:
            if self.failure is not None:
                return
            self.failure = self._fault(span.text)
            if self.failure is not None:
                return
            support = self._checker.check(span.text)
            if not support.citations:
                self.failure = "unsupported"
                return
            text = safe_markdown(span.text, allowed_urls=self._allowed_urls)
            before = _white_space(self._raw[: span.start - self._taken]) if self._parts else ""
            start = self._length + len(before)
            self._raw, self._taken = self._raw[span.end - self._taken :], span.end
            self._seen.add(_normal(span.text))
            self._parts.append(before + text)
            yield Token(before + text)
            sentence = Sentence(
                index=len(self.sentences),
                start=start,
                end=start + len(text),
                citations=support.citations,
                support=Support.SUPPORTED,
                relevance=self._relevance(text),
            )
            self.sentences.append(sentence)
            yield SentenceEnded(**dict(sentence))

    def _fault(self, text: str) -> str | None:
        """Return what is wrong with a finished sentence, whatever the sources hold, as a code."""
        if len(text) > LONGEST_SENTENCE_CHARACTERS:
            return "debris"
        normal = _normal(text)
        words = normal.split()
        if normal in self._seen or (
            len(words) >= _LOOP_WORDS and len(set(words)) < _LOOP_DIFFERENT * len(words)
        ):
            return "repetition"
        if _DEBRIS.search(text):
            return "debris"
        stems = self._language.content_stems(text)
        if text.rstrip().endswith("?") and stems and len(stems & self._question) >= _ECHO_SHARE * len(stems):
            return "echo"
        return None

    def _relevance(self, text: str) -> float | None:
        if not self._question:
            return None
        return round(len(self._language.content_stems(text) & self._question) / len(self._question), 3)


def _white_space(between: str) -> str:
    """Return what may be given out of the text between two sentences. The rest ("<!--", "```") was not
    checked, and could hide what follows it."""
    return "".join(filter(str.isspace, between))


def _normal(text: str) -> str:
    return " ".join(_WORD.findall(fold(text)))
