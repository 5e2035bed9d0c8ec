"""Trials of the parts around an answer: red flags and live elements; the rows of copied chats.

Each takes one tenant's opened services and files of questions, and returns a ``Judged`` for each question,
whose values have readable names: {"emergencies that raise their flag": 1.0}. ``trial_named`` finds the one of
a figure's ``run``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field

from assistant.answer.answer import AnswerQuestion
from assistant.answer.plan import Plan
from assistant.answer.red_flags import RedFlags
from assistant.answer.scores import Kind
from assistant.answer.services import TenantServices
from assistant.domain.answers import LiveMatchState
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import CareContext
from assistant.domain.live import Caller, ElementProblem, ElementType, Filled, LiveElements, LiveReadError
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import AGENT, prepare
from assistant.evaluation.measures import Judged
from assistant.evaluation.nearest import quote_messages
from assistant.evaluation.questions import load_rows
from assistant.evaluation.routing import RoutedQuestion, RoutingTrial
from assistant.option import installed
from assistant.stores.ports import TextEmbedder
from assistant.tenant.tenant import RedFlagEntry, TenantConfig

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


async def raised_by_heads(
    tenant: TenantConfig, embedder: TextEmbedder, messages: Sequence[str], *, clock: Clock
) -> list[tuple[list[str], str | None]]:
    """Return for each message the names of the flags that the heads raise, and its language where flags are
    not checked in it. Raises ConfigurationError where the flags' examples could not be embedded."""
    flags = RedFlags(tenant, embedder=embedder, clock=clock)
    await flags.load()
    if not flags.is_ready:
        raise ConfigurationError("The examples of the tenant's red flags were not embedded. Try again.")
    texts = dict.fromkeys(piece for message in messages for piece in flags.pieces(message))
    vectors = await embedded(embedder, list(texts), clock=clock)
    return [
        ([flag.name for flag in flags.raised(message, vectors)], flags.unchecked_language(message))
        for message in messages
    ]


async def raise_flags(
    tenant: TenantConfig, embedder: TextEmbedder, messages: Sequence[FlaggedMessage], *, clock: Clock
) -> list[Judged]:
    """Return which messages of independent writers raise flags of the tenant, or a notice that their language
    is not checked. Raises as ``raised_by_heads``."""
    by_heads = await raised_by_heads(tenant, embedder, [message.message for message in messages], clock=clock)
    judged: list[Judged] = []
    for message, (raised, notice) in zip(messages, by_heads, strict=True):
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

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        del name, caller, deadline
        raise LiveReadError(ElementProblem.SWITCHED_OFF, "No system is called while questions are measured.")


async def ask_elements(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Prepare each answer, and return which live elements it would read. Raises what preparing raises."""
    services = silent(services)
    answer = AnswerQuestion(services)
    await answer.adaptations.refresh()
    judged: list[Judged] = []
    for question in chain.from_iterable(load_rows(path, LiveQuestion) for path in paths):
        if question.tenant != services.tenant.name:
            continue
        plan, degraded = await prepare_live(answer, services, question)
        named = (match.element for match in plan.basis.live.matches if match.state in _READ)
        rows = judge_reads(question, list(dict.fromkeys(named)))
        judged += [replace(row, degraded=degraded) for row in rows]
    return judged


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


# --- copied chats ------------------------------------------------------------------------------------------
_LEAST_PART = 3
"""Characters of a message: texts up to this length are in others by chance."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a chat and who wrote it."""

    who: Literal["customer", "agent", "system", "note"]
    """``note``: the agent, to the assistant."""
    text: str


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


def _one_spaced(text: str) -> str:
    return " ".join(text.split()).casefold()


def _is_of(text: str, parts: Iterable[str]) -> bool:
    """Return whether a text holds one of the parts, or is itself within one."""
    flat = _one_spaced(text)
    return any(part in flat or (len(flat) > _LEAST_PART and flat in part) for part in map(_one_spaced, parts))


# --- trials by name ---------------------------------------------------------------------------------------


async def _routing(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    routing = RoutingTrial(services)
    await routing.load()
    return [await routing.ask(row) for path in paths for row in load_rows(path, RoutedQuestion)]


_OF_THE_CORE: Mapping[str, Trial] = {
    "red_flags": _red_flags,
    "live": ask_elements,
    "routing": _routing,
    "nearest": quote_messages,
}


def trial_named(run: str) -> Trial:
    """Return the trial of a figure's ``run``. Raises ConfigurationError for a name that none has."""
    for trials in (_OF_THE_CORE, *(option.trials() for option in installed())):
        if run in trials:
            return trials[run]
    raise ConfigurationError(f'run = "{run}": there is no such trial. Correct evaluation/figures.toml.')
