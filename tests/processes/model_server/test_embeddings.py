"""Embeddings against the vectors of the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from assistant.domain.errors import PassageTooLongError
from assistant.models.artifacts import TOKENIZER_FILE, read_model_facts
from assistant.stores.index.kept_vectors import read_kept_vectors
from tests.options.shop.shop_vectors import embedded_texts, shop, vectors_file
from tests.processes.model_server.conftest import Embedding

VECTORS = Path(__file__).parents[2] / "vectors"
Vectors = npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return json.loads((VECTORS / "parity_texts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def expected() -> Vectors:
    return np.load(VECTORS / "parity_vectors.npy").astype(np.float64)


def cosines(first: Vectors, second: Vectors) -> Vectors:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms


async def test_every_vector_is_the_real_model_s(
    embedding: Embedding, texts: list[str], expected: Vectors
) -> None:
    vectors = np.asarray(await embedding().embed(texts))

    assert len(texts) >= 60
    assert cosines(vectors, expected).min() >= 0.999


async def test_in_float32_vectors_are_exact(
    embedding: Embedding, texts: list[str], expected: Vectors
) -> None:
    vectors = await embedding(precision="float32").embed(texts)

    assert np.abs(vectors - expected).max() < 1e-5


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.night), "float32"])
async def test_the_shop_s_kept_vectors_are_the_real_model_s(
    embedding: Embedding, artifacts_dir: Path, precision: str
) -> None:
    by = embedding(precision=precision)
    folder, kept = artifacts_dir / shop().embedding.model, read_kept_vectors(vectors_file(shop()))
    sample = embedded_texts(shop(), tokenizer_json=folder / TOKENIZER_FILE)[::47]

    real = np.asarray(await by.embed(sample))

    assert kept.model_digest == read_model_facts(artifacts_dir, shop().embedding.model).digest
    assert cosines(np.asarray([kept.vector(text) for text in sample]), real).min() >= 0.9999


async def test_a_text_has_one_vector_alone_and_in_any_batch(embedding: Embedding, texts: list[str]) -> None:
    embedder = embedding()
    alone = [vector for text in texts[:40] for vector in await embedder.embed([text])]

    np.testing.assert_array_equal(alone, (await embedder.embed(texts))[:40])
    np.testing.assert_array_equal(alone[39:7:-1], await embedder.embed(texts[39:7:-1]))


async def test_an_input_of_the_longest_length_is_taken_and_one_token_more_is_refused(
    embedding: Embedding,
) -> None:
    embedder, longest = embedding(), " ".join(["dose"] * 254)  # two special tokens more
    assert np.shape(await embedder.embed([longest])) == (1, 384)

    with pytest.raises(PassageTooLongError, match=r"at most 256 tokens\. Given: 257"):
        await embedder.embed(["a", f"{longest} dose"])


def test_no_client_that_reports_usage_is_loaded() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from assistant.model_server.embedding_graph import load_graph\n"
        "try: load_graph(Path('nowhere.onnx'), threads=1, precision='float32')\n"
        "except RuntimeError: pass\n"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
