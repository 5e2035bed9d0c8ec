"""Checks a model's text sentence by sentence, and shows what may be shown: sentences, the quote, elements.

``AnswerText`` takes text as it arrives, cut anywhere: the events do not depend on where it was cut.

A sentence of a model is streamed when its end was seen and it was checked. A sentence with a number, code or
name that the model was not given is withheld: its event has no text. Every other sentence is shown as
*supported* or to *check*. Its citations ("[2.4]": document 2, unit 4) leave the text, which an agent
copies into a reply, and come with the sentence. A citation of a unit that the prompt does not have is removed
and kept for the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from assistant.answer.check_model import Claim, SourceLine
from assistant.answer.elements import Hydration, LiveSlot
from assistant.answer.events import ElementChanged, SentenceEnded, Token
from assistant.answer.excerpts import NO_LABELS
from assistant.answer.offers import QuotedBlock
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.answer.support import Checked, SupportChecker
from assistant.domain.answers import CitedUnit, QuotedUnit, Sentence, Support
from assistant.text.language import CITATION, Language, SentenceSpan, SentenceSplitter, fold
from assistant.text.marks import PRIVATE_USE
from assistant.text.markup import Tag, label_of, with_labels, with_marks, without_marks
from assistant.text.safe_markdown import addresses_in, safe_markdown

_ONE_REFERENCE = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?")
_RANGE = re.compile(r"(\d{1,3})\.(\d{1,3})\s?[\u2013-]\s?(?:(\d{1,3})\.)?(\d{1,3})")
"""Units of one document: "2.4-2.6" or "2.4-6"."""
_MARK_LIKE = re.compile(f"[{PRIVATE_USE}]")
_MOST_CITED = 12
"""Units that one sentence cites at most; more are no evidence for anything."""
Reference = tuple[int, int | None]
"""Document and unit of the prompt, from 1; None: the whole document."""


class Citations:
    """Takes the citations out of one answer's sentences.

    Example: of a prompt whose document 1 has two units::

        citations = Citations(prompt.documents)
        citations.taken("Payable on day 23 [1.2].")  # ("Payable on day 23.", ((1, 2),))
    """

    def __init__(self, documents: Sequence[PromptDocument]) -> None:
        self._units = {document.n: len(document.units) for document in documents}
        """How many units each document of the prompt has."""
        self.removed: list[str] = []
        """Citations that name no unit of the prompt, in order."""

    def taken(self, text: str) -> tuple[str, tuple[Reference, ...]]:
        """Return a sentence without its citations and the prompt's delimiters, and what it cites, each
        once."""
        cited: dict[Reference, None] = {}
        for marker in CITATION.finditer(text):
            wanted = list(_references(marker["cited"] or ""))
            known = dict.fromkeys(reference for reference in wanted if self._is_known(reference))
            if marker["cited"] and not (known and known.keys() >= set(wanted)):
                self.removed.append(marker[0].strip())
            cited |= known
        return CITATION.sub("", text).strip(), tuple(cited)[:_MOST_CITED]

    def _is_known(self, reference: Reference) -> bool:
        document, unit = reference
        return document in self._units and (unit is None or 1 <= unit <= self._units[document])


def _references(text: str) -> Iterator[Reference]:
    """Yield what a marker cites: "2.4-2.6, 3" is (2, 4), (2, 5), (2, 6), (3, None).

    A range over two documents, "1.4-2.6", cites nothing.
    """
    for units in _RANGE.finditer(text):
        if units[3] in (None, units[1]):
            yield from (
                (int(units[1]), unit) for unit in range(int(units[2]), int(units[4]) + 1)[:_MOST_CITED]
            )
    for single in _ONE_REFERENCE.finditer(_RANGE.sub(" ", text)):
        yield int(single[1]), None if single[2] is None else int(single[2])


LONGEST_SENTENCE_CHARACTERS = 1_500
"""Text without the end of a sentence that is longer than this is debris. This bounds what is held back."""
MOST_CHARACTERS = 24_000
"""Of a model's text: more than any answer's tokens can hold."""
_DEBRIS = re.compile(r"^\W*(?:<[/|]?[A-Za-z]|\[/?[A-Z_]{2,}\])|^[\s`]*[{\[]\s*[\"{]|^\s*```[A-Za-z]")
"""The start of a tag, a tag of a chat template, JSON or code: "<tool_call>", "[INST]", '{"answer"',
"```json"."""
_DESK = re.compile(r"[*_]*Desk:[*_]* ?(\d{1,3})[.*_]*")
"""The line by which the model names the desk that can take over, by its number in the prompt; 0: none."""
_WORD = re.compile(r"\w+")
_LOOP_WORDS = 12
"""From this many words on, a sentence is checked for loops inside itself."""
_LOOP_DIFFERENT = 0.4
"""With a smaller share of different words it is a loop."""


TextEvents = Iterator[Token | SentenceEnded | ElementChanged]


class AnswerText:
    """The text of one answer: what was shown, and what of the model's text is not decided yet.

    ``AnswerInProgress`` calls it in this order; what was shown may be read at any time::

        write(part)*  ended_elements()*         # the model's text, and elements between its parts
        finish(cut_short=…)                     # its last sentence
        quote(blocks)                           # where the model wrote none: the quote in its place
        place_asked()  ended_elements()*        # elements that follow the text

    Example: of "Refills are payable on day 23 [1.1]. They cost $9. Ask" and a document without "$9", it
    shows the first sentence with its citation, withholds the second, and waits for the end of the third.

    ``SentenceSplitter`` holds the model's text back until a sentence is whole. Then ``_release`` takes its
    citations ("[2.4]") out, has marks for its elements ("{{orders.status}}", ``markup.with_marks``), checks
    it and shows it.
    """

    def __init__(
        self,
        *,
        prompt: Prompt | None,
        language: Language,
        hydration: Hydration,
        asked: Sequence[LiveSlot] = (),
    ) -> None:
        """``prompt`` None: no model writes. ``asked``: the elements that answer parts of the message, each
        once."""
        documents = prompt.documents if prompt is not None else ()
        self._documents = {document.n: document for document in documents}
        self._refusal = fold(prompt.refusal.rstrip(".")) if prompt and prompt.refusal else None
        self._partial = fold(prompt.partial) if prompt and prompt.partial else None
        self._checker = SupportChecker(
            {n: document.unit_texts for n, document in self._documents.items()},
            given=(*prompt.given, prompt.partial or "") if prompt is not None else (),
            language=language,
        )
        self._hydration = hydration
        self._offered = prompt.elements if prompt is not None else NO_LABELS
        """Labels of the elements that the model may name, by ``Tag.key``."""
        urls = (document.document.card.url for document in documents)
        self._allowed_urls = frozenset(url for url in urls if url)
        self._citations = Citations(documents)
        self._splitter = SentenceSplitter(cites=True)
        self._raw = ""
        """The end of the model's text, from the last sentence that the splitter gave."""
        self._taken = 0
        """Characters of that text before ``_raw``: the splitter counts from its beginning. Example: after the
        first sentence of "It is. Ask" ``_raw`` is " Ask", ``_taken`` 6; the next span is [7, 10), which is
        [1, 4) in ``_raw``."""
        self._parts: list[str] = []
        """What was shown, as ``Token`` texts."""
        self.length = 0
        """Characters shown."""
        self._seen: set[str] = set()
        """The sentences so far, as ``_normal`` returns them."""
        self._read = 0
        """Characters that the model wrote."""
        self.failure: str | None = None
        """The check that ended the written part before the model did: a code of ``done.fallback``."""
        self.is_refused = False
        """Whether the model said that the documents do not answer."""
        self.desk: int | None = None
        """Number of the desk that the model named; 0: none fits. None: it named nothing."""
        self.is_partial = False
        """Whether the model said that the documents do not say a part."""
        self.sentences: list[Sentence] = []
        self._lines: dict[CitedUnit, SourceLine] = {}
        """The units that they cite, in order."""
        self.quoted: list[QuotedUnit] = []
        self._asked_slots = asked
        self._after_text: list[LiveSlot] = []
        """Those of them that the text does not name, in order, as ``place_asked`` puts them here. They follow
        the text; ``ended_elements`` removes each once it and those before it have ended."""

    def write(self, text: str) -> TextEvents:
        """Take the model's next text; yield the sentences that it ended. After a failure or a refusal no more
        text is taken."""
        if self.is_over:
            return
        room = MOST_CHARACTERS - self._read
        self._read += len(text)
        text = _MARK_LIKE.sub("", text[:room])
        self._raw += text
        yield from self._release(self._splitter.push(text))
        if not self.is_over and len(self._raw.strip()) > LONGEST_SENTENCE_CHARACTERS:
            self.failure = "debris"
        if not self.is_over and self._read > MOST_CHARACTERS:
            self.failure = "too_long"

    def finish(self, *, cut_short: bool) -> TextEvents:
        """Yield the model's last sentence. ``cut_short``: the model did not end it, so one without an end
        mark is dropped."""
        if self.is_over:
            return
        last = list(self._splitter.flush())
        if cut_short and last:
            ending = CITATION.sub("", last[-1].text)
            if not ending.rstrip("\"”')*_ ").endswith((".", "!", "?", "…")):
                last.pop()
        yield from self._release(last)

    @property
    def is_over(self) -> bool:
        """Whether no more of the model's text is read: it failed a check, or refuses. A quote may follow."""
        return self.failure is not None or self.is_refused

    def quote(self, blocks: Sequence[QuotedBlock]) -> TextEvents:
        """Yield quoted units, each as one token and its sentence, with the elements that it names."""
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
                # what reviewers approved has no document behind it
                cited=(CitedUnit(n=block.n, start=block.span[0], end=block.span[1]),) if block.quote else (),
                is_key=block.is_key,
                quote=block.quote,
                cells=tuple(cell.moved(start) for cell in block.cells),
            )
            yield from _place_elements(block, self._hydration, start=start)

    def claims(self) -> tuple[list[tuple[int, Claim]], list[tuple[SourceLine, CitedUnit]]]:
        """Return the sentences that are shown, by index, and the lines that they cite, with their places."""
        text, places = self.text, {cited: at for at, cited in enumerate(self._lines)}
        claims = [
            (
                sentence.index,
                Claim(text[sentence.start : sentence.end], tuple(places[cited] for cited in sentence.cited)),
            )
            for sentence in self.sentences
            if sentence.start < sentence.end
        ]
        return claims, [(line, cited) for cited, line in self._lines.items()]

    @property
    def begun(self) -> bool:
        """Whether any text was given to the reader."""
        return bool(self._parts)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def removed_markers(self) -> tuple[str, ...]:
        """Citations of the model that name no unit of the prompt."""
        return tuple(self._citations.removed)

    @property
    def citations(self) -> tuple[int, ...]:
        """Numbers of the sources that the sentences cite, ascending."""
        return tuple(sorted({n for sentence in self.sentences for n in sentence.citations}))

    @property
    def is_sure(self) -> bool:
        """Whether no sentence of a written answer was withheld, at least one is supported, the model said
        that no part is missing, and its text passed the checks."""
        is_whole = not any(sentence.detail == "withheld" for sentence in self.sentences)
        is_supported = any(sentence.support is Support.SUPPORTED for sentence in self.sentences)
        return is_whole and is_supported and not (self.is_partial or self.is_refused or self.failure)

    # Elements

    def place_asked(self) -> Iterator[ElementChanged]:
        """Yield, as pending and without a word of text, the elements that the message asks for and the text
        does not name. ``ended_elements`` adds the label of each that becomes ready: a system that fails
        leaves no word in the text."""
        shown = {slot.type.name for slot in self._hydration.placed}
        self._after_text = [slot for slot in self._asked_slots if slot.type.name not in shown]
        for slot in self._after_text:
            yield self._hydration.place_slot(slot, start=self.length, end=self.length)

    def ended_elements(self) -> Iterator[Token | ElementChanged]:
        """Yield the elements that ended since the last call.

        A ready one of those that follow the text (``place_asked``) comes after its label, "[order status]".
        The label waits for the ones before it, so that the text does not depend on which system was faster:
        where the second is ready first, it is yielded at once without a label, and again after its label when
        the first has ended.
        """
        hydration, waiting, labelled = self._hydration, self._after_text, list[LiveSlot]()
        ended = hydration.take()
        while waiting and waiting[0].outcome is not None:
            slot = waiting.pop(0)  # from ``_after_text``
            labelled += [slot] if slot.is_ready else []
        yield from (ElementChanged(**dict(hydration.element(slot))) for slot in ended if slot not in labelled)
        for slot in labelled:
            label, before = label_of(slot.type.title), "\n\n" if self._parts else ""
            start = self.length + len(before)
            self.length = start + len(label)
            self._parts.append(before + label)
            yield Token(before + label)
            hydration.place_slot(slot, start=start, end=self.length)
            yield ElementChanged(**dict(hydration.element(slot)))

    # Sentences

    def _release(self, spans: Iterator[SentenceSpan] | Sequence[SentenceSpan]) -> TextEvents:
        """Yield sentences of the model as their checks allow; set ``failure`` or ``is_refused`` and stop at
        one that ends the text."""
        for span in spans:
            text, cited = self._citations.taken(span.text)
            marked, tags = with_marks(text, self._offered)
            # A space for a mark: "2" and "3" around one are not "23".
            words = without_marks(marked, instead=" ")
            cited = cited if _WORD.search(words) else ()
            if not (tags or _WORD.search(words)):
                continue  # a citation alone
            start, end = span.start - self._taken, span.end - self._taken  # in ``_raw``
            between, size = CITATION.sub("", self._raw[:start]), len(self._raw[:end].strip())
            self._raw, self._taken = self._raw[end:], span.end
            if named := _DESK.fullmatch(words.strip()):
                self.desk = int(named[1])
                continue
            self._end_at(words, between + marked, size)
            if self.is_over:
                return
            checked = self._checked(words, cited)
            if checked.detail == "withheld":
                yield self._ended(
                    self.length,
                    citations=(),
                    support=Support.UNSUPPORTED,
                    detail="withheld",
                    values=checked.values[:20],
                    reasons=checked.reasons,
                )
            else:
                before = _white_space(between) if self._parts else ""
                yield from self._write_marked(marked, tags, before=before, checked=checked, cited=cited)

    def _end_at(self, words: str, piece: str, size: int) -> None:
        """Set ``failure`` or ``is_refused`` where a sentence ends the text. ``piece``: the sentence, and the
        text before it that is none; ``size``: characters of both as the model wrote them."""
        if size > LONGEST_SENTENCE_CHARACTERS or _DEBRIS.search(piece):
            self.failure = "debris"
        elif self._refusal is not None and fold(words).lstrip("*_ ").startswith(self._refusal):
            self.is_refused = True
        elif self._is_repeated(words):
            self.failure = "repetition"
        self._seen.add(_normal(words))

    def _checked(self, words: str, cited: tuple[Reference, ...]) -> Checked:
        """Return the check of a sentence. One with elements alone claims nothing; one that says that the
        documents do not say a part rests on no unit: both are supported."""
        checked = self._checker.check(words, cited)
        is_partial = self._partial is not None and fold(words).lstrip("*_ ").startswith(self._partial)
        self.is_partial = self.is_partial or is_partial
        claims = _WORD.search(words) and not is_partial
        return checked if claims or checked.detail == "withheld" else Checked(Support.SUPPORTED)

    def _write_marked(
        self,
        marked: str,
        tags: Sequence[Tag],
        *,
        before: str,
        checked: Checked,
        cited: tuple[Reference, ...],
    ) -> TextEvents:
        """Add a sentence of the model with labels in place of its marks; yield its events. Begins the reads
        that the message did not ask for; a tag for which there is no room (``MOST_ELEMENTS``) stays text.
        Links to other addresses than those of the documents, or in the cited texts, become text. ``before``:
        white space between the sentence before and this one.

        Example: "It is ● today." at the beginning of the text becomes "It is [order status] today.", and the
        element gets the place [6, 20).
        """
        slots: list[LiveSlot | None] = []
        for tag in tags:
            named = list(filter(None, slots))
            slots.append(self._hydration.slot_for(tag.name, but=named))
        units = [unit for reference in cited for unit in self._cite(reference)]
        cited_urls = (addresses_in(unit) for _, unit in units)
        text = safe_markdown(marked, allowed_urls=self._allowed_urls.union(*cited_urls))
        shown = (
            self._offered[tag.key] if slot else tag.written for tag, slot in zip(tags, slots, strict=True)
        )
        labelled = with_labels(text, dict(enumerate(shown)))
        start = self.length + len(before)
        yield from self._add(
            labelled.text,
            before=before,
            citations=tuple(sorted({document for document, _ in cited})),
            is_sentence=bool(_WORD.search(text)),
            support=checked.support,
            detail=checked.detail,
            reasons=checked.reasons,
            cited=tuple(unit for unit, _ in units if unit is not None),
        )
        for number, first, last in labelled.places:
            if slot := slots[number]:
                yield self._hydration.place_slot(slot, start=start + first, end=start + last)

    def _cite(self, reference: Reference) -> Iterator[tuple[CitedUnit | None, str]]:
        """Yield the units that a sentence cites: the place and the text of one unit, or without places all
        texts of a document that the model read."""
        n, number = reference
        document = self._documents[n]
        if number is None:
            yield from ((None, unit.text) for unit in document.units)
            return
        unit = document.units[number - 1]
        cited = CitedUnit(n=n, start=unit.span.start, end=unit.span.end)
        self._lines[cited] = SourceLine(document.document.card.title, unit.heading, unit.text)
        yield cited, unit.text

    def _add(
        self,
        text: str,
        *,
        before: str,
        citations: tuple[int, ...],
        is_sentence: bool = True,
        support: Support = Support.SUPPORTED,
        **fields: Any,
    ) -> TextEvents:
        """Add one sentence or unit to the text and yield its token, then its sentence. Text without a
        citation that is no sentence, such as an element's label alone, has only a token.

        ``before``: white space and Markdown between the text so far and this one. ``fields``: further ones of
        ``Sentence``.
        """
        start = self.length + len(before)
        self.length = start + len(text)
        self._parts.append(before + text)
        yield Token(before + text)
        if citations or is_sentence:
            yield self._ended(start, citations=citations, support=support, **fields)

    def _ended(self, start: int, **fields: Any) -> SentenceEnded:
        """Add a sentence from ``start`` to the end of the text; return its event. ``fields``: further ones of
        ``Sentence``."""
        sentence = Sentence(index=len(self.sentences), start=start, end=self.length, **fields)
        self.sentences.append(sentence)
        return SentenceEnded(**dict(sentence))

    def _is_repeated(self, text: str) -> bool:
        """Return whether a sentence was said before, or repeats words inside itself: "to the to the to
        the"."""
        normal = _normal(text)
        words = normal.split()
        is_loop = len(words) >= _LOOP_WORDS and len(set(words)) < _LOOP_DIFFERENT * len(words)
        return (bool(normal) and normal in self._seen) or is_loop


def _place_elements(block: QuotedBlock, hydration: Hydration, *, start: int) -> Iterator[ElementChanged]:
    """Yield the elements of a quoted block whose text was just added at ``start`` of the whole text: those
    that it names, then the table that ends with it."""
    for name, first, last in block.elements:
        if slot := hydration.slot_for(name):
            yield hydration.place_slot(slot, start=start + first, end=start + last)
    end = start + len(block.text)
    if (ready := block.ready) is not None and (
        event := hydration.show(ready, start=start - ready.begins_before, end=end)
    ):
        yield event


def _white_space(between: str) -> str:
    """Return the white space of the text between two sentences. Anything else there ("<!--", "```") was not
    checked and could hide the text after it."""
    return "".join(filter(str.isspace, between))


def _normal(text: str) -> str:
    """Return the folded words of a sentence: two with the same ones are repetitions."""
    return " ".join(_WORD.findall(fold(text)))
