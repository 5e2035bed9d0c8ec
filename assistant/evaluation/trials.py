"""Trials of the parts around an answer: red flags, live elements, pasted chats, and the check of sentences.

Each takes one tenant's opened services and files of questions, and returns a ``Judged`` for each question,
whose values have readable names: {"emergencies that raise their flag": 1.0}. ``trial_named`` finds the one of
a figure's ``run``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict, Field

from assistant.answer.answer import AnswerQuestion
from assistant.answer.chat import ReadChat
from assistant.answer.embed import EmbedTexts
from assistant.answer.heads import Said
from assistant.answer.message import questions_of
from assistant.answer.plan import Plan, Written
from assistant.answer.prompt import Prompt
from assistant.answer.red_flags import RedFlags
from assistant.answer.request import AnswerRequest
from assistant.answer.scores import Kind
from assistant.answer.services import TenantServices
from assistant.answer.support import Checked, SupportChecker
from assistant.answer.vocabulary import Vocabulary
from assistant.documents.files import SourceDocument, read_sources
from assistant.documents.parsing import parse_document
from assistant.domain.answers import LiveMatchState, Support
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.domain.identity import CareContext
from assistant.domain.live import Caller, ElementProblem, ElementType, Filled, LiveElements, LiveReadError
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import AGENT, prepare, untraced
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import load_rows
from assistant.evaluation.routing import RoutedQuestion, RoutingTrial
from assistant.option import installed
from assistant.stores.ports import GenerationRequest, TextEmbedder
from assistant.tenant.tenant import RedFlagEntry, TenantConfig
from assistant.text.language import language
from assistant.text.markup import Tag, tags_in

Trial = Callable[[TenantServices, Sequence[Path]], Coroutine[None, None, list[Judged]]]
"""Asks one tenant the questions of a figure's files, and returns the judged questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A head (a logistic model) whose weights file an option brings: the data on which ``make fit`` fits
    it."""

    kind: Kind
    tenants: tuple[str, ...]
    paths: tuple[str, ...]
    """Files of questions, below ``evaluation``."""
    features: tuple[str, ...]
    """Names of the columns of ``rows``."""
    penalty: float
    """Strength with which weights are pulled to 0, for each row."""
    rows: Callable[
        [Mapping[str, TenantServices], Sequence[Path]],
        Coroutine[None, None, tuple[list[tuple[float, ...]], list[bool]]],
    ]
    """Asks the files' questions; returns the features and the label of each row."""


_DEADLINE_S = 60.0
"""Limit of one call of a model or of preparing one answer."""
_EMBEDDED_AT_ONCE = 32


async def embedded(
    embedder: TextEmbedder, texts: Sequence[str], *, clock: Clock
) -> dict[str, Sequence[float]]:
    """Return a vector of unit length by text; ``texts`` are distinct. Raises what the endpoint raises."""
    vectors: list[list[float]] = []
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        deadline = Deadline.after(_DEADLINE_S, clock=clock)
        vectors += await embedder.embed(texts[start : start + _EMBEDDED_AT_ONCE], deadline=deadline)
    return dict(zip(texts, vectors, strict=True))


# --- red flags ---------------------------------------------------------------------------------------------


_WITHIN = frozenset({"before", "after", "between", "quoted", "within"})
"""Settings of emergencies with other text around them; they are counted together."""


class FlaggedMessage(PublicModel):
    """One line of ``evaluation/red_flags/*.jsonl``; its README tells the settings."""

    id: str | None = None
    setting: str = ""
    """How an independent writer set the message: ordinary, alone, before, shorthand, own_flag, …"""
    message: str = Field(min_length=1)
    flag: str | None
    """Name of the red flag that it should raise; None for an ordinary message."""


def with_own_flag(tenant: TenantConfig, messages: Sequence[FlaggedMessage]) -> TenantConfig:
    """Return the tenant with one more flag, whose examples are a writer's ``own_flag`` messages.

    It measures a flag that a tenant adds itself. Its text and number are shown to nobody.
    """
    examples = [message for message in messages if message.setting == "own_flag"]
    entry = RedFlagEntry(
        name=examples[0].flag or "own",
        text="Measured.",
        call="911",
        examples=tuple(message.message for message in examples),
    )
    return tenant.model_copy(update={"red_flags": (*tenant.red_flags, entry)})


async def _red_flags(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    own_flags, *written = (load_rows(path, FlaggedMessage, key="message") for path in paths)
    widened, messages = with_own_flag(services.tenant, own_flags), list(chain.from_iterable(written))
    return await raise_flags(widened, services.embedder, messages, clock=services.clock)


async def raise_flags(
    tenant: TenantConfig, embedder: TextEmbedder, messages: Sequence[FlaggedMessage], *, clock: Clock
) -> list[Judged]:
    """Return which messages of independent writers raise flags of the tenant, or a notice that their language
    is not checked. Raises ConfigurationError where the flags' examples could not be embedded."""
    flags = RedFlags(tenant, embedder=embedder, clock=clock)
    await flags.load()
    if not flags.is_ready:
        raise ConfigurationError("The examples of the tenant's red flags were not embedded. Try again.")
    texts = dict.fromkeys(piece for message in messages for piece in flags.pieces(message.message))
    vectors = await embedded(embedder, list(texts), clock=clock)
    judged: list[Judged] = []
    for message in messages:
        raised = [flag.name for flag in flags.raised(message.message, vectors)]
        notice = flags.unchecked_language(message.message)
        values, is_right = _flag_values(message, raised, has_notice=notice is not None)
        name = message.id or message.message
        miss = f"{message.message} | {message.flag or 'none'}; raised {', '.join(raised) or notice or 'none'}"
        judged.append(Judged(name, name, values, "" if is_right else miss))
    return judged


def _flag_values(
    message: FlaggedMessage, raised: Sequence[str], *, has_notice: bool
) -> tuple[dict[str, float], bool]:
    """Return the values of a message, and whether what it raised is right.

    ``raised``: names of the flags. ``has_notice``: the notice that the message's language is not checked.
    """
    setting, is_raised = message.setting, float(bool(raised))
    if setting == "spanish":
        return {"Spanish emergencies with a banner or notice": float(bool(raised) or has_notice)}, has_notice
    values = {"English messages with a notice": float(has_notice)}
    if setting == "own_flag":
        is_right = message.flag in raised
        values["messages that raise a flag of ten examples"] = float(is_right)
        return values, is_right
    if message.flag is None:
        return values | {"ordinary messages that raise a flag": is_raised}, not raised
    kind = "within other text" if setting in _WITHIN else setting
    values[f"emergencies {kind} that raise a flag"] = is_raised
    values["emergencies that raise their flag"] = float(message.flag in raised)
    return values, message.flag in raised


# --- live elements -----------------------------------------------------------------------------------------


class LiveQuestion(PublicModel):
    """One line of ``evaluation/live/*.jsonl``; its README has the fields."""

    id: str = Field(min_length=1)
    tenant: str
    question: str = Field(min_length=1)
    before: str | None = None
    wording: str = Field(min_length=1)
    asks: tuple[tuple[str, ...], ...]
    """For each value that is asked, the elements that show it, the best first."""


# Made-up ids, as the pharmacy's live system has them. The context does not expire during a run.
_CONTEXT = CareContext(
    agent=AGENT,
    customer="PT-204417",
    ids={"customer": ("PT-204417",), "order": ("4471-2208",), "prescription": ("7301842-04417",)},
    expires_at=datetime(9999, 1, 1, tzinfo=UTC),
)
_READ = frozenset({LiveMatchState.READ, LiveMatchState.SHOWN})
"""States of an element that would be read: for the question, or as the quoted document shows it."""


class NoCalls:
    """``LiveElements`` that describes a tenant's elements, and refuses to fill them."""

    def __init__(self, offered: LiveElements) -> None:
        self._offered = offered

    def types(self) -> Mapping[str, ElementType]:
        return self._offered.types()

    def takes(self, name: str, word: str) -> bool:
        return self._offered.takes(name, word)

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        del name, caller, deadline
        raise LiveReadError(ElementProblem.SWITCHED_OFF, "No system is called while questions are measured.")


async def ask_elements(
    services: TenantServices, paths: Sequence[Path], *, writes: bool = False
) -> list[Judged]:
    """Prepare each answer, and return which live elements it would read; with ``writes`` let the tenant's
    model write it, and return which elements it names as tags in its text.

    Raises what preparing raises, ConfigurationError where no model writes. A question on which the model
    failed counts as degraded: no figure may rest on it.
    """
    services = silent(services)
    if writes:
        if not services.writes_answers:
            raise ConfigurationError(
                f"No model writes for {services.tenant.name}. Choose one: assistant models use."
            )
        model = replace(services.writer.model, writes_elements=True)
        services = replace(services, writer=replace(services.writer, model=model))
    answer = AnswerQuestion(services)
    await answer.adaptations.refresh()
    judged: list[Judged] = []
    for question in chain.from_iterable(load_rows(path, LiveQuestion) for path in paths):
        if question.tenant != services.tenant.name:
            continue
        plan, degraded = await prepare_live(answer, services, question)
        named = (match.element for match in plan.basis.live.matches if match.state in _READ)
        if writes:
            try:
                named = await _named(services, plan.prompt if isinstance(plan, Written) else None)
            except AssistantError as error:
                named, degraded = (), (*degraded, error.code)
        rows = judge_reads(question, list(dict.fromkeys(named)))
        judged += [replace(row, degraded=degraded) for row in rows]
    return judged


async def _named(services: TenantServices, prompt: Prompt | None) -> list[str]:
    """Return the elements that the model's text names. Raises AssistantError."""
    if prompt is None:
        return []
    temperature = services.tenant.generation.temperature
    request = GenerationRequest(prompt.messages, max_tokens=prompt.max_tokens, temperature=temperature)
    deadline = Deadline.after(_DEADLINE_S, clock=services.clock)
    async with services.writer.generator.stream(request, deadline=deadline) as stream:
        text = "".join([delta.text async for delta in stream])
    elements = services.live.elements
    types = dict[str, ElementType]() if elements is None else elements.types()
    return [part.name for part in tags_in(text, lambda tag: tag.name in types) if isinstance(part, Tag)]


def silent(services: TenantServices) -> TenantServices:
    """Return the services with live elements that are matched but never filled: no live system is called."""
    offered = services.live.elements
    return replace(services, live=replace(services.live, elements=offered and NoCalls(offered)))


async def prepare_live(
    answer: AnswerQuestion, services: TenantServices, question: LiveQuestion
) -> tuple[Plan, tuple[str, ...]]:
    """Prepare the answer for an agent with all labels, about a made-up customer. Return it, and the steps
    that were left out."""
    labels = frozenset(services.tenant.labels)
    return await prepare(
        services, answer, question.question, question.before, labels=labels, context=_CONTEXT
    )


def judge_reads(question: LiveQuestion, read: Sequence[str]) -> list[Judged]:
    """Return a row for each value that is asked, and one for the question.

    ``read``: names of the elements that were read. Example: for asks ((a, b), (c,)) and read (b,) the first
    value is shown, but not by its best element; the second is not shown; nothing needless was read.
    """
    cluster = f"{question.tenant}: {question.wording}"
    judged = [
        Judged(
            f"{question.id} {names[0]}",
            cluster,
            {
                "asked values that an element shows": float(any(name in read for name in names)),
                "asked values with the best element": float(names[0] in read),
            },
        )
        for names in question.asks
    ]
    wanted = {name for names in question.asks for name in names}
    is_needless = not wanted.issuperset(read)
    is_right = not is_needless and all(any(name in read for name in names) for names in question.asks)
    if not question.asks:
        values = {"questions that ask none, and one is read": float(bool(read))}
    else:
        values = {"questions that ask a value, and more is read": float(is_needless)}
    if len(question.asks) > 1:
        values["questions that ask several, exactly right"] = float(is_right)
    asks = " + ".join("|".join(names) for names in question.asks) or "nothing"
    miss = f"{question.before or ''} {question.question}: asks {asks}; read {', '.join(read) or 'nothing'}"
    return [*judged, Judged(question.id, cluster, values, "" if is_right else miss)]


# --- pasted chats ------------------------------------------------------------------------------------------
_LEAST_PART, _LEAST_LINE = 3, 8
"""Characters of a message and of an agent's line: texts up to these lengths are in others by chance."""


class WrittenChat(PublicModel):
    """One line of ``evaluation/chats/*.jsonl``; its README has the fields."""

    id: str
    knowledge: str
    text: str
    turns: tuple[Said, ...]
    open: tuple[tuple[str, ...], ...]
    """For each open question, the most important first, the messages or parts that carry it. At least one."""
    asks_reply: bool
    question: str

    def asks(self, text: str) -> bool:
        """Return whether a text holds a message of an open question, or is a part of it."""
        return any(_is_of(text, parts) for parts in self.open)

    def is_right(self, question: str) -> bool:
        """Return whether a question is a message of the first open one, or a part, and has no line of the
        agent. Lines are compared in lower case with single spaces."""
        others = (turn.text for turn in self.turns if turn.who in ("agent", "note"))
        lines = (
            line for text in others for line in map(_one_spaced, text.split("\n")) if len(line) > _LEAST_LINE
        )
        return _is_of(question, next(iter(self.open))) and not any(
            line in _one_spaced(question) for line in lines
        )


class GoingOn(PublicModel):
    """One line of ``evaluation/chats/several.jsonl``. The file is for fitting alone."""

    text: str
    goes_on: bool
    """Whether it goes on with several things that were named above it."""


def _one_spaced(text: str) -> str:
    return " ".join(text.split()).casefold()


def _is_of(text: str, parts: Iterable[str]) -> bool:
    """Return whether a text holds one of the parts, or is itself within one."""
    flat = _one_spaced(text)
    return any(part in flat or (len(flat) > _LEAST_PART and flat in part) for part in map(_one_spaced, parts))


async def _chats(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Return whether the right question of each pasted chat is searched first."""
    chat, vocabulary = ReadChat(services, EmbedTexts(services)), Vocabulary.of(services.tenant)
    judged: list[Judged] = []
    for written in chain.from_iterable(load_rows(path, WrittenChat) for path in paths):
        call = untraced(Deadline.after(_DEADLINE_S, clock=services.clock))
        read = await chat.read(AnswerRequest(question=written.text), call)
        first, *more = questions_of(read.text, vocabulary=vocabulary) if read else ("",)
        is_right = written.is_right(first)
        customer_words = sum(len(turn.text.split()) for turn in written.turns if turn.who == "customer")
        reply_kind = "asked, found" if written.asks_reply else "not asked, found"
        values = {
            "right question first": float(is_right),
            "customer's words that are searched": len(" ".join((first, *more)).split()) / customer_words,
            f"replies that are {reply_kind}": float(read is not None and read.asks_reply),
        }
        if second := written.open[1:2]:
            values["second questions with a heading"] = float(any(_is_of(text, *second) for text in more))
        miss = "" if is_right else f"{first} | {written.open}"
        judged.append(Judged(written.id, written.id, values, miss))
    return judged


# --- the support check ------------------------------------------------------------------------------------
# A right sentence was written by hand, or by the model of ``evaluation/recorded`` in a right answer. It is
# checked as it stands, with one thing changed (a number, name, negation or condition), and citing another
# unit. The files hold the changes: what a model may get wrong, in words that are not the checker's.
ENGLISH = language("en")

Units = tuple[str, ...]
"""Texts of one document's units."""
Citation = tuple[int, int | None]
"""Number of the document in the prompt and of its unit, both from 1; None: the whole document."""


@cache
def _checker(documents: tuple[Units, ...], given: tuple[str, ...]) -> SupportChecker:
    """Return the checker of a prompt. Several cases share a prompt, so it is cached."""
    return SupportChecker(documents, given=given, language=ENGLISH)


class Case(NamedTuple):
    """A sentence as a model wrote it, and the prompt that it was written from."""

    name: str
    group: str
    """The document that decides the half."""
    documents: tuple[Units, ...]
    given: tuple[str, ...]
    """What else the prompt gave the model, such as the question."""
    sentence: str
    citations: tuple[Citation, ...]

    @property
    def cited(self) -> list[str]:
        """Texts of the cited units."""
        places = ((self.documents[d - 1], u) for d, u in self.citations)
        return list(chain.from_iterable(units if u is None else units[u - 1 : u] for units, u in places))

    def check(self) -> Checked:
        return _checker(self.documents, self.given).check(self.sentence, self.citations)

    def features(self) -> Mapping[str, float]:
        """Return the features by name that the check's head (a logistic model) weighs."""
        return _checker(self.documents, self.given).features(self.sentence, self.cited)


class WrittenSentence(PublicModel):
    """One line of ``evaluation/support/*.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant: str
    document_id: str
    """The document that decides the half."""
    prompt: tuple[str, ...]
    """Ids of the documents that the model was given."""
    given: tuple[str, ...] = ()
    """What else it was given: the question."""
    sentence: str
    cites: tuple[tuple[int, str | None], ...]
    """Number of the document in the prompt, from 1, and the end of the unit's text; None: the whole document.
    Example: ``[[1, "Refills: up to 5, within 6 months"]]``."""
    changed: tuple[tuple[str, int, int, str], ...] = ()
    """Kind of change, start and end of the characters that are replaced, and the new ones:
    ``["negation", 33, 33, "not "]``. ``_support_values`` knows the kinds."""
    other: tuple[int, str | None] | None = None
    """Another unit, which is cited in place of the right ones. None for a sentence that was written wrong."""


@cache
def _documents(knowledge: Path) -> dict[str, Units]:
    """Return the units of each document of a folder by its id, each as title, heading and text in lines, as a
    prompt has them."""
    documents: dict[str, Units] = {}
    for item in read_sources([knowledge]):
        if isinstance(item, SourceDocument):
            title = item.document.title
            documents[item.document.document_id] = tuple(
                "\n".join(
                    (
                        title,
                        "" if unit.heading == title else unit.heading.removeprefix(f"{title} > "),
                        unit.text,
                    )
                )
                for unit in parse_document(item.document).units
            )
    return documents


def _nearest(text: str, units: Units) -> int:
    """Return the number, from 1, of the unit that ends with ``text``; of the most similar one by shared word
    stems where the document has changed since."""
    stems = ENGLISH.content_stems(text)
    shared = [(unit.endswith(text), len(stems & ENGLISH.content_stems(unit))) for unit in units]
    return shared.index(max(shared)) + 1


def support_cases(paths: Iterable[Path], *, knowledge: Path) -> Iterator[tuple[str, Case]]:
    """Yield every sentence to be checked after its kind: "right" or "wrong by hand" as it was written, then
    one for each change, and "other unit cited".

    ``knowledge``: the folder of the tenants' documents. Raises ConfigurationError naming file and line.
    """
    for line in chain.from_iterable(load_rows(path, WrittenSentence) for path in paths):
        units_of = _documents(knowledge / line.tenant)
        documents = tuple(units_of[name] for name in line.prompt)

        def place(number: int, text: str | None, documents: tuple[Units, ...] = documents) -> Citation:
            return number, None if text is None else _nearest(text, documents[number - 1])

        cites = tuple(place(*cite) for cite in line.cites)
        case = Case(line.id, line.document_id, documents, line.given, line.sentence, cites)
        yield "wrong by hand" if line.other is None else "right", case
        for kind, start, end, new_text in line.changed:
            yield kind, case._replace(sentence=line.sentence[:start] + new_text + line.sentence[end:])
        if line.other is not None:
            yield "other unit cited", case._replace(citations=(place(*line.other),))


async def _support(_services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Check the sentences of ``support_cases``; each counts under the document that it is about."""
    judged: list[Judged] = []
    for number, (kind, case) in enumerate(support_cases(paths, knowledge=paths[0].parents[2] / "knowledge")):
        result = case.check()
        values = _support_values(kind, result)
        miss = "" if all(values.values()) else f"{kind}: {result} | {case.sentence} | {case.cited}"
        judged.append(Judged(f"{case.name} {number}", case.group, values, miss))
    return judged


def _support_values(kind: str, result: Checked) -> dict[str, float]:
    """Return the values of a sentence of a kind: what its check should say, as 1.0 or 0.0."""
    is_shown, is_supported = result.detail != "withheld", result.support is Support.SUPPORTED
    match kind:
        case "right":
            return {"right: shown": float(is_shown), "right: supported": float(is_supported)}
        case "value from elsewhere" | "name from elsewhere":
            return {f"{kind}: withheld": float(not is_shown)}
        case "negation" | "condition":
            return {"negation or condition: not supported": float(not is_supported)}
        case _:
            return {f"{kind}: not supported": float(not is_supported)}


# --- trials by name ---------------------------------------------------------------------------------------


async def _routing(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    routing = RoutingTrial(services)
    await routing.load()
    return [await routing.ask(row) for path in paths for row in load_rows(path, RoutedQuestion)]


_OF_THE_CORE: Mapping[str, Trial] = {
    "red_flags": _red_flags,
    "live": ask_elements,
    "written_live": partial(ask_elements, writes=True),
    "chats": _chats,
    "routing": _routing,
    "support": _support,
}


def trial_named(run: str) -> Trial:
    """Return the trial of a figure's ``run``. Raises ConfigurationError for a name that none has."""
    for trials in (_OF_THE_CORE, *(option.trials() for option in installed())):
        if run in trials:
            return trials[run]
    raise ConfigurationError(f'run = "{run}": there is no such trial. Correct evaluation/figures.toml.')
