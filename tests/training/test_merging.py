"""That torch and the runtime compute the same from what ``assistant models merge`` writes, and that peft
merges alike: the packaged model, with an adapter of random numbers.

``make check-training`` runs it: torch is in an environment of its own (5.6 GB), so CI does not.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from assistant.model_server.embedding_graph import read_safetensors
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.llama_weights import FOLDER, GGUF, write_weights
from assistant.model_server.weights import locate_weights, read_tokenizer
from assistant.settings.process import ModelServerSettings
from tests.training.test_training_job import LIMIT_S, PYTHON

pytestmark = pytest.mark.timeout(2 * LIMIT_S)
TOLERANCE = 0.02
"""Of a log-probability, over all 49,152 words: the runtime keeps its cache in 16 bits."""
TEXT = "<|im_start|>user\nWhat are the symptoms of gout?<|im_end|>\n<|im_start|>assistant\n"
IN_TORCH = """
import json, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
base, adapter, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
torch.manual_seed(3)
model = AutoModelForCausalLM.from_pretrained(base)
with torch.no_grad():
    plain = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, 0.01)
    tuned.save_pretrained(adapter)
    merged = tuned.merge_and_unload()
    after = torch.log_softmax(merged(torch.tensor([ids])).logits[0, -1], -1)
sample = merged.state_dict()["model.layers.3.self_attn.k_proj.weight"]
print(json.dumps({"plain": plain.tolist(), "after": after.tolist(), "sample": sample.tolist()}))
"""


def in_runtime(path: Path, ids: list[int]) -> dict[int, float]:
    runtime = LlamaRuntime(path, model="m", slots=1, context_tokens=512, threads=2)
    runtime.start()
    with httpx.Client(
        base_url=runtime.address, headers=runtime.authorization, trust_env=False, timeout=LIMIT_S
    ) as client:
        body = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": 49_152}
        found = client.post("/completion", json=body).raise_for_status().json()
    runtime.close()
    return {each["id"]: each["logprob"] for each in found["completion_probabilities"][0]["top_logprobs"]}


def test_torch_and_the_runtime_give_the_same_words_their_chance(tmp_path: Path) -> None:
    packaged = locate_weights(ModelServerSettings(task="generation", artifacts_dir=tmp_path)).path
    write_weights(packaged, None, tmp_path / "base", types="f32")
    ids = read_tokenizer(tmp_path / "base" / FOLDER / "tokenizer.json").encode(TEXT).ids
    ended = subprocess.run(
        [PYTHON, "-c", IN_TORCH, tmp_path / "base" / FOLDER, tmp_path / "adapter", json.dumps(ids)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    torch: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    write_weights(packaged, tmp_path / "adapter", tmp_path / "tuned", types="f32")
    for name, folder in (("plain", "base"), ("after", "tuned")):
        served = in_runtime(tmp_path / folder / GGUF, ids)
        assert len(served) == len(torch[name])
        differences = [abs(served[token] - chance) for token, chance in enumerate(torch[name])]
        assert max(differences) < TOLERANCE, name
    moved = np.abs(np.array(torch["plain"]) - np.array(torch["after"])).max()
    assert moved > 10 * TOLERANCE, "the adapter changes nothing"
    ours = read_safetensors(tmp_path / "tuned" / FOLDER / "model.safetensors")
    sample = ours["model.layers.3.self_attn.k_proj.weight"]
    assert np.allclose(sample, np.array(torch["sample"]), atol=1e-6), "peft merges otherwise"
