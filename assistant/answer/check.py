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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from assistant.answer.check_model import Claim, SourceLine
from assistant.answer.elements import Hydration, LiveSlot
from assistant.answer.events import ElementChanged, SentenceEnded, Token
from assistant.answer.excerpts import NO_LABELS
from assistant.answer.offers import QuotedBlock
from assistant.answer.prompt import Prompt, PromptDocument
from assistant.answer.support import Checked, SupportChecker
from assistant.domain.answers import CitedUnit, QuotedUnit, Sentence, Support
from assistant.text.language import Language, SentenceSpan, SentenceSplitter, fold
from assistant.text.marks import CITATIONS, ELEMENTS, LIKE_CITATIONS
from assistant.text.markup import (
    WORD_OR_MARK,
    Labelled,
    MarkupParser,
    Tag,
    label_of,
    with_labels,
    without_marks,
)
from assistant.text.safe_markdown import addresses_in, safe_markdown

_REFERENCE = r"\d{1,3}(?:\.\d{1,3})?"
"""A document, or a unit of it: "2", "2.4"."""
_REFERENCES = rf"{_REFERENCE}(?:\s?[,;\u2013-]\s?{_REFERENCE}){{0,9}}"
"""Up to ten: "1.3, 1.5", "2.4-2.6"."""
_MARKER = re.compile(rf"[ \t]{{0,8}}(?:\[\s?({_REFERENCES})\s?\]|</?document(?: \d{{1,3}})?>)")
"""A citation with the blanks before it, " [2.4]"; or a delimiter of the prompt that the model repeats,
"</document>", which is removed."""
_POSSIBLE_START = re.compile(
    rf"[ \t]{{1,8}}\Z|[ \t]{{0,8}}\[(?:\s?|\s?{_REFERENCES}[.]?\s?|\s?{_REFERENCES}\s?[,;\u2013-]\s?)\Z"
    r"|[ \t]{0,8}</?(?:d(?:o(?:c(?:u(?:m(?:e(?:n(?:t(?: \d{0,3})?)?)?)?)?)?)?)?)?\Z"
)
"""The end of a text that may become a ``_MARKER`` when more comes: " ", " [2.", "[1.3, ", "</docu"."""
_OPENING = re.compile(r"[\[<]")
_ONE_REFERENCE = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?")
_RANGE = re.compile(r"(\d{1,3})\.(\d{1,3})\s?[\u2013-]\s?(?:(\d{1,3})\.)?(\d{1,3})")
"""Units of one document: "2.4-2.6" or "2.4-6"."""
_CITATION_LIKE = re.compile(f"[{LIKE_CITATIONS}]")
_MOST_CITED = 12
"""Units that one sentence cites at most; more are no evidence for anything."""
Reference = tuple[int, int | None]
"""Document and unit of the prompt, from 1; None: the whole document."""


class CitationFilter:
    """Takes the citations out of one answer's text, part by part. The result does not depend on the cuts.

    In place of a citation, with the white space before it, the text has one mark of CITATIONS, so
    that it stays with its sentence. Text that may begin a citation is held back until that is decided.

    Example: of a prompt whose document 1 has two units (● is the character for the first citation)::

        marks = CitationFilter(prompt.documents)
        marks.push("Payable on day 23 [1")  # "Payable on day 23"
        marks.push(".2]. Ask")  # "●. Ask"
        marks.taken("Payable on day 23●.")  # ("Payable on day 23.", ((1, 2),))
    """

    def __init__(self, documents: Sequence[PromptDocument]) -> None:
        self._units = {document.n: len(document.units) for document in documents}
        """How many units each document of the prompt has."""
        self._held = ""
        self._begun = False
        """Whether any text was returned; white space before the first is dropped."""
        self._cited: list[tuple[Reference, ...]] = []
        """What each mark cites, by its number."""
        self.removed: list[str] = []
        """Citations that name no unit of the prompt, in order."""

    def push(self, text: str) -> str:
        """Take the next part and return the text that is decided, which may be empty."""
        text = _CITATION_LIKE.sub("", text)
        # fast path: nothing here can be part of a citation
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
        """Return a text that ``push`` returned without its marks, and what they cite, each once."""
        marks = [CITATIONS.number(character) for character in text if character in CITATIONS]
        cited = dict.fromkeys(reference for at in marks for reference in self._cited[at])
        left = "".join(character for character in text if character not in CITATIONS)
        return left.strip(), tuple(cited)[:_MOST_CITED]

    def _clean(self, text: str) -> str:
        """Return decided text with marks in place of its citations."""
        if _OPENING.search(text):
            text = _MARKER.sub(self._marked, text)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text

    def _marked(self, marker: re.Match[str]) -> str:
        """Return the mark for a citation; nothing for a delimiter, or where no unit of it is known."""
        if marker[1] is None:
            return ""
        wanted = list(_references(marker[1]))
        known = tuple(reference for reference in wanted if self._is_known(reference))
        if not known or len(known) < len(wanted):
            self.removed.append(marker[0].strip())
        if not known or len(self._cited) >= len(CITATIONS):
            return ""
        self._cited.append(known)
        return CITATIONS.mark(len(self._cited) - 1)

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

        prepare()                               # makes the check of support
        write(part)*  ended_elements()*         # the model's text, and elements between its parts
        finish(cut_short=…)                     # its last sentence
        make_room(names)  quote(blocks)         # where the model wrote none: the quote in its place
        place_asked()  ended_elements()*        # elements that follow the text

    Example: of "Refills are payable on day 23 [1.1]. They cost $9. Ask" and a document without "$9", it
    shows the first sentence with its citation, withholds the second, and waits for the end of the third.

    The model's text passes through three readers, each of which holds back what it cannot decide yet:

    1. ``MarkupParser``: "{{orders.status}}" becomes an element's mark, one character (``markup.mark``);
    2. ``CitationFilter``: "[2.4]" becomes a citation's mark, one of CITATIONS;
    3. ``SentenceSplitter``: whole sentences, which ``_release`` checks and shows.
    """

    def __init__(
        self,
        *,
        prompt: Prompt | None,
        language: Language,
        hydration: Hydration | None = None,
        asked: Sequence[LiveSlot] = (),
    ) -> None:
        """``prompt`` None: no model writes. ``hydration`` None: no element is named. ``asked``: the elements
        that answer parts of the message, each once."""
        offered = prompt.elements if prompt is not None else NO_LABELS
        self._documents = (
            {document.n: document for document in prompt.documents} if prompt is not None else {}
        )
        self._refusal = fold(prompt.refusal.rstrip(".")) if prompt and prompt.refusal else None
        self._partial = fold(prompt.partial) if prompt and prompt.partial else None
        self._given = (*prompt.given, prompt.partial or "") if prompt is not None else ()
        """Texts beside the documents whose values a sentence may have."""
        self._checker: SupportChecker | None = None
        self._hydration = hydration
        self._offered = offered
        """Labels of the elements that the model may name, by ``Tag.key``."""
        self._markup = MarkupParser(lambda tag: tag.key in offered)
        self._marked: list[tuple[Tag, LiveSlot]] = []
        """The elements that the model named: the one with mark n is the nth, from 0."""
        self._language = language
        urls = (document.document.card.url for document in self._documents.values())
        self._allowed_urls = frozenset(url for url in urls if url)
        self._filter = CitationFilter(tuple(self._documents.values()))
        self._splitter = SentenceSplitter(substance=WORD_OR_MARK) if offered else SentenceSplitter()
        self._raw = ""
        """The end of the model's text with marks, from the last sentence that the splitter gave."""
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
        self.quoted: list[QuotedUnit] = []
        self._asked_slots = asked
        self._after_text: list[LiveSlot] = []
        """Those of them that the text does not name, in order, as ``place_asked`` puts them here. They follow
        the text; ``ended_elements`` removes each once it and those before it have ended."""

    def prepare(self) -> None:
        """Make the check of support now; otherwise the first sentence makes it. A second call does
        nothing."""
        if self._checker is None and self._documents:
            # the checker takes document 1 as the first: a number that the prompt lacks has no units
            last = max(self._documents)
            known = (self._documents.get(n) for n in range(1, last + 1))
            texts = [document.unit_texts if document is not None else () for document in known]
            self._checker = SupportChecker(texts, given=self._given, language=self._language)

    def write(self, text: str) -> TextEvents:
        """Take the model's next text; yield the sentences that it ended. After a failure or a refusal no more
        text is taken."""
        if self.is_over:
            return
        room = MOST_CHARACTERS - self._read
        self._read += len(text)
        text = text[:room]
        text = self._with_marks(self._markup.push(text)) if self._offered else without_marks(text)
        visible = self._filter.push(text)
        if visible:
            self._raw += visible
            yield from self._release(self._splitter.push(visible))
        if not self.is_over and len(self._raw.strip()) > LONGEST_SENTENCE_CHARACTERS:
            self.failure = "debris"
        if not self.is_over and self._read > MOST_CHARACTERS:
            self.failure = "too_long"

    def finish(self, *, cut_short: bool) -> TextEvents:
        """Yield the model's last sentence. ``cut_short``: the model did not end it, so one without an end
        mark is dropped."""
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
            if self._hydration is not None:
                yield from _place_elements(block, self._hydration, start=start)

    def claims(self) -> tuple[list[tuple[int, Claim]], list[tuple[SourceLine, CitedUnit]]]:
        """Return the sentences that are shown, by index, and the lines that they cite, with their places."""
        text, lines = self.text, dict[CitedUnit, tuple[int, SourceLine]]()
        claims: list[tuple[int, Claim]] = []
        for sentence in self.sentences:
            for cited in sentence.cited:
                if cited not in lines:
                    lines[cited] = len(lines), self._line_of(cited)
            if sentence.start < sentence.end:
                at = tuple(lines[cited][0] for cited in sentence.cited)
                claims.append((sentence.index, Claim(text[sentence.start : sentence.end], at)))
        return claims, [(line, cited) for cited, (_, line) in lines.items()]

    def _line_of(self, cited: CitedUnit) -> SourceLine:
        document = self._documents[cited.n]
        unit = next(unit for unit in document.units if unit.span.start == cited.start)
        return SourceLine(document.document.card.title, unit.heading, unit.text)

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
        return tuple(self._filter.removed)

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

    def make_room(self, names: Iterable[str]) -> None:
        """End the reads that only the model's text named. ``names``: elements of the quote."""
        if self._hydration is not None:
            self._hydration.make_room(names, keep=self._asked_slots)

    def place_asked(self) -> Iterator[ElementChanged]:
        """Yield, as pending and without a word of text, the elements that the message asks for and the text
        does not name. ``ended_elements`` adds the label of each that becomes ready: a system that fails
        leaves no word in the text."""
        if (hydration := self._hydration) is None:
            return
        shown = {slot.type.name for slot in hydration.placed}
        self._after_text = [slot for slot in self._asked_slots if slot.type.name not in shown]
        hydration.make_room((), keep=self._after_text)
        for slot in self._after_text:
            yield hydration.place_slot(slot, start=self.length, end=self.length)

    def ended_elements(self) -> Iterator[Token | ElementChanged]:
        """Yield the elements that ended since the last call.

        A ready one of those that follow the text (``place_asked``) comes after its label, "[order status]".
        The label waits for the ones before it, so that the text does not depend on which system was faster:
        where the second is ready first, it is yielded at once without a label, and again after its label when
        the first has ended.
        """
        if (hydration := self._hydration) is None:
            return
        ended, waiting, labelled = hydration.take(), self._after_text, list[LiveSlot]()
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
            marked, cited = self._filter.taken(span.text)  # still with the marks of elements
            # A space for a mark: "2" and "3" around one are not "23".
            words = without_marks(marked, instead=" ") if self._marked else marked
            start, end = span.start - self._taken, span.end - self._taken  # in ``_raw``
            before = _white_space(self._raw[:start]) if self._parts else ""
            piece = self._raw[:end].strip()
            self._raw, self._taken = self._raw[end:], span.end
            if len(piece) > LONGEST_SENTENCE_CHARACTERS or _DEBRIS.search(piece):
                self.failure = "debris"
                return
            if named := _DESK.fullmatch(words.strip()):
                self.desk = int(named[1])
                continue
            if self._refusal is not None and fold(words).lstrip("*_ ").startswith(self._refusal):
                self.is_refused = True
                return
            if not _WORD.search(words) and self._marked:  # only elements: it claims nothing
                yield from self._write_marked(marked, before=before, checked=None, cited=())
                continue
            if self._is_repeated(words):
                self.failure = "repetition"
                return
            self._seen.add(_normal(words))
            yield from self._check(marked, words, before=before, cited=cited)

    def _check(self, marked: str, words: str, *, before: str, cited: tuple[Reference, ...]) -> TextEvents:
        """Yield a sentence as its check allows it. ``marked``: with the marks of elements; ``words``:
        without; ``before``: white space between the sentence before and this one."""
        self.prepare()
        is_partial = self._partial is not None and fold(words).lstrip("*_ ").startswith(self._partial)
        self.is_partial = self.is_partial or is_partial
        checked = self._checker.check(words, cited) if self._checker is not None else None
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
        # "The documents do not say …" rests on no unit, so its check does not count.
        yield from self._write_marked(
            marked, before=before, checked=None if is_partial else checked, cited=cited
        )

    def _with_marks(self, parts: Sequence[str | Tag]) -> str:
        """Return the model's text with marks in place of its elements' tags. Begins the reads that the
        message did not ask for. A tag for which there is no room (``MOST_ELEMENTS``) stays text."""
        pieces: list[str] = []
        for part in parts:
            if isinstance(part, str):
                pieces.append(without_marks(part))
                continue
            used = [slot for _, slot in self._marked]
            if self._hydration is not None and (slot := self._hydration.slot_for(part.name, but=used)):
                pieces.append(ELEMENTS.mark(len(self._marked)))
                self._marked.append((part, slot))
            else:
                pieces.append(part.written)
        return "".join(pieces)

    def _write_marked(
        self, marked: str, *, before: str, checked: Checked | None, cited: tuple[Reference, ...]
    ) -> TextEvents:
        """Add a sentence of the model with labels in place of its marks; yield its events. Links to other
        addresses than those of the documents, or in the cited texts, become text.

        Example: "It is ● today." at the beginning of the text becomes "It is [order status] today.", and the
        element gets the place [6, 20).
        """
        cited_urls = (addresses_in(unit) for reference in cited for unit in self._texts_of(reference))
        text = safe_markdown(marked, allowed_urls=self._allowed_urls.union(*cited_urls))
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
        """Return where the cited unit stands in its document; None for a whole document."""
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
        if not citations and not is_sentence:
            return
        sentence = Sentence(
            index=len(self.sentences),
            start=start,
            end=self.length,
            citations=citations,
            support=support,
            **fields,
        )
        self.sentences.append(sentence)
        yield SentenceEnded(**dict(sentence))

    def _is_repeated(self, text: str) -> bool:
        """Return whether a sentence was said before, or repeats words inside itself: "to the to the to
        the"."""
        normal = _normal(text)
        words = normal.split()
        is_loop = len(words) >= _LOOP_WORDS and len(set(words)) < _LOOP_DIFFERENT * len(words)
        return (bool(normal) and normal in self._seen) or is_loop


def _place_elements(block: QuotedBlock, hydration: Hydration, *, start: int) -> Iterator[ElementChanged]:
    """Yield the elements of a quoted block whose text was just added at ``start`` of the whole text: those
    that it names, then the table that ends with it, then the element that follows this table."""
    for name, first, last in block.elements:
        if slot := hydration.slot_for(name):
            yield hydration.place_slot(slot, start=start + first, end=start + last)
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
    """Return the folded words of a sentence: two with the same ones are repetitions."""
    return " ".join(_WORD.findall(fold(text)))
