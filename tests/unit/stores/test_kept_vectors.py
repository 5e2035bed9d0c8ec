"""Vectors of known texts from a file: which texts they answer for, and when the file is not used."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import IndexModel
from assistant.domain.errors import ConfigurationError
from assistant.stores.index.embedded_files import VectorRow
from assistant.stores.index.embedded_reader import VectorMatrix
from assistant.stores.index.kept_vectors import read_kept_vectors, with_kept_vectors
from tests.stage.knowledge import write_kept_vectors

DIMENSIONS = 384
MODEL = IndexModel("mini", DIMENSIONS, "d" * 64)
TEXTS = [f"Review {number}" for number in range(60)]


def unit_vectors(count: int) -> list[list[float]]:
    drawn = np.random.default_rng(7).normal(size=(count, DIMENSIONS))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).tolist()


EXACT = dict(zip(TEXTS, unit_vectors(len(TEXTS)), strict=True))

Damage = Callable[[bytes], bytes]
Change = Callable[[Any], Any]


class Endpoint:
    """Returns a vector that tells which text it is of."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        self.asked.append(list(texts))
        return [own(text) for text in texts]


def own(text: str) -> list[float]:
    return [float(len(text)), *([0.0] * (DIMENSIONS - 1))]


def deadline() -> Deadline:
    return Deadline.after(60, clock=SystemClock())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_kept_vectors(path := tmp_path / "vectors.npz", EXACT, model_digest=MODEL.digest)
    return path


async def test_known_texts_come_from_the_file_and_the_rest_from_the_endpoint_in_order(file: Path) -> None:
    endpoint = Endpoint()
    embedder = with_kept_vectors(endpoint, file, model=MODEL)

    texts = ["new", TEXTS[3], "newer", TEXTS[0], TEXTS[3]]
    vectors = np.asarray(await embedder.embed(texts, deadline=deadline()))

    assert endpoint.asked == [["new", "newer"]]
    assert vectors[0].tolist() == own("new")
    assert vectors[2].tolist() == own("newer")
    for place in (1, 3, 4):
        assert vectors[place] @ EXACT[texts[place]] >= 0.9999


async def test_every_vector_has_unit_length_and_the_direction_that_was_written(file: Path) -> None:
    vectors = np.asarray(
        await with_kept_vectors(Endpoint(), file, model=MODEL).embed(TEXTS, deadline=deadline())
    )
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1.0).max() < 1e-6
    assert (vectors * np.asarray(list(EXACT.values()))).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize(
    "model", [IndexModel("tuned", DIMENSIONS, "e" * 64), IndexModel("wide", DIMENSIONS + 1, MODEL.digest)]
)
def test_vectors_of_another_model_are_not_used_and_one_line_says_so(file: Path, model: IndexModel) -> None:
    endpoint = Endpoint()
    with capture_logs() as logs:
        assert with_kept_vectors(endpoint, file, model=model) is endpoint
    assert [line["event"] for line in logs] == ["kept_vectors_not_used"]
    assert logs[0]["file"] == str(file)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    place = content.index(b"values.npy") + 1_000
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda _: b"no archive at all"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(file: Path, damage: Damage) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        ConfigurationError, match=r"vectors\.npz: the file of kept vectors is damaged .* delete"
    ):
        with_kept_vectors(Endpoint(), file, model=MODEL)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scales", lambda array: array[:-1]),
        ("scales", lambda array: array * np.float32("nan")),
        ("scales", lambda array: array.astype(np.float64)),
        ("values", lambda array: array * 0),
        ("values", lambda array: array[0]),
        ("values", lambda array: array[0, 0]),
        ("keys", lambda array: array[[0, *range(len(array) - 1)]]),
        ("model_digest", lambda array: np.asarray([str(array)])),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_damage(file: Path, name: str, change: Change) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez(file, **arrays)
    assert len(read_kept_vectors(file).places) == len(TEXTS)

    np.savez(file, **(arrays | {name: change(arrays[name])}))
    with pytest.raises(ConfigurationError, match="is damaged"):
        read_kept_vectors(file)


def test_an_archive_with_python_objects_is_not_opened(file: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez(file, allow_pickle=True, **(arrays | {"values": np.asarray([{}], object)}))
    with pytest.raises(ConfigurationError, match="is damaged"):
        read_kept_vectors(file)


# --- the matrix -------------------------------------------------------------------------------------------
ONE = np.ones(2, dtype="<f4").tobytes()


def row(number: int) -> VectorRow:
    name = f"document-{number:06}"
    return VectorRow(number, f"{name}#0", name, "knowledge", "policy", updated_at_us=0, labels=(), vector=ONE)


def test_documents_that_come_and_go_do_not_make_it_larger() -> None:
    matrix, sizes = VectorMatrix(2), list[int]()
    for number in range(300, 900):
        matrix.replace([f"document-{number - 1:06}"], [row(number)])
        sizes.append(len(pickle.dumps(matrix)))
    assert len(matrix) == 1
    assert matrix.name(899) == "document-000899#0"
    assert max(sizes[300:]) <= max(sizes[:300]) + 16, "numbers become longer, by a byte or two"
