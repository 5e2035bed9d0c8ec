"""The text of one answer while it is written: cleaned of markers, cut into sentences, attributed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from assistant.answering.attribution import Attribution
from assistant.answering.events import SentenceEnded, Token
from assistant.answering.language import Language
from assistant.answering.markers import MarkerFilter
from assistant.answering.passage_text import PassageText
from assistant.answering.sentences import SentenceSpan, SentenceSplitter
from assistant.domain.answers import Sentence


class WrittenText:
    """What was streamed and what is stored are one: ``text`` is the sum of all ``Token`` texts."""

    __slots__ = ("_attribution", "_filter", "_parts", "_splitter", "sentences")

    def __init__(self, passages: Sequence[PassageText], *, language: Language) -> None:
        self._filter = MarkerFilter(sources=len(passages))
        self._splitter = SentenceSplitter()
        self._attribution = Attribution(passages, language=language)
        self._parts: list[str] = []
        self.sentences: list[Sentence] = []

    def write(self, text: str) -> Iterator[Token | SentenceEnded]:
        """Take the model's next text; yield what is certain of it and the sentences that it ended."""
        visible = self._filter.push(text)
        if visible:
            self._parts.append(visible)
            yield Token(visible)
            yield from self._judge(self._splitter.push(visible))

    def end(self) -> Iterator[Token | SentenceEnded]:
        """Yield what was held back, and the last sentence."""
        rest = self._filter.flush()
        if rest:
            self._parts.append(rest)
            yield Token(rest)
            yield from self._judge(self._splitter.push(rest))
        yield from self._judge(self._splitter.flush())

    @property
    def begun(self) -> bool:
        """Whether any text was given to the reader."""
        return bool(self._parts)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def citations(self) -> tuple[int, ...]:
        """Numbers of the sources that the finished sentences cite, ascending."""
        return tuple(sorted({n for sentence in self.sentences for n in sentence.citations}))

    @property
    def removed_markers(self) -> tuple[str, ...]:
        return tuple(self._filter.removed)

    def _judge(self, spans: Iterable[SentenceSpan]) -> Iterator[SentenceEnded]:
        for span in spans:
            sentence = self._attribution.attribute(span, index=len(self.sentences))
            self.sentences.append(sentence)
            yield SentenceEnded(**dict(sentence))
