"""The embedding server against the vectors of the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from assistant.models.artifacts import TOKENIZER_FILE, read_model_facts
from assistant.stores.index.kept_vectors import read_kept_vectors
from tests.processes.model_server.conftest import Server, Start
from tests.vectors.shop_vectors import embedded_texts, shop, vectors_file

VECTORS = Path(__file__).parents[2] / "vectors"
Vectors = npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return json.loads((VECTORS / "parity_texts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def expected() -> Vectors:
    return np.load(VECTORS / "parity_vectors.npy").astype(np.float64)


@pytest.fixture(scope="module")
def exact(start: Start) -> Generator[Server]:
    with start("embedding", precision="float32") as server:
        yield server


async def embed(client: httpx.AsyncClient, server: Server, inputs: Any, **fields: Any) -> Vectors:
    response = await client.post(f"{server.url}/invocations", json={"inputs": inputs, **fields})
    assert response.status_code == 200, response.text
    return np.asarray(response.json())


async def embed_all(client: httpx.AsyncClient, server: Server, texts: list[str]) -> Vectors:
    batches = [texts[start : start + 32] for start in range(0, len(texts), 32)]
    return np.concatenate([await embed(client, server, batch) for batch in batches])


def cosines(first: Vectors, second: Vectors) -> Vectors:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms


async def test_every_vector_is_the_real_model_s(
    client: httpx.AsyncClient, embedding: Server, texts: list[str], expected: Vectors
) -> None:
    vectors = await embed_all(client, embedding, texts)

    assert len(texts) >= 60
    assert cosines(vectors, expected).min() >= 0.999


async def test_in_float32_vectors_are_exact(
    client: httpx.AsyncClient, exact: Server, texts: list[str], expected: Vectors
) -> None:
    vectors = await embed_all(client, exact, texts)

    assert np.abs(vectors - expected).max() < 1e-5


@pytest.mark.parametrize("server", ["embedding", "exact"])
async def test_the_shop_s_kept_vectors_are_the_real_model_s(
    client: httpx.AsyncClient, artifacts_dir: Path, server: str, request: pytest.FixtureRequest
) -> None:
    by: Server = request.getfixturevalue(server)
    folder, kept = artifacts_dir / shop().embedding.model, read_kept_vectors(vectors_file(shop()))
    sample = embedded_texts(shop(), tokenizer_json=folder / TOKENIZER_FILE)[::47]

    real = await embed_all(client, by, sample)

    assert kept.model_digest == read_model_facts(artifacts_dir, shop().embedding.model).digest
    assert cosines(np.asarray([kept.vector(text) for text in sample]), real).min() >= 0.9999


async def test_a_text_has_one_vector_alone_and_in_any_batch(
    client: httpx.AsyncClient, embedding: Server, texts: list[str]
) -> None:
    alone = np.concatenate([await embed(client, embedding, text) for text in texts[:40]])
    together = await embed_all(client, embedding, texts)
    reversed_batch = await embed(client, embedding, texts[39:7:-1])

    np.testing.assert_array_equal(alone, together[:40])
    np.testing.assert_array_equal(alone[39:7:-1], reversed_batch)


async def test_vectors_have_length_one_unless_asked_otherwise(
    client: httpx.AsyncClient, embedding: Server
) -> None:
    unit = await embed(client, embedding, "metformin")
    raw = await embed(client, embedding, "metformin", normalize=False)

    assert np.linalg.norm(unit) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(raw) != pytest.approx(1.0, abs=1e-2)
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)


async def test_an_input_of_the_longest_length_is_taken_and_one_token_more_is_refused(
    client: httpx.AsyncClient, embedding: Server
) -> None:
    longest = " ".join(["dose"] * 254)  # two special tokens more
    assert (await embed(client, embedding, longest)).shape == (1, 384)

    response = await client.post(f"{embedding.url}/invocations", json={"inputs": ["a", longest + " dose"]})

    assert response.status_code == 413
    assert response.json() == {
        "error": "`inputs` must have at most 256 tokens. Given: 257",
        "error_type": "Validation",
    }


@pytest.mark.parametrize(
    ("body", "status", "error_type"),
    [
        (b"{", 422, "Tokenizer"),
        (b"{}", 422, "Tokenizer"),
        (b'{"inputs": "a", "normalize": "yes"}', 422, "Tokenizer"),
        (b'{"inputs": ["a", ""]}', 400, "Empty"),
        (b'{"inputs": "a", "truncate": true}', 413, "Validation"),
        (json.dumps({"inputs": ["a"] * 33}).encode(), 413, "Validation"),
        (b" " * (6 * 1024 * 1024 + 1), 413, "Validation"),
    ],
)
async def test_bad_input_has_the_error_of_the_real_server(
    client: httpx.AsyncClient, embedding: Server, body: bytes, status: int, error_type: str
) -> None:
    response = await client.post(f"{embedding.url}/invocations", content=body)

    assert response.status_code == status
    assert response.json()["error_type"] == error_type


async def test_unknown_routes_and_methods(client: httpx.AsyncClient, embedding: Server) -> None:
    assert (await client.get(f"{embedding.url}/elsewhere")).status_code == 404
    assert (await client.get(f"{embedding.url}/invocations")).status_code == 405


async def test_the_artifact_s_tokenizer_counts_what_the_server_counts(
    client: httpx.AsyncClient, embedding: Server, artifacts_dir: Path, texts: list[str]
) -> None:
    tokenizer = Tokenizer.from_file(str(artifacts_dir / "all-MiniLM-L6-v2" / "tokenizer.json"))
    text = " ".join(texts)
    expected = len(tokenizer.encode(text))

    response = await client.post(f"{embedding.url}/invocations", json={"inputs": text})

    assert response.json()["error"].endswith(f"Given: {expected}")


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
