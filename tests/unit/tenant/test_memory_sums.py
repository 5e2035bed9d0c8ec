"""The manifests' sums beside a stand-in that adds up every tensor of a core: they agree, right and wrong."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from assistant.tenant.manifests import (
    DEFAULT_INSTANCES,
    LlmManifest,
    check_llm_fit,
    instance_named,
    load_llm_manifest,
    memory_of,
)
from tests.fakes import neuron_container
from tests.fakes.neuron_container import Architecture

ROOT = Path(__file__).parents[3]
LLMS = ROOT / "model_artifacts" / "llm"
# From the config.json of each model on the hub, as the manifests' heads say for the first.
QWEN3_8B = Architecture(
    hidden=4096,
    intermediate=12288,
    layers=36,
    query_heads=32,
    kv_heads=8,
    head_size=128,
    vocabulary=151936,
)
LARGER = replace(QWEN3_8B, hidden=5120, intermediate=17408, layers=40, query_heads=40)
LARGEST = replace(LARGER, intermediate=25600, layers=64, query_heads=64)
EVERY_HEAD = replace(QWEN3_8B, kv_heads=32)


@dataclass(frozen=True)
class Row:
    """A manifest, what its model is, and where it is to run."""

    what: str
    instance: str = "inf2.8xlarge"
    model: Architecture = QWEN3_8B
    changed: dict[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        accelerator = self.instance.split(".")[0]
        text = (LLMS / f"qwen3-8b-{accelerator}" / "manifest.toml").read_text()
        model, item = self.model, {"bfloat16": 2, "float32": 4}[self.model.dtype]
        weights = sum(neuron_container.size_of(*shape) for shape in model.shapes().values())
        return tomllib.loads(text) | {
            "layers": model.layers,
            "kv_heads": model.kv_heads,
            "head_size": model.head_size,
            "dtype": model.dtype,
            "parameters": weights // item,
            "weights_bytes": weights,
            **self.changed,
        }


RIGHT = [
    Row("Inferentia2 as shipped"),
    Row("Trainium as shipped", "trn1.2xlarge"),
    Row("the most streams that fit", changed={"batch_size": 10}),
    Row("the fewest that batch", changed={"batch_size": 2}),
    Row("more cores", "inf2.24xlarge", changed={"tensor_parallel": 8, "batch_size": 48}),
    Row("a larger model on more cores", "inf2.24xlarge", LARGER, {"tensor_parallel": 4}),
    Row("the largest on Trainium", "trn1.32xlarge", LARGEST, {"tensor_parallel": 8, "batch_size": 4}),
    Row("as many cores as heads", "trn1.32xlarge", EVERY_HEAD, {"tensor_parallel": 32, "batch_size": 16}),
]
WRONG = [
    Row("one stream too many", changed={"batch_size": 11}),
    Row("one stream too many on Trainium", "trn1.2xlarge", changed={"batch_size": 11}),
    Row("twice the streams", changed={"batch_size": 16}),
    Row("twice the length", changed={"sequence_length": 16384}),
    Row("few streams of a very long context", changed={"batch_size": 3, "sequence_length": 40960}),
    Row("one core has half of the memory", changed={"tensor_parallel": 1}),
    Row("one core, few streams", changed={"tensor_parallel": 1, "batch_size": 2}),
    Row("more cores than there are", changed={"tensor_parallel": 4}),
    Row("more cores than the largest has", "inf2.48xlarge", changed={"tensor_parallel": 32}),
    Row("more cores than Trainium has", "trn1.2xlarge", changed={"tensor_parallel": 8}),
    Row("cores and heads that do not divide: a cache for each query head", changed={"tensor_parallel": 3}),
    Row(
        "the same where a sum by key-value heads would fit",
        "inf2.24xlarge",
        changed={"tensor_parallel": 12, "batch_size": 32},
    ),
    Row("a host that cannot load the weights", "inf2.xlarge"),
    Row("a host that cannot load, few streams", "inf2.xlarge", changed={"batch_size": 2}),
    Row("numbers of 32 bits", model=replace(QWEN3_8B, dtype="float32")),
    Row("a larger model", model=LARGER),
    Row("a larger model, fewest streams", model=LARGER, changed={"batch_size": 2, "sequence_length": 2048}),
    Row("the largest model", model=LARGEST),
    Row("the largest on a small Trainium", "trn1.2xlarge", LARGEST),
    Row("a model with a key-value head for each query head", model=EVERY_HEAD),
    Row("the largest on twelve cores", "inf2.24xlarge", LARGEST, {"tensor_parallel": 4, "batch_size": 2}),
    Row(
        "heads copied once a core",
        "inf2.48xlarge",
        changed={"tensor_parallel": 24, "batch_size": 128},
    ),
    Row("one stream compiles no continuous batching", changed={"batch_size": 1}),
    Row("an accelerator without continuous batching", changed={"continuous_batching": False}),
]


def ours(row: Row) -> LlmManifest | None:
    """Return the manifest if the checks accept it on its instance."""
    try:
        manifest = LlmManifest.model_validate_json(json.dumps(row.manifest()), strict=True)
        check_llm_fit(manifest, instance_named(f"ml.{row.instance}"))
    except (ValidationError, ConfigurationError):
        return None
    return manifest


def theirs(
    row: Row, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, int] | None:
    """Return the stand-in's sums if it serves what it exported."""
    wanted, artifact = row.manifest(), folder / "artifact"
    if not wanted["continuous_batching"]:
        # the export takes no such option: whoever means it compiles one stream
        wanted["batch_size"] = 1
    numbers = [f"--batch_size={wanted['batch_size']}", f"--sequence_length={wanted['sequence_length']}"]
    numbers.append(f"--tensor_parallel_size={wanted['tensor_parallel']}")
    monkeypatch.setenv(neuron_container.VARIABLE, row.instance)
    weights = row.model.write(folder / "weights")
    exported = ["export", "neuron", "--task=text-generation", f"--model={weights}", *numbers, str(artifact)]
    neuron_container.main(exported)
    try:
        neuron_container.main(["neuron", "serve", f"--model={artifact}", *numbers])
    except (ValueError, MemoryError):
        return None
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("row", RIGHT, ids=lambda row: row.what)
def test_both_accept_and_have_the_same_sums(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, served = ours(row), theirs(row, tmp_path, monkeypatch, capsys)

    assert manifest is not None
    assert served is not None
    assert served["cache"] == memory_of(manifest).cache
    # norms and ranks lie on each core once more
    assert served["weights"] == pytest.approx(manifest.weights_bytes, rel=0.002)


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row.what)
def test_both_refuse(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ours(row) is None
    assert theirs(row, tmp_path, monkeypatch, capsys) is None


def test_at_least_twenty_wrong_manifests_are_compared() -> None:
    assert len(WRONG) >= 20


def test_every_shipped_manifest_has_the_sum_of_its_tensors() -> None:
    """For a GPU one file of whole tensors; for the CPU the installed file, whose cache has 16 bits."""
    for path in LLMS.glob("*/manifest.toml"):
        manifest = load_llm_manifest(path.parent)
        check_llm_fit(manifest, instance_named(DEFAULT_INSTANCES[manifest.accelerator]))
        if manifest.accelerator == "cpu":
            file = locate_weights(ModelServerSettings(task="generation")).file
            weights, config = file.stat().st_size, gguf_config(file)
        else:
            config = QWEN3_8B.config()
            weights = sum(neuron_container.size_of(*shape) for shape in QWEN3_8B.shapes().values())
        neuron = {
            "batch_size": manifest.batch_size,
            "sequence_length": manifest.sequence_length,
            "tp_degree": manifest.tensor_parallel,
            "torch_dtype": "bfloat16",
        }
        cache = sum(
            neuron_container.size_of(*shape) for shape in neuron_container.cache_shapes(config, neuron)
        )
        needed = memory_of(manifest)
        assert (needed.weights, needed.cache) == (weights, cache * manifest.tensor_parallel), manifest.name


def gguf_config(file: Path) -> dict[str, int]:
    reader = GGUFReader(file)

    def number(name: str) -> int:
        entry = reader.get_field(f"llama.{name}")
        assert entry is not None
        return int(entry.contents())

    return {
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "hidden_size": number("embedding_length"),
    }
