"""Measures the support check, and fits its head: right sentences, and the same sentences made wrong.

    python -m tools.measure_support [--recorded TENANT ...] [--fit] [--show KIND]

Right sentences are those of evaluation/support (by hand), and those of the right answers of
evaluation/recorded, whose prompts the local stack makes again. Each is checked as it stands and with one
thing changed. ``--fit`` also fits the head on the tuning half of the documents and prints its weights.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assistant.answering.support import WEIGHTS, Checked, SupportChecker
from assistant.cli.evaluate import open_services
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal
from assistant.domain.answers import Support
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.fitting import fit_logistic
from assistant.evaluation.judging import holds_all, normal
from assistant.evaluation.questions import load_questions
from assistant.evaluation.written import WrittenAnswers, WrittenModel
from assistant.knowledge.files import SourceDocument, read_sources
from assistant.knowledge.parsing import parse_document
from assistant.recorded_model import prompt_sha256, read_recording
from assistant.text.language import language, split_sentences

ENGLISH = language("en")
_EVALUATION = Path("evaluation")
_OTHERS = 3
"""Documents of a prompt beside the one that the sentence is about: those that share most words with it."""
_PULL = 5.0
_RESULTS = ("supported", "check", "withheld")

Units = tuple[str, ...]
Citation = tuple[int, int | None]


class Case(NamedTuple):
    """A sentence as a model wrote it, and the prompt that it was written from."""

    name: str
    group: str
    """The document that decides the half."""
    documents: tuple[Units, ...]
    given: tuple[str, ...]
    sentence: str
    citations: tuple[Citation, ...]

    @property
    def is_held_out(self) -> bool:
        return int(hashlib.sha256(self.group.encode()).hexdigest(), 16) % 2 == 1

    @property
    def cited(self) -> list[str]:
        places = ((self.documents[d - 1], u) for d, u in self.citations)
        return list(chain.from_iterable(units if u is None else units[u - 1 : u] for units, u in places))


# Cases


@cache
def _documents(tenant: str) -> dict[str, Units]:
    """Return the units of each document with title and headings, as a prompt has them."""
    found = [
        item.document
        for item in read_sources([Path("knowledge") / tenant])
        if isinstance(item, SourceDocument)
    ]
    return {
        document.document_id: tuple(
            "\n".join(filter(None, (document.title, unit.heading, unit.text)))
            for unit in parse_document(document).units
        )
        for document in found
    }


@cache
def _stems(tenant: str) -> dict[str, frozenset[str]]:
    return {name: ENGLISH.content_stems(" ".join(units)) for name, units in _documents(tenant).items()}


@cache
def _prompt(tenant: str, document_id: str) -> tuple[Units, ...]:
    stems = _stems(tenant)
    others = sorted(
        (name for name in stems if name != document_id),
        key=lambda name: (-len(stems[name] & stems[document_id]) / len(stems[name]) ** 0.5, name),
    )
    return tuple(_documents(tenant)[name] for name in (document_id, *others[:_OTHERS]))


def by_hand(name: str) -> list[Case]:
    """Return the cases of a file of evaluation/support."""
    lines = (_EVALUATION / "support" / name).read_text(encoding="utf-8").splitlines()
    return [_case(json.loads(line)) for line in lines]


def _case(fields: dict[str, Any]) -> Case:
    documents = _prompt(fields["tenant"], fields["document_id"])
    wanted = fields["units"] if "units" in fields else [fields["unit"]]
    cited = [(1, _nearest(text, documents[0])) for text in wanted] or [(1, None)]
    sentence = fields["sentence"] if "sentence" in fields else fields["claim"]
    return Case(fields["id"], fields["document_id"], documents, (), sentence, tuple(cited))


def _nearest(text: str, units: Units) -> int:
    """Return the number of the unit with a text; of the likest one where the document has changed since."""
    stems = ENGLISH.content_stems(text)
    shared = [(unit.endswith(text), len(stems & ENGLISH.content_stems(unit))) for unit in units]
    return shared.index(max(shared)) + 1


_MARKERS = re.compile(r"\[([\d.,;\s]+)\]")


async def recorded(runtime: LocalRuntime, ports: Mapping[str, int], tenant: str) -> list[Case]:
    """Return the sentences of a tenant's recorded answers that hold every string of the right answer.

    The answer path makes each prompt again. Raises ConfigurationError where one is not that of the recording.
    """
    lines = read_recording([_EVALUATION / "recorded" / f"{tenant}.jsonl"])
    questions = {one.qid: one for one in load_questions(_EVALUATION / f"{tenant}.jsonl")}
    cases: list[Case] = []
    async with open_services(runtime, ports, [tenant]) as services:
        written = WrittenAnswers(services[tenant], WrittenModel.of_recording(lines))
        for line in (one for one in lines if one.task == "answer"):
            question = questions[line.id]
            before = questions[question.after].question if question.after else None
            prepared = await written.prepare(question, before=before)
            prompt = prepared.prompt
            if prompt is None or prompt_sha256(prompt.messages) != line.prompt_sha256:
                raise ConfigurationError(
                    f"{line.id}: its prompt has changed since the recording. Record again."
                )
            if question.answerable and holds_all(normal(line.answer), question.answer_contains):
                documents = tuple(one.unit_texts for one in prompt.documents)
                cases += cited_sentences(
                    Case(line.id, question.document, documents, prepared.given, line.answer, ())
                )
    return cases


def cited_sentences(answer: Case) -> Iterator[Case]:
    """Yield the sentences of a whole answer that cite units, as a model writes it: [2.4] or [2]."""
    for span in split_sentences(answer.sentence):
        places = [place for found in _MARKERS.findall(span.text) for place in re.split(r"[,;]\s*", found)]
        if places:
            yield answer._replace(
                name=f"{answer.name}@{span.start}",
                sentence=_MARKERS.sub("", span.text),
                citations=tuple(map(_place, places)),
            )


def _place(marker: str) -> Citation:
    document, _, unit = marker.strip().partition(".")
    return int(document), int(unit) if unit else None


# Swaps. Their words are not the checker's: each stands for what a model may get wrong.


_NUMBER = re.compile(r"(?<![\w.,-])[1-9][\d,.]*(?<![,.])(?![\w-]|\.\d)")
_INNER_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")


@cache
def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


@cache
def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in _INNER_NAME.findall(text) if not ENGLISH.is_common(name.lower()))


def swaps(case: Case, *, elsewhere: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) with one thing changed. ``elsewhere``: texts of documents of other prompts."""
    chance = random.Random(case.name)  # noqa: S311 - a seeded choice, no secret
    prompt = "\n".join(chain(case.given, *case.documents))
    here = "\n".join(case.documents[case.citations[0][0] - 1])
    spoken = _numbers(case.sentence)
    item = re.match(r"\s*\d+\. ", case.sentence)
    for kind, texts in (("value from elsewhere", elsewhere), ("value of the document", (here,))):
        held = _numbers(prompt) if texts != (here,) else frozenset[str]()
        numbers = sorted(frozenset[str]().union(*map(_numbers, texts)) - held - spoken)
        found = list(_NUMBER.finditer(case.sentence, item.end() if item else 0))
        if found and numbers:
            yield kind, _replaced(case.sentence, chance.choice(found), chance.choice(numbers))
    names = [
        found for found in _INNER_NAME.finditer(case.sentence) if not ENGLISH.is_common(found[0].lower())
    ]
    others = sorted(
        name for name in frozenset[str]().union(*map(_names, elsewhere)) if name.lower() not in prompt.lower()
    )
    if names and others:
        yield "name from elsewhere", _replaced(case.sentence, chance.choice(names), chance.choice(others))
    for kind, changes in (("negation", _NEGATION), ("condition", _CONDITION)):
        made = [
            _replaced(case.sentence, found, found.expand(by))
            for pattern, by in changes
            for found in [re.search(pattern, case.sentence)]
            if found
        ]
        dropped = made if kind == "condition" else made[:1]
        for sentence in chance.sample(dropped, min(2, len(dropped))):
            yield kind, sentence[:1].upper() + sentence[1:]


def _replaced(sentence: str, found: re.Match[str], by: str) -> str:
    return sentence[: found.start()] + by + sentence[found.end() :]


_NEGATION: Sequence[tuple[str, str]] = (
    (r"\b([Cc]an|[Cc]ould|[Dd]oe?s?|[Ii]s|[Aa]re|[Ss]hould|[Mm]ust|[Ww]ill|[Hh]as)(?:n't| ?not)\b", r"\1"),
    (r"\b[Dd]on't\b ?", ""),
    (r"\b(?:[Cc]an't)\b", "can"),
    (r"\b[Nn]ever\b", "always"),
    (r"\b[Nn]either (.+?) nor\b", r"both \1 and"),
    (r"\bnot(?! (?:only|just))\b ?", ""),
    (r"\bwithout\b", "with"),
    (r"\b[Nn]o (?!more|later|less)", "a "),
    (
        r"\b([Cc]an|[Cc]ould|[Mm]ust|[Ss]hould|[Mm]ay|[Ww]ill|[Ii]s|[Aa]re)\b(?! (?:be )?(?:only|at least))",
        r"\1 not",
    ),
    (r"\b(?:has|have) to\b", "does not have to"),
    (r"\b(requires?|needs?|covers?|pays?|allows?|costs?|takes?)\b", r"does not \1"),
    (
        r"\A(Call|Send|Use|Ask|Tell|Check|Transfer|Complete|Let|Give|Get|Have|Escalate|Aim|Bill|Phone)\b",
        r"Do not \1",
    ),
)
_CONDITION: Sequence[tuple[str, str]] = (
    (r"\b([Ii])f\b", r"unless"),
    (r"\b[Uu]nless\b", "if"),
    (r"\b[Bb]efore\b", "after"),
    (r"\b[Aa]fter\b", "before"),
    (r"\b[Uu]ntil\b", "after"),
    (r"\b[Aa]t least\b|\ba minimum of\b", "at most"),
    (r"\bat most\b|\bup to\b|\bno more than\b|\bno later than\b|\bwithin\b", "at least"),
    (r"\bmore than\b|\bover\b(?= \d)", "less than"),
    (r"\b(?:less|fewer|younger) than\b|\bunder\b(?= \d)", "more than"),
    (r"\b[Oo]nly ", ""),
    (r"\A(?:If|When|Once|Unless|Before|Outside|For)\b[^,;]*, ", ""),
    (r",? (?:if|when|unless|until|once|before|except|after)\b[^,.;]*(?=[,.;])", ""),
)  # fmt: skip


# Figures


def samples(cases: Sequence[Case]) -> Iterator[tuple[str, Case]]:
    """Yield every sentence to be checked by its kind: "right", each swap, and one that cites another unit."""
    texts = {case.group: "\n".join(chain.from_iterable(case.documents)) for case in cases}
    for case in cases:
        yield "right", case
        elsewhere = [text for group, text in texts.items() if group != case.group]
        for kind, sentence in swaps(case, elsewhere=elsewhere):
            yield kind, case._replace(sentence=sentence)
        units = case.documents[case.citations[0][0] - 1]
        chance = random.Random(case.name)  # noqa: S311 - a seeded choice, no secret
        yield (
            "other unit cited",
            case._replace(citations=((case.citations[0][0], chance.randint(1, len(units))),)),
        )


@cache
def _checker(documents: tuple[Units, ...], given: tuple[str, ...]) -> SupportChecker:
    return SupportChecker(documents, given=given, language=ENGLISH)


def checked(case: Case) -> Checked:
    return _checker(case.documents, case.given).check(case.sentence, case.citations)


def fit(rows: Sequence[tuple[str, Case]]) -> tuple[dict[str, float], float]:
    """Return weights by feature, and the bias, from the samples that no rule above the head decides. Right
    and wrong samples count alike."""
    names = [name for weights in WEIGHTS.values() for name in weights]
    samples_of: dict[bool, list[list[float]]] = {True: [], False: []}
    for kind, case in rows:
        result = checked(case)
        if set(result.reasons) & {"foreign_value", "value_not_cited", "no_citation"}:
            continue
        found = _checker(case.documents, case.given).features(case.sentence, case.cited)
        samples_of[kind == "right"].append([found.get(name, 0.0) for name in names])
    penalty = _PULL / (2 * sum(map(len, samples_of.values())))
    most = max(map(len, samples_of.values()))
    right, wrong = ([rows[at % len(rows)] for at in range(most)] for rows in samples_of.values())
    labels = [True] * most + [False] * most
    weights, bias = fit_logistic(np.array(right + wrong), labels, penalty=penalty)
    return dict(zip(names, weights, strict=True)), bias


def show(rows: Sequence[tuple[str, Case]], *, misses_of: str | None) -> None:
    """Print the figures of both halves; the misses of one kind, of the tuning half only."""
    counts: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for kind, case in rows:
        result = checked(case)
        counts[kind, case.is_held_out][result.detail or "supported"] += 1
        is_miss = (kind == "right") != (result.support is Support.SUPPORTED)
        if misses_of == kind and is_miss and not case.is_held_out:
            print(f"{result} | {case.sentence} | {case.cited}")
    for (kind, is_held_out), found in sorted(counts.items()):
        shares = ", ".join(f"{name} {100 * found[name] / found.total():.1f} %" for name in _RESULTS)
        print(f"{kind:<22}{'held out' if is_held_out else 'tuning':<10}n = {found.total():<5}{shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recorded", metavar="TENANT", nargs="*", default=[])
    parser.add_argument("--fit", action="store_true", help="print weights fitted on the tuning half")
    parser.add_argument("--show", metavar="KIND", help="print the misses of one kind; tuning half only")
    parser.add_argument("--state", type=Path, default=Path(".state"))
    parser.add_argument("--port", type=int, help="the first of the ports, where the usual ones are taken")
    options = parser.parse_args()
    rows = {"by hand": list(samples([*by_hand("sentences.jsonl"), *by_hand("paraphrases.jsonl")]))}
    rows["by hand"] += [("wrong by hand", case) for case in by_hand("wrong_claims.jsonl")]
    if options.recorded:
        stack = GlobalOptions(
            tenants_dir=Path("tenants"), state_dir=options.state, port=options.port, json=False
        )
        runtime = local_runtime(stack, Terminal())
        with runtime.processes(runtime.layout.for_loading, command="measure_support") as ports:
            for tenant in options.recorded:
                asyncio.run(load_if_empty(runtime, tenant))
                rows[f"recorded, {tenant}"] = list(samples(asyncio.run(recorded(runtime, ports, tenant))))
    if options.fit:
        weights, bias = fit([row for row in chain(*rows.values()) if not row[1].is_held_out])
        print({name: round(weight, 2) for name, weight in weights.items()}, round(bias, 2))
    for source, of_source in rows.items():
        print(f"{source}:")
        show(of_source, misses_of=options.show)


if __name__ == "__main__":
    main()
