"""``make fit``: learns the shipped weights files from the tuning halves of the committed questions.

    python -m tools.fit_weights [ranking|red_flags|chat|HEAD] [--state DIR]

*ranking* fits ranker, units and the head of readings. It asks the questions twice: with the present weights,
and with the new ranker and the new weights of units. The head of readings is fitted on the vectors of the
same questions and of the shop's. *red_flags* and *chat* fit the heads of red flags and of what asks, HEAD
the sign of doubt (``near``) or one that an option brings (``live``).
``git checkout assistant/answer/weights`` restores the files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib.resources import as_file, files
from itertools import chain
from math import log
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from assistant.answer.heads import (
    ChatWeights,
    ReadingWeights,
    TextHead,
    asking_counts,
    question_counts,
)
from assistant.answer.red_flags import FlagWeights, ordinary_messages, pieces
from assistant.answer.scores import (
    INDEX_FEATURES,
    UNIT_FEATURES,
    Kind,
    WeightsFile,
    shipped_weights,
    standardised,
)
from assistant.answer.section import NEAR_FEATURES, PartQuote
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.errors import AssistantError
from assistant.evaluation.estimator import Estimator, Floats, Lists
from assistant.evaluation.judging import Observed, Observer, is_gold
from assistant.evaluation.nearest import near_rows
from assistant.evaluation.questions import EvaluationQuestion, load_questions, load_rows
from assistant.evaluation.routing import RoutedQuestion
from assistant.evaluation.trials import (
    FlaggedMessage,
    Head,
    LiveQuestion,
    Said,
    WrittenChat,
    embedded,
)
from assistant.option import joined
from assistant.terminal.loading import load_if_empty
from assistant.terminal.local import LocalRuntime, committed, local_runtime, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal, plain
from assistant.text.language import split_sentences
from tools.fit_red_flags import Message, fit

DECIMALS = 4
"""Of weights in the files."""
PENALTY: Mapping[Kind, float] = {
    "ranker": 0.01,
    "units": 0.02,
    "unit_vectors": 0.02,
    "reranker": 0.01,
    "reranker_vectors": 0.01,
}
"""Strength of the L2 penalty, for each list, by kind of weights."""
_STEPS = 3_000
_SHOP_KINDS = ("fact", "comparison", "recommendation", "opinion", "order")
"""Of the shop's questions: an order's ask for live data."""
_HEAD_SCALE = 3.0
"""Factor of a unit-length vector beside the counts, so that one penalty suits both."""
_HEAD_PENALTY = 0.001
_LEANING = 0.2
"""Of the questions that are asked after another, the share that is taken to lean on it."""
_RULES_EVERY = 3
"""Each third answerable question of a tenant is an example that asks for none."""
_TENANTS = ("pharmacy", "clinic")
_MOST_READ = 40
"""Sentences of a chat."""
_CHAT_SCALES = 1.2, 1.4
"""Factors of a vector and of counts beside it, chosen by leaving one of five writers out."""


# Fitting: listwise softmax for documents and units, logistic regression for the heads. Of the candidates of
# one question the right ones should take the most probability; an L2 penalty on standardised features keeps
# some 300 questions from overfitting. The scale is folded into the weights, so that a weight
# in a file multiplies the feature as it is.


Candidates = list[tuple[Mapping[str, float], bool]]
"""Features of each candidate of a list, and whether it is right."""


class Choice(NamedTuple):
    """One list to choose from: a row of features for each candidate, and which rows are right."""

    rows: Floats
    right: tuple[int, ...]


def fit_listwise(choices: Sequence[Choice], *, penalty: float) -> list[float]:
    """Return the weights, one for each feature, that make the right rows of each list likely, all right rows
    alike."""
    scale = _scale(np.concatenate([choice.rows for choice in choices]))
    lengths = [len(choice.rows) for choice in choices]
    rows = np.zeros((len(choices), max(lengths), len(scale)))
    labels = np.zeros(rows.shape[:2])
    for index, choice in enumerate(choices):
        rows[index, : lengths[index]] = choice.rows / scale
        labels[index, list(choice.right)] = 1 / len(choice.right)
    is_there = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return (_fitted(Lists(rows, is_there), labels, pull=2 * penalty * len(rows)) / scale).tolist()


def fit_logistic(
    rows: Floats, labels: Sequence[bool], *, penalty: float, standardise: bool = True
) -> tuple[list[float], float]:
    """Return weights, shape (features,), and bias of a logistic model.

    It is fitted as a choice from a list of two, a row of zeros and the row itself: the probability of the
    second is logistic. The bias is a last column of 1 without penalty.
    """
    mean, scale = rows.mean(axis=0), _scale(rows)
    if not standardise:
        mean, scale = np.zeros_like(mean), np.ones_like(scale)
    scaled = np.hstack([(rows - mean) / scale, np.ones((len(rows), 1))])
    lists = Lists(np.stack([np.zeros_like(scaled), scaled], axis=1), np.ones((len(rows), 2), bool))
    pull = np.full(scaled.shape[1], 2 * penalty * len(rows))
    pull[-1] = 0.0
    is_right = np.array(labels, float)
    weights = _fitted(lists, np.stack([1 - is_right, is_right], axis=1), pull=pull)
    folded = weights[:-1] / scale
    return folded.tolist(), float(weights[-1] - folded @ mean)


def _fitted(lists: Lists, labels: Floats, *, pull: Floats | float) -> Floats:
    return Estimator(pull, steps=_STEPS).fit(lists, labels)


def _scale(rows: Floats) -> Floats:
    """Return the standard deviation of each feature; 1 for a constant one."""
    deviation = rows.std(axis=0)
    deviation[deviation < 1e-9] = 1.0
    return deviation


def ranker_choices(observed: Iterable[Observed]) -> list[Choice]:
    """Return a list for each search: its candidates with standardised features; right: documents of the
    question."""
    lists: list[Candidates] = []
    for question, part in _answerable(observed):
        by_id = {candidate.document_id: candidate.features for candidate in part.finding.order}
        known = {key: {name: of[name] for name in INDEX_FEATURES if name in of} for key, of in by_id.items()}
        standard = standardised(known, INDEX_FEATURES)
        lists.append([(standard[name], name in question.documents) for name in known])
    return _choices(lists, INDEX_FEATURES)


def unit_choices(observed: Iterable[Observed], names: Sequence[str]) -> list[Choice]:
    """Return a list for each right document that was read: its units; right: those with the question's gold
    text."""
    lists: list[Candidates] = [
        [
            (dict(zip(UNIT_FEATURES, one.features, strict=False)), is_gold(one.unit.text, question.gold))
            for one in units.get(name, ())  # the last value of ``features`` stands for the bias
        ]
        for question, part in _answerable(observed)
        for units in [part.finding.scored]
        for name in question.documents
    ]
    return _choices(lists, names)


def document_choices(observed: Iterable[Observed], names: Sequence[str]) -> list[Choice]:
    """Return a list for each search: the documents that were ranked again (they have the feature
    ``index``)."""
    lists = [
        [
            (candidate.features, candidate.document_id in question.documents)
            for candidate in part.finding.order
            if "index" in candidate.features
        ]
        for question, part in _answerable(observed)
    ]
    return _choices(lists, names)


def _choices(lists: Iterable[Candidates], names: Sequence[str]) -> list[Choice]:
    """Return the lists with at least one right candidate and at least two candidates, as rows of the features
    ``names`` (0 for a missing one)."""
    return [
        Choice(np.array([[of.get(name, 0.0) for name in names] for of, _ in candidates], float), right)
        for candidates in lists
        if (right := tuple(at for at, (_, is_right) in enumerate(candidates) if is_right))
        and len(candidates) > 1
    ]


def weights_file(
    kind: Kind, names: Sequence[str], values: Sequence[float], *, fitted_on: str, bias: float = 0.0
) -> bytes:
    """Return the bytes of a weights file, with four decimals. ``+ 0.0`` turns -0.0 into 0.0."""
    content = WeightsFile(
        kind=kind,
        features={name: round(value, DECIMALS) + 0.0 for name, value in zip(names, values, strict=True)},
        bias=round(bias, DECIMALS) + 0.0,
        fitted_on=fitted_on,
    )
    return (json.dumps(content.model_dump(exclude={"documents"}), indent=1) + "\n").encode()


def _answerable(observed: Iterable[Observed]) -> Iterable[tuple[EvaluationQuestion, PartQuote]]:
    """Yield each answerable question with what each search would quote that was made for it."""
    for observation in observed:
        if observation.question.answerable:
            for part in observation.plan.quote.parts:
                yield observation.question, part


# Fits


class _RankingFit:
    """Fits the files of ``ranking`` by the questions of all tenants, and writes them into ``folder``."""

    def __init__(self, runtime: LocalRuntime, folder: Path) -> None:
        questions = committed(runtime.options)
        self._runtime, self._folder, self._folder_of_questions = runtime, folder, questions
        paths = {name: questions / f"{name}.jsonl" for name in _TENANTS}
        self._questions = {tenant: load_questions(path) for tenant, path in paths.items()}
        self._fitted_on = f"tuning halves of {_hashes(paths.values())}"
        self._shop = questions / "shop" / "tuning.jsonl"

    async def run(self, services: Mapping[str, TenantServices]) -> None:
        """Fit and write. Order matters: a written file is what later questions are asked with
        (``_write``)."""
        observed = await self._ask(services, "as the weights are")
        self._listwise("ranker", ranker_choices(observed), list(INDEX_FEATURES))
        for kind in ("units", "unit_vectors"):
            names = list(shipped_weights(kind).features)
            self._listwise(kind, unit_choices(observed, names), names)
        observed = await self._ask(services, "with new units")
        for kind in ("unit_vectors", "reranker", "reranker_vectors"):
            names = list(shipped_weights(kind).features)
            choices = unit_choices if kind == "unit_vectors" else document_choices
            self._listwise(kind, choices(observed, names), names)
        await self._fit_head(next(iter(services.values())))

    def _listwise(self, kind: Kind, choices: Sequence[Choice], names: Sequence[str]) -> None:
        values = fit_listwise(choices, penalty=PENALTY[kind])
        _write(self._folder, kind, weights_file(kind, names, values, fitted_on=self._fitted_on))

    async def _fit_head(self, services: TenantServices) -> None:
        """Fit and write the head of readings: whether a question leans on the one before it, and whether it
        asks for live data."""
        rules = [
            question.question
            for listed in self._questions.values()
            for question in listed
            if question.split == "tuning" and question.answerable
        ][::_RULES_EVERY]
        of_shop = [row for row in load_rows(self._shop, RoutedQuestion) if row.kind in _SHOP_KINDS]
        vectors = await _vectors(services, [*(row.question for row in of_shop), *rules])
        asks_live = [*(row.kind == "order" for row in of_shop), *(False for _ in rules)]
        reading = ReadingWeights(
            embedding_model=services.tenant.embedding.model,
            fitted_on=f"{self._fitted_on}, short, shop and live",
            leans=await fit_leaning(services, leaning_examples(self._folder_of_questions)),
            live=text_head(vectors, np.zeros((len(vectors), 0)), asks_live),
        )
        (self._folder / "reading.json").write_text(reading.model_dump_json() + "\n", encoding="utf-8")

    async def _ask(self, services: Mapping[str, TenantServices], when: str) -> list[Observed]:
        """Ask the questions of the tuning halves with the current files. ``when`` is for the progress
        line."""
        observed: list[Observed] = []
        for tenant, listed in self._questions.items():
            observer = Observer(services[tenant])
            questions = [
                question for question in listed if question.split == "tuning" and question.after is None
            ]
            await observer.check(questions)
            with self._runtime.terminal.counting(f"{when}: {tenant}", "questions") as show:
                for question in questions:
                    observed.append(await observer.ask(question))
                    show(len(observed), len(questions))
        return observed


def _write(folder: Path, kind: Kind, raw: bytes) -> None:
    """Write a weights file, and forget the loaded ones, so that the next question uses it."""
    (folder / f"{kind}.json").write_bytes(raw)
    shipped_weights.cache_clear()


def text_head(
    vectors: np.ndarray,
    counts: np.ndarray,
    labels: Sequence[bool],
    *,
    scales: tuple[float, float] = (_HEAD_SCALE, 1.0),
    penalty: float = _HEAD_PENALTY,
    more: float = 0.0,
) -> TextHead:
    """Return a head over vectors and counts, a row for each label.

    ``scales``: factors of vectors and of counts in the fit; they are folded into the weights. The dimensions
    of a vector have equal scales, so nothing is standardised. ``more``: is added to the bias.
    """
    rows = np.hstack([scales[0] * vectors, scales[1] * counts])
    weights, bias = fit_logistic(rows, labels, penalty=penalty, standardise=False)
    vector, of_counts = np.split(np.array(weights), [vectors.shape[1]])
    return TextHead(
        bias=round(bias + more, DECIMALS),
        counts=tuple((scales[1] * of_counts).round(DECIMALS).tolist()),
        vector=tuple((scales[0] * vector).round(3).tolist()),
    )


def leaning_examples(questions: Path) -> dict[str, bool]:
    """Return questions of the tuning halves and files, and whether each leans on the one before it."""
    paths = [questions / folder / f"{tenant}.jsonl" for folder in ("", "short") for tenant in _TENANTS]
    tuning = [row for path in paths for row in load_questions(path) if row.split == "tuning"]
    shop = load_rows(questions / "shop" / "tuning.jsonl", RoutedQuestion)
    live = load_rows(questions / "live" / "tuning.jsonl", LiveQuestion)
    leans = {row.question: row.kind == "follow_up" for row in tuning}
    leans |= {row.question: False for row in shop}
    return leans | {row.question: row.before is not None for row in live}


async def fit_leaning(services: TenantServices, examples: Mapping[str, bool]) -> TextHead:
    """Return the head that tells which questions lean. Few of the examples do: the bias is moved to the share
    of a conversation (``_LEANING``)."""
    vocabulary = Vocabulary.of(services.tenant)
    counts = np.array([question_counts(question, vocabulary) for question in examples])
    share = sum(examples.values()) / len(examples)
    more = log(_LEANING / (1 - _LEANING)) - log(share / (1 - share))
    vectors = await _vectors(services, list(examples))
    return text_head(vectors, counts, list(examples.values()), more=more)


async def _vectors(services: TenantServices, texts: Sequence[str]) -> np.ndarray:
    """Return the vectors of texts, shape (texts, dimensions); a repeated text is embedded once."""
    vectors = await embedded(services.embedder, list(dict.fromkeys(texts)), clock=services.clock)
    return np.array([vectors[text] for text in texts])


def flag_messages(questions: Path) -> list[Message]:
    """Return what red flags learn from: our messages, the questions of the tuning halves as ordinary ones,
    and the messages of eight of the writers; the other four test (evaluation/red_flags/README.md). Of equal
    texts the first counts."""
    folder = questions / "red_flags"
    read_messages = partial(load_rows, form=FlaggedMessage, key="message")
    paths = [questions / folder / f"{tenant}.jsonl" for folder in ("", "short") for tenant in _TENANTS]
    tuning = [row for path in paths for row in load_questions(path) if row.split == "tuning"]
    live = [
        row.question
        for name in ("tuning", "chat")
        for row in load_rows(questions / "live" / f"{name}.jsonl", LiveQuestion)
    ]
    messages = [Message(row.message, row.flag, "") for row in read_messages(folder / "training.jsonl")]
    more = (folder / "ordinary_messages.txt").read_text(encoding="utf-8").splitlines()
    texts = (*ordinary_messages(), *more, *(row.question for row in tuning), *live)
    messages += [Message(text, None, "") for text in texts]
    for writer in ("1", "2", "5", "6", "7", "8", "11", "12"):
        messages += [
            Message(row.message, row.flag, writer)
            for row in read_messages(folder / f"writer_{writer}.jsonl")
            if row.setting not in ("spanish", "own_flag")
        ]
    return list({message.text: message for message in reversed(messages)}.values())


async def _fitted_flags(services: TenantServices, questions: Path) -> FlagWeights:
    messages = flag_messages(questions)
    texts = dict.fromkeys(chain.from_iterable(pieces(message.text) for message in messages))
    vectors = await embedded(services.embedder, list(texts), clock=services.clock)
    return await asyncio.to_thread(
        fit,
        messages,
        lambda texts: np.array([vectors[text] for text in texts]),
        names=[entry.name for entry in services.tenant.red_flags],
        model=services.tenant.embedding.model,
    )


async def fit_chat(services: TenantServices, questions: Path) -> ChatWeights:
    """Return ``chat.json``, fitted on the chats of ``tuning_*.jsonl``."""
    paths = sorted((questions / "chats").glob("tuning_*.jsonl"))
    chats = [chat for path in paths for chat in load_rows(path, WrittenChat)]
    sentences = [row for chat in chats for row in said_sentences(chat.turns)]
    open_sentences = [chat.asks(text) for chat in chats for text, _ in said_sentences(chat.turns)]
    vectors = await embedded(
        services.embedder, list(dict.fromkeys(text for text, _ in sentences)), clock=services.clock
    )
    asks = text_head(
        np.array([vectors[text] for text, _ in sentences]),
        np.array([counts for _, counts in sentences]),
        open_sentences,
        scales=_CHAT_SCALES,
        penalty=0.5 / len(sentences),
    )
    return ChatWeights(
        embedding_model=services.tenant.embedding.model,
        fitted_on=_hashes(paths),
        asks=_alone(asks),
    )


def said_sentences(said: Sequence[Said]) -> list[tuple[str, tuple[float, ...]]]:
    """Return the customer's sentences in a chat, the last _MOST_READ: each with ``asking_counts``, then those
    of its place in the chat."""
    sentences = list[tuple[str, tuple[float, ...]]]()
    by_customer = [at for at, message in enumerate(said) if message.who == "customer"]
    by_agent = [at for at, message in enumerate(said) if message.who == "agent"]
    for at in by_customer:
        before = max((other for other in (*by_customer, *by_agent) if other < at), default=None)
        after = min((other for other in (*by_customer, *by_agent) if other > at), default=None)
        texts = [text for span in split_sentences(said[at].text) if (text := span.text.strip())]
        for text in texts or [said[at].text]:
            answers = sum(other > at for other in by_agent)
            place = (
                at == by_customer[0],
                after is None,
                at == by_customer[-1] and text == (texts or [""])[-1],  # the customer's last sentence
                sum(other > at for other in by_customer) / 5,  # messages of the customer after it
                answers / 3,  # messages of the agent after it
                answers > 0,
                after in by_agent,
                before in by_agent,
            )
            sentences.append((text, (*asking_counts(text), *map(float, place))))
    return sentences[-_MOST_READ:]


_ALONE = 3
"""Of the counts of a place, the first: they are 1 for a lone sentence, and the others 0."""


def _alone(head: TextHead) -> TextHead:
    """Return a head of ``said_sentences`` for a message of one sentence without a chat."""
    of_form = len(asking_counts(""))
    bias = round(head.bias + sum(head.counts[of_form : of_form + _ALONE]), DECIMALS)
    return TextHead(bias=bias, counts=head.counts[:of_form], vector=head.vector)


async def fit_head(head: Head, services: Mapping[str, TenantServices], questions: Path) -> bytes:
    """Return the weights file of an option's head, fitted on the rows that the option makes of its
    questions."""
    paths = [questions / path for path in head.paths]
    rows, labels = await head.rows(services, paths)
    values, bias = fit_logistic(np.array(rows), labels, penalty=head.penalty)
    return weights_file(head.kind, head.features, values, bias=bias, fitted_on=_hashes(paths))


def _hashes(paths: Iterable[Path]) -> str:
    """Return the files' names, each with 16 hex digits of its SHA-256."""
    return ", ".join(
        f"{path.parent.name}/{path.name} (SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]})"
        for path in paths
    )


async def _fit(runtime: LocalRuntime, folder: Path, what: str) -> None:
    """Fit ``what`` (an argument of the command), and write its files into ``folder``."""
    questions = committed(runtime.options)
    head = {each.kind: each for each in _heads()}.get(cast("Kind", what))
    async with open_services(runtime, _TENANTS if head is None else head.tenants) as services:
        if head is not None:
            _write(folder, head.kind, await fit_head(head, services, questions))
        elif what == "red_flags":
            weights = await _fitted_flags(services[_TENANTS[0]], questions)
            (folder / "red_flags.json").write_text(weights.model_dump_json() + "\n", encoding="utf-8")
        elif what == "chat":
            fitted = await fit_chat(services[_TENANTS[0]], questions)
            (folder / "chat.json").write_text(fitted.model_dump_json() + "\n", encoding="utf-8")
        else:
            await _RankingFit(runtime, folder).run(services)


def _heads() -> list[Head]:
    near = Head(
        kind="near",
        tenants=_TENANTS,
        paths=("messages/pharmacy.jsonl", "messages/clinic.jsonl"),
        features=NEAR_FEATURES,
        penalty=0.055,
        rows=near_rows,
    )
    return [near, *joined(lambda option: option.head())]


def main() -> int:
    heads = _heads()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["ranking", "red_flags", "chat", *(head.kind for head in heads)],
        default="ranking",
    )
    parser.add_argument("--state", type=Path, default=Path(".state"), metavar="DIR")
    arguments = parser.parse_args()
    options = GlobalOptions(Path("tenants"), arguments.state, 0, json=False)
    terminal = Terminal()
    try:
        runtime = local_runtime(options, terminal)
        with (
            as_file(files("assistant.answer").joinpath("weights")) as folder,
            runtime.site(command="make fit"),
        ):
            for tenant in dict.fromkeys((*_TENANTS, *(name for head in heads for name in head.tenants))):
                asyncio.run(load_if_empty(runtime, tenant))
            asyncio.run(_fit(runtime, folder, arguments.what))
    except AssistantError as error:
        terminal.err.print(plain(f"fit: {error.message}", style="red"))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
