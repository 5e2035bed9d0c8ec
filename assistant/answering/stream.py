"""The core of one streamed answer, without I/O: the model's text goes in, events and the record come out.

``AnswerStream.feed`` takes text as it arrives, cut anywhere; ``end`` says how the text ended; ``close``
returns the record. The events do not depend on where the text was cut.

A sentence is streamed only after its end was seen and its checks passed. The first sentence that fails ends
the written part, and the quote replaces it.

``[n]`` markers and echoes of the prompt's delimiters are removed from the model's text, whether or not they
name a source: attribution decides what a sentence cites, and the citation is shown beside it. The text is
what an agent copies into a reply. Markers that name no source are kept for the record.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from assistant.answering.composing import QuotedBlock
from assistant.answering.events import (
    Cause,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.answering.excerpts import NO_LABELS, Labels, shown_title
from assistant.answering.gate import explain
from assistant.answering.generate import ModelCall
from assistant.answering.hydration import Hydration, LiveSlot
from assistant.answering.live_questions import what_is_missing, why_not_answered
from assistant.answering.prepare import PreparedAnswer
from assistant.answering.record import approved_uses, begun_record, candidates_of, uses_of_passages
from assistant.answering.services import TenantServices, elapsed_ms, fail_span
from assistant.answering.support import SupportChecker
from assistant.domain.answers import (
    AnswerRecord,
    Certainty,
    FinishReason,
    Mode,
    Outcome,
    QuotedUnit,
    Sentence,
    Support,
    Usage,
)
from assistant.domain.errors import AssistantError
from assistant.live.markup import (
    WORD_OR_MARK,
    Labelled,
    MarkupParser,
    Tag,
    label_of,
    mark,
    with_labels,
    without_marks,
)
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
    """Removes markers from one answer's text, part by part. The result does not depend on the cuts.

    White space before a marker is removed with it, as is white space at the beginning of the text. Text that
    may begin a marker is held back until that is decided: at most 46 characters.
    """

    def __init__(self, *, sources: int) -> None:
        """``sources``: the numbers 1 to ``sources`` name a source."""
        self._sources = sources
        self._held = ""
        self._begun = False
        self.removed: list[str] = []
        """Markers that name no source, in order."""

    def push(self, text: str) -> str:
        """Take the next part and return the text that is decided, which may be empty."""
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


LONGEST_SENTENCE_CHARACTERS = 1_500
"""Text without the end of a sentence that is longer than this is debris. This bounds what is held back."""
_DEBRIS = re.compile(
    r"^\W*(?:(?:the )?(?:passage|answer|question|context|source|document|response|assistant|user|system)s?"
    r"\s*(?:\d+\s*)?(?:is|are|says?)?\s*[:>\]]|[aq]\s*:|</?\w+|\[/?\w+\]|#+\s*(?:passage|question|answer)\b|"
    r"(?:according to|based on) the (?:passage|context|text)\W*$)",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_ECHO_SHARE = 0.9
_LOOP_WORDS = 12
"""From this many words on, a sentence is checked for loops inside itself."""
_LOOP_DIFFERENT = 0.4


TextEvents = Iterator[Token | SentenceEnded | ElementChanged]


class AnswerText:
    """The text of one answer. ``text``, which the record keeps, is the sum of all ``Token`` texts."""

    def __init__(
        self,
        *,
        checker: SupportChecker,
        question: str,
        sources: int,
        allowed_urls: Collection[str],
        language: Language,
        hydration: Hydration | None = None,
        offered: Labels = NO_LABELS,
    ) -> None:
        """``hydration`` None: no element is named. ``offered``: labels of the elements that the model may
        name, by ``Tag.key``."""
        self._checker = checker
        self._hydration = hydration
        self._offered = offered
        self._markup = MarkupParser(lambda tag: tag.key in offered)
        self._marked: list[tuple[Tag, LiveSlot]] = []
        """The model's elements, by the number of their marks."""
        self._question = language.content_stems(question)
        self._language = language
        self._allowed_urls = allowed_urls
        self._filter = MarkerFilter(sources=sources)
        self._splitter = SentenceSplitter(substance=WORD_OR_MARK) if offered else SentenceSplitter()
        self._raw = ""
        """The model's text, cleaned of markers, from ``_taken`` on."""
        self._taken = 0
        """Where ``_raw`` begins in the model's cleaned text."""
        self._parts: list[str] = []
        self._length = 0
        self._seen: set[str] = set()
        self.failure: str | None = None
        """Why the written part ended before the model did: a code of ``done.fallback``."""
        self.sentences: list[Sentence] = []
        self.quoted: list[QuotedUnit] = []

    def write(self, text: str) -> TextEvents:
        """Take the model's next text; yield the sentences that it ended and that passed their checks. After
        a failure no more text is taken."""
        if self.failure is not None:
            return
        if self._offered:
            text = self._with_marks(self._markup.push(text))
        visible = self._filter.push(text)
        if visible:
            self._raw += visible
            yield from self._release(self._splitter.push(visible))
        if self.failure is None and len(self._raw.strip()) > LONGEST_SENTENCE_CHARACTERS:
            self.failure = "debris"

    def end(self, *, cut_short: bool) -> TextEvents:
        """Yield the last sentence. When the model was cut short, a sentence without its end is dropped."""
        if self.failure is not None:
            return
        held = self._with_marks(self._markup.flush()) if self._offered else ""
        rest = self._filter.push(held) + self._filter.flush()
        self._raw += rest
        yield from self._release(self._splitter.push(rest))
        last = list(self._splitter.flush())
        if cut_short and last and not last[-1].text.rstrip("\"”')*_ ").endswith((".", "!", "?", "…")):
            last.pop()
        yield from self._release(last)

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
            start = self._length + len(before)
            yield from self._add(block.text, before=before, citations=(block.n, *block.rests_on))
            yield from self._place(block.elements, start=start)
            if block.ready is not None and self._hydration is not None:
                begins, ends = start - block.ready.begins_before, start + len(block.text)
                if event := self._hydration.show(block.ready, start=begins, end=ends):
                    yield event
            if block.of_items is not None and self._hydration is not None:
                name, items = block.of_items
                after = start + len(block.text)
                if slot := self._hydration.begin(name, items=items):
                    yield self._hydration.place_slot(slot, start=after, end=after)

    def write_label(self, title: str) -> tuple[Token, int, int]:
        """Add the label of an element in a paragraph of its own; return its token and [start, end)."""
        label, before = label_of(title), "\n\n" if self._parts else ""
        start = self._length + len(before)
        self._length = start + len(label)
        self._parts.append(before + label)
        return Token(before + label), start, self._length

    @property
    def length(self) -> int:
        return self._length

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

    def _release(self, spans: Iterator[SentenceSpan] | Sequence[SentenceSpan]) -> TextEvents:
        for span in spans:
            # A space for a mark: "2" and "3" around one are not "23".
            said = without_marks(span.text, instead=" ") if self._marked else span.text
            citations: tuple[int, ...] = ()
            if _WORD.search(said) or not self._marked:  # what is only elements claims nothing
                self.failure = self._fault(said)
                if self.failure is not None:
                    return
                citations = self._checker.check(said).citations
                if not citations and self._marked:  # the passage's own words, with the tag in its place
                    citations = self._checker.check(self._as_written(span.text)).citations
                if not citations:
                    self.failure = "unsupported"
                    return
                self._seen.add(_normal(said))
            before = _white_space(self._raw[: span.start - self._taken]) if self._parts else ""
            self._raw, self._taken = self._raw[span.end - self._taken :], span.end
            text = safe_markdown(span.text, allowed_urls=self._allowed_urls)
            yield from self._write_marked(text, before=before, citations=citations)

    def _with_marks(self, parts: Sequence[str | Tag]) -> str:
        """Return the model's text with marks in place of its elements, whose reads begin now."""
        marked: list[str] = []
        for part in parts:
            if isinstance(part, str):
                marked.append(without_marks(part))
            elif self._hydration is not None and (slot := self._hydration.begin(part.name)):
                marked.append(mark(len(self._marked)))
                self._marked.append((part, slot))
            else:
                marked.append(part.written)
        return "".join(marked)

    def _as_written(self, text: str) -> str:
        """Return a text with the model's tags in place of their marks."""
        return with_labels(text, {number: tag.written for number, (tag, _) in enumerate(self._marked)}).text

    def _write_marked(self, text: str, *, before: str, citations: tuple[int, ...]) -> TextEvents:
        """Add a checked sentence of the model with labels in place of its marks; yield its events."""
        labels = {number: self._offered[tag.key] for number, (tag, _) in enumerate(self._marked)}
        labelled = with_labels(text, labels) if labels else Labelled(text)
        start = self._length + len(before)
        yield from self._add(labelled.text, before=before, citations=citations)
        for number, first, last in labelled.places:
            if self._hydration is not None:
                slot = self._marked[number][1]
                yield self._hydration.place_slot(slot, start=start + first, end=start + last)

    def _add(self, text: str, *, before: str, citations: tuple[int, ...]) -> TextEvents:
        """Add one sentence or unit to the text and yield its two events; one without citations has no
        sentence."""
        start = self._length + len(before)
        self._length = start + len(text)
        self._parts.append(before + text)
        yield Token(before + text)
        if not citations:
            return
        sentence = Sentence(
            index=len(self.sentences),
            start=start,
            end=self._length,
            citations=citations,
            support=Support.SUPPORTED,
            relevance=self._relevance(text),
        )
        self.sentences.append(sentence)
        yield SentenceEnded(**dict(sentence))

    def _place(self, elements: Sequence[tuple[str, int, int]], *, start: int) -> Iterator[ElementChanged]:
        """Yield the elements of the text just added, at [start + first, start + last) of the whole text."""
        if self._hydration is None:
            return
        for name, first, last in elements:
            if event := self._hydration.place(name, start=start + first, end=start + last):
                yield event

    def _fault(self, text: str) -> str | None:
        """Return the code of a fault in a finished sentence, whatever the sources hold; None without one."""
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
    """Return the white space of the text between two sentences. Anything else there ("<!--", "```") was not
    checked and could hide the text after it."""
    return "".join(filter(str.isspace, between))


def _normal(text: str) -> str:
    return " ".join(_WORD.findall(fold(text)))


_NO_ROOM = "no_room_for_passages"
_EMPTY = "empty_answer"
_REFUSED = "refused"
_CUT_SHORT = "length"
_NO_UNITS = "nothing_to_quote"
FAILED_CHECKS = frozenset(
    {"unsupported", "repetition", "debris", "echo", _NO_ROOM, _EMPTY, _REFUSED, _CUT_SHORT, _NO_UNITS}
)
"""Codes of ``done.fallback`` for text that failed its checks. Every other code is a failure of the model."""
_OUTCOMES = {Cause.CANCELLED: Outcome.CANCELLED, Cause.DISCONNECTED: Outcome.DISCONNECTED}
_CANCELLED = Problem(
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
    problem: Problem | None = None
    mode: Mode | None = None
    certainty: Certainty | None = None
    fallback: str | None = None
    """Why quotes replaced written text."""


def _left_by(cause: Cause) -> _Ending:
    """Return the ending of an answer that was cancelled or whose reader left."""
    problem = _CANCELLED if cause is Cause.CANCELLED else None
    return _Ending(_OUTCOMES[cause], cause.value, problem=problem)


class AnswerStream:
    """One streamed answer: its events, its last event and its record, from the same state."""

    def __init__(
        self,
        services: TenantServices,
        prepared: PreparedAnswer,
        *,
        language: Language,
        settings_hash: str,
    ) -> None:
        self._services = services
        self._prepared = prepared
        self._settings_hash = settings_hash
        passages = [ranked.passage for ranked in prepared.shown]
        self._checker = SupportChecker(passages, language=language)
        self._text = AnswerText(
            checker=self._checker,
            question=prepared.request.question,
            sources=len(passages),
            allowed_urls={passage.url for passage in passages if passage.url},
            language=language,
            hydration=prepared.hydration,
            offered=prepared.offered,
        )
        self._written: list[str] = []
        """The model's own text, unchecked: to count tokens and to detect a refusal, never for a reader."""
        self._ending = _Ending()
        self._unlabelled: list[LiveSlot] = []
        """Ready elements whose labels wait for those before them."""
        self._usage = Usage()
        self.is_closed = False

    @property
    def failed(self) -> bool:
        """Whether the model's text failed a check, so that no more of it is of use."""
        return self._text.failure is not None

    def begin(self, *, resumable: bool) -> Iterator[Started | Sources]:
        """Yield the first two events."""
        prepared = self._prepared
        yield Started(
            answer_id=prepared.answer_id,
            conversation_id=prepared.conversation_id,
            model=self._services.model.model_id,
            index_version=prepared.evidence[0].retrieved.index_version,
            trace_id=prepared.steps.trace_id,
            resumable=resumable,
        )
        yield Sources(sources=prepared.make_sources())
        if prepared.prompt is not None:  # while the model prepares its first token
            self._checker.prepare()

    def feed(self, text: str) -> TextEvents:
        """Take the model's next text; yield a token and a sentence for each sentence that it ended."""
        self._written.append(text)
        return self._text.write(text)

    def end(self, how: FinishReason | Cause | str | None) -> TextEvents:
        """Yield the last events of the text.

        ``how``: the model's finish reason; the cause of an interruption; the code of the model's failure;
        None where no model was asked.
        """
        prepared = self._prepared
        if how is Cause.CANCELLED or how is Cause.DISCONNECTED:
            self._ending = _left_by(how)
        elif prepared.certainty_of() is None:
            best = prepared.evidence[0]
            title = shown_title(best.best.card.title) if best.best else None
            refusal = next((one.table.refusal for one in prepared.evidence if one.table), "")
            reason = refusal or explain(best.gate, title=title)
            self._ending = _Ending(Outcome.DONE, None, FinishReason.NO_EVIDENCE, reason)
        elif isinstance(how, FinishReason):
            yield from self._text.end(cut_short=how is FinishReason.LENGTH)
            failed = self._why_no_answer(how)
            if failed is not None:
                yield from self._quote(failed)
            else:
                self._ending = _Ending(
                    Outcome.DONE, None, how, mode=Mode.WRITTEN, certainty=prepared.certainty
                )
        else:
            no_model = _NO_ROOM if prepared.prompt is not None else None
            yield from self._quote(no_model if how is None else str(how))

    def place_asked(self) -> Iterator[ElementChanged]:
        """Yield the elements that answer by themselves, after the text. Their labels follow when they are
        ready: a system that fails leaves no word in the text."""
        if self._ending.outcome is not Outcome.DONE:
            return
        at = self._text.length
        for slot in self._asked_slots:
            yield self._prepared.hydration.place_slot(slot, start=at, end=at)

    def ended_elements(self) -> Iterator[Token | ElementChanged]:
        """Yield the elements that ended since the last call, each after its label if that is not there."""
        ended = self._prepared.hydration.take()
        for slot in ended:
            asked = next((one for one in self._prepared.asked_live if one.slot is slot), None)
            if slot.is_ready and asked is not None:
                asked.leave_out()
                self._unlabelled.append(slot)
        waiting = list(self._write_labels())
        labelled = {event.id for event in waiting if isinstance(event, ElementChanged)}
        for slot in ended:
            if slot.element_id not in labelled:
                yield ElementChanged(**dict(slot.element()))
        yield from waiting

    def _write_labels(self) -> Iterator[Token | ElementChanged]:
        """Yield the labels of ready elements that answer by themselves, each with its element. A label waits
        for the elements before it, so that the text does not depend on which system was faster."""
        for slot in self._asked_slots:
            if not slot.is_shown:
                return
            if slot in self._unlabelled:
                self._unlabelled.remove(slot)
                token, start, end = self._text.write_label(slot.type.title)
                yield token
                self._prepared.hydration.place_slot(slot, start=start, end=end)
                yield ElementChanged(**dict(slot.element()))

    def end_elements(self) -> None:
        """End the answer whose elements have ended, or for which nobody waits any more."""
        prepared, ending = self._prepared, self._ending
        if ending.outcome is not Outcome.DONE:
            return
        if prepared.hydration.left is not None:
            self._ending = _left_by(prepared.hydration.left)
            return
        asked = prepared.asked_live
        certainty = prepared.certainty_of({one.part for one in asked if one.slot.is_ready})
        if certainty is not None and not all(one.slot.is_ready for one in asked):
            certainty = Certainty.POSSIBLY  # what a system was asked is not answered
        if ending.finish_reason is not FinishReason.NO_EVIDENCE:
            if ending.certainty is prepared.certainty:
                self._ending = replace(ending, certainty=certainty)
        elif certainty is not None:
            self._ending = _Ending(
                Outcome.DONE, None, FinishReason.STOP, mode=Mode.QUOTED, certainty=certainty
            )
        elif said := why_not_answered(asked):
            # Where a system is all that was asked, it says nothing that the documents are silent.
            parts = len(prepared.evidence)
            by_system = len({one.part for one in asked}) == parts >= prepared.request.question.count("?")
            self._ending = replace(ending, reason=said if by_system else f"{said} {ending.reason}")

    @property
    def _asked_slots(self) -> list[LiveSlot]:
        """The elements that answer parts of the message, each once."""
        return list(dict.fromkeys(one.slot for one in self._prepared.asked_live))

    def abandon(self, cause: Cause | None) -> None:
        """End the answer whose reader stopped reading: its task was cancelled or its stream was closed."""
        outcome = _OUTCOMES.get(cause or Cause.DISCONNECTED, Outcome.DISCONNECTED)
        self._ending = _Ending(outcome, outcome.value)

    def close(self, model: ModelCall | None) -> AnswerRecord:
        """End the answer's trace and return its record. Nothing is added to the answer after it."""
        self.is_closed = True
        self._prepared.hydration.cancel()
        prepared, ending, text = self._prepared, self._ending, self._text
        self._usage = self._count_usage(model)
        steps, first = prepared.steps, prepared.evidence[0]
        steps.timings_ms["total"] = elapsed_ms(prepared.started_s, clock=self._services.clock)
        steps.root.set_attribute("assistant.outcome", ending.outcome.value)
        if ending.error_code:
            fail_span(steps.root, ending.error_code)
        steps.root.end()
        begun = begun_record(
            prepared.request,
            identity=prepared.identity,
            answer_id=prepared.answer_id,
            conversation_id=prepared.conversation_id,
            services=self._services,
            settings_hash=self._settings_hash,
        )
        return begun.model_copy(
            update={
                "asked_at": prepared.asked_at,
                "retrieval_question": prepared.retrieval_question,
                "outcome": ending.outcome,
                "finish_reason": ending.finish_reason,
                "error_code": ending.error_code,
                "sentences": tuple(text.sentences),
                "removed_markers": text.removed_markers,
                "passages": uses_of_passages(prepared),
                "gate": first.gate,
                "index_version": first.retrieved.index_version,
                "usage": self._usage,
                "timings_ms": dict(steps.timings_ms),
                "inference_id": model.inference_id if model else None,
                "trace_id": steps.trace_id,
                "mode": ending.mode,
                "certainty": ending.certainty,
                "fallback": ending.fallback,
                "clarify": self._clarify(),
                "unanswered": self._unanswered(),
                "escalation": self._escalation(),
                "corrections": prepared.corrections,
                "follows": prepared.follows,
                "quoted": tuple(text.quoted),
                "candidates": candidates_of(first),
                "weights": dict(prepared.weights),
                "approved": approved_uses(prepared) if ending.mode is Mode.QUOTED else (),
                "propensity": prepared.propensity,
                "elements": prepared.hydration.uses(),
                "asked": prepared.hydration.asked(prepared.asked),
                "live_matches": prepared.live_matches,
                **self._kept_texts(),
                **self._prompt_fields(),
            }
        )

    def last_event(self, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; None when nobody reads it. Call it after ``close``."""
        prepared, ending, text = self._prepared, self._ending, self._text
        if ending.finish_reason is None:
            return ending.problem
        return Done(
            finish_reason=ending.finish_reason,
            citations=text.citations,
            usage=self._usage,
            timings_ms=prepared.steps.timings_ms,
            reason=ending.reason,
            mode=ending.mode,
            certainty=ending.certainty,
            also=prepared.quoted.also if ending.mode else (),
            clarify=self._clarify(),
            unanswered=self._unanswered(),
            reply_draft=self._reply_draft(),
            escalation=self._escalation(),
            corrections=prepared.corrections,
            asked=prepared.hydration.asked(prepared.asked),
            fallback=ending.fallback,
            recorded=recorded,
        )

    def _quote(self, fallback: str | None) -> TextEvents:
        """Yield the quote's events and end the answer with it."""
        blocks = self._prepared.quoted.blocks
        if not blocks:  # the agent still has the ranked passages
            code = fallback or _NO_UNITS
            self._ending = _Ending(Outcome.DONE, code, FinishReason.SOURCES_ONLY, code)
            return
        certainty = Certainty.POSSIBLY if fallback == _REFUSED else self._prepared.certainty
        self._ending = _Ending(
            Outcome.DONE,
            fallback,
            FinishReason.STOP,
            mode=Mode.QUOTED,
            certainty=certainty,
            fallback=fallback,
        )
        named = [name for block in blocks for name, _, _ in block.elements]
        self._prepared.hydration.make_room(named, keep=self._asked_slots)
        yield from list(self._text.quote(blocks))

    def _why_no_answer(self, finish_reason: FinishReason) -> str | None:
        """Return the code of why the model's text is no answer, or only the beginning of one; None if it is
        one. A refusal is tested first: no source supports it."""
        text, prompt = self._text, self._prepared.prompt
        refusal = prompt.refusal if prompt else None
        if not text.begun and refusal and fold("".join(self._written)).strip().startswith(fold(refusal)):
            return _REFUSED
        if text.begun or text.failure is not None:
            return text.failure
        return _CUT_SHORT if finish_reason is FinishReason.LENGTH else _EMPTY

    def _count_usage(self, model: ModelCall | None) -> Usage:
        """Return what the endpoint counted; counted here when its stream broke off before it said so."""
        prompt = self._prepared.prompt
        if model is None or prompt is None or not (model.usage or model.is_accepted):
            return Usage()
        return model.usage or Usage(
            prompt_tokens=prompt.prompt_tokens,
            completion_tokens=self._services.token_counter.count("".join(self._written)),
        )

    def _kept_texts(self) -> dict[str, object]:
        """Return the record's texts, with excerpts in place of what is shown of documents."""
        excerpts, draft = self._prepared.excerpts, self._reply_draft()
        text = excerpts.keep(self._text.text)
        also = excerpts.keep_also(self._prepared.quoted.also if self._ending.mode else ())
        kept_draft = excerpts.keep(draft) if draft is not None else None
        used = excerpts.used_in(text, kept_draft, *(one.text for one in also))
        return {"text": text, "also": also, "reply_draft": kept_draft, "excerpts": used}

    def _prompt_fields(self) -> dict[str, object]:
        prompt = self._prepared.prompt
        return {
            "dropped_passages": prompt.dropped_passages if prompt else 0,
            "prompt_hash": prompt.prompt_hash if prompt else None,
            "parameters": {
                "max_tokens": self._prepared.max_tokens,
                "temperature": self._services.tenant.generation.temperature,
                "history_turns": prompt.history_turns if prompt else 0,
            },
        }

    def _reply_draft(self) -> str | None:
        """Return the draft, unless the model refused to answer from the same sources."""
        prepared, ending = self._prepared, self._ending
        is_refused = ending.fallback == _REFUSED and prepared.certainty is not Certainty.POSSIBLY
        is_offered = ending.mode and not is_refused
        return prepared.quoted.reply_draft if is_offered else None

    def _clarify(self) -> str | None:
        """Return the question back: what a live system needs to know, or which of two documents applies."""
        ending = self._ending
        missing = what_is_missing(self._prepared.asked_live) if ending.outcome is Outcome.DONE else None
        return missing or (self._prepared.clarify if ending.mode else None)

    def _unanswered(self) -> tuple[str, ...]:
        """Return the questions of the message that neither a document nor a system was found for; none where
        the whole answer says so."""
        if self._ending.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
            return ()
        asked = {one.part for one in self._prepared.asked_live}
        return tuple(
            one.query.question
            for part, one in enumerate(self._prepared.evidence)
            if one.certainty is None and part not in asked
        )

    def _escalation(self) -> str | None:
        is_sure = self._ending.certainty is Certainty.ANSWERED
        return None if is_sure or self._ending.finish_reason is None else self._prepared.escalation
