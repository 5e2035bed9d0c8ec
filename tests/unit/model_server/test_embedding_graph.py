"""Which BERT folders make a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assistant.domain.errors import ConfigurationError
from assistant.model_server.embedding_graph import PassageRunner, build_encoder, load_graph, read_safetensors
from tests.unit.model_server.tiny_bert import TinyBert, safetensors

PASSAGE = [2, 4, 5, 6, 7, 8, 9, 3]


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


def test_tensors_are_read_with_shape_and_values(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    path.write_bytes(safetensors({"a": tensor}))

    np.testing.assert_array_equal(read_safetensors(path)["a"], tensor)
