"""Tunes an embedding model on a tenant's pairs, and averages it with the model that it began as.

The set is one that ``assistant learn pairs`` wrote. Loss: InfoNCE over the other passages of a batch, those
of the same document left out (van den Oord et al., 2018; MultipleNegativesRankingLoss).
Word embeddings stay as they are: a few thousand pairs see few words, and moving only those would tear them
from the rest. The share of the tuned weights is chosen on validating pairs, whose documents never train
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022); 0 is the base model, and is refused.

The result has the base model's files with other weights, so whatever serves the one serves the other.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from contract import (
    WHOLE,
    Places,
    TrainingError,
    card_of,
    last_whole_checkpoint,
    read_hyperparameters,
    read_splits,
)
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

PACKAGES = ("torch", "transformers", "safetensors")
WEIGHTS = "model.safetensors"
HELD_OUT = "held_out.txt"
"""Ids of the documents that no pair is of: a comparison may ask about them."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the tuned weights that are tried."""
_OVER_0 = ("epochs", "learning_rate", "batch_size", "max_length", "scale", "save_steps")
_FROZEN = "word_embeddings."
_EMBEDDED_AT_ONCE = 32
_LENGTHS = 16
"""Tokens: lengths are multiples of it, so that few shapes occur."""
_MOST_PASSAGES = 400
"""Among which validation looks: beyond them each share of the weights costs minutes on a CPU."""
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Of the task ``embedding``."""

    epochs: float = 2.0
    max_steps: int = -1
    """-1: as the epochs say."""
    learning_rate: float = 3e-5
    batch_size: int = 32
    max_length: int = 128
    """Tokens of a text, while training and validating; what is longer is cut. Serving cuts nothing."""
    scale: float = 20.0
    """Cosines are multiplied by it: the inverse temperature."""
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    save_steps: int = 50
    bfloat16: int = 1
    """1: products in bfloat16, half the time on processors that have it; weights stay in float32."""
    threads: int = 0
    """0: as many as torch takes."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A text that people ask or say, and the passages of one document that belong to it."""

    anchor: str
    positives: tuple[str, ...]
    document_id: str


class Encoder:
    """A BERT encoder with its tokenizer and pooling; vectors have unit length, shape (texts, hidden)."""

    def __init__(self, folder: Path, *, is_bfloat16: bool) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModel.from_pretrained(folder).to(self.device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._is_bfloat16 = is_bfloat16
        modes = folder / "1_Pooling/config.json"
        self._is_cls = modes.exists() and json.loads(modes.read_text()).get("pooling_mode_cls_token", False)

    def __call__(self, texts: Sequence[str], *, max_length: int) -> torch.Tensor:
        given = self.tokenizer(
            list(texts),
            padding=True,
            pad_to_multiple_of=_LENGTHS,
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        ).to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self._is_bfloat16):
            hidden = self.model(**given).last_hidden_state.float()
        if self._is_cls:
            return functional.normalize(hidden[:, 0], dim=1)
        counted = given["attention_mask"].unsqueeze(-1)
        return functional.normalize((hidden * counted).sum(1) / counted.sum(1), dim=1)

    def embed_all(self, texts: Sequence[str], *, max_length: int) -> torch.Tensor:
        """Return the vectors of many texts, without gradients, in batches of like length."""
        order = sorted(range(len(texts)), key=lambda at: (len(texts[at]), at))
        vectors = torch.empty((len(texts), self.model.config.hidden_size))
        with torch.inference_mode():
            for start in range(0, len(order), _EMBEDDED_AT_ONCE):
                rows = order[start : start + _EMBEDDED_AT_ONCE]
                vectors[rows] = self([texts[row] for row in rows], max_length=max_length).cpu()
        return vectors


def read_pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    return [Pair(row["anchor"], tuple(row["positives"]), row["document_id"]) for row in rows]


def prepared(pairs: Sequence[Pair], encoder: Encoder, *, max_length: int) -> list[Pair]:
    """Return the pairs with the nearest of their own passages, by the base model."""
    if all(len(pair.positives) == 1 for pair in pairs):
        return list(pairs)
    texts = sorted({text for pair in pairs for text in pair.positives})
    at = {text: row for row, text in enumerate(texts)}
    asked = sorted({pair.anchor for pair in pairs})
    vectors = encoder.embed_all(texts, max_length=max_length)
    cosines = dict(zip(asked, encoder.embed_all(asked, max_length=max_length) @ vectors.T, strict=True))

    def nearest(pair: Pair) -> str:
        return max(pair.positives, key=lambda text: (float(cosines[pair.anchor][at[text]]), text))

    return [replace(pair, positives=(nearest(pair),)) for pair in pairs]


def batches(pairs: Sequence[Pair], wanted: Hyperparameters) -> Callable[[int], list[Pair]]:
    """Return the batch of each step, from 0: each epoch in an order of its own, by the seed."""
    size = min(wanted.batch_size, len(pairs))
    an_epoch = len(pairs) // size

    def of(step: int) -> list[Pair]:
        epoch, at = divmod(step, an_epoch)
        order = list(range(len(pairs)))
        random.Random(f"{wanted.seed}:{epoch}").shuffle(order)  # noqa: S311 : no secret
        return [pairs[row] for row in order[at * size : (at + 1) * size]]

    return of


def steps_of(pairs: int, wanted: Hyperparameters) -> int:
    return (
        wanted.max_steps if wanted.max_steps > 0 else max(1, int(wanted.epochs * pairs / wanted.batch_size))
    )


def loss_of(encoder: Encoder, batch: Sequence[Pair], wanted: Hyperparameters) -> torch.Tensor:
    """Return InfoNCE of a batch, from the anchors to the passages."""
    anchors = encoder([pair.anchor for pair in batch], max_length=wanted.max_length)
    texts = [pair.positives[0] for pair in batch]
    scores = wanted.scale * anchors @ encoder(texts, max_length=wanted.max_length).T
    masked = torch.zeros_like(scores, dtype=torch.bool)
    for row, pair in enumerate(batch):
        for column, (text, other) in enumerate(zip(texts, batch, strict=True)):
            is_own = other.document_id == pair.document_id or text == texts[row]
            masked[row, column] = column != row and is_own
    scores = scores.masked_fill(masked, float("-inf"))
    return functional.cross_entropy(scores, torch.arange(len(batch), device=scores.device))


class Training:
    """The steps, with checkpoints that a killed job goes on from."""

    def __init__(
        self, encoder: Encoder, pairs: Sequence[Pair], wanted: Hyperparameters, folder: Path
    ) -> None:
        self._encoder, self._wanted, self._folder = encoder, wanted, folder
        self._batch, self.steps = batches(pairs, wanted), steps_of(len(pairs), wanted)
        for name, parameter in encoder.model.named_parameters():
            parameter.requires_grad_(_FROZEN not in name and "pooler." not in name)
        tuned = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(tuned, lr=wanted.learning_rate, weight_decay=wanted.weight_decay)
        self._asked_to_end = False
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_end = True

    def run(self) -> tuple[str | None, list[float]]:
        """Take all steps; return the checkpoint it went on from, and the losses. Raises TrainingError."""
        resumed = last_whole_checkpoint(self._folder)
        losses = self._load(resumed) if resumed else []
        while len(losses) < self.steps:
            losses.append(self._step(len(losses)))
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"The loss is {losses[-1]}. Lower learning_rate and train again.")
            if self._asked_to_end or not len(losses) % self._wanted.save_steps or len(losses) == self.steps:
                self._save(losses)
            if self._asked_to_end:
                raise TrainingError(
                    "The job was asked to end. It goes on from its checkpoint when started again."
                )
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what follows starts anew from the last checkpoint
        return (resumed.name if resumed else None), losses

    def _step(self, step: int) -> float:
        torch.manual_seed(1_000_003 * self._wanted.seed + step)  # the same dropout after a resumption
        warm = max(1, round(self._wanted.warmup_share * self.steps))
        share = min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm + 1))
        for group in self._optimizer.param_groups:
            group["lr"] = self._wanted.learning_rate * share
        self._encoder.model.train()
        loss = loss_of(self._encoder, self._batch(step), self._wanted)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._encoder.model.parameters(), 1.0)
        self._optimizer.step()
        self._encoder.model.eval()
        return float(loss.detach())

    def _save(self, losses: Sequence[float]) -> None:
        folder = self._folder / f"checkpoint-{len(losses)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state = {"model": self._encoder.model.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / "state.pt")
        (folder / "losses.json").write_text(json.dumps(list(losses)))
        (folder / WHOLE).write_text("")
        for older in self._folder.glob("checkpoint-*"):
            if int(older.name.rpartition("-")[2]) < len(losses):
                shutil.rmtree(older)

    def _load(self, folder: Path) -> list[float]:
        state = torch.load(folder / "state.pt", weights_only=True)
        self._encoder.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        return json.loads((folder / "losses.json").read_text())


def validating_passages(
    rows: Sequence[Mapping[str, str]], pairs: Sequence[Pair], wanted: Hyperparameters
) -> list[Mapping[str, str]]:
    """Return the passages of the validating documents, and others drawn by the seed."""
    document_ids = {pair.document_id for pair in pairs}
    first = [row for row in rows if row["document_id"] in document_ids]
    others = [row for row in rows if row["document_id"] not in document_ids]
    random.Random(f"{wanted.seed}:passages").shuffle(others)  # noqa: S311 : no secret
    return first + others[: max(0, _MOST_PASSAGES - len(first))]


def ndcg(
    encoder: Encoder, pairs: Sequence[Pair], passages: Sequence[Mapping[str, str]], *, max_length: int
) -> float:
    """Return the mean nDCG@10 of the pairs' documents among all documents.

    A document counts by its best passage, the own one by the pair's passages, which do not hold the anchor.
    """
    documents = sorted({passage["document_id"] for passage in passages})
    number = {name: at for at, name in enumerate(documents)}
    own = torch.tensor([number[passage["document_id"]] for passage in passages])
    vectors = encoder.embed_all([passage["text"] for passage in passages], max_length=max_length)
    texts = sorted({text for pair in pairs for text in pair.positives})
    positives = dict(zip(texts, encoder.embed_all(texts, max_length=max_length), strict=True))
    gain = 0.0
    anchors = encoder.embed_all([pair.anchor for pair in pairs], max_length=max_length)
    for pair, asked in zip(pairs, anchors, strict=True):
        best = torch.full((len(documents),), -1.0).scatter_reduce(0, own, vectors @ asked, "amax")
        mine = max(float(positives[text] @ asked) for text in pair.positives)
        if pair.document_id in number:  # a wording of the desk may rest on no document
            best[number[pair.document_id]] = -1.0
        place = int((best > mine).sum())
        gain += 1 / math.log2(place + 2) if place < _DEPTH else 0.0
    return gain / len(pairs)


def mixed(
    base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return base + share * (tuned - base), by the base's names and types; what has no twin stays."""
    merged: dict[str, torch.Tensor] = {}
    for name, tensor in base.items():
        other = tuned.get(name.removeprefix("bert."))
        is_moved = other is not None and tensor.is_floating_point() and share > 0
        merged[name] = (
            torch.lerp(tensor.float(), other.cpu().float(), share).to(tensor.dtype) if is_moved else tensor
        )
    return merged


def choose_mix(
    encoder: Encoder, base: Mapping[str, torch.Tensor], score: Callable[[], float]
) -> tuple[float, dict[str, float], dict[str, torch.Tensor]]:
    """Return the share with the best score, every share's score, and the weights of the best.

    Of equal scores the smaller share is taken.
    """
    tuned = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    scores: dict[float, float] = {}
    for share in MIXES:
        weights = mixed(base, tuned, share)
        encoder.model.load_state_dict(
            {name.removeprefix("bert."): tensor for name, tensor in weights.items()}, strict=False
        )
        scores[share] = score()
    best = max(MIXES, key=lambda share: (round(scores[share], 6), -share))
    return best, {str(share): round(one, 4) for share, one in scores.items()}, mixed(base, tuned, best)


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the model and its facts, and return the facts. Raises TrainingError."""
    wanted = read_hyperparameters(places.hyperparameters, Hyperparameters, over_0=_OVER_0)
    set_version, training, validating = read_splits(places.training, "pairs")
    if not (places.base / WEIGHTS).is_file():
        raise TrainingError(f"{places.base} has no {WEIGHTS}: give the folder of an embedding model.")
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    torch.manual_seed(wanted.seed)
    encoder = Encoder(places.base, is_bfloat16=bool(wanted.bfloat16))
    places.checkpoints.mkdir(parents=True, exist_ok=True)
    pairs = prepared(read_pairs(training), encoder, max_length=wanted.max_length)
    resumed, losses = Training(encoder, pairs, wanted, places.checkpoints).run()
    passages = [json.loads(line) for line in (places.training / "passages.jsonl").read_text().splitlines()]
    kept, base = read_pairs(validating), load_file(places.base / WEIGHTS)
    passages = validating_passages(passages, kept, wanted)
    mix, scores, weights = choose_mix(
        encoder, base, lambda: ndcg(encoder, kept, passages, max_length=wanted.max_length)
    )
    facts = card_of(
        places,
        "embedding",
        set_version,
        wanted,
        PACKAGES,
        held_out=(places.training / HELD_OUT).read_text().split(),
        pairs={"train": len(training), "validation": len(validating)},
        steps=len(losses),
        resumed_from=resumed,
        loss={"first": _mean(losses[:10]), "last": _mean(losses[-10:])},
        mix=mix,
        validation_ndcg_at_10=scores,
        device=encoder.device,
    )
    if mix == 0:
        raise TrainingError(
            f"No share of the tuned weights finds more of the validating pairs than the base: {scores}. "
            "Take more pairs, fewer steps or a lower learning_rate."
        )
    _write(places, weights, facts)
    return facts


def _write(places: Places, weights: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write the base model's files with other weights, and the facts beside them."""
    shutil.copytree(
        places.base,
        places.model,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(WEIGHTS, "onnx", "*.onnx*"),
    )
    save_file(dict(weights), places.model / WEIGHTS, metadata={"format": "pt"})
    (places.model / "training.json").write_text(json.dumps(facts, indent=1) + "\n")


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
