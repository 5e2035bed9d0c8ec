"""Measures red flags: how many emergencies raise one, and how many ordinary questions do.

    python -m tools.measure_red_flags [evaluation/red_flags/tuning.jsonl] [--split tuning] [--fit]

It embeds by the packaged model in this process. ``--fit`` first writes the head that the service ships,
from ``evaluation/red_flags/training.jsonl`` and the ordinary messages (some minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from pydantic import Field

from assistant.answering.red_flags import Head, RedFlags, ShippedHead, ordinary_messages, shipped_head
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.public import PublicModel
from assistant.evaluation.questions import Split, draw, load_questions
from assistant.settings.tenant import load_tenant
from tools.measure_approved import Embed, embedder

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "evaluation" / "red_flags" / "held_out.jsonl"
_TRAINING = HELD_OUT.with_name("training.jsonl")
_SHIPPED = ROOT / "assistant" / "answering" / "weights" / "red_flags.json"
_TENANTS = ("pharmacy", "clinic")
_SHORT = ROOT / "evaluation" / "short"
"""The same questions as messages of two to seven words."""
_COUNT, _SEED = 150, "red flags"
"""Ordinary questions of each tenant, and the seed that draws them."""
_FOLDS, _MOST_FALSE = 5, 0.02
"""Share of the ordinary questions of the tuning halves, long and short, that raise flags of a fold."""
Outcome = tuple[str | None, tuple[str, ...]]
"""The flag that a message should raise, and the names of those that it raises, the likeliest first."""


class FlaggedMessage(PublicModel):
    """One line of ``evaluation/red_flags/*.jsonl``."""

    id: str | None = None
    message: str = Field(min_length=1)
    flag: str | None
    """Name of the red flag that it should raise; None for an ordinary message."""


class InProcess:
    """A ``TextEmbedder`` of this process."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        del deadline
        return [self._embed(text) for text in texts]


def read_file(path: Path) -> list[tuple[str | None, str]]:
    """Return flag and text of each message of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(one.flag, one.message) for one in map(FlaggedMessage.model_validate_json, lines)]


def ordinary_questions(split: Split, *, folder: Path = ROOT / "evaluation") -> list[str]:
    """Return 150 ordinary questions of each tenant; all there are, where there are fewer."""
    files = [load_questions(folder / f"{tenant}.jsonl") for tenant in _TENANTS]
    halves = [[one for one in questions if one.split == split] for questions in files]
    return [one.question for half in halves for one in draw(half, count=_COUNT, seed=_SEED)]


def read_messages(path: Path, *, split: Split) -> list[tuple[str | None, str]]:
    """Return flag and text of each message of a file, and of 150 ordinary questions of each tenant."""
    return [*read_file(path), *((None, question) for question in ordinary_questions(split))]


def fit(embed: Embed) -> ShippedHead:
    """Fit the head of the first tenant's flags.

    Its least score lets 2 % of the ordinary questions of the tuning halves through, by cross-validation.
    """
    tenant = load_tenant(ROOT / "tenants" / f"{_TENANTS[0]}.toml")
    names = [entry.name for entry in tenant.red_flags]
    flag_of = dict.fromkeys(ordinary_messages()) | {text: flag for flag, text in read_file(_TRAINING)}
    calm = {*ordinary_questions("tuning"), *ordinary_questions("tuning", folder=_SHORT)}
    vectors = {text: embed(text) for text in (*flag_of, *sorted(calm - flag_of.keys()))}

    def fitted(left_out: Collection[str] = ()) -> Head:
        texts = [text for text in flag_of if text not in left_out]
        return Head.fitted(
            [[vectors[one] for one in texts if flag_of[one] == name] for name in (None, *names)]
        )

    scores: list[float] = []
    for fold in range(_FOLDS):
        left_out = set(list(vectors)[fold::_FOLDS])
        head = fitted(left_out)
        scores += [head.score(vectors[text]) for text in left_out & calm]
    head = fitted()
    ordinary, *rows = [_rounded(row) for row in head.rows]
    return ShippedHead(
        embedding_model=tenant.embedding.model,
        fitted_on=sha256("\n".join(f"{flag}: {text}" for text, flag in flag_of.items()).encode()).hexdigest(),
        least_score=round(sorted(scores)[-1 - int(_MOST_FALSE * len(scores))] + 0.0001, 4),
        mean=_rounded(head.mean),
        scale=round(head.scale, 4),
        ordinary=ordinary,
        flags=dict(zip(names, rows, strict=True)),
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)


def outcomes(messages: Sequence[tuple[str | None, str]], *, folder: Path) -> list[Outcome]:
    """Return what messages raise with the first tenant's flags. ``folder``: for the model's graph."""
    embed, _ = embedder(folder)
    tenant = load_tenant(ROOT / "tenants" / f"{_TENANTS[0]}.toml")
    flags = RedFlags(tenant, embedder=InProcess(embed), clock=SystemClock())
    asyncio.run(flags.load())
    return [(flag, tuple(one.name for one in flags.raised(embed(text)))) for flag, text in messages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("messages", type=Path, nargs="?", default=HELD_OUT)
    parser.add_argument("--split", choices=["tuning", "held_out"], default="held_out")
    parser.add_argument("--fit", action="store_true", help="write the shipped head first")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.fit:
            _SHIPPED.write_text(fit(embedder(Path(folder))[0]).model_dump_json() + "\n", encoding="utf-8")
            shipped_head.cache_clear()
        found = outcomes(read_messages(asked.messages, split=asked.split), folder=Path(folder))
        short = [(None, text) for text in ordinary_questions(asked.split, folder=_SHORT)]
        found_of_short = outcomes(short, folder=Path(folder))
    urgent = [(flag, names) for flag, names in found if flag is not None]
    calm = [names for flag, names in found if flag is None]
    raised, right = sum(bool(names) for _, names in urgent), sum(flag in names for flag, names in urgent)
    print(f"emergencies that raise a flag: {raised} of {len(urgent)}, their own: {right}")
    print(f"ordinary questions that raise a flag: {sum(map(bool, calm))} of {len(calm)}")
    raised_by_short = sum(bool(names) for _, names in found_of_short)
    print(f"the same of two to seven words: {raised_by_short} of {len(short)}")


if __name__ == "__main__":
    main()
