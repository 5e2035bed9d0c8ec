"""What is derived from an embedding folder: built once, of these weights, by one of two starts at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ModelArtifact, ensure_artifact, read_artifact
from assistant.model_server.embedding_artifact import ensure_graph
from assistant.model_server.weights import locate_weights
from assistant.settings import ModelServerSettings
from tests.unit.model_server.tiny_bert import TinyBert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TinyBert().write(tmp_path / "weights" / "tiny-bert")


def settings(folder: Path, tmp_path: Path, **more: Any) -> ModelServerSettings:
    values: dict[str, Any] = {"max_input_tokens": 32, **more}
    return ModelServerSettings(task="embedding", path=folder, artifacts_dir=tmp_path / "models", **values)


def graph_of(chosen: ModelServerSettings) -> Path:
    return ensure_graph(locate_weights(chosen), settings=chosen, digest=ensure_artifact(chosen).digest)


def test_the_artifact_describes_the_model(folder: Path, tmp_path: Path) -> None:
    made = ensure_artifact(settings(folder, tmp_path))

    assert made == ModelArtifact(
        model="tiny-bert", task="embedding", digest=made.digest, max_input_tokens=32, dimensions=32
    )
    assert len(made.digest) == 64
    assert read_artifact(tmp_path / "models" / "tiny-bert") == made


def test_its_tokenizer_neither_cuts_nor_pads(folder: Path, tmp_path: Path) -> None:
    ensure_artifact(settings(folder, tmp_path))

    tokenizer = Tokenizer.from_file(str(tmp_path / "models" / "tiny-bert" / "tokenizer.json"))
    assert len(tokenizer.encode("refill " * 20)) == 22
    assert len(tokenizer.encode("refill")) == 3


def test_a_second_start_builds_nothing(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    graph = graph_of(chosen)
    before = {path: path.stat().st_mtime_ns for path in graph.parent.glob("*.*") if path.suffix != ".lock"}

    assert graph_of(chosen) == graph
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_weights_make_another_artifact_and_graph(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    first, first_graph = ensure_artifact(chosen), graph_of(chosen)

    TinyBert(seed=1).write(folder)

    assert ensure_artifact(chosen).digest != first.digest
    assert graph_of(chosen) != first_graph
    assert not first_graph.exists()


def test_a_changed_limit_is_described_anew(folder: Path, tmp_path: Path) -> None:
    ensure_artifact(settings(folder, tmp_path))

    assert ensure_artifact(settings(folder, tmp_path, max_input_tokens=16)).max_input_tokens == 16


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


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        ensure_artifact(settings(tmp_path / "nowhere", tmp_path))


def test_the_packaged_models_have_their_published_names(tmp_path: Path) -> None:
    names = {
        task: locate_weights(ModelServerSettings(task=task, artifacts_dir=tmp_path)).name
        for task in ("embedding", "generation")
    }

    assert names == {"embedding": "all-MiniLM-L6-v2", "generation": "SmolLM2-135M-Instruct"}
