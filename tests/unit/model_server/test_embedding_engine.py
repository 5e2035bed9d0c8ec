"""The engine's turns and ends, on a small real graph."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from assistant.model_server.embedding import EmbeddingEngine
from assistant.model_server.embedding_graph import build_encoder
from tests.unit.model_server.tiny_bert import TinyBert

PASSAGE = [2, 4, 5, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TinyBert()
    model.config["max_position_embeddings"] = 512
    return model.write(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def engine(folder: Path) -> Generator[EmbeddingEngine]:
    started = EmbeddingEngine(build_encoder(folder), threads=1, precision="float32")
    started.start()
    yield started
    started.close()


async def test_vectors_come_in_the_order_of_the_passages(engine: EmbeddingEngine) -> None:
    passages = [[2, word, 3] for word in (4, 5, 6, 7)]

    together = await engine.embed(passages)
    alone = [await engine.embed([passage]) for passage in passages]

    np.testing.assert_array_equal(together, np.concatenate(alone))


async def test_a_question_does_not_wait_for_a_whole_batch(engine: EmbeddingEngine) -> None:
    batch = asyncio.create_task(engine.embed([[2, *([4] * 500), 3]] * 300))
    question = asyncio.create_task(engine.embed([PASSAGE]))

    done, _ = await asyncio.wait({batch, question}, return_when=asyncio.FIRST_COMPLETED)

    assert done == {question}
    await batch


async def test_a_cancelled_request_gives_its_place_free(engine: EmbeddingEngine) -> None:
    running = [asyncio.create_task(engine.embed([[2, *([4] * 500), 3]] * 1000)) for _ in range(2)]
    await asyncio.sleep(0)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    async with asyncio.timeout(60):
        await engine.embed([PASSAGE])


async def test_an_input_that_fails_in_a_worker_fails_alone(engine: EmbeddingEngine) -> None:
    with pytest.raises(ValueError, match="word"):
        await engine.embed([["word"]])  # pyright: ignore[reportArgumentType]

    assert (await engine.embed([PASSAGE])).shape == (1, 32)
