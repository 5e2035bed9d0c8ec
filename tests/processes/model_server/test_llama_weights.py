"""Weights from a GGUF to a folder of Hugging Face and back, with an adapter: numbers, refusals, the runtime.

That torch computes the same from the folder is shown where torch is (tests/training/test_merging.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFReader

from assistant.domain.errors import ConfigurationError
from assistant.model_server.embedding_graph import read_safetensors
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.llama_weights import FOLDER, GGUF, write_safetensors, write_weights
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings
from tests.processes.model_server.tiny_gguf import HIDDEN, write_tiny_gguf

Q_PROJ = "model.layers.0.self_attn.q_proj"
DOWN_PROJ = "model.layers.0.mlp.down_proj"
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": False}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    packaged = locate_weights(ModelServerSettings(task="generation", artifacts_dir=folder)).path
    return write_tiny_gguf(folder / "tiny.gguf", vocabulary_of=packaged, cutting="smollm")


def adapter(folder: Path, shapes: dict[str, tuple[int, int]], **changed: Any) -> Path:
    """Write an adapter with random pairs for modules of (rows, columns)."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | changed))
    rng = np.random.default_rng(5)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for module, (rows, columns) in shapes.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = rng.normal(0, 0.3, (2, columns)).astype(
            np.float32
        )
        tensors[f"base_model.model.{module}.lora_B.weight"] = rng.normal(0, 0.3, (rows, 2)).astype(np.float32)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def tensors_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    reader: Any = GGUFReader(path)
    return {tensor.name: tensor.data for tensor in reader.tensors}


def most_likely(path: Path) -> dict[int, float]:
    """Return the runtime's log-probabilities of the word after a few tokens."""
    runtime = LlamaRuntime(path, model="tiny", slots=1, context_tokens=256, threads=1)
    runtime.start()
    with httpx.Client(base_url=runtime.address, headers=runtime.authorization, trust_env=False) as client:
        body = {"prompt": [5, 9, 300, 17], "n_predict": 1, "temperature": 0, "n_probs": 100_000}
        found = client.post("/completion", json=body).raise_for_status().json()
    runtime.close()
    return {each["id"]: each["logprob"] for each in found["completion_probabilities"][0]["top_logprobs"]}


def test_without_an_adapter_the_file_keeps_its_numbers_and_fields(tmp_path: Path, base: Path) -> None:
    write_weights(base, None, tmp_path / "out", types="f32")
    before, after = tensors_of(base), tensors_of(tmp_path / "out" / GGUF)
    assert before.keys() == after.keys()
    for name, numbers in before.items():
        assert np.array_equal(numbers, after[name]), name
    fields: list[dict[str, Any]] = [
        {name: field.contents() for name, field in GGUFReader(path).fields.items() if "GGUF." not in name}
        for path in (base, tmp_path / "out" / GGUF)
    ]
    assert fields[0] == fields[1]


def test_an_adapter_is_added_in_the_folder_and_in_the_file(tmp_path: Path, base: Path) -> None:
    write_weights(base, None, tmp_path / "plain", types="f32")
    inner = tensors_of(base)["blk.0.ffn_down.weight"].shape[1]
    given = adapter(tmp_path / "adapter", {Q_PROJ: (HIDDEN, HIDDEN), DOWN_PROJ: (HIDDEN, inner)})
    write_weights(base, given, tmp_path / "tuned", types="f32")
    plain, tuned = (
        read_safetensors(tmp_path / name / FOLDER / "model.safetensors") for name in ("plain", "tuned")
    )
    pairs = read_safetensors(given / "adapter_model.safetensors")
    for name, numbers in plain.items():
        module = name.removesuffix(".weight")
        added = np.zeros_like(numbers)
        if module in (Q_PROJ, DOWN_PROJ):
            down, up = (pairs[f"base_model.model.{module}.lora_{one}.weight"] for one in "AB")
            added = 4 * np.einsum("or,ri->oi", up, down)  # lora_alpha 8 over a rank of 2
        assert np.allclose(tuned[name], numbers + added, atol=1e-6), name
    # The file has the same rows of each head, every second one of a half in turn.
    rows = np.arange(HIDDEN).reshape(2, 2, HIDDEN // 4).swapaxes(1, 2).ravel()
    file = tensors_of(tmp_path / "tuned" / GGUF)
    assert np.array_equal(file["blk.0.attn_q.weight"], tuned[f"{Q_PROJ}.weight"][rows])
    assert np.array_equal(file["blk.0.ffn_down.weight"], tuned[f"{DOWN_PROJ}.weight"])


@pytest.mark.parametrize(("types", "tolerance"), [("f32", 1e-3), ("f16", 0.05), ("q8_0", 0.3)])
def test_the_runtime_serves_each_type(tmp_path: Path, base: Path, types: Any, tolerance: float) -> None:
    given = adapter(tmp_path / "adapter", {Q_PROJ: (HIDDEN, HIDDEN)})
    write_weights(base, given, tmp_path / "exact", types="f32")
    write_weights(base, given, tmp_path / "out", types=types)
    exact, served = most_likely(tmp_path / "exact" / GGUF), most_likely(tmp_path / "out" / GGUF)
    assert max(abs(served[token] - exact[token]) for token in exact) < tolerance
    packaged = most_likely(base)
    assert max(abs(packaged[token] - exact[token]) for token in exact) > 0.05, "the adapter changes nothing"


def test_what_was_written_names_its_origin(tmp_path: Path, base: Path) -> None:
    given = adapter(tmp_path / "adapter", {Q_PROJ: (HIDDEN, HIDDEN)})
    facts = write_weights(base, given, tmp_path / "out", types="f16")
    assert facts == json.loads((tmp_path / "out" / FOLDER / "weights.json").read_text())
    assert facts["base"]["file"] == "tiny.gguf"
    card = {"base_weights": {"base": facts["base"]}}
    (given / "training.json").write_text(json.dumps(card))
    again = write_weights(base, given, tmp_path / "again", types="f16")
    assert again["adapter"]["training"] == card


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"use_dora": True}, "no plain LoRA (use_dora)"),
        ({"rank_pattern": {"q_proj": 4}}, "no plain LoRA (rank_pattern)"),
        ({"peft_type": "IA3"}, "no plain LoRA (IA3)"),
    ],
)
def test_another_adapter_than_plain_lora_is_refused(
    tmp_path: Path, base: Path, changed: dict[str, Any], words: str
) -> None:
    given = adapter(tmp_path / "adapter", {Q_PROJ: (HIDDEN, HIDDEN)}, **changed)
    with pytest.raises(ConfigurationError) as refused:
        write_weights(base, given, tmp_path / "out", types="f16")
    assert words in refused.value.message
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Path) -> None:
    other = {"base_weights": {"base": {"file": "other.gguf", "sha256": "0" * 64}}}
    cases = [
        ({Q_PROJ: (HIDDEN, 2 * HIDDEN)}, None, "has another shape"),
        ({"model.layers.7.self_attn.q_proj": (HIDDEN, HIDDEN)}, None, "the base has no model.layers.7"),
        ({Q_PROJ: (HIDDEN, HIDDEN)}, other, "was trained on other.gguf"),
    ]
    for number, (shapes, card, words) in enumerate(cases):
        given = adapter(tmp_path / f"adapter-{number}", shapes)
        if card is not None:
            (given / "training.json").write_text(json.dumps(card))
        with pytest.raises(ConfigurationError) as refused:
            write_weights(base, given, tmp_path / f"out-{number}", types="f16")
        assert words in refused.value.message


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(ConfigurationError, match="is not empty"):
        write_weights(base, None, tmp_path, types="f16")
