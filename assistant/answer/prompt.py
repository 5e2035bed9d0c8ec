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
from datetime import date, datetime
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import groupby

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall
from assistant.answer.conversation import Conversation
from assistant.answer.elements import all_labels, labels_of
from assistant.answer.excerpts import Labels, labels_in
from assistant.answer.find import Finding, SourceList, in_turn, merged
from assistant.answer.question import Question
from assistant.answer.quoting import neutralise, quoted
from assistant.answer.services import AnswerWriter, TenantServices
from assistant.domain.documents import RankedPassage, StoredDocument, Unit
from assistant.domain.errors import TooLargeError
from assistant.domain.live import LiveElements
from assistant.stores.ports import ChatMessage
from assistant.text.caches import remember_texts

PROMPT = "answer/6"
DOCUMENTS_IN_PROMPT = 5
"""Documents that a model reads for one question. In 95 to 97 % of unseen questions the right one is among
them."""
_MOST_IN_PROMPT = 8
"""Documents that a model reads for a message with several questions, or of a tenant with several sources."""
_SECTION = re.compile(r"^# ([a-z_]+)\n", re.MULTILINE)
_SLOT = re.compile(r"\{\{([a-z]+)\}\}")
_COUNTS_KEPT = 2_000
"""Token counts that are cached by their text: about 4 MiB."""
_LINES_KEPT = 10_000
"""Lines of documents that are kept as a prompt quotes them; one prompt has some 200."""
_MOST_LISTED = 40
"""Live elements that a prompt lists."""
_SHARE_OF_ANSWER, _SHARE_OF_CONVERSATION = 5, 6
"""Of the context, an answer and a conversation have at most a fifth and a sixth."""
_TOKENS_A_BORDER = 2
"""Added for each part of a prompt: a text may have so many tokens more than its two parts, counted alone."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One prompt file."""

    prompt_id: str
    """Task and version: "answer/6"."""
    sha256: str
    system: str
    user: tuple[str, ...]
    """Literal text at even places, slot names at odd ones: ("", "documents", " Question: ", "question",
    "")."""
    more: Mapping[str, str]
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
        card = self.document.card
        in_force = card.not_in_force or card.effective_date
        return document_text(self.n, card.title, self.units, in_force=in_force)

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
    """The sentence of a model that finds no answer; None: this prompt asks for none."""
    partial: str | None = None
    """How the sentence of a model begins that says that a part is missing; None: this prompt asks for
    none."""
    conversation: str = ""
    """Its block, as the model reads it."""
    given: tuple[str, ...] = ()
    """What the model reads beside documents: the question, the turns before it, meanings of its words."""
    elements: Labels = field(default_factory=dict[str, str])
    """Labels of the live elements that the model may name, by ``Tag.key``."""
    desks: tuple[str, ...] = ()
    """Whom the model may name, by number from 1."""
    sources: tuple[RankedPassage, ...] = ()
    """The answer's sources so far: source ``n``, from 1, is the document that the model reads as ``n``."""


@lru_cache
def load_prompt(prompt_id: str, package: str = "assistant.answer") -> PromptTemplate:
    """Return a released prompt; ``package``: the one whose folder ``prompts`` has it."""
    content = files(package).joinpath("prompts", *f"{prompt_id}.md".split("/")).read_bytes()
    _, *parts = _SECTION.split(content.decode())
    sections = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return PromptTemplate(
        prompt_id=prompt_id,
        sha256=hashlib.sha256(content).hexdigest(),
        system=sections["system"],
        user=tuple(_SLOT.split(sections["user"])),
        more=sections,
    )


class BuildPrompt:
    """Builds what a model reads for an answer, so that it fits the model's context. Questions and units are
    never cut.

    The budget is the context without the answer's ``max_tokens``. The system message and the conversation
    come first, then the documents, best first, as far as each fits.

    Example::

        prompt = build.run(question, findings, turns, call)
        prompt.messages[-1].content  # "<document 1>\\nTitle: Refill too soon\\n\\n[1.1] Retail refills are …"
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        self._services, self._adaptations = services, adaptations
        generation, model = services.tenant.generation, services.writer.model
        self.longest_tokens = min(generation.max_tokens, generation.context_tokens // _SHARE_OF_ANSWER)
        """Longest answer or reply."""
        self._tokens_of = remember_texts(_COUNTS_KEPT)(services.writer.token_counter.count)
        self._template = load_prompt(PROMPT)
        elements = services.live.elements if model.writes_elements else None
        listing = _told_of_elements(self._template, elements)
        self._lists_elements = bool(listing)
        """Whether each answer may name any of the tenant's live elements."""
        # Recordings were made of prompts without the list, which changes with the tenant's connectors.
        shown = "" if model.recorded else listing
        self._system = ChatMessage("system", self._template.system + shown)

    def block(self, conversation: Conversation, *, at: datetime, days: Sequence[str] = ()) -> str:
        """Return the conversation as every prompt reads it, at ``at``; empty where no model writes. ``days``:
        sentences on its dates."""
        if not self._services.writes_answers:
            return ""
        return self._block(conversation, self._meanings(conversation), at, days)

    def _block(
        self,
        conversation: Conversation,
        meanings: Mapping[str, str],
        at: datetime | None,
        days: Sequence[str],
    ) -> str:
        tenant = self._services.tenant
        return conversation.block(
            company=tenant.display_name,
            today=self._services.today(at),
            meanings=meanings,
            days=days,
            count=self._services.writer.token_counter.count,
            most_tokens=tenant.generation.context_tokens // _SHARE_OF_CONVERSATION,
        )

    def _meanings(self, conversation: Conversation) -> Mapping[str, str]:
        """Return what words of the conversation mean."""
        return self._adaptations.now.vocabulary.meanings(conversation.words, known=None)

    def run(
        self,
        question: Question,
        findings: Sequence[Finding],
        answer: str,
        call: AnswerCall,
        *,
        asked: Sequence[Finding] = (),
    ) -> Prompt | None:
        """Return the prompt; None where no model writes:

        - the tenant or the request wants quotes;
        - an option has an answer in place of a document's section (``Offered.answers``);
        - the gate found nothing near the question, which makes sense alone;
        - nothing of a document fits, or a recording that plays in place of a model lacks this prompt.

        ``answer``: by ``OpenQuestion.last_answer``. ``asked``: what the model's own searches found. Raises
        TooLargeError when the question alone does not fit.
        """
        if not self._services.writes_answers or question.request.mode == "quoted":
            return None
        if any(offered.answers for finding in findings for offered in finding.offered):
            return None
        if not any(finding.gate.passed or finding.query.leans for finding in (*asked, *findings)):
            return None
        request, sources = question.request, SourceList()
        documents: list[tuple[int, StoredDocument, Mapping[str, float]]] = []
        # By question, the cosine of each passage. One found by its words alone counts 0: it comes after those
        # found by their vectors, and before those that were not found.
        cosines = {
            id(finding): {hit.passage_id: hit.cosine or 0.0 for hit in finding.retrieved.hits}
            for finding in (*asked, *findings)
        }
        most = _MOST_IN_PROMPT if len(findings) > 1 else DOCUMENTS_IN_PROMPT
        if findings[0].source_scores is not None:
            most = _MOST_IN_PROMPT  # of several sources more documents are read
        read = merged(asked, findings, most=most) if asked else in_turn(findings, most=most)
        for finding, document in read:
            number = sources.add(document, finding)
            if number is not None:
                documents.append((number, document, cosines[id(finding)]))
        conversation = replace(question.conversation, answer=answer)
        meanings = self._meanings(conversation)
        lines = [
            unit.text for _, document, _ in documents for part in document.passages for unit in part.units
        ]
        with call.steps.step("prompt") as span:
            prompt = self.build(
                conversation,
                documents=documents,
                meanings=meanings,
                at=question.written,
                days=self._services.counted_days(conversation.words, lines, at=question.written),
                max_tokens=min(request.max_tokens or self.longest_tokens, self.longest_tokens),
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_documents", prompt.dropped_documents)
        if not prompt.documents or not self._services.writer.answers(prompt.messages):
            return None
        services = self._services
        elements = all_labels(services) if self._lists_elements else _named_in(prompt, services)
        return replace(prompt, elements=elements, sources=tuple(sources.passages))

    def build(
        self,
        conversation: Conversation,
        *,
        documents: Sequence[tuple[int, StoredDocument, Mapping[str, float]]],
        meanings: Mapping[str, str],
        max_tokens: int,
        at: datetime | None = None,
        days: Sequence[str] = (),
    ) -> Prompt:
        """Build the prompt for an answer of ``max_tokens``.

        ``documents``: number among the sources, document, and the scores of its passages by id, best first.
        Each is read whole, or its best sections whole where it does not fit. ``meanings``: words of the
        conversation and what documents call them. ``days``: sentences on its dates. Raises TooLargeError when
        the conversation's end alone does not fit.
        """
        tenant, model = self._services.tenant, self._services.writer.model
        budget = tenant.generation.context_tokens - max_tokens - model.template_tokens_per_prompt
        if model.reads_tokens is not None:
            budget = min(budget, model.reads_tokens)
        block, desks = self._block(conversation, meanings, at, days), tenant.answers.desks
        slots = {"documents": "", "conversation": block, "desks": desk_lines(desks)}
        fixed = [*self._template.user[::2], *(slots[slot] for slot in self._template.user[1::2])]
        used = 2 * model.template_tokens_per_message + _TOKENS_A_BORDER * len(fixed)
        count = self._services.writer.token_counter.count
        used += self._tokens_of(self._system.content) + sum(count(text) for text in fixed if text)
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
        slots["documents"] = "\n\n".join(document.text for document in read)
        user = ChatMessage("user", fill_slots(self._template, slots))
        return Prompt(
            prompt_id=self._template.prompt_id,
            prompt_hash=self._template.sha256,
            messages=rendered((self._system, user), system_role=model.system_role),
            documents=tuple(read),
            dropped_documents=len(documents) - len(read),
            history_turns=int(bool(conversation.answer)),
            prompt_tokens=used + model.template_tokens_per_prompt,
            refusal=self._template.more.get("refusal"),
            partial=self._template.more.get("partial"),
            max_tokens=max_tokens,
            desks=desks,
            conversation=block,
            given=(conversation.words, conversation.answer, *meanings.values(), *days),
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


def _named_in(prompt: Prompt, services: TenantServices) -> Labels:
    """Return the labels of the live elements that documents of the prompt name, as far as they may."""
    return {
        key: label
        for document in prompt.documents
        for labels in [labels_of(document.document.card.document_id, services)]
        for key, label in labels_in((unit.text for unit in document.units), labels).items()
    }


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


def document_text(n: int, title: str, units: Sequence[Unit], *, in_force: date | str | None = None) -> str:
    """Return a document between delimiters that its text cannot close, a numbered line for each unit::

    <document 2>
    Title: Refill too soon

    ## By mail
    [2.1] Mail order refills are payable on day 68.
    </document>

    ``in_force``: from when it is in force, or a line that says that it is not.
    """
    lines = [f"<document {n}>", f"Title: {quoted(title)}"]
    if in_force is not None:
        lines.append(in_force if isinstance(in_force, str) else f"In force from {in_force}")
    heading = ""
    for number, unit in enumerate(units, start=1):
        if unit.heading != heading:
            heading = unit.heading
            lines += ["", f"## {_line(heading)}"] if heading else [""]
        lines.append(f"[{n}.{number}] {_line(unit.text)}")
    return "\n".join([*lines, "</document>"])


_line = remember_texts(_LINES_KEPT)(quoted)
"""Only of documents: what a customer writes is kept nowhere."""


def desk_lines(contacts: Sequence[str]) -> str:
    """Return whom the model may name, a numbered line each."""
    return "\n".join(f"{n}. {quoted(contact)}" for n, contact in enumerate(contacts, start=1))


def rendered(messages: Sequence[ChatMessage], *, system_role: bool) -> tuple[ChatMessage, ...]:
    """Return the messages as the model's chat template takes them.

    Where it has no system role, the text of the system message opens the user's first turn.
    """
    if system_role:
        return tuple(messages)
    system, first, *rest = messages
    return ChatMessage("user", f"{system.content}\n\n{first.content}"), *rest


def fill_slots(template: PromptTemplate, slots: Mapping[str, str]) -> str:
    """Return the user message with a text in each slot. The caller has neutralised untrusted texts."""
    return "".join(slots[part] if place % 2 else part for place, part in enumerate(template.user))


def count_tokens(messages: Sequence[ChatMessage], writer: AnswerWriter) -> int:
    """Return the tokens of a prompt, those of the chat template included."""
    model = writer.model
    in_texts = sum(writer.token_counter.count(message.content) for message in messages)
    return in_texts + len(messages) * model.template_tokens_per_message + model.template_tokens_per_prompt


def _told_of_elements(template: PromptTemplate, live: LiveElements | None) -> str:
    """Return what is added to the system message for live elements; empty without any, or where the prompt
    file has no section for them."""
    types = list(live.types().values())[:_MOST_LISTED] if live is not None else []
    if "elements" not in template.more or not types:
        return ""
    lines = [
        f"{{{{{element_type.name}}}}}: {neutralise(' '.join(element_type.title.split()))}"
        for element_type in types
    ]
    return f"\n\n{template.more['elements'].replace('{{elements}}', chr(10).join(lines))}"
