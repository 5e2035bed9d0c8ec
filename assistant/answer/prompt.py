"""Builds the prompt of an answer: whole documents, best first, up to a budget of tokens.

A prompt file is immutable once released: its SHA-256 is in every answer's record. It is Markdown with the
sections ``# system`` and ``# user``; ``# refusal`` and ``# partial`` are what the model says when the
documents answer nothing, or only a part. ``# elements``, with the slot ``{{elements}}``, follows the system
section where the tenant has live systems. The user section has the slots ``{{documents}}``, ``{{meanings}}``
and ``{{question}}``; those of the other tasks have their own, and ``reply`` a section for each
style. There is no template engine: the file is split at its slots before untrusted text is added::

    # system
    You answer questions of customer-care agents from the documents …
    # user
    {{documents}}
    {{meanings}}Question: {{question}}
    # refusal
    The documents do not answer this question.

Each unit of a document is a line that begins with its number, by which the model cites it: ``[2.4]``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import groupby, zip_longest

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall
from assistant.answer.elements import all_labels, labels_of
from assistant.answer.excerpts import Labels, labels_in
from assistant.answer.find import Finding, SourceList
from assistant.answer.question import Question
from assistant.answer.services import AnswerWriter, TenantServices
from assistant.domain.answers import AnswerRecord, FinishReason
from assistant.domain.documents import RankedPassage, StoredDocument, Unit
from assistant.domain.errors import ConfigurationError, TooLargeError
from assistant.domain.live import LiveElements
from assistant.stores.ports import ChatMessage
from assistant.text.caches import remember_texts
from assistant.text.marks import CONTROL

DOCUMENTS_IN_PROMPT = 5
"""Documents that a model reads for one question. In 95 to 97 % of unseen questions the right one is among
them."""
_MOST_IN_PROMPT = 8
"""Documents that a model reads for a message with several questions, or of a tenant with several sources."""
_PROMPT_ID = re.compile(r"[a-z][a-z_]*/[1-9][0-9]*")
_SECTION = re.compile(r"^# ([a-z_]+)\n", re.MULTILINE)
_SLOT = re.compile(r"\{\{([a-z]+)\}\}")
# Tags of chat templates and our own delimiters: "<|im_start|>", "</document>", "<s>", "[INST]".
_TAG_OPENING = re.compile(r"<(?=[A-Za-z/|!?<])")
_BRACKET_TAG = re.compile(r"\[(/?[A-Z_]{3,})\]")
_UNIT_NUMBER = re.compile(r"\[(?=\d{1,3}(?:\.\d{1,3})?\])")
_CONTROL = re.compile(f"[{CONTROL}]")
_COUNTS_KEPT = 2_000
"""Token counts that are cached by their text: about 4 MiB."""
_MOST_LISTED = 40
"""Live elements that a prompt lists."""
_TOKENS_A_BORDER = 2
"""Added for each part of a prompt: a text may have so many tokens more than its two parts, counted alone."""
_WRITTEN = frozenset({FinishReason.STOP, FinishReason.LENGTH})
"""How the turns ended that a model reads as earlier turns: they have a text."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One prompt file."""

    prompt_id: str
    """Task and version: "answer/4"."""
    sha256: str
    system: str
    user: tuple[str, ...]
    """Literal text at even places, slot names at odd ones: ("", "documents", " Question: ", "question",
    "")."""
    refusal: str | None
    """The sentence of a model that finds no answer; None: this prompt asks for none."""
    partial: str | None
    """How the sentence of a model begins that says that a part is missing; None: this prompt asks for
    none."""
    elements: str | None = None
    """Added to ``system`` where the tenant has live systems; ``{{elements}}`` is their list."""
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    """All sections, by name; a task reads its own from here."""


@dataclass(frozen=True)
class PromptDocument:
    """A document as the model reads it."""

    n: int
    """Its number among the answer's sources."""
    document: StoredDocument
    units: tuple[Unit, ...]
    """Unit ``u`` is cited as ``[n.u]``, from 1."""

    @cached_property
    def text(self) -> str:
        return document_text(self.n, self.document.card.title, self.units)

    @property
    def unit_texts(self) -> tuple[str, ...]:
        """Each unit's text below the title and its heading."""
        return tuple(f"{self.document.card.title}\n{unit.heading}\n{unit.text}" for unit in self.units)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages for the model, and what was left out of them."""

    prompt_id: str
    prompt_hash: str
    """SHA-256 (hex) of the prompt file."""
    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    """Counted, the chat template's own tokens included."""
    max_tokens: int = 0
    """Longest answer."""
    documents: tuple[PromptDocument, ...] = ()
    """What the model reads; empty when not even one section fits."""
    dropped_documents: int = 0
    """Documents of which nothing fits."""
    history_turns: int = 0
    """Earlier turns in ``messages``."""
    refusal: str | None = None
    """As in ``PromptTemplate``, like ``partial``."""
    partial: str | None = None
    given: tuple[str, ...] = ()
    """What the model reads beside documents: the question, the turns before it, meanings of its words."""
    elements: Labels = field(default_factory=dict[str, str])
    """Labels of the live elements that the model may name, by ``Tag.key``."""
    sources: tuple[RankedPassage, ...] = ()
    """The answer's sources so far: source ``n``, from 1, is the document that the model reads as ``n``."""


@lru_cache
def load_prompt(prompt_id: str, package: str = "assistant.answer") -> PromptTemplate:
    """Return a released prompt; ``package``: the one whose folder ``prompts`` has it. Raises
    ConfigurationError, which lists the prompts that can be served."""
    resource = files(package).joinpath("prompts", *f"{prompt_id}.md".split("/"))
    if not _PROMPT_ID.fullmatch(prompt_id) or not resource.is_file():
        raise ConfigurationError(
            f'[answers] prompt = "{prompt_id}": there is no such prompt; there is {", ".join(prompt_ids())}.'
        )
    content = resource.read_bytes()
    _, *parts = _SECTION.split(content.decode())
    sections = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return PromptTemplate(
        prompt_id=prompt_id,
        sha256=hashlib.sha256(content).hexdigest(),
        system=sections["system"],
        user=tuple(_SLOT.split(sections["user"])),
        refusal=sections.get("refusal"),
        partial=sections.get("partial"),
        elements=sections.get("elements"),
        more=sections,
    )


def prompt_ids() -> list[str]:
    """Return the ids of all released prompts."""
    tasks = files("assistant.answer").joinpath("prompts").iterdir()
    return sorted(
        f"{task.name}/{version.name.removesuffix('.md')}"
        for task in tasks
        if task.is_dir()
        for version in task.iterdir()
        if version.name.endswith(".md")
    )


class BuildPrompt:
    """Chooses what a model reads for an answer, where a model writes it; ``PromptBuilder`` makes it fit.

    Example::

        prompt = build.run(question, findings, turns, call)
        prompt.messages[-1].content  # "<document 1>\\nTitle: Refill too soon\\n\\n[1.1] Retail refills are …"
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        self._services, self._adaptations = services, adaptations
        self._longest = services.tenant.generation.max_tokens
        self._prompts = PromptBuilder(services) if services.writes_answers else None

    def run(
        self,
        question: Question,
        findings: Sequence[Finding],
        turns: Sequence[AnswerRecord],
        call: AnswerCall,
    ) -> Prompt | None:
        """Return the prompt; None where no model writes:

        - the tenant or the request wants quotes;
        - an option has an answer in place of a document's section (``Offered.answers``);
        - the gate found nothing near the question;
        - nothing of a document fits, or a recording that plays in place of a model lacks this prompt.

        ``turns``: by ``OpenQuestion.readable_turns``. Raises TooLargeError when the question alone does not
        fit.
        """
        if self._prompts is None or question.request.mode == "quoted":
            return None
        if any(offered.answers for finding in findings for offered in finding.offered):
            return None
        if not any(finding.gate.passed for finding in findings):
            return None
        request, sources = question.request, SourceList()
        documents: list[tuple[int, StoredDocument, Mapping[str, float]]] = []
        # By question, the cosine of each passage. One found by its words alone counts 0: it comes after those
        # found by their vectors, and before those that were not found.
        cosines = {
            id(finding): {hit.passage_id: hit.cosine or 0.0 for hit in finding.retrieved.hits}
            for finding in findings
        }
        for finding, document in _in_turn(findings):
            number = sources.add(document, finding)
            if number is not None:
                documents.append((number, document, cosines[id(finding)]))
        before, vocabulary = request.questions_before[-1:], self._adaptations.now.vocabulary
        meanings = vocabulary.meanings(question.text, known=findings[0].query.known)
        lines = [
            unit.text for _, document, _ in documents for part in document.passages for unit in part.units
        ]
        with call.steps.step("prompt") as span:
            prompt = self._prompts.build(
                "\n".join((*before, question.text)),
                documents=documents,
                meanings=meanings,
                days=self._services.counted_days(question.text, lines, at=question.written),
                history=turns,
                max_tokens=min(request.max_tokens or self._longest, self._longest),
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_documents", prompt.dropped_documents)
        if not prompt.documents or not self._services.writer.answers(prompt.messages):
            return None
        services = self._services
        elements = all_labels(services) if self._prompts.lists_elements else _named_in(prompt, services)
        return replace(prompt, elements=elements, sources=tuple(sources.passages))


def _in_turn(findings: Sequence[Finding]) -> list[tuple[Finding, StoredDocument]]:
    """Return the documents that a model reads, each with the question that it is for: the best of each
    question, then the second of each, … A document of two questions comes once, for the first of them."""
    # Of several sources more documents are read, and all of them may be written from.
    lists = [
        part.for_model[: DOCUMENTS_IN_PROMPT if part.source_scores is None else None] for part in findings
    ]
    in_turn: dict[str, tuple[Finding, StoredDocument]] = {}
    for documents in zip_longest(*lists):
        for part, document in zip(findings, documents, strict=True):
            if document is not None:
                in_turn.setdefault(document.card.document_id, (part, document))
    return list(in_turn.values())[:_MOST_IN_PROMPT]


def _named_in(prompt: Prompt, services: TenantServices) -> Labels:
    """Return the labels of the live elements that documents of the prompt name, as far as they may."""
    return {
        key: label
        for document in prompt.documents
        for labels in [labels_of(document.document.card.document_id, services)]
        for key, label in labels_in((unit.text for unit in document.units), labels).items()
    }


class PromptBuilder:
    """Builds prompts that fit the served model's context. Questions and units are never cut.

    The budget is the context without the answer's ``max_tokens``. The system message and the question come
    first, then the documents, best first, as far as each fits; what is left goes to earlier turns.
    """

    def __init__(self, services: TenantServices) -> None:
        self._counter = services.writer.token_counter
        self._tokens_of = remember_texts(_COUNTS_KEPT)(self._counter.count)
        self._model = services.writer.model
        self._context_tokens = services.tenant.generation.context_tokens
        self._template = load_prompt(services.tenant.answers.prompt)
        if "documents" not in self._template.user[1::2]:
            raise ConfigurationError(
                f'[answers] prompt = "{self._template.prompt_id}" was retired: it has no '
                '{{documents}}. Use "answer/4".'
            )
        elements = services.live.elements if self._model.writes_elements else None
        listing = _told_of_elements(self._template, elements)
        self.lists_elements = bool(listing)
        """Whether each answer may name any of the tenant's live elements."""
        # Recordings were made of prompts without the list, which changes with the tenant's connectors.
        shown = "" if self._model.recorded else listing
        self._system = ChatMessage("system", self._template.system + shown)

    @cached_property
    def _system_tokens(self) -> int:
        """Tokens of the system message, which is the same in every prompt."""
        return self._count(self._system)

    def build(
        self,
        question: str,
        *,
        documents: Sequence[tuple[int, StoredDocument, Mapping[str, float]]],
        meanings: Mapping[str, str],
        history: Sequence[AnswerRecord],
        max_tokens: int,
        days: Sequence[str] = (),
    ) -> Prompt:
        """Build the prompt for an answer of ``max_tokens``.

        ``documents``: number among the sources, document, and the scores of its passages by id, best first.
        Each is read whole, or its best sections whole where it does not fit. ``meanings``: words of the
        question and what documents call them. ``days``: sentences on dates of the question, which stand below
        the meanings. ``history``: oldest first; its last turns use the rest of the budget. Raises
        TooLargeError when the question alone does not fit.
        """
        budget = self._context_tokens - max_tokens - self._model.template_tokens_per_prompt
        if self._model.reads_tokens is not None:
            budget = min(budget, self._model.reads_tokens)
        asked = neutralise(question)
        notes = _told_meanings(meanings) + "".join(f"{line}.\n\n" for line in days)
        slot_texts = [  # "" for the documents, which are counted one by one below
            notes if slot == "meanings" else asked if slot == "question" else ""
            for slot in self._template.user[1::2]
        ]
        fixed = [*self._template.user[::2], *slot_texts]
        used = self._system_tokens + self._model.template_tokens_per_message + _TOKENS_A_BORDER * len(fixed)
        used += sum(self._counter.count(text) for text in fixed if text)
        if used > budget:
            raise TooLargeError(
                f"The question does not fit the model's budget of {budget} tokens beside an answer of "
                f"{max_tokens}; shorten it or ask for fewer max_tokens."
            )
        read: list[PromptDocument] = []
        for n, document, scores in documents:
            fitting = self._fitting(n, document, scores, budget=budget - used)
            if fitting is not None:
                read.append(fitting)
                used += self._tokens_of(fitting.text) + _TOKENS_A_BORDER
        user = ChatMessage(
            "user", user_text(self._template, [document.text for document in read], notes, asked)
        )
        texts = [text for turn in history for text in (turn.question, turn.text)]
        turns, turn_tokens = self._turns(history, budget=budget - used if read else 0)
        return Prompt(
            prompt_id=self._template.prompt_id,
            prompt_hash=self._template.sha256,
            messages=rendered((self._system, *turns, user), system_role=self._model.system_role),
            documents=tuple(read),
            dropped_documents=len(documents) - len(read),
            history_turns=len(turns) // 2,
            prompt_tokens=used + turn_tokens + self._model.template_tokens_per_prompt,
            refusal=self._template.refusal,
            partial=self._template.partial,
            max_tokens=max_tokens,
            given=(question, *texts, *meanings.values(), *days),
        )

    def _fitting(
        self, n: int, document: StoredDocument, scores: Mapping[str, float], *, budget: int
    ) -> PromptDocument | None:
        """Return the whole document, or its best sections that fit together, in its order; None where none
        does. A section that does not fit is passed over, and a worse one that does is taken."""
        units = tuple(unit for passage in document.passages for unit in passage.units)
        whole = PromptDocument(n, document, units)
        if self._tokens_of(whole.text) + _TOKENS_A_BORDER <= budget:
            return whole
        fitting: PromptDocument | None = None
        chosen: set[int] = set()
        for section in _best_sections(document, scores):
            with_this = chosen | {unit.ordinal for unit in section}
            wider = PromptDocument(n, document, tuple(u for u in units if u.ordinal in with_this))
            if self._tokens_of(wider.text) + _TOKENS_A_BORDER <= budget:
                fitting, chosen = wider, with_this
        return fitting

    def _turns(self, history: Sequence[AnswerRecord], *, budget: int) -> tuple[list[ChatMessage], int]:
        """Return the messages of the last turns that fit, oldest first and without a gap, and their
        tokens."""
        messages: list[ChatMessage] = []
        used = 0
        written = [turn for turn in history if turn.finish_reason in _WRITTEN and turn.text]
        for turn in reversed(written[-self._model.history_turns :] if self._model.history_turns else []):
            pair = [
                ChatMessage("user", neutralise(turn.question)),
                ChatMessage("assistant", neutralise(turn.text)),
            ]
            tokens = sum(self._count(message) for message in pair)
            if used + tokens > budget:
                break
            messages[:0] = pair
            used += tokens
        return messages, used

    def _count(self, message: ChatMessage) -> int:
        return self._counter.count(message.content) + self._model.template_tokens_per_message


def _best_sections(document: StoredDocument, scores: Mapping[str, float]) -> list[list[Unit]]:
    """Return the document's sections, or its passages where it has no headings, best first.

    A section is worth as much as its best passage. ``scores``: by passage id; a passage without one is worst.
    """
    pairs = [(unit, passage) for passage in document.passages for unit in passage.units]
    by_heading = len({unit.heading for unit, _ in pairs}) > 1
    sections: list[tuple[float, list[Unit]]] = []
    for _, group in groupby(pairs, key=lambda pair: pair[0].heading if by_heading else pair[1].passage_id):
        section = list(group)
        worth = max(scores.get(passage.passage_id, -1.0) for _, passage in section)
        sections.append((round(worth, 4), [unit for unit, _ in section]))
    return [units for _, units in sorted(sections, key=lambda pair: (-pair[0], pair[1][0].ordinal))]


def document_text(n: int, title: str, units: Sequence[Unit]) -> str:
    """Return a document between delimiters that its text cannot close, a numbered line for each unit::

    <document 2>
    Title: Refill too soon

    ## By mail
    [2.1] Mail order refills are payable on day 68.
    </document>
    """
    lines = [f"<document {n}>", f"Title: {quoted(title)}"]
    heading = ""
    for number, unit in enumerate(units, start=1):
        if unit.heading != heading:
            heading = unit.heading
            lines += ["", f"## {quoted(heading)}"] if heading else [""]
        lines.append(f"[{n}.{number}] {quoted(unit.text)}")
    return "\n".join([*lines, "</document>"])


def rendered(messages: Sequence[ChatMessage], *, system_role: bool) -> tuple[ChatMessage, ...]:
    """Return the messages as the model's chat template takes them.

    Where it has no system role, the text of the system message opens the user's first turn.
    """
    if system_role:
        return tuple(messages)
    system, first, *rest = messages
    return ChatMessage("user", f"{system.content}\n\n{first.content}"), *rest


def user_text(template: PromptTemplate, documents: Sequence[str], meanings: str, question: str) -> str:
    """Return the user message. ``documents``: each by ``document_text``. ``meanings``: as ``_told_meanings``
    returns them. ``question``: already neutralised."""
    slots = {"documents": "\n\n".join(documents), "meanings": meanings, "question": question}
    return fill_slots(template, slots)


def fill_slots(template: PromptTemplate, slots: Mapping[str, str]) -> str:
    """Return the user message with a text in each slot. The caller has neutralised untrusted texts."""
    return "".join(slots[part] if place % 2 else part for place, part in enumerate(template.user))


def quoted(text: str) -> str:
    """Return untrusted text on one line, neutralised."""
    return " ".join(neutralise(text).split())


def count_tokens(messages: Sequence[ChatMessage], writer: AnswerWriter) -> int:
    """Return the tokens of a prompt, those of the chat template included."""
    model = writer.model
    in_texts = sum(writer.token_counter.count(message.content) for message in messages)
    return in_texts + len(messages) * model.template_tokens_per_message + model.template_tokens_per_prompt


def _told_meanings(meanings: Mapping[str, str]) -> str:
    """Return what the glossary says of the question's words, as a line of the prompt; empty without any:
    'Words of the company: "DAW" is dispense as written.'"""
    if not meanings:
        return ""
    meanings_text = "; ".join(f'"{quoted(word)}" is {quoted(meant)}' for word, meant in meanings.items())
    return f"Words of the company: {meanings_text}.\n\n"


def _told_of_elements(template: PromptTemplate, live: LiveElements | None) -> str:
    """Return what is added to the system message for live elements; empty without any, or where the prompt
    file has no section for them."""
    types = list(live.types().values())[:_MOST_LISTED] if live is not None else []
    if template.elements is None or not types:
        return ""
    lines = [
        f"{{{{{element_type.name}}}}}: {neutralise(' '.join(element_type.title.split()))}"
        for element_type in types
    ]
    return f"\n\n{template.elements.replace('{{elements}}', chr(10).join(lines))}"


def neutralise(text: str) -> str:
    """Return untrusted text without what a chat template or our delimiters treat as a tag, and without
    numbers of units.

    Their brackets become others that look alike, so the text reads as before: "(INST)", "(2.4]".
    """
    text = _CONTROL.sub(" ", text)
    text = _TAG_OPENING.sub("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", text)
    return _UNIT_NUMBER.sub("(", _BRACKET_TAG.sub(r"(\1)", text))
