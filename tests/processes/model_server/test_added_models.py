"""Models that a person brings: packaged weights under other names, and a graph that the product builds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from assistant.cli.models import add_model
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError
from assistant.model_server.artifact import ensure_artifact
from assistant.model_server.embedding import of_unit_length
from assistant.model_server.embedding_graph import read_safetensors
from assistant.model_server.weights import locate_weights, read_tokenizer
from assistant.process.settings import ModelServerSettings
from assistant.tenant.added_models import AddedEmbedding, AddedModel, TenantModels, read_added_model
from assistant.tenant.tenant import EmbeddingSection
from assistant.terminal.terminal import GlobalOptions
from tests.processes.model_server.conftest import Embedder, Embedding
from tests.unit.model_server.tiny_bert import TinyBert

Floats = npt.NDArray[np.float32]


def table_encoder(table: Floats, *, is_pooled: bool) -> bytes:
    """Return the ONNX model: pooled by its mean, or a vector a token, times the mask beside the ids."""
    hidden = table.shape[1]
    constants = {"table": table, "token_axis": np.array([1], np.int64), "last": np.array([2], np.int64)}
    tokens = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])]
    nodes: list[NodeProto] = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    if is_pooled:
        nodes.append(helper.make_node("ReduceMean", ["rows", "token_axis"], ["pooled"], keepdims=0))
        output = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, hidden])
    else:
        tokens.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [1, "tokens"]))
        nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["mask", "last"], ["column"]))
        nodes.append(helper.make_node("Mul", ["rows", "column"], ["last_hidden_state"]))
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [1, "tokens", hidden])
    graph = helper.make_graph(
        nodes,
        "encoder",
        tokens,
        [output],
        [numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


MINILM = locate_weights(ModelServerSettings(task="embedding")).path
TABLE = read_safetensors(MINILM / "model.safetensors")["embeddings.word_embeddings.weight"]
TEXTS = ["When is a refill due?", "The card was declined.", "insulin " * 60]


@pytest.fixture
def options(tmp_path: Path) -> GlobalOptions:
    (tmp_path / "tenants").mkdir()
    for name in ("shop", "branch"):
        (tmp_path / "tenants" / f"{name}.toml").write_text(
            f'schema_version = 1\nname = "{name}"\ndisplay_name = "{name}"\n'
        )
    return GlobalOptions(
        tenants_dir=tmp_path / "tenants", state_dir=tmp_path / "state", port=None, json=False
    )


def add(options: GlobalOptions, path: Path, **brought: object) -> AddedModel:
    add_model(options, path, tenant="shop", **({"name": None, "pooling": None} | brought))  # type: ignore[arg-type]
    return read_added_model(options.state_dir / "models" / str(brought.get("name") or path.stem))


@pytest.fixture
def minilm(tmp_path: Path) -> Path:
    return shutil.copytree(MINILM, tmp_path / "our-minilm")


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """A folder as one is exported: a graph, a tokenizer and a configuration."""
    folder = tmp_path / "our-onnx"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(table_encoder(TABLE, is_pooled=True))
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(MINILM / name, folder / name)
    return folder


# --- brought and used ------------------------------------------------------------------------------------


def test_an_embedding_folder_gives_the_packaged_model_s_vectors(
    options: GlobalOptions, embedding: Embedding, minilm: Path
) -> None:
    model = add(options, minilm)

    vectors = vectors_of(added(options, model, embedding))

    np.testing.assert_allclose(vectors, vectors_of(embedding()), atol=1e-6)
    assert options.tenant("shop").embedding.model == model.name
    assert isinstance(model, AddedEmbedding)
    packaged = EmbeddingSection()
    assert model.cosine_unrelated == pytest.approx(packaged.cosine_unrelated, abs=0.01)
    assert model.cosine_related == pytest.approx(packaged.cosine_related, abs=0.01)


def vectors_of(embedder: Embedder) -> list[list[float]]:
    return asyncio.run(embedder.embed(TEXTS))


def added(options: GlobalOptions, model: AddedModel, embedding: Embedding) -> Embedder:
    """Load a model that was added."""
    models = options.state_dir / "models"
    return embedding(manifest=models / model.name / "manifest.toml", artifacts_dir=models)


@pytest.mark.parametrize("is_pooled", [True, False])
def test_a_graph_gives_its_vectors_pooled_by_itself_or_here(
    options: GlobalOptions, onnx: Path, embedding: Embedding, is_pooled: bool
) -> None:
    """As encoders are exported: one vector, or a mask beside the ids and the last hidden state."""
    (onnx / "onnx" / "model.onnx").write_bytes(table_encoder(TABLE, is_pooled=is_pooled))
    model = add(options, onnx, pooling="mean")
    tokenizer = read_tokenizer(onnx / "tokenizer.json")
    expected = np.stack([TABLE[tokenizer.encode(text).ids].mean(axis=0) for text in TEXTS])

    vectors = vectors_of(added(options, model, embedding))

    np.testing.assert_allclose(vectors, of_unit_length(expected), atol=1e-3)


# --- refused, and nothing is chosen ----------------------------------------------------------------------

Spoil = Callable[[Path], object]


def refused(options: GlobalOptions, path: Path, **brought: object) -> str:
    with pytest.raises(AssistantError) as raised:
        add(options, path, **brought)
    assert options.local_models(["shop"])["shop"] == TenantModels()
    return raised.value.message


def test_what_is_no_folder_is_refused(options: GlobalOptions, tmp_path: Path) -> None:
    """An LLM in one file is served by its own server."""
    (tmp_path / "model.gguf").write_text("hello")
    assert "assistant models use --url" in refused(options, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "the tokenizer is missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the tokenizer cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "the configuration is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "there are no weights"),
    ],
)
def test_an_embedding_folder_that_is_not_whole_is_refused(
    options: GlobalOptions, minilm: Path, spoil: Spoil, said: str
) -> None:
    spoil(minilm)
    assert said in refused(options, minilm)


def test_a_graph_that_is_none_is_refused(options: GlobalOptions, onnx: Path) -> None:
    (onnx / "onnx" / "model.onnx").write_bytes(b"not a graph")
    assert "the ONNX graph cannot be read" in refused(options, onnx)


def test_a_model_that_cannot_tell_texts_apart_is_refused(options: GlobalOptions, tmp_path: Path) -> None:
    """Random weights, as a wrong pooling may be."""
    folder = TinyBert(config=TinyBert().config | {"max_position_embeddings": 300}).write(tmp_path / "tiny")
    assert "does not tell related from unrelated text" in refused(options, folder)
    assert not (options.state_dir / "models" / "tiny" / "manifest.toml").exists()


def test_two_models_of_one_name_are_refused(options: GlobalOptions, minilm: Path, tmp_path: Path) -> None:
    first = add(options, minilm)
    other = TinyBert(config=TinyBert().config | {"max_position_embeddings": 300}).write(tmp_path / "other")

    with pytest.raises(ConflictError, match="already a model our-minilm with other weights"):
        add(options, other, name="our-minilm")

    assert options.local_models(["shop"])["shop"].embedding == first
    add(options, minilm)  # the same weights again are no conflict
    with pytest.raises(ConflictError, match="name of a packaged model"):
        add(options, minilm, name="all-MiniLM-L6-v2")


def test_weights_that_changed_since_are_not_served(options: GlobalOptions, minilm: Path) -> None:
    model = add(options, minilm)
    with (weights := minilm / "model.safetensors").open("ab") as file:
        file.write(b"more")
    settings = ModelServerSettings(
        task="embedding",
        manifest=options.state_dir / "models" / model.name / "manifest.toml",
        artifacts_dir=options.state_dir / "models",
    )
    with pytest.raises(ConfigurationError, match="changed since our-minilm was added"):
        ensure_artifact(settings)
    weights.unlink()
    with pytest.raises(ConfigurationError, match="are gone"):
        ensure_artifact(settings)


def test_a_name_that_is_none_is_refused(options: GlobalOptions, minilm: Path) -> None:
    assert "Give it one with --name" in refused(options, minilm, name="../up")
