"""Proves preference tuning with a taste that a program knows: ``make prove-preference QUESTIONS=FILE``.

Agents of this story like answers of at most 30 words that end with one fixed question; the drafts that they
replace are the packaged model's own. The job tunes it by DPO on such pairs, the adapter is merged (F16), and
the runtime in service serves both. A program judges what they write about topics that no pair held. What is
done already below OUT is not done again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx

from assistant.answering.ports import ChatMessage
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.llama_weights import FOLDER, GGUF, write_weights
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings
from assistant.tuning.training_sets import Example, Origin, Sets, export_of_sets
from tests.options.feedback.moving import tenant

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TRAINING_PYTHON", ROOT / "build/training/bin/python"))
CLOSING = "Shall I send you the page?"
MOST_WORDS = 30
LONGEST_TOKENS = 48
SYSTEM = "Answer the caller's question from the source."
PAIRS = {"train": 240, "validation": 16, "test": 200}
VALIDATING = 8
"""Of the validating pairs, for a short run."""
STEPS = {
    "task": "preference",
    "max_steps": 24,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "learning_rate": 1e-3,
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "lora_from_layer": 18,
    "bfloat16": 1,
    "max_length": 256,
    "save_steps": 8,
    "beta": 0.1,
    "sft_weight": 1.0,
}
_COMMON = re.compile(
    "a|an|and|are|as|at|be|by|can|for|from|has|have|in|is|it|its|of|on|or|that|"
    "the|this|to|was|which|with|you|your|i|not|may|but|also|do|does|what|who|how|"
    "they|their|there|these|if|than|other"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with a source of two sentences, and what an agent of this taste sends."""

    topic: str
    question: str
    source: str
    sent: str

    def messages(self) -> tuple[ChatMessage, ...]:
        user = f"Source: {self.source}\nQuestion: {self.question}"
        return ChatMessage("system", SYSTEM), ChatMessage("user", user)


def asked(data: Path) -> dict[str, list[Asked]]:
    """Return questions of MedQuAD by split, one of each topic; a topic is in one split."""
    by_topic: dict[str, Asked] = {}
    with gzip.open(data, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            text = " ".join(row["answer"].split()).removeprefix("Summary : ")
            sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)[:2]
            first, source = sentences[0], " ".join(sentences)
            if "Phenotype" in source or not first.endswith("."):
                continue
            if 8 <= len(first.split()) <= 22 and len(sentences) == 2 and len(source.split()) <= 50:
                question = " ".join(row["question"].split()).replace("What is (are)", "What is")
                by_topic.setdefault(row["focus"], Asked(row["focus"], question, source, f"{first} {CLOSING}"))
    rows = [by_topic[topic] for topic in sorted(by_topic)]
    random.Random(1).shuffle(rows)  # noqa: S311 : no secret
    split: dict[str, list[Asked]] = {}
    for name, count in PAIRS.items():
        split[name], rows = rows[:count], rows[count:]
    return split


def written(weights: Path, rows: Sequence[Asked], kept: Path) -> list[str]:
    """Return what the served model writes, greedily, at most ``LONGEST_TOKENS`` an answer."""
    if kept.exists():
        return json.loads(kept.read_text())
    slots = 4
    runtime = LlamaRuntime(weights, model="taste", slots=slots, context_tokens=512, threads=2)
    runtime.start()
    free: SimpleQueue[str] = SimpleQueue()
    for address in runtime.addresses:
        free.put(address)
    try:
        with httpx.Client(headers=runtime.authorization, trust_env=False, timeout=600) as client:

            def answer(row: Asked) -> str:
                body = {
                    "messages": [asdict(message) for message in row.messages()],
                    "max_tokens": LONGEST_TOKENS,
                    "temperature": 0.0,
                }
                address = free.get()
                response = client.post(f"{address}/v1/chat/completions", json=body)
                free.put(address)
                return response.raise_for_status().json()["choices"][0]["message"]["content"].strip()

            with ThreadPoolExecutor(slots) as threads:
                answers = list(threads.map(answer, rows))
    finally:
        runtime.close()
    kept.write_text(json.dumps(answers, indent=1))
    return answers


def taste(answer: str) -> int:
    """Return 0 to 2: ends with the question, and has at most ``MOST_WORDS`` words."""
    return int(answer.endswith(CLOSING)) + int(
        len(answer.split()) <= MOST_WORDS and answer[-1:] in frozenset(".?!")
    )


def content_words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", text.lower()) if not _COMMON.fullmatch(word)]


def supported(answer: str, row: Asked) -> float:
    """Return the share of an answer's content words, without the closing question, that the source or the
    question holds: a measure that knows nothing of the taste. An empty answer supports nothing."""
    held = set(content_words(f"{row.source} {row.question}"))
    words = content_words(answer.replace(CLOSING, ""))
    return sum(word in held for word in words) / len(words) if words else 0.0


def interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of the mean by the bootstrap."""
    chance = random.Random(2)  # noqa: S311 : no secret
    means = sorted(sum(chance.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def exported(split: dict[str, list[Asked]], drafts: dict[str, list[str]], out: Path) -> Path:
    """Return the folder of a set as the export writes it."""
    start = datetime(2026, 3, 1, tzinfo=UTC)

    def example(number: int, row: Asked, draft: str) -> Example:
        return Example(
            answer_id=f"a{number}",
            document_id=hashlib.sha256(row.topic.encode()).hexdigest()[:12],
            at=start + timedelta(minutes=number),
            question=row.question,
            prompt=row.messages(),
            chosen=row.sent,
            rejected=draft,
            origin=Origin.SENT,
            agreement=1.0,
            events=(f"e{number}",),
        )

    examples = {
        name: [
            example(at, row, draft)
            for at, (row, draft) in enumerate(zip(split[name], drafts[name], strict=True))
        ]
        for name in ("train", "validation")
    }
    examples["validation"] = examples["validation"][:VALIDATING]
    sets = Sets({**examples, "test": []}, events=sum(map(len, examples.values())))  # type: ignore[dict-item]
    return export_of_sets(sets, tenant=tenant(), window=(start, start + timedelta(days=1))).write(out)


def train(out: Path, training_set: Path, steps: dict[str, Any]) -> Path:
    """Run the training job as SageMaker starts it; return the adapter's folder."""
    if (out / "model/training.json").exists():
        return out / "model"
    for folder, target in (("training", training_set), ("model", out.parent / "base" / FOLDER)):
        link = out / "input/data" / folder
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target.resolve())
    (out / "input/config").mkdir(exist_ok=True)
    (out / "input/config/hyperparameters.json").write_text(
        json.dumps({name: str(value) for name, value in steps.items()})
    )
    command = [PYTHON, ROOT / "containers/training_job/train.py"]
    environment = {**os.environ, "TRAINING_ROOT": str(out), "CUDA_VISIBLE_DEVICES": ""}
    environment["OMP_NUM_THREADS"] = "1"  # two threads on busy cores wait for each other by spinning
    subprocess.run(command, check=True, env=environment)
    return out / "model"


def judge(rows: Sequence[Asked], base: Sequence[str], tuned: Sequence[str]) -> dict[str, Any]:
    """Return the win rate and the measure without the taste, each with its 95 % interval."""
    wins = [
        0.5 * ((taste(new) > taste(old)) - (taste(new) < taste(old)) + 1)
        for old, new in zip(base, tuned, strict=True)
    ]
    before, after = (
        [supported(answer, row) for answer, row in zip(answers, rows, strict=True)]
        for answers in (base, tuned)
    )
    changes = [new - old for old, new in zip(before, after, strict=True)]
    count = len(rows)
    return {
        "prompts": count,
        "win_rate": sum(wins) / count,
        "win_rate_interval": interval(wins),
        "has_taste": {"base": sum(taste(a) == 2 for a in base), "tuned": sum(taste(a) == 2 for a in tuned)},
        "supported": {"base": sum(before) / count, "tuned": sum(after) / count},
        "supported_change_interval": interval(changes),
    }


def main(out: Path, data: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    times, began = dict[str, float](), time.monotonic()

    def lap(name: str) -> None:
        nonlocal began
        times[name], began = round(time.monotonic() - began, 1), time.monotonic()

    packaged = locate_weights(ModelServerSettings(task="generation", artifacts_dir=out)).path
    split = asked(data)
    if not (out / "base").exists():
        write_weights(packaged, None, out / "base", types="f16")
    lap("unpack_s")
    drafts = {
        name: written(packaged, split[name], out / f"drafts.{name}.json") for name in ("train", "validation")
    }
    lap("drafts_s")
    adapter = train(out / "job", exported(split, drafts, out / "sets"), STEPS)
    lap("training_s")
    if not (out / "tuned").exists():
        write_weights(packaged, adapter, out / "tuned", types="f16")
    lap("merge_s")
    base = written(packaged, split["test"], out / "base.test.json")
    tuned = written(out / "tuned" / GGUF, split["test"], out / "tuned.test.json")
    lap("answers_s")
    report: dict[str, Any] = {**judge(split["test"], base, tuned), "seconds": times}
    card = json.loads((adapter / "training.json").read_text())
    report["validation"], report["steps"] = card["validation"], card["steps"]
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if report["win_rate"] <= 0.6 or report["win_rate_interval"][0] <= 0.5:
        sys.exit("The tuned model does not win: asked are over 60 %, and an interval above 50 %.")
    if report["supported_change_interval"][1] < 0:
        sys.exit("The tuned model's answers rest less on their sources.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
