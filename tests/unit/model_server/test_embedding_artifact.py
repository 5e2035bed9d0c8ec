"""What is derived from an embedding folder: built once, of these weights, by one of two starts at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ModelArtifact, ensure_artifact, read_artifact
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from assistant.tenant.tenant import EmbeddingSection
from tests.unit.model_server.tiny_bert import TinyBert


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


def test_its_tokenizer_neither_cuts_nor_pads(folder: Path, tmp_path: Path) -> None:
    ensure_artifact(settings(folder, tmp_path))

    tokenizer = Tokenizer.from_file(str(tmp_path / "models" / "tiny-bert" / "tokenizer.json"))
    assert len(tokenizer.encode("refill " * 20)) == 22
    assert len(tokenizer.encode("refill")) == 3


def test_a_second_start_builds_nothing(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    ensure_artifact(chosen)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models" / "tiny-bert").glob("*.json")}

    ensure_artifact(chosen)

    assert len(before) == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_weights_make_another_artifact(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    first = ensure_artifact(chosen)

    TinyBert(seed=1).write(folder)

    assert ensure_artifact(chosen).digest != first.digest


def test_a_changed_limit_is_described_anew(folder: Path, tmp_path: Path) -> None:
    ensure_artifact(settings(folder, tmp_path))

    assert ensure_artifact(settings(folder, tmp_path, max_input_tokens=16)).max_input_tokens == 16


def test_another_pooling_makes_another_artifact(folder: Path, tmp_path: Path) -> None:
    chosen = settings(folder, tmp_path)
    mean = ensure_artifact(chosen)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')

    cls = ensure_artifact(chosen)

    assert (mean.pooling, cls.pooling) == ("mean", "cls")


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


def test_the_packaged_models_have_their_published_names(tmp_path: Path) -> None:
    names = {
        task: locate_weights(ModelServerSettings(task=task, artifacts_dir=tmp_path)).name
        for task in ("embedding", "generation")
    }

    assert names == {"embedding": "all-MiniLM-L6-v2", "generation": "SmolLM2-135M-Instruct"}
