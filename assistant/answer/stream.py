"""The core of one streamed answer, without I/O: the model's text goes in, events and the record come out.

``AnswerStream.feed`` takes text as it arrives, cut anywhere; ``end`` says how the text ended; ``close``
returns the record. The events do not depend on where the text was cut.

A sentence of a model is streamed when its end was seen and it was checked. One with a number, code or name
that nothing holds which the model was given is withheld, and counted; every other one is shown as
*supported* or to *check*. Its citations ("[2.4]") leave the text, which an agent copies into a reply, and
come with the sentence. A citation that names no unit of the prompt is removed and kept for the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from assistant.answer.certainty import explain
from assistant.answer.elements import Hydration, LiveSlot, what_is_missing, why_not_answered
from assistant.answer.events import (
    Cause,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.answer.excerpts import NO_LABELS, shown_title
from assistant.answer.offers import QuotedBlock
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.answer.read import PreparedAnswer
from assistant.answer.record import approved_uses, candidates_of, uses_of_passages
from assistant.answer.services import TenantServices
from assistant.answer.support import Checked, SupportChecker
from assistant.answer.write import ModelCall
from assistant.domain.answers import (
    AnswerEnding,
    AnswerRecord,
    ApprovedUse,
    Certainty,
    CitedUnit,
    FinishReason,
    Mode,
    Outcome,
    QuotedUnit,
    Sentence,
    Support,
    Usage,
)
from assistant.domain.errors import AssistantError
from assistant.tenant.deployed_names import CANARY_VARIANT
from assistant.text.language import CITATION_MARKS, Language, SentenceSpan, SentenceSplitter, fold
from assistant.text.markup import (
    WORD_OR_MARK,
    Labelled,
    MarkupParser,
    Tag,
    label_of,
    mark,
    with_labels,
    without_marks,
)
from assistant.text.safe_markdown import addresses_in, safe_markdown

_REFERENCE = r"\d{1,3}(?:\.\d{1,3})?"
_REFERENCES = rf"{_REFERENCE}(?:\s?[,;\u2013-]\s?{_REFERENCE}){{0,9}}"
_MARKER = re.compile(rf"[ \t]{{0,8}}(?:\[\s?({_REFERENCES})\s?\]|</?document(?: \d{{1,3}})?>)")
_POSSIBLE_START = re.compile(
    rf"[ \t]{{1,8}}\Z|[ \t]{{0,8}}\[(?:\s?|\s?{_REFERENCES}[.]?\s?|\s?{_REFERENCES}\s?[,;\u2013-]\s?)\Z"
    r"|[ \t]{0,8}</?(?:d(?:o(?:c(?:u(?:m(?:e(?:n(?:t(?: \d{0,3})?)?)?)?)?)?)?)?)?\Z"
)
_OPENING = re.compile(r"[\[<]")
_ONE_REFERENCE = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?")
_RANGE = re.compile(r"(\d{1,3})\.(\d{1,3})\s?[\u2013-]\s?(?:(\d{1,3})\.)?(\d{1,3})")
_PRIVATE = re.compile(r"[\ue100-\uf8ff]")
_MOST_CITED = 12
"""Units that one sentence cites at most; more are no evidence for anything."""
Reference = tuple[int, int | None]
"""Document and unit of the prompt, from 1; None: the whole document."""


class CitationFilter:
    """Takes the citations out of one answer's text, part by part. The result does not depend on the cuts.

    In place of a citation, with the white space before it, the text has one character of CITATION_MARKS, so
    that it stays with its sentence. Text that may begin a citation is held back until that is decided.
    """

    def __init__(self, documents: Sequence[PromptDocument]) -> None:
        self._units = {document.n: len(document.units) for document in documents}
        self._held = ""
        self._begun = False
        self._cited: list[tuple[Reference, ...]] = []
        self.removed: list[str] = []
        """Citations that name no unit of the prompt, in order."""

    def push(self, text: str) -> str:
        """Take the next part and return the text that is decided, which may be empty."""
        text = _PRIVATE.sub("", text)
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

    def taken(self, text: str) -> tuple[str, tuple[Reference, ...]]:
        """Return a text without its marks, and what they cite, each once."""
        marks = [ord(character) - CITATION_MARKS[0] for character in text if _is_mark(character)]
        cited = dict.fromkeys(one for at in marks for one in self._cited[at])
        left = "".join(character for character in text if not _is_mark(character))
        return left.strip(), tuple(cited)[:_MOST_CITED]

    def _clean(self, text: str) -> str:
        if _OPENING.search(text):
            text = _MARKER.sub(self._marked, text)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _marked(self, marker: re.Match[str]) -> str:
        if marker[1] is None:
            return ""
        wanted = list(_references(marker[1]))
        known = tuple(reference for reference in wanted if self._is_known(reference))
        if not known or len(known) < len(wanted):
            self.removed.append(marker[0].strip())
        if not known or len(self._cited) >= CITATION_MARKS[1] - CITATION_MARKS[0]:
            return ""
        self._cited.append(known)
        return chr(CITATION_MARKS[0] + len(self._cited) - 1)

    def _is_known(self, reference: Reference) -> bool:
        document, unit = reference
        return document in self._units and (unit is None or 1 <= unit <= self._units[document])


def _references(text: str) -> Iterator[Reference]:
    """Yield what "2.4", "2", "1.3, 1.5" or "2.4-2.6" cites."""
    for found in _RANGE.finditer(text):
        if found[3] in (None, found[1]):
            yield from (
                (int(found[1]), unit) for unit in range(int(found[2]), int(found[4]) + 1)[:_MOST_CITED]
            )
    for found in _ONE_REFERENCE.finditer(_RANGE.sub(" ", text)):
        yield int(found[1]), None if found[2] is None else int(found[2])


def _is_mark(character: str) -> bool:
    return CITATION_MARKS[0] <= ord(character) <= CITATION_MARKS[1]


LONGEST_SENTENCE_CHARACTERS = 1_500
"""Text without the end of a sentence that is longer than this is debris. This bounds what is held back."""
MOST_CHARACTERS = 24_000
"""Of a model's text: more than any answer's tokens can hold."""
_DEBRIS = re.compile(r"^\W*(?:<[/|]?[A-Za-z]|\[/?[A-Z_]{2,}\])|^[\s`]*[{\[]\s*[\"{]|^\s*```[A-Za-z]")
_WORD = re.compile(r"\w+")
_LOOP_WORDS = 12
"""From this many words on, a sentence is checked for loops inside itself."""
_LOOP_DIFFERENT = 0.4


TextEvents = Iterator[Token | SentenceEnded | ElementChanged]


class AnswerText:
    """The text of one answer. ``text``, which the record keeps, is the sum of all ``Token`` texts."""

    def __init__(
        self,
        *,
        prompt: Prompt | None,
        language: Language,
        hydration: Hydration | None = None,
    ) -> None:
        """``prompt`` None: no model writes. ``hydration`` None: no element is named."""
        offered = prompt.elements if prompt is not None else NO_LABELS
        self._documents = (
            {document.n: document for document in prompt.documents} if prompt is not None else {}
        )
        self._refusal = fold(prompt.refusal.rstrip(".")) if prompt and prompt.refusal else None
        self._partial = fold(prompt.partial) if prompt and prompt.partial else None
        self._given = (*prompt.given, prompt.partial or "") if prompt is not None else ()
        self._checker: SupportChecker | None = None
        self._hydration = hydration
        self._offered = offered
        self._markup = MarkupParser(lambda tag: tag.key in offered)
        self._marked: list[tuple[Tag, LiveSlot]] = []
        """The model's elements, by the number of their marks."""
        self._language = language
        urls = (document.document.card.url for document in self._documents.values())
        self._allowed_urls = frozenset(url for url in urls if url)
        self._filter = CitationFilter(tuple(self._documents.values()))
        self._splitter = SentenceSplitter(substance=WORD_OR_MARK) if offered else SentenceSplitter()
        self._raw = ""
        """The model's text, with marks in place of citations, from ``_taken`` on."""
        self._taken = 0
        """Where ``_raw`` begins in the model's text with marks."""
        self._parts: list[str] = []
        self.length = 0
        self._seen: set[str] = set()
        self._read = 0
        self.failure: str | None = None
        """Why the written part ended before the model did: a code of ``done.fallback``."""
        self.is_refused = False
        """Whether the model said that the documents do not answer."""
        self.is_partial = False
        """Whether the model said that the documents do not say a part."""
        self.sentences: list[Sentence] = []
        self.quoted: list[QuotedUnit] = []

    def prepare(self) -> None:
        """Make the check of support now; the first sentence does it otherwise."""
        if self._checker is None and self._documents:
            last = max(self._documents)
            known = (self._documents.get(n) for n in range(1, last + 1))
            texts = [document.unit_texts if document is not None else () for document in known]
            self._checker = SupportChecker(texts, given=self._given, language=self._language)

    def write(self, text: str) -> TextEvents:
        """Take the model's next text; yield the sentences that it ended. After a failure or a refusal no more
        text is taken."""
        if self.is_over:
            return
        text, self._read = text[: MOST_CHARACTERS - self._read], self._read + len(text)
        text = self._with_marks(self._markup.push(text)) if self._offered else without_marks(text)
        visible = self._filter.push(text)
        if visible:
            self._raw += visible
            yield from self._release(self._splitter.push(visible))
        if not self.is_over and len(self._raw.strip()) > LONGEST_SENTENCE_CHARACTERS:
            self.failure = "debris"
        if not self.is_over and self._read > MOST_CHARACTERS:
            self.failure = "too_long"

    def end(self, *, cut_short: bool) -> TextEvents:
        """Yield the last sentence. When the model was cut short, a sentence without its end is dropped."""
        if self.is_over:
            return
        held = self._with_marks(self._markup.flush()) if self._offered else ""
        rest = self._filter.push(held) + self._filter.flush()
        self._raw += rest
        yield from self._release(self._splitter.push(rest))
        last = list(self._splitter.flush())
        if cut_short and last:
            ending, _ = self._filter.taken(last[-1].text)
            if not ending.rstrip("\"”')*_ ").endswith((".", "!", "?", "…")):
                last.pop()
        yield from self._release(last)

    @property
    def is_over(self) -> bool:
        """Whether no more of the model's text is of use."""
        return self.failure is not None or self.is_refused

    def quote(self, blocks: Sequence[QuotedBlock]) -> TextEvents:
        """Yield quoted units, each as one token and its sentence."""
        for at, block in enumerate(blocks):
            passage = block.passage
            self.quoted.append(
                QuotedUnit(
                    document_id=passage.document_id, content_hash=passage.content_hash, span=block.span
                )
            )
            before = "\n\n" + block.before.lstrip("\n") if at == 0 and self._parts else block.before
            start = self.length + len(before)
            yield from self._add(
                block.text,
                before=before,
                citations=(block.n, *block.rests_on),
                is_key=block.is_key,
                quote=block.quote,
            )
            if self._hydration is not None:
                yield from _placed(block, self._hydration, start=start)

    def write_label(self, title: str) -> tuple[Token, int, int]:
        """Add the label of an element in a paragraph of its own; return its token and [start, end)."""
        label, before = label_of(title), "\n\n" if self._parts else ""
        start = self.length + len(before)
        self.length = start + len(label)
        self._parts.append(before + label)
        return Token(before + label), start, self.length

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
    def is_certain(self) -> bool:
        """Whether every sentence of a written answer is shown, and one at least is supported."""
        details = [sentence.detail for sentence in self.sentences]
        return "withheld" not in details and any(
            sentence.support is Support.SUPPORTED for sentence in self.sentences
        )

    def _release(self, spans: Iterator[SentenceSpan] | Sequence[SentenceSpan]) -> TextEvents:
        for span in spans:
            written, cited = self._filter.taken(span.text)
            # A space for a mark: "2" and "3" around one are not "23".
            said = without_marks(written, instead=" ") if self._marked else written
            before = _white_space(self._raw[: span.start - self._taken]) if self._parts else ""
            piece = self._raw[: span.end - self._taken].strip()
            self._raw, self._taken = self._raw[span.end - self._taken :], span.end
            if len(piece) > LONGEST_SENTENCE_CHARACTERS or _DEBRIS.search(piece):
                self.failure = "debris"
                return
            if self._refusal is not None and fold(said).lstrip("*_ ").startswith(self._refusal):
                self.is_refused = True
                return
            if not _WORD.search(said) and self._marked:  # only elements: it claims nothing
                yield from self._write_marked(written, before=before, checked=None, cited=())
                continue
            if self._is_repeated(said):
                self.failure = "repetition"
                return
            self._seen.add(_normal(said))
            yield from self._check(written, said, before=before, cited=cited)

    def _check(self, written: str, said: str, *, before: str, cited: tuple[Reference, ...]) -> TextEvents:
        """Yield a sentence as its check allows it."""
        self.prepare()
        is_partial = self._partial is not None and fold(said).lstrip("*_ ").startswith(self._partial)
        self.is_partial = self.is_partial or is_partial
        checked = self._checker.check(said, cited) if self._checker is not None else None
        if checked is not None and checked.detail == "withheld":
            sentence = Sentence(
                index=len(self.sentences),
                start=self.length,
                end=self.length,
                citations=(),
                support=Support.UNSUPPORTED,
                detail="withheld",
                values=checked.values[:20],
                reasons=checked.reasons,
            )
            self.sentences.append(sentence)
            yield SentenceEnded(**dict(sentence))
            return
        # That the documents do not say something rests on no unit.
        yield from self._write_marked(
            written, before=before, checked=None if is_partial else checked, cited=cited
        )

    def _with_marks(self, parts: Sequence[str | Tag]) -> str:
        """Return the model's text with marks in place of its elements, whose reads begin now if the message
        did not begin them."""
        marked: list[str] = []
        for part in parts:
            if isinstance(part, str):
                marked.append(without_marks(part))
                continue
            used = [slot for _, slot in self._marked]
            if self._hydration is not None and (slot := self._hydration.read(part.name, but=used)):
                marked.append(mark(len(self._marked)))
                self._marked.append((part, slot))
            else:
                marked.append(part.written)
        return "".join(marked)

    def _write_marked(
        self, text: str, *, before: str, checked: Checked | None, cited: tuple[Reference, ...]
    ) -> TextEvents:
        """Add a sentence of the model with labels in place of its marks; yield its events."""
        held = (addresses_in(text) for reference in cited for text in self._texts_of(reference))
        text = safe_markdown(text, allowed_urls=self._allowed_urls.union(*held))
        labels = {number: self._offered[tag.key] for number, (tag, _) in enumerate(self._marked)}
        labelled = with_labels(text, labels) if labels else Labelled(text)
        start = self.length + len(before)
        yield from self._add(
            labelled.text,
            before=before,
            citations=tuple(sorted({document for document, _ in cited})),
            is_sentence=bool(_WORD.search(text)),
            support=checked.support if checked is not None else Support.SUPPORTED,
            detail=checked.detail if checked is not None else None,
            reasons=checked.reasons if checked is not None else (),
            cited=tuple(filter(None, map(self._cited_unit, cited))),
        )
        for number, first, last in labelled.places:
            if self._hydration is not None:
                slot = self._marked[number][1]
                yield self._hydration.place_slot(slot, start=start + first, end=start + last)

    def _texts_of(self, reference: Reference) -> Iterator[str]:
        """Yield the texts that a sentence cites: one unit, or all of a document that the model read."""
        document, number = reference
        units = self._documents[document].units
        yield from (unit.text for unit in (units if number is None else units[number - 1 : number]))

    def _cited_unit(self, reference: Reference) -> CitedUnit | None:
        document, unit = reference
        if unit is None:
            return None
        span = self._documents[document].units[unit - 1].span
        return CitedUnit(n=document, start=span.start, end=span.end)

    def _add(
        self,
        text: str,
        *,
        before: str,
        citations: tuple[int, ...],
        is_sentence: bool = True,
        support: Support = Support.SUPPORTED,
        **marks: Any,
    ) -> TextEvents:
        """Add one sentence or unit to the text and yield its two events; one that claims nothing has no
        sentence. ``marks``: of ``Sentence``."""
        start = self.length + len(before)
        self.length = start + len(text)
        self._parts.append(before + text)
        yield Token(before + text)
        if not citations and not is_sentence:
            return
        sentence = Sentence(
            index=len(self.sentences),
            start=start,
            end=self.length,
            citations=citations,
            support=support,
            **marks,
        )
        self.sentences.append(sentence)
        yield SentenceEnded(**dict(sentence))

    def _is_repeated(self, text: str) -> bool:
        """Return whether a sentence was said before, or says the same again and again."""
        normal = _normal(text)
        words = normal.split()
        is_loop = len(words) >= _LOOP_WORDS and len(set(words)) < _LOOP_DIFFERENT * len(words)
        return (bool(normal) and normal in self._seen) or is_loop


def _placed(block: QuotedBlock, hydration: Hydration, *, start: int) -> Iterator[ElementChanged]:
    """Yield the elements of a quoted block whose text was just added at ``start`` of the whole text."""
    for name, first, last in block.elements:
        if event := hydration.place(name, start=start + first, end=start + last):
            yield event
    end = start + len(block.text)
    if (ready := block.ready) is not None and (
        event := hydration.show(ready, start=start - ready.begins_before, end=end)
    ):
        yield event
    if block.of_items is not None and (slot := hydration.begin(block.of_items[0], items=block.of_items[1])):
        yield hydration.place_slot(slot, start=end, end=end)


def _white_space(between: str) -> str:
    """Return the white space of the text between two sentences. Anything else there ("<!--", "```") was not
    checked and could hide the text after it."""
    return "".join(filter(str.isspace, between))


def _normal(text: str) -> str:
    return " ".join(_WORD.findall(fold(text)))


_EMPTY = "empty_answer"
_WITHHELD = "withheld"
_CUT_SHORT = "length"
_NO_UNITS = "nothing_to_quote"
FAILED_CHECKS = frozenset({"repetition", "debris", "too_long", _EMPTY, _WITHHELD, _CUT_SHORT, _NO_UNITS})
"""Codes of ``done.fallback`` for text that failed its checks. Every other code is a failure of the model."""
_NOT_ANSWERED = "The documents that were read do not answer this question."
_OUTCOMES = {Cause.CANCELLED: Outcome.CANCELLED, Cause.DISCONNECTED: Outcome.DISCONNECTED}
CANCELLED_PROBLEM = Problem(
    title="Cancelled",
    status=409,
    detail="The answer was cancelled by the agent who asked.",
    code="cancelled",
    retryable=False,
)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an answer ended. The default is an unexpected error, which the caller's caller handles."""

    outcome: Outcome = Outcome.FAILED
    error_code: str | None = AssistantError.code
    finish_reason: FinishReason | None = None
    reason: str | None = None
    """For ``done``: what was missing or what failed."""
    mode: Mode | None = None
    certainty: Certainty | None = None
    fallback: str | None = None
    """Why quotes replaced written text."""


def _left_by(cause: Cause) -> _Ending:
    """Return the ending of an answer that was cancelled or whose reader left."""
    return _Ending(_OUTCOMES[cause], cause.value)


class AnswerStream:
    """One streamed answer: its events, its last event and its record, from the same state."""

    def __init__(self, services: TenantServices, prepared: PreparedAnswer, *, language: Language) -> None:
        self._services = services
        self._prepared = prepared
        self._text = AnswerText(prompt=prepared.prompt, language=language, hydration=prepared.hydration)
        self._written: list[str] = []
        """The model's own text, unchecked: to count tokens and to detect a refusal, never for a reader."""
        self._ending: _Ending = _Ending()
        self._asked_slots = list(dict.fromkeys(element.slot for element in prepared.hydration.answering))
        """The elements that answer parts of the message, each once."""
        self._after_text: list[LiveSlot] = []
        """Those of them that the text does not name and that have not ended: they follow it."""
        self._usage = Usage()
        self._told = AnswerEnding()
        """What the record and the last event say; from ``close`` on."""
        self.is_closed = False

    @property
    def is_over(self) -> bool:
        """Whether no more of the model's text is of use: it failed a check, or refused."""
        return self._text.is_over

    def begin(self, *, resumable: bool) -> Iterator[Started | Sources]:
        """Yield the first two events."""
        prepared, record = self._prepared, self._prepared.record
        yield Started(
            answer_id=record.answer_id,
            conversation_id=record.conversation_id,
            model=record.model_id,
            index_version=record.index_version,
            trace_id=record.trace_id,
            resumable=resumable,
            red_flags=prepared.red_flags,
            unchecked_language=record.unchecked_language,
            recorded_model=self._services.writer.model.recorded,
        )
        quote = prepared.quote
        yield Sources(sources=quote.sources, section=quote.section, offered=quote.offered)
        self._text.prepare()  # while the model prepares its first token

    def feed(self, text: str) -> TextEvents:
        """Take the model's next text; yield a token and a sentence for each sentence that it ended."""
        self._written.append(text)
        return self._text.write(text)

    def end(self, how: FinishReason | Cause | str | None) -> TextEvents:
        """Yield the last events of the text.

        ``how``: the model's finish reason; the cause of an interruption; the code of the model's failure;
        None where no model was asked.
        """
        text = self._text
        if how is Cause.CANCELLED or how is Cause.DISCONNECTED:
            self._ending = _left_by(how)
        elif how is None:
            yield from self._end_unwritten()
        elif isinstance(how, FinishReason) or text.is_over:
            yield from text.end(cut_short=how is FinishReason.LENGTH)
            yield from self._end_written(how)
        elif text.begun:  # a model that failed half way: what it wrote stands, and the code says the rest
            self._ending = _Ending(
                Outcome.DONE,
                str(how),
                FinishReason.LENGTH,
                mode=Mode.WRITTEN,
                certainty=Certainty.POSSIBLY,
                fallback=str(how),
            )
        else:
            yield from self._quote(str(how))

    def _end_unwritten(self) -> TextEvents:
        """Yield the quoted answer, or end without one."""
        prepared = self._prepared
        if any(part.is_found for part in prepared.quote.evidence):
            yield from self._quote(None)
            return
        best = prepared.quote.evidence[0].best
        title = shown_title(best.card.title) if best is not None else None
        refusal = next((part.refusal for part in prepared.quote.evidence if part.refusal), "")
        self._ending = _Ending(Outcome.DONE, None, FinishReason.NO_EVIDENCE, refusal or explain(title=title))

    def _end_written(self, how: FinishReason | str) -> TextEvents:
        """End an answer whose model came to an end, refused, or wrote what is no answer."""
        text = self._text
        if text.is_refused and not text.begun:
            self._ending = _Ending(Outcome.DONE, None, FinishReason.NO_EVIDENCE, _NOT_ANSWERED)
            return
        if not text.begun:
            withheld = _WITHHELD if text.sentences else None
            empty = _CUT_SHORT if how is FinishReason.LENGTH else _EMPTY
            yield from self._quote(text.failure or withheld or empty)
            return
        is_sure = text.is_certain and not (text.is_partial or text.is_refused or text.failure)
        self._ending = _Ending(
            Outcome.DONE,
            text.failure,
            FinishReason.LENGTH if text.failure or how is FinishReason.LENGTH else FinishReason.STOP,
            mode=Mode.WRITTEN,
            certainty=Certainty.ANSWERED if is_sure else Certainty.POSSIBLY,
            fallback=text.failure,
        )

    def place_asked(self) -> Iterator[ElementChanged]:
        """Yield the elements that answer by themselves and are not in the text, after it. Their labels follow
        when they are ready: a system that fails leaves no word in the text."""
        if self._ending.outcome is not Outcome.DONE:
            return
        hydration, at = self._prepared.hydration, self._text.length
        shown = {slot.type.name for slot in hydration.placed}
        self._after_text = [slot for slot in self._asked_slots if slot.type.name not in shown]
        hydration.make_room((), keep=self._after_text)
        for slot in self._after_text:
            yield hydration.place_slot(slot, start=at, end=at)

    def ended_elements(self) -> Iterator[Token | ElementChanged]:
        """Yield the elements that ended since the last call. A ready one that answers by itself follows its
        label, which waits for the elements before it: the text does not depend on which system was faster."""
        hydration, waiting = self._prepared.hydration, self._after_text
        ended, labelled = hydration.take(), list[LiveSlot]()
        while waiting and waiting[0].is_shown:
            slot = waiting.pop(0)
            labelled += [slot] if slot.is_ready else []
        yield from (ElementChanged(**dict(element.element())) for element in ended if element not in labelled)
        for slot in labelled:
            token, start, end = self._text.write_label(slot.type.title)
            yield token
            hydration.place_slot(slot, start=start, end=end)
            yield ElementChanged(**dict(slot.element()))

    def end_elements(self) -> None:
        """End the answer whose elements have ended, or for which nobody waits any more."""
        prepared, ending = self._prepared, self._ending
        if ending.outcome is not Outcome.DONE:
            return
        if prepared.hydration.left is not None:
            self._ending = _left_by(prepared.hydration.left)
            return
        if ending.finish_reason is not FinishReason.NO_EVIDENCE:
            if ending.mode is Mode.WRITTEN and prepared.hydration.reads_another:
                self._ending = replace(ending, certainty=Certainty.POSSIBLY)
        elif any(element.slot.is_ready for element in prepared.hydration.answering):
            self._ending = _Ending(Outcome.DONE, None, FinishReason.STOP, mode=Mode.QUOTED)
        elif reasons := why_not_answered(prepared.hydration.answering):
            # Where a system is all that was asked, it says nothing that the documents are silent.
            parts = len(prepared.quote.evidence)
            asked_parts = len({element.part for element in prepared.hydration.answering})
            by_system = asked_parts == parts >= prepared.request.question.count("?")
            self._ending = replace(ending, reason=reasons if by_system else f"{reasons} {ending.reason}")

    def abandon(self, cause: Cause | None) -> None:
        """End the answer whose reader stopped reading: its task was cancelled or its stream was closed."""
        self._ending = _left_by(Cause.CANCELLED if cause is Cause.CANCELLED else Cause.DISCONNECTED)

    def close(self, model: ModelCall | None) -> AnswerRecord:
        """End the answer's trace and return its record. Nothing is added to the answer after it."""
        self.is_closed = True
        self._prepared.hydration.cancel()
        prepared, ending, text = self._prepared, self._ending, self._text
        self._usage = self._count_usage(model)
        steps, first, offered = prepared.scope.steps, prepared.quote.evidence[0], prepared.quote.offered
        steps.end(ending.outcome.value, error_code=ending.error_code)
        self._told = self._as_told()
        return prepared.record.model_copy(
            update={
                "finished_at": self._services.clock.now(),
                "outcome": ending.outcome,
                "finish_reason": ending.finish_reason,
                "error_code": ending.error_code,
                "sentences": tuple(text.sentences),
                "removed_markers": text.removed_markers,
                "passages": uses_of_passages(prepared),
                "gate": first.gate,
                "usage": self._usage,
                "timings_ms": dict(steps.timings_ms),
                "inference_id": model.inference_id if model else None,
                **self._writer(model),
                "offered": ApprovedUse(item_id=offered.item_id, revision=offered.revision)
                if offered
                else None,
                "quoted": tuple(text.quoted),
                "candidates": candidates_of(first),
                "approved": approved_uses(prepared) if ending.mode is Mode.QUOTED else (),
                "elements": prepared.hydration.uses(),
                "differing": self._differing() if ending.mode is not None else (),
                **dict(self._told),
                **self._kept_texts(self._told),
            }
        )

    def _differing(self) -> tuple[str, ...]:
        """Return the documents that give one thing different values."""
        parts = (part for part in self._prepared.quote.evidence if part.differing)
        shown = (each for part in parts for each in (part.section, *part.differing) if each is not None)
        return tuple(dict.fromkeys(each.document_id for each in shown))

    def _writer(self, model: ModelCall | None) -> dict[str, str | None]:
        """Return what the record says of the weights that wrote, where they may not be the served ones."""
        if model is None or model.variant is None:
            return {}
        if model.variant != CANARY_VARIANT:
            return {"variant": model.variant}
        digest = self._services.tenant.generation.canary_sha256
        return {"variant": model.variant, "model_digest": digest}

    def last_event(self, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; None when nobody reads it. Call it after ``close``."""
        prepared, ending, text = self._prepared, self._ending, self._text
        if ending.finish_reason is None:
            return CANCELLED_PROBLEM if ending.outcome is Outcome.CANCELLED else None
        return Done(
            finish_reason=ending.finish_reason,
            citations=text.citations,
            usage=self._usage,
            timings_ms=prepared.scope.steps.timings_ms,
            reason=self._reason(),
            recorded=recorded,
            **dict(self._told),
        )

    def _reason(self) -> str | None:
        """Return why nothing is answered; that documents are missing comes first."""
        ending, loading = self._ending, self._told.loading
        if ending.finish_reason is not FinishReason.NO_EVIDENCE or not loading:
            return ending.reason
        missing = "; ".join(map(str, loading))
        return f"The knowledge base is not complete ({missing}): ask again later. {ending.reason}"

    def _as_told(self) -> AnswerEnding:
        """Return the ending as the last event and the record say it."""
        prepared, ending = self._prepared, self._ending
        is_done, is_whole = ending.outcome is Outcome.DONE, self._is_of_whole_sources()
        certainty = ending.certainty if is_whole else ending.certainty and Certainty.POSSIBLY
        quote = prepared.quote
        needs_nobody = is_whole and self._is_settled()
        offers_draft = ending.mode is not None and is_whole and certainty is not Certainty.POSSIBLY
        return AnswerEnding(
            mode=ending.mode,
            certainty=certainty,
            fallback=ending.fallback,
            also=quote.also if ending.mode else (),
            clarify=what_is_missing(prepared.hydration.answering) if is_done else None,
            unanswered=self._unanswered(),
            reply_draft=quote.reply_draft if offers_draft else None,
            escalation=None if needs_nobody or ending.finish_reason is None else prepared.record.escalation,
            degraded=tuple(dict.fromkeys(prepared.scope.degraded)),
            asked=prepared.hydration.asked(prepared.record.asked),
            loading=prepared.index.loading if is_done else (),
        )

    def _is_settled(self) -> bool:
        """Whether the agent needs to ask nobody: a written answer is certain, or an approved answer, a table
        or a live system answers each question. A quoted section is only near."""
        if self._ending.mode is not Mode.QUOTED:
            return self._ending.certainty is Certainty.ANSWERED
        ready = {asked.part for asked in self._prepared.hydration.answering if asked.slot.is_ready}
        evidence = self._prepared.quote.evidence
        return all(one.answer is not None or part in ready for part, one in enumerate(evidence))

    def _is_of_whole_sources(self) -> bool:
        """Return whether the index has all documents of the sources that the text is from. An approved answer
        and live values are from none."""
        prepared, text = self._prepared, self._text
        shown = [unit.document_id for unit in text.quoted]
        if self._ending.mode is Mode.WRITTEN and prepared.prompt is not None:
            read = {document.n: document.document.card.document_id for document in prepared.prompt.documents}
            shown += [read[n] for n in text.citations or read if n in read]
        sources = self._services.sources_of(shown)
        return not sources or prepared.index.is_whole(sources)

    def _quote(self, fallback: str | None) -> TextEvents:
        """Yield the quote's events and end the answer with it."""
        blocks = self._fitting()
        if not blocks:  # the agent still has the ranked sources
            code = fallback or _NO_UNITS
            self._ending = _Ending(Outcome.DONE, code, FinishReason.SOURCES_ONLY, code)
            return
        self._ending = _Ending(
            Outcome.DONE,
            fallback,
            FinishReason.STOP if len(blocks) == len(self._prepared.quote.blocks) else FinishReason.LENGTH,
            mode=Mode.QUOTED,
            fallback=fallback,
        )
        named = [name for block in blocks for name, _, _ in block.elements]
        self._prepared.hydration.make_room(named, keep=self._asked_slots)
        yield from list(self._text.quote(blocks))

    def _fitting(self) -> Sequence[QuotedBlock]:
        """Return the first units that fit into the request's own limit, one at least: none is cut."""
        blocks, most = self._prepared.quote.blocks, self._prepared.request.max_tokens
        if most is None:
            return blocks
        count = self._services.writer.token_counter.count
        tokens = accumulate(count(block.before + block.text) for block in blocks)
        return blocks[: max(1, sum(sum_ <= most for sum_ in tokens))]

    def _count_usage(self, model: ModelCall | None) -> Usage:
        """Return what the endpoint counted; counted here when its stream broke off before it said so."""
        prompt = self._prepared.prompt
        if model is None or prompt is None or not (model.usage or model.is_accepted):
            return Usage()
        return model.usage or Usage(
            prompt_tokens=prompt.prompt_tokens,
            completion_tokens=self._services.writer.token_counter.count("".join(self._written)),
        )

    def _kept_texts(self, told: AnswerEnding) -> dict[str, object]:
        """Return the record's texts, with excerpts in place of what is shown of documents."""
        excerpts, draft = self._prepared.quote.excerpts, told.reply_draft
        text, also = excerpts.keep(self._text.text), excerpts.keep_also(told.also)
        kept_draft = excerpts.keep(draft) if draft is not None else None
        used = excerpts.used_in(text, kept_draft, *(part.text for part in also))
        return {"text": text, "also": also, "reply_draft": kept_draft, "excerpts": used}

    def _unanswered(self) -> tuple[str, ...]:
        """Return the questions of the message that neither a document nor a system was found for; none where
        the whole answer says so."""
        if self._ending.mode is not Mode.QUOTED:
            return ()
        asked = {element.part for element in self._prepared.hydration.answering}
        return tuple(
            one.query.question
            for part, one in enumerate(self._prepared.quote.evidence)
            if not one.is_found and part not in asked
        )
