"""What options offer an answer in place of a document's section or beside it, and the blocks of a quote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from assistant.answer.call import AnswerCall
from assistant.answer.elements import ReadyElement
from assistant.answer.excerpts import Excerpts
from assistant.answer.message import PartQuery
from assistant.domain.answers import ApprovedUse, Cell, QuotedAs
from assistant.domain.documents import KnownWords, Passage, StoredDocument
from assistant.stores.ports import LiveDesk

Cite = Callable[[Passage], int]
"""Returns the number of a passage's document among the answer's sources; a new one where it has none yet."""


@dataclass(frozen=True, slots=True)
class QuotedBlock:
    """One unit of a document, or one piece of an offer, as it is streamed."""

    before: str
    """Markdown between the unit before and this one: blank lines, a heading, a list marker."""
    text: str
    passage: Passage
    span: tuple[int, int]
    """[start, end) in the document's parsed text."""
    n: int
    """Number of the source that contains it."""
    quote: QuotedAs | None = None
    """How a page may show the text of a document: open or folded; None for text that is Markdown already."""
    is_key: bool = False
    """Whether it is one of the lines that matter most for the question."""
    cells: tuple[Cell, ...] = ()
    """Of a row of a table: places in ``text``."""
    rests_on: tuple[int, ...] = ()
    """Numbers of further sources that it is made from."""
    elements: tuple[tuple[str, int, int], ...] = ()
    """Live elements that the unit names: name, and [start, end) of the label in ``text``."""
    ready: ReadyElement | None = None
    """A table made from documents that ends with this block."""


class Named(Protocol):
    """Things that a question names, such as items of a catalogue: they change its terms, the documents that
    are read, and their order.

    Example: of "HU-1011: night light?" ``ids`` is {"HU-1011"}, ``rest`` " : night light?", ``pronouns``
    "it : night light?", and the product page of HU-1011 is about it.
    """

    @property
    def ids(self) -> frozenset[str]:
        """Their numbers, which the record keeps."""
        ...

    @property
    def document_ids(self) -> tuple[str, ...]:
        """Their own documents, which are read whatever the search found."""
        ...

    @property
    def rest(self) -> str:
        """The question without their names: its terms rank the lines of the documents."""
        ...

    @property
    def pronouns(self) -> str:
        """The question with "it" for each name, as a router of sources reads it."""
        ...

    def are_subject_of(self, document: StoredDocument) -> bool:
        """Return whether a document is about them and no other: it comes before all others."""
        ...


class Offered(Protocol):
    """What an option has for one question: an answer by itself (``answers``), a refusal (``refusal``), or a
    text to show beside the section (``use``)."""

    @property
    def answers(self) -> bool:
        """Whether it answers in place of a section, and no model needs to write."""
        ...

    @property
    def refusal(self) -> str:
        """Why there is nothing to show although the question asks for it, in words for the agent: then no
        section is shown either. Empty: no refusal."""
        ...

    @property
    def documents(self) -> Mapping[str, StoredDocument]:
        """The documents that it is made from, by id; their passages can be cited."""
        ...

    @property
    def use(self) -> ApprovedUse | None:
        """What the record keeps of a text that people approved; None for anything else. Where ``answers`` is
        false, the text is offered beside the answer."""
        ...

    @property
    def wording(self) -> str:
        """The question that an approved text was approved for."""
        ...

    def blocks(self, cite: Cite, excerpts: Excerpts, *, opening: str) -> list[QuotedBlock]:
        """Return it as it is streamed. The first block's ``before`` begins with ``opening``. The
        implementation adds each text of a document that it shows to ``excerpts``, and numbers sources by
        ``cite``."""
        ...


class Offer:
    """What one option offers the answers of one tenant. One instance serves all requests of a process.

    An option overrides the methods that it needs; each returns nothing otherwise::

        class Jokes(Offer):
            async def find(self, query, call, *, meanings): return Joke(query.question)

    ``load`` is called after each change of the desk, beside answers. For each question ``named`` is called
    while it is read, ``find`` beside the search, and ``reconsider`` once a section was found. The offers are
    asked in the order of their options, up to the first that names something, or answers.
    """

    async def load(self, revisions: LiveDesk) -> None:
        """Load what people decided since the last time. Raises RecordsUnavailableError."""

    def named(self, text: str, *, known: KnownWords | None) -> Named | None:
        """Return what a text names; None where it names nothing, or ``known`` is None: the index was not read
        yet. It is called several times for a message: it must be fast."""

    async def find(
        self, query: PartQuery, call: AnswerCall, *, meanings: Mapping[str, str]
    ) -> Offered | None:
        """Return what there is for a question, or None. ``meanings``: words of the question and what
        documents call them (``Vocabulary.meanings``).

        Raises SearchUnavailableError, DeadlineExceededError.
        """

    async def reconsider(
        self,
        query: PartQuery,
        call: AnswerCall,
        *,
        read: Mapping[str, StoredDocument],
        ranked: Sequence[StoredDocument],
    ) -> Offered | None:
        """Return what answers in place of the section that was found, or None: the section stays. It is not
        called where ``find`` had an answer.

        ``read``: the documents that were read, by id; ``ranked``: those of them that the search found,
        best first. Raises as ``find``.
        """
