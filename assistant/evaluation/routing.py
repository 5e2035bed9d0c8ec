"""Questions labelled with the sources that should answer: what routing gains on them, and a router learned
from them.

``RoutingTrial`` asks a question three times of one tenant: as it is served, each source searched for itself
and weighed; the same without what options offer, such as items that the question names; and with all
documents as one merged source, as a tenant without sources is served.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import log2
from typing import Literal

import numpy as np
import orjson
from pydantic import ConfigDict, Field

from assistant.answer.answer import AnswerQuestion
from assistant.answer.excerpts import Excerpts
from assistant.answer.find import SourceList, source_ids
from assistant.answer.message import PartQuery
from assistant.answer.offers import QuotedBlock
from assistant.answer.route import Router, RouterFile, keyword_scores, question_words
from assistant.answer.section import PartQuote, section_blocks
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import KnownWordsReader
from assistant.domain.clock import Clock, Deadline
from assistant.domain.desk import DeskItem, DeskKind, ReleaseState, RouterRelease
from assistant.domain.documents import KnownWords
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.evaluation.estimator import Classes, Estimator
from assistant.evaluation.judging import holds_all, normal, quotable, quote_faults, until_whole, untraced
from assistant.evaluation.measures import Judged, figures
from assistant.stores.desk import StoredDesk
from assistant.tenant.tenant import SourceEntry, TenantConfig

RoutedKind = Literal["fact", "opinion", "comparison", "recommendation", "order", "mixed", "none"]
RANKS = 10
"""Ranks that count: nDCG at 10."""
_BEST_GRADE = 3
_DEADLINE_S = 60.0
"""Limit of one search; a question takes three."""
RIGHT_FIRST, HOLDS = "right source first", "quote holds what it must"


class RoutedQuestion(PublicModel):
    """One line of ``evaluation/<tenant>/*.jsonl``. Other fields are ignored.

    Example: kind "mixed", sources ("catalogue", "reviews"), items ("TB-200",), must ("IPX7",).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    kind: RoutedKind
    sources: tuple[str, ...]
    """Names of the sources that can answer, the one that should come first at the beginning; empty: none."""
    items: tuple[str, ...] = ()
    """Ids of the catalogue's items that it is about."""
    must: tuple[str, ...] = ()
    """Strings that a right answer holds, all of them."""
    any_of: tuple[str, ...] = ()
    """Strings of which a right answer holds at least one; empty: no such condition."""
    documents: tuple[str, ...] = ()
    """Documents that answer, the best first."""

    @property
    def group(self) -> str:
        """The first item that it is about, or itself: questions of one group are resampled together, and are
        in one fold of a cross-validation."""
        return self.items[0] if self.items else self.id


def ndcg(ranked: Sequence[str], wanted: Sequence[str]) -> float:
    """Return nDCG at 10 of ``ranked``; the first of ``wanted`` has grade 3, the second 2, all others 1.

    ``wanted`` has at least one name. Example: ranked (b, a) for wanted (a,) gives 1 / log2(3) = 0.63.
    """
    grades = {name: max(1, _BEST_GRADE - place) for place, name in enumerate(wanted)}
    gained = sum(grades.get(name, 0) / log2(rank + 2) for rank, name in enumerate(ranked[:RANKS]))
    best = sorted(grades.values(), reverse=True)[:RANKS]
    return gained / sum(grade / log2(rank + 2) for rank, grade in enumerate(best))


def first_of(scores: Mapping[str, float]) -> str | None:
    """Return the source with the highest score; of equal ones the first in ``scores``, which has the order of
    the tenant file. None without scores."""
    return max(scores, key=lambda name: scores[name], default=None)


class RoutingTrial:
    """Asks labelled questions of one tenant as it is served, and of one merged source.

    Call ``load`` once, then ``ask`` for each question.
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._sources = services.tenant.sources
        self._routed, self._alone = AnswerQuestion(services), AnswerQuestion(services)
        merged = SourceEntry(name="all", namespace="", access="everyone")
        tenant = services.tenant.model_copy(update={"sources": (merged,)})
        self._merged = AnswerQuestion(replace(services, tenant=tenant, revisions=None))
        self._alone.adaptations.offers = self._merged.adaptations.offers = ()
        items_of = source_ids(services.tenant, kind="catalogue")
        self._known_words = KnownWordsReader(services.search, clock=services.clock, items_of=items_of)

    async def load(self) -> None:
        """Load the router that is to be measured, if one is released."""
        await self._routed.adaptations.refresh()
        await self._alone.adaptations.refresh()

    async def ask(self, question: RoutedQuestion) -> Judged:
        """Return the values of one question. Raises what the search and the embedding endpoint raise."""
        known = await self._known_words.read()
        routed, skipped = await self._chosen(self._routed, question, known)
        alone, skipped_alone = await self._chosen(self._alone, question, known)
        merged, skipped_merged = await self._chosen(self._merged, question, known)
        values: dict[str, float] = {}
        if question.sources:
            values |= self._first(question, routed)
        if question.documents:
            served, by_routing, by_one = (
                ndcg(_served(part), question.documents) for part in (routed, alone, merged)
            )
            values |= {
                "nDCG@10": served,
                "nDCG@10 by routing alone": by_routing,
                "nDCG@10 of one merged index": by_one,
                "gain of routing alone over it": by_routing - by_one,
            }
        if question.must or question.any_of:
            values[HOLDS] = float(_holds(routed, question))
        if routed.is_found:
            values |= quote_faults(_quoted(routed), quotable(routed))
        if question.kind == "none":
            values["nothing answers it, and the section is only near"] = float(
                routed.is_near or not routed.is_found
            )
        is_miss = values.get(RIGHT_FIRST) == 0 or values.get(HOLDS) == 0
        miss = f"{', '.join(question.sources)}: {values} | {question.question}" if is_miss else ""
        return Judged(question.id, question.group, values, miss, (*skipped, *skipped_alone, *skipped_merged))

    def _first(self, question: RoutedQuestion, routed: PartQuote) -> dict[str, float]:
        """Return whether the right source comes first, as 0.0 or 1.0: by the router's shares, and by the
        words that are usual for each kind of source (``keyword_scores``)."""
        right = question.sources[0]
        shares = routed.finding.routing.shares if routed.finding.routing is not None else dict[str, float]()
        by_shares = first_of(shares) == right
        by_words = first_of(keyword_scores(question.question, self._sources)) == right
        return {
            RIGHT_FIRST: float(by_shares),
            "right source first, by keywords": float(by_words),
            "gain over keywords": float(by_shares) - float(by_words),
        }

    async def _chosen(
        self, answer: AnswerQuestion, question: RoutedQuestion, known: KnownWords | None
    ) -> tuple[PartQuote, tuple[str, ...]]:
        """Search as ``answer`` does; return the evidence and the steps that were left out."""
        routed = self._routed.adaptations.without_names(question.question, known=known)

        async def once() -> tuple[PartQuote, Sequence[str]]:
            call = untraced(Deadline.after(_DEADLINE_S, clock=self._services.clock))
            vectors = await answer.embed.run([question.question, routed], call)
            query = PartQuery(
                question.question,
                vectors[question.question],
                known=known,
                routed_text=routed,
                routed_vector=vectors[routed],
            )
            [finding] = await answer.find.run([query], call)
            part = await answer.quote.choose.run(finding, call)
            return part, (*finding.degraded, *part.degraded)

        return await until_whole(once)


def _served(part: PartQuote) -> list[str]:
    """Return the documents in the order in which they are served: those of an answer by itself come first."""
    shown = part.answer.documents if part.answer is not None else ()
    return list(dict.fromkeys((*shown, *(candidate.document_id for candidate in part.finding.order))))


def _holds(part: PartQuote, question: RoutedQuestion) -> bool:
    """Return whether a quote is shown that holds all of ``must`` and one of ``any_of``."""
    if not part.is_found:
        return False
    quote = normal("".join(block.before + block.text for block in _quoted(part)))
    any_of = question.any_of or ("",)
    return holds_all(quote, question.must) and any(normal(text) in quote for text in any_of)


def _quoted(part: PartQuote) -> list[QuotedBlock]:
    """Return the blocks that are quoted from the evidence."""
    cite, excerpts = SourceList().citing(part.finding), Excerpts()
    if part.answer is not None:
        return part.answer.blocks(cite, excerpts, opening="")
    return [] if part.section is None else section_blocks(part.section, cite, excerpts)


# --- learning a router ------------------------------------------------------------------------------------
#     P(source | question) = softmax over sources of bias + vector · question + Σ weights of its words
#
# The label of a question is the source that should come first. Questions are read without the names of their
# items, and words of one item's questions alone are left out: they name it. The same questions in the same
# order give the same router.
LEAST_QUESTIONS = 40
LEAST_GROUPS = 2
"""A word gets a weight if it occurs in the questions of so many groups: a word of one group alone is probably
an item's name."""
FOLDS = 5
_DECIMALS = 5
"""Decimals of the weights in the router's file."""
_PULL = 0.005
"""Strength of the pull of weights towards 0, a question: n questions pull with 0.005 n."""
_WORD_SCALE = 0.6
"""Feature of a word that occurs; the larger, the less the pull holds back the weights of words."""
_VECTOR_SCALE = 4.0
"""Factor of the question's vector, which has unit length, as a feature."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with the sources that can answer it."""

    text: str
    """The question with "it" in place of each item that it names."""
    vector: Sequence[float]
    """Embedding of ``text``, unit length, shape (dimensions,)."""
    sources: tuple[str, ...]
    """Names, the one that should come first at the beginning; never empty."""
    group: str
    """The item that it is about, or its wording: all questions of a group are in one fold, so that none is
    judged by a router that learned from another of them."""


class RoutingReport(PublicModel):
    """Result of a router's cross-validation. It is kept as JSON in ``RouterRelease.report``."""

    schema_version: int = 1
    questions: int
    of_source: dict[str, int]
    """Questions by the source that should come first."""
    right_first: float
    """Share of the questions whose first source the router puts first, each judged by a router that was
    learned without its group."""
    keywords_right_first: float
    """The same share when the words that are usual for a kind of source decide (``keyword_scores``)."""
    gain_low: float
    """Lower end of the 95 % interval of the paired difference of both, bootstrapped by question."""
    words: int
    """Distinct words of all questions."""
    refused_because: str = ""
    """Why the router may not serve; empty: it may."""


def learn(
    questions: Sequence[LabelledQuestion], *, sources: Sequence[str], embedding_model: str, fitted_on: str
) -> RouterFile:
    """Return the router that these questions teach. Raises ConfigurationError for labels that name no source.

    ``fitted_on``: a sentence for a reader of the file. The columns of the features are the bias, the vector
    and the words; they are scaled for the fit, and the scale goes into the weights afterwards.
    """
    unknown = sorted({name for question in questions for name in question.sources} - set(sources))
    if unknown:
        raise ConfigurationError(
            f"The questions name sources that the tenant does not have: {', '.join(unknown)}."
        )
    groups_by_word: defaultdict[str, set[str]] = defaultdict(set)
    for question in questions:
        for word in question_words(question.text):
            groups_by_word[word].add(question.group)
    words = sorted(word for word, names in groups_by_word.items() if len(names) >= LEAST_GROUPS)
    words_by_question = [question_words(question.text) for question in questions]
    has_word = np.array([[word in words_of for word in words] for words_of in words_by_question], float)
    vectors = np.array([question.vector for question in questions], float)
    scales = np.r_[1.0, np.full(vectors.shape[1], _VECTOR_SCALE), np.full(len(words), _WORD_SCALE)]
    features = np.hstack([np.ones((len(questions), 1)), vectors, has_word]) * scales
    labels = np.array([[name == question.sources[0] for name in sources] for question in questions], float)
    pull = np.full((len(scales), len(sources)), _PULL * len(questions))
    pull[0] = 0.0  # the bias
    fitted = Estimator(pull=pull.ravel()).fit(Classes(features, len(sources)), labels)
    weights = (fitted.reshape(-1, len(sources)) * scales[:, None]).round(_DECIMALS)
    rows: list[list[float]] = weights.tolist()
    first_word = 1 + vectors.shape[1]
    return RouterFile(
        sources=tuple(sources),
        embedding_model=embedding_model,
        bias=tuple(rows[0]),
        vector=tuple(zip(*rows[1:first_word], strict=True)),
        words={word: tuple(row) for word, row in zip(words, rows[first_word:], strict=True)},
        fitted_on=fitted_on,
    )


def router_bytes(content: RouterFile) -> bytes:
    """Return the router as JSON with sorted keys, so that equal routers have equal bytes and hashes."""
    return orjson.dumps(content.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)


def cross_validated(
    questions: Sequence[LabelledQuestion], *, sources: Sequence[SourceEntry]
) -> RoutingReport:
    """Return how often the right source comes first: by routers that have not seen a question's group, and by
    the words that are usual for each kind of source.

    One router is learned for each of ``FOLDS`` parts of the questions, from the other parts. It is refused
    unless the lower bound of its gain is above 0. Raises ConfigurationError for too few questions, or labels
    that name no source.
    """
    if len(questions) < LEAST_QUESTIONS:
        raise ConfigurationError(
            f"{len(questions)} labelled questions are too few to learn from; write {LEAST_QUESTIONS} or more."
        )
    names = [source.name for source in sources]
    folds = [int(sha256(f"0 {question.group}".encode()).hexdigest(), 16) % FOLDS for question in questions]
    routers = {
        fold: Router(
            learn(
                [question for question, other in zip(questions, folds, strict=True) if other != fold],
                sources=names,
                embedding_model="",
                fitted_on="",
            ),
            sha256="",
        )
        for fold in sorted(set(folds))
    }
    judged: list[Judged] = []
    for number, (question, fold) in enumerate(zip(questions, folds, strict=True)):
        scores = routers[fold].scores(question.text, question.vector)
        by_router = float(first_of(scores) == question.sources[0])
        by_words = float(first_of(keyword_scores(question.text, sources)) == question.sources[0])
        values = {"router": by_router, "keywords": by_words, "gain": by_router - by_words}
        judged.append(Judged(str(number), str(number), values))
    shares = figures(judged)
    return RoutingReport(
        questions=len(questions),
        of_source=dict(Counter(question.sources[0] for question in questions)),
        right_first=shares["router"].value,
        keywords_right_first=shares["keywords"].value,
        gain_low=shares["gain"].low,
        words=len({word for question in questions for word in question_words(question.text)}),
        refused_because=""
        if shares["gain"].low > 0.0
        else "it does not route better than the words of the kinds",
    )


# --- releases of routers, on the tenant's desk -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Release:
    """A router as a desk item and as what its body holds."""

    item: DeskItem
    content: RouterRelease

    @property
    def name(self) -> str:
        return self.item.item_id


class RouterReleases:
    """The routers of one tenant: desk items by number (``router-000001``, …), refused ones too. A router
    serves all conversations from its release on.

    At most one is live: ``learn_routing`` stores a new one as live, then ``replace_live`` marks the one
    before as replaced; ``roll_back`` goes back to the newest replaced one.
    """

    def __init__(self, desk: StoredDesk, *, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def all(self) -> list[Release]:
        """Return every release, newest first. Raises RecordsUnavailableError."""
        items = await self._desk.list(DeskKind.ROUTER_RELEASE)
        read = [Release(item, RouterRelease.model_validate_json(item.body)) for item in items]
        return sorted(read, key=lambda release: release.name, reverse=True)

    def next(self, known: Sequence[Release], content: RouterRelease, note: str) -> Release:
        """Return a release with the number after the highest of ``known``, not stored yet."""
        number = 1 + max((int(release.name.rpartition("-")[2]) for release in known), default=0)
        return self._revision(f"router-{number:06d}", 1, content, note)

    async def put(self, release: Release) -> Release:
        """Store a revision. Raises ConflictError where somebody else wrote it meanwhile."""
        await self._desk.put(release.item)
        return release

    async def move(self, release: Release, state: ReleaseState, note: str) -> Release:
        """Give a release another state. Raises ConflictError where somebody else moved it meanwhile."""
        content = release.content.model_copy(update={"state": state})
        return await self.put(self._revision(release.name, release.item.revision + 1, content, note))

    async def roll_back(self) -> tuple[Release, Release | None]:
        """Take the live router back, and make the newest replaced one live again.

        Return both; the second is None where there is no replaced one: then the words that are usual for each
        kind of source decide. Raises NotFoundError where no router is live.
        """
        known = await self.all()
        live, before = (
            next((release for release in known if release.content.state is state), None)
            for state in (ReleaseState.LIVE, ReleaseState.REPLACED)
        )
        if live is None:
            raise NotFoundError("No learned router serves; the words of the kinds of sources decide.")
        taken = await self.move(live, ReleaseState.ROLLED_BACK, "rolled back")
        if before is None:
            return taken, None
        note = f"brought back: {live.name} was rolled back"
        return taken, await self.move(before, ReleaseState.LIVE, note)

    async def replace_live(self, by: str) -> None:
        """Mark every live release but ``by`` as replaced, so that ``roll_back`` can bring it back."""
        for release in await self.all():
            if release.content.state is ReleaseState.LIVE and release.name != by:
                await self.move(release, ReleaseState.REPLACED, f"replaced by {by}")

    def _revision(self, name: str, revision: int, content: RouterRelease, note: str) -> Release:
        item = DeskItem(
            kind=DeskKind.ROUTER_RELEASE,
            item_id=name,
            revision=revision,
            at=self._clock.now(),
            by="learner",
            note=note[:2_000],
            body=content.model_dump_json(),
        )
        return Release(item, content)


async def learn_routing(
    tenant: TenantConfig,
    questions: Sequence[LabelledQuestion],
    releases: RouterReleases,
    *,
    questions_sha256: str,
) -> Release:
    """Learn a router, judge it by cross-validation and store it. Return the release: live, or refused.

    Raises ConfigurationError for a tenant with one source and for questions that cannot be learned from,
    ConflictError where another learner releases at the same moment.
    """
    if len(tenant.sources) < 2:
        raise ConfigurationError(f"{tenant.name} has one source: there is nothing to route.")
    content = await asyncio.to_thread(_learned, tenant, questions, questions_sha256)
    release = await releases.put(releases.next(await releases.all(), content, content_note(content)))
    if content.state is ReleaseState.LIVE:
        await releases.replace_live(by=release.name)
    return release


def _learned(
    tenant: TenantConfig, questions: Sequence[LabelledQuestion], questions_sha256: str
) -> RouterRelease:
    """Return the router of all questions with its cross-validated report. Takes seconds: run it in a
    thread."""
    report = cross_validated(questions, sources=tenant.sources)
    content = learn(
        questions,
        sources=[source.name for source in tenant.sources],
        embedding_model=tenant.embedding.model,
        fitted_on=f"{len(questions)} labelled questions of {tenant.name}, {questions_sha256[:16]}",
    )
    raw = router_bytes(content)
    return RouterRelease(
        artifact_hash=sha256(raw).hexdigest(),
        router_json=raw.decode(),
        state=ReleaseState.REFUSED if report.refused_because else ReleaseState.LIVE,
        questions=len(questions),
        questions_sha256=questions_sha256,
        seed=0,
        report=report.model_dump_json(),
    )


def routing_report_of(content: RouterRelease) -> RoutingReport:
    return RoutingReport.model_validate_json(content.report)


def content_note(content: RouterRelease) -> str:
    """Return the desk's note on a new release: its shares, and why it is refused."""
    report = routing_report_of(content)
    shares = f"right source first {report.right_first:.1%}, by keywords {report.keywords_right_first:.1%}"
    return f"{shares}; refused: {report.refused_because}" if report.refused_because else shares
