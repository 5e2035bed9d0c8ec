"""Models that a person brings: packaged weights under other names, and a graph that the product builds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from assistant.cli.models import add_model, list_models, use_model
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, NotFoundError
from assistant.model_server.embedding import of_unit_length
from assistant.model_server.embedding_graph import read_safetensors
from assistant.model_server.weights import Wishes, locate_weights, read_tokenizer
from assistant.process.settings import ModelServerSettings
from assistant.tenant.added_models import AddedEmbedding, AddedLlm, AddedModel, TenantModels, read_added_model
from assistant.tenant.manifests import WRITER, AnsweringTable
from assistant.tenant.tenant import EmbeddingSection
from assistant.terminal.terminal import GlobalOptions
from tests.processes.model_server.conftest import Server, Start
from tests.processes.model_server.tiny_gguf import write_tiny_gguf
from tests.processes.model_server.tiny_onnx import table_encoder
from tests.unit.model_server.tiny_bert import TinyBert

GGUF = locate_weights(ModelServerSettings(task="generation")).path
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
    answering = WRITER if brought.pop("writes_answers", False) else AnsweringTable()
    add_model(options, path, Wishes(answering=answering, **brought), tenant="shop")  # type: ignore[arg-type]
    return read_added_model(options.state_dir / "models" / str(brought.get("name") or path.stem))


@pytest.fixture
def llm(tmp_path: Path) -> Path:
    """A model of a megabyte: what is checked of the packaged one's hundred is the same."""
    return write_tiny_gguf(tmp_path / "our-llm.gguf", vocabulary_of=GGUF, cutting="smollm")


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


def test_a_gguf_is_described_and_used_by_the_tenant_that_was_named(options: GlobalOptions, llm: Path) -> None:
    model = add(options, llm)

    assert isinstance(model, AddedLlm)
    assert (model.name, model.task, model.path) == ("our-llm", "generation", llm.resolve())
    models = options.local_models(["shop", "branch"])
    assert models["shop"] == TenantModels.model_validate({"generation": model})
    assert models["branch"] == TenantModels()
    assert options.tenant("shop").generation.model == "our-llm"
    assert not models["shop"].writes(options.tenant("shop"))


def test_a_gguf_that_may_write_is_asked_as_an_instruct_model(options: GlobalOptions, llm: Path) -> None:
    add(options, llm, writes_answers=True, context_tokens=1024)

    models = options.local_models(["shop"])["shop"]
    assert models.generation is not None
    assert (models.generation.answering, models.generation.context_tokens) == (WRITER, 1024)
    assert models.writes(options.tenant("shop"))
    artifact = json.loads((options.state_dir / "models/our-llm/artifact.json").read_bytes())
    assert artifact["answering"] == WRITER.model_dump()


def vectors(server: Server) -> np.ndarray:
    answer = httpx.post(f"{server.url}/invocations", json={"inputs": TEXTS}, timeout=60, trust_env=False)
    return np.array(answer.raise_for_status().json())


def test_an_embedding_folder_gives_the_packaged_model_s_vectors(
    options: GlobalOptions, start: Start, embedding: Server, minilm: Path
) -> None:
    model = add(options, minilm)
    manifest = options.state_dir / "models" / model.name / "manifest.toml"

    with start("embedding", manifest=manifest, artifacts_dir=options.state_dir / "models") as server:
        np.testing.assert_allclose(vectors(server), vectors(embedding), atol=1e-6)
    assert options.tenant("shop").embedding.model == model.name
    assert isinstance(model, AddedEmbedding)
    packaged = EmbeddingSection()
    assert model.cosine_unrelated == pytest.approx(packaged.cosine_unrelated, abs=0.01)
    assert model.cosine_related == pytest.approx(packaged.cosine_related, abs=0.01)


@pytest.mark.parametrize("is_pooled", [True, False])
def test_a_graph_gives_its_vectors_pooled_by_itself_or_by_the_server(
    options: GlobalOptions, onnx: Path, start: Start, is_pooled: bool
) -> None:
    """As encoders are exported: one vector, or a mask beside the ids and the last hidden state."""
    (onnx / "onnx" / "model.onnx").write_bytes(table_encoder(TABLE, is_pooled=is_pooled))
    model = add(options, onnx, pooling="mean")
    manifest = options.state_dir / "models" / model.name / "manifest.toml"
    tokenizer = read_tokenizer(onnx / "tokenizer.json")
    expected = np.stack([TABLE[tokenizer.encode(text).ids].mean(axis=0) for text in TEXTS])

    with start("embedding", manifest=manifest, artifacts_dir=options.state_dir / "models") as server:
        np.testing.assert_allclose(vectors(server), of_unit_length(expected), atol=1e-3)


def test_another_pooling_s_cosines_reach_the_tenant(options: GlobalOptions, minilm: Path) -> None:
    add(options, minilm)
    mean = options.tenant("shop").embedding

    add(options, minilm, pooling="cls")

    cls = options.tenant("shop").embedding
    assert cls.cosine_unrelated > mean.cosine_unrelated + 0.2
    assert cls.cosine_related > mean.cosine_related + 0.2


def test_a_model_of_an_earlier_release_is_measured_when_it_is_added_again(
    options: GlobalOptions, minilm: Path
) -> None:
    model = add(options, minilm)
    manifest = options.state_dir / "models" / model.name / "manifest.toml"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if not line.startswith("cosine_")))
    with pytest.raises(ConfigurationError, match="earlier release"):
        options.tenant("shop")

    assert add(options, minilm) == model

    assert options.tenant("shop").embedding.model == model.name


def test_back_to_the_packaged_models(options: GlobalOptions, llm: Path) -> None:
    add(options, llm)
    use_model(options, tenant="shop", name=None)
    assert options.tenant("shop").generation.model == "SmolLM2-135M-Instruct"

    use_model(options, tenant="branch", name="our-llm")

    assert options.tenant("branch").generation.model == "our-llm"


def test_the_list_shows_every_model_and_its_tenants(
    options: GlobalOptions, llm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(options, llm)
    capsys.readouterr()

    list_models(GlobalOptions(options.tenants_dir, options.state_dir, None, json=True))

    rows = {row["name"]: row["used_by"] for row in json.loads(capsys.readouterr().out)["models"]}
    assert rows == {
        "all-MiniLM-L6-v2": ["branch", "shop"],
        "SmolLM2-135M-Instruct": ["branch"],
        "our-llm": ["shop"],
    }


# --- refused, and nothing is chosen ----------------------------------------------------------------------

Spoil = Callable[[Path], object]


def refused(options: GlobalOptions, path: Path, **brought: object) -> str:
    with pytest.raises(AssistantError) as raised:
        add(options, path, **brought)
    assert options.local_models(["shop"])["shop"] == TenantModels()
    return raised.value.message


def test_a_file_that_is_no_gguf_is_refused(options: GlobalOptions, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    assert "not a GGUF file" in refused(options, tmp_path / "text.gguf")
    assert "no such file" in refused(options, tmp_path / "nowhere.gguf")


@pytest.mark.parametrize("kept", [20, 1_000_000], ids=["header", "tensors"])
def test_a_gguf_that_is_cut_off_is_refused(
    options: GlobalOptions, tmp_path: Path, llm: Path, kept: int
) -> None:
    assert llm.stat().st_size > 1_000_000
    (tmp_path / "cut.gguf").write_bytes(llm.read_bytes()[:kept])
    assert "Fetch it again" in refused(options, tmp_path / "cut.gguf")
    assert not (options.state_dir / "models" / "cut").exists()


def test_an_architecture_that_is_not_known_is_refused(options: GlobalOptions, llm: Path) -> None:
    llm.write_bytes(llm.read_bytes().replace(b"llama", b"lhama"))
    assert 'the architecture "lhama" is unknown' in refused(options, llm)


def test_what_the_runtime_cannot_load_leaves_nothing_behind(options: GlobalOptions, llm: Path) -> None:
    llm.write_bytes(llm.read_bytes().replace(b"output_norm", b"uotput_norm"))
    assert "cannot be served here" in refused(options, llm)
    assert not (options.state_dir / "models" / "our-llm" / "manifest.toml").exists()


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


def test_two_models_of_one_name_are_refused(options: GlobalOptions, llm: Path, tmp_path: Path) -> None:
    first = add(options, llm)
    (tmp_path / "other").mkdir()
    other = write_tiny_gguf(tmp_path / "other" / "our-llm.gguf", vocabulary_of=GGUF, cutting="qwen2")

    with pytest.raises(ConflictError, match="already a model our-llm with other weights"):
        add(options, other)

    assert options.local_models(["shop"])["shop"].generation == first
    add(options, llm)  # the same weights again are no conflict
    with pytest.raises(ConflictError, match="name of a packaged model"):
        add(options, llm, name="SmolLM2-135M-Instruct")


def test_weights_that_changed_since_are_not_served(options: GlobalOptions, llm: Path) -> None:
    model = add(options, llm)
    with llm.open("ab") as file:
        file.write(b"more")

    from assistant.model_server.artifact import ensure_artifact

    settings = ModelServerSettings(
        task="generation",
        manifest=options.state_dir / "models" / model.name / "manifest.toml",
        artifacts_dir=options.state_dir / "models",
    )
    with pytest.raises(ConfigurationError, match="changed since our-llm was added"):
        ensure_artifact(settings)
    llm.unlink()
    with pytest.raises(ConfigurationError, match="are gone"):
        ensure_artifact(settings)


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        ({"name": "../up"}, "Give it one with --name"),
        ({"context_tokens": 1_000_000}, "fewer than --context-tokens"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(
    options: GlobalOptions, llm: Path, brought: dict[str, object], said: str
) -> None:
    assert said in refused(options, llm, **brought)


def test_a_model_that_was_not_added_is_named_with_those_that_were(options: GlobalOptions) -> None:
    with pytest.raises(NotFoundError, match="no added model other; there are: none"):
        use_model(options, tenant="shop", name="other")
    with pytest.raises(ConfigurationError, match="no tenant nobody"):
        use_model(options, tenant="nobody", name=None)
