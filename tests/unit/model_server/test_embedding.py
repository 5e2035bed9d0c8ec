"""The embedding model: its artifact and graph by folder, the engine's turns and ends, its mean cosines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import ConfigurationError, EmbeddingUnavailableError
from assistant.model_server.artifact import ModelArtifact, ensure_artifact, read_artifact
from assistant.model_server.embedding import (
    CosineMeans,
    EmbeddingEngine,
    Floats,
    measure_cosines,
    packaged_pairs,
)
from assistant.model_server.embedding_graph import PassageRunner, build_encoder, load_graph, read_safetensors
from assistant.model_server.here import EmbedderHere
from assistant.process.settings import ModelServerSettings
from assistant.tenant.tenant import EmbeddingSection
from tests.unit.model_server.tiny_bert import TinyBert, safetensors

PASSAGE = [2, 4, 5, 3]


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TinyBert()
    model.config["max_position_embeddings"] = 512
    return model.write(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def engine(long_model: Path) -> Generator[EmbeddingEngine]:
    started = EmbeddingEngine(build_encoder(long_model), threads=1, precision="float32")
    started.start()
    yield started
    started.close()


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


def test_tensors_with_the_prefix_of_a_larger_model_make_the_same_graph(tmp_path: Path) -> None:
    """That the graph is the published model's: ``tests/processes/model_server/test_embeddings.py``."""
    vectors: list[object] = []
    for prefix in ("", "bert."):
        folder = TinyBert(prefix=prefix).write(tmp_path / "tiny")
        graph = load_graph(build_encoder(folder), threads=1, precision="float32")
        vectors.append(PassageRunner(graph, pooling="mean").embed(PASSAGE))

    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    model = TinyBert()
    model.config[key] = value

    with pytest.raises(ConfigurationError, match=key):
        build_encoder(model.write(tmp_path / "tiny"))


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    folder = TinyBert().write(tmp_path / "tiny")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')

    with pytest.raises(ConfigurationError, match="pooling_mode_max_tokens"):
        build_encoder(folder)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = TinyBert()
    folder = model.write(tmp_path / "tiny")
    tensors = model.tensors()
    del tensors["encoder.layer.1.output.dense.bias"]
    (folder / "model.safetensors").write_bytes(safetensors(tensors))

    with pytest.raises(ConfigurationError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        build_encoder(folder)


@pytest.mark.parametrize("cut", [lambda data: data[:5], lambda data: data[:-4], lambda data: b"x" * 100])
def test_a_broken_weights_file_is_refused(tmp_path: Path, cut: object) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(cut(safetensors({"a": np.ones((4, 4), np.float32)})))  # pyright: ignore[reportCallIssue]

    with pytest.raises(ConfigurationError, match=r"model\.safetensors"):
        read_safetensors(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TinyBert().write(tmp_path / "weights" / "tiny-bert")


def settings(folder: Path, tmp_path: Path, **more: Any) -> ModelServerSettings:
    values: dict[str, Any] = {"max_input_tokens": 32, **more}
    return ModelServerSettings(task="embedding", path=folder, artifacts_dir=tmp_path / "models", **values)


def test_the_artifact_describes_the_model(folder: Path, tmp_path: Path) -> None:
    made = ensure_artifact(settings(folder, tmp_path))

    assert made == ModelArtifact(
        model="tiny-bert",
        task="embedding",
        digest=made.digest,
        max_input_tokens=32,
        dimensions=32,
        pooling="mean",
        cosine_unrelated=made.cosine_unrelated,
        cosine_related=made.cosine_related,
    )
    assert len(made.digest) == 64
    assert read_artifact(tmp_path / "models" / "tiny-bert") == made


def test_other_weights_or_another_pooling_make_another_artifact(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    first = ensure_artifact(chosen)
    TinyBert(seed=1).write(folder)
    assert ensure_artifact(chosen).digest != first.digest
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert (first.pooling, ensure_artifact(chosen).pooling) == ("mean", "cls")


def test_the_defaults_of_a_tenant_file_are_the_packaged_model_s_cosines(tmp_path: Path) -> None:
    made = ensure_artifact(ModelServerSettings(task="embedding", artifacts_dir=tmp_path))

    default = EmbeddingSection()
    assert made.cosine_unrelated == pytest.approx(default.cosine_unrelated, abs=0.01)
    assert made.cosine_related == pytest.approx(default.cosine_related, abs=0.01)


def test_a_broken_artifact_is_built_anew(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    made = ensure_artifact(chosen)
    (tmp_path / "models" / "tiny-bert" / "artifact.json").write_text("{")

    assert ensure_artifact(chosen) == made


def test_two_starts_at_once_both_get_a_whole_artifact(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    found: list[ModelArtifact] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_artifact(chosen))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert found == [found[0]] * 4


def test_a_limit_over_the_model_s_own_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at most 40"):
        ensure_artifact(settings(folder, tmp_path, max_input_tokens=41))


PAIRS = packaged_pairs()


def _own_axis(text: str) -> Floats:
    """Every text of a pair lies on the pair's axis, answers half off it; no vector has length 1."""
    place = next(at for at, pair in enumerate(PAIRS) if text in (pair.question, pair.answer))
    vector = np.zeros(len(PAIRS) + 1, np.float32)
    vector[place] = 5.0
    if text == PAIRS[place].answer:
        vector[-1] = 5.0
    return vector


def test_each_question_is_compared_with_its_own_answer_and_with_all_others() -> None:
    assert measure_cosines(_own_axis) == CosineMeans(unrelated=0.0, related=0.707)


@pytest.mark.parametrize("related", [0.4, 0.45, float("nan")])
def test_a_model_that_hardly_prefers_the_answer_is_refused(related: float) -> None:
    with pytest.raises(ConfigurationError, match=f"mean cosine is {related} with its answer and 0.4 with"):
        CosineMeans(unrelated=0.4, related=related).refuse_alike("other")


def soon() -> Deadline:
    return Deadline.after(60, clock=SystemClock())


async def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


async def _embed(texts: Sequence[str]) -> Any:
    return np.zeros((len(texts), 2), np.float32)


def embedder(task: asyncio.Future[Any]) -> EmbedderHere:
    return EmbedderHere(cast("Any", SimpleNamespace(in_loop=_at_once)), task, dimensions=2)


async def test_a_caller_who_leaves_while_the_model_loads_leaves_it_to_the_others() -> None:
    loading = asyncio.get_running_loop().create_future()
    leaves = asyncio.create_task(embedder(loading).embed(["a"], deadline=soon()))
    stays = asyncio.create_task(embedder(loading).embed(["b"], deadline=soon()))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    loading.set_result(SimpleNamespace(embed=_embed))
    assert await stays == [[0.0, 0.0]]


async def test_a_model_that_could_not_be_loaded_is_unavailable_with_its_reason() -> None:
    loading = asyncio.get_running_loop().create_future()
    loading.set_exception(ConfigurationError("weights.onnx: the graph cannot be read."))
    with pytest.raises(EmbeddingUnavailableError, match=r"weights\.onnx"):
        await embedder(loading).embed(["a"], deadline=soon())
