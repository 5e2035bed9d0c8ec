"""Entry of the SageMaker training job that compiles a model for Inferentia2 or Trainium.

It runs in the serving image itself, on its Python 3.10, with what the standard library has. It exports by
optimum-neuron 0.4.5 (commit abf59858), checks files, numbers and memory against the artifact's manifest, and
leaves exactly the manifest's files in ``model/artifact``, with their hashes in ``model/artifact.json``. It
fetches nothing: the weights are the channel ``weights``.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from math import prod
from pathlib import Path
from typing import Any

PLACES = Path("/opt/ml")
ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_GB = 1e9
_SHARDS = "checkpoint/weights/tp{rank}_sharded_checkpoint.safetensors"
"""Weights of one core: optimum/neuron/models/inference/backend/pretrained_model.py:50, 194."""
_LARGER = 1.01
"""Of the shards, which hold norms and ranks once a core."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class CompileError(Exception):
    """What is wrong, and what to do."""


def compile_artifact(root: Path) -> str:
    """Compile what the hyperparameter ``manifest`` names; return what was made. Raises CompileError."""
    given = json.loads((root / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    wanted = json.loads(given["manifest"])
    weights, made = root / "input/data/weights", root / "model/artifact"
    if not (weights / "config.json").is_file():
        raise CompileError(f"The weights of {wanted['name']} have no config.json: put the whole model there.")
    cache_bytes(wanted, weights)  # before an hour of compiling
    _export(wanted, weights, made)
    _complete(wanted, weights, made)
    check_numbers(wanted, made)
    memory = check_memory(wanted, made)
    files = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
    left_out = sorted(files.keys() - set(wanted["files"]))
    for name in left_out:  # the endpoint's role may not read it, and fetches all there is
        files.pop(name).unlink()
    hashes = {name: _sha256(path) for name, path in files.items()}
    made_of = {"name": wanted["name"], "sha256": hash_of(hashes), "memory": memory, "left_out": left_out}
    (root / "model/artifact.json").write_text(json.dumps({**made_of, "files": hashes}), encoding="utf-8")
    return json.dumps(made_of)


def hash_of(hashes: dict[str, str]) -> str:
    """Return the artifact's hash: of the lines that sha256sum writes for its files, in their order.

    ``find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum``
    """
    lines = (f"{hashes[name]}  ./{name}\n" for name in sorted(hashes, key=os.fsencode))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _export(wanted: dict[str, Any], weights: Path, made: Path) -> None:
    """Run the export. It never loads a core: the chip's memory is checked below, by the sum."""
    # The task of a folder cannot be looked up: without a network "auto" fails.
    command = ["optimum-cli", "export", "neuron", f"--model={weights}", "--task=text-generation"]
    command += [f"--{name}={wanted[name]}" for name in ("batch_size", "sequence_length")]
    command.append(f"--tensor_parallel_size={wanted['tensor_parallel']}")
    command.append(f"--instance_type={wanted['accelerator']}")
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        [*command, str(made)],
        env={**os.environ, **_OFFLINE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as export:
        for line in export.stdout or ():
            sys.stdout.write(line)
            last.append(line)
    if export.returncode:
        raise CompileError(f"The export ended with {export.returncode}: {''.join(last)[-700:].strip()}")


def _complete(wanted: dict[str, Any], weights: Path, made: Path) -> None:
    """Add files that the export does not write, and the chat template that the manifest chose."""
    for name in wanted["files"]:
        compiled = name.startswith(("checkpoint/", "model.pt", "neuron_config"))
        chosen = name == wanted["chat_template"] or not (made / name).exists()
        if chosen and not compiled and (weights / name).is_file():
            shutil.copyfile(weights / name, made / name)
    if missing := [name for name in wanted["files"] if not (made / name).is_file()]:
        raise CompileError(
            f"Neither the export nor the weights have {', '.join(missing)}. Put them beside the weights, or "
            "take them out of the manifest's files."
        )


def check_numbers(wanted: dict[str, Any], made: Path) -> None:
    """Compare what was compiled with the manifest: the server refuses to start where it differs.

    optimum/commands/neuron/serve.py:142-168. inf2 and trn1 are one target, trn1:
    optimum/neuron/utils/instance.py:25.
    """
    neuron: dict[str, Any] = json.loads((made / "neuron_config.json").read_text(encoding="utf-8"))
    expected = {
        "batch_size": wanted["batch_size"],
        "sequence_length": wanted["sequence_length"],
        "tp_degree": wanted["tensor_parallel"],
        "torch_dtype": wanted["dtype"],
        "continuous_batching": wanted["continuous_batching"],
        "target": "trn1",
    }
    found = {name: neuron.get(name) for name in expected}
    found["torch_dtype"] = str(found["torch_dtype"]).removeprefix("torch.")
    if wrong := [name for name, value in expected.items() if found[name] != value]:
        said = "; ".join(f"{name} is {found[name]}, the manifest says {expected[name]}" for name in wrong)
        raise CompileError(f"neuron_config.json: {said}.")


def check_memory(wanted: dict[str, Any], made: Path) -> str:
    """Return the sum of weights and cache, as they were compiled.

    Raises CompileError with the sum where it is not the manifest's, or does not fit the instance's cores.
    """
    ranks = range(wanted["tensor_parallel"])
    shards = [_tensor_bytes(made / _SHARDS.format(rank=rank)) for rank in ranks]
    cache = cache_bytes(wanted, made)
    total = f"{(sum(shards) + cache) / _GB:.1f} GB"
    said = f"weights {sum(shards) / _GB:.1f} GB + key-value cache {cache / _GB:.1f} GB = {total}"
    if sum(shards) > _LARGER * wanted["weights_bytes"]:
        manifest = f"weights_bytes = {wanted['weights_bytes']}"
        raise CompileError(
            f"{said}; the manifest says {manifest}: write {sum(shards)} and look if that fits."
        )
    if len(ranks) * max(shards) + cache > wanted["usable_bytes"]:
        raise CompileError(
            f"{said} does not fit {len(ranks)} cores of {wanted['instance']}, which give "
            f"{wanted['usable_bytes'] / _GB:.1f} GB. Fewer streams (batch_size), shorter ones "
            "(sequence_length) or more cores (tensor_parallel)."
        )
    return said


def cache_bytes(wanted: dict[str, Any], folder: Path) -> int:
    """Return the key-value cache of all cores, as optimum-neuron allocates it for the folder's model.

    optimum/neuron/models/inference/backend/modules/kvcache/kv_cache_manager.py:46-63; the manifest's check
    leaves only the cases in which heads are split evenly or copied once a core (attention/gqa.py:58).
    Raises CompileError where it is not the manifest's.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = max(config["num_key_value_heads"], wanted["tensor_parallel"])
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    shape = (wanted["batch_size"], heads, wanted["sequence_length"], size, config["num_hidden_layers"], 2)
    cache = prod(shape) * ITEM_BYTES[wanted["dtype"]]
    if cache != wanted["cache_bytes"]:
        raise CompileError(
            f"config.json: {config['num_hidden_layers']} layers, {config['num_key_value_heads']} key-value "
            f"heads of {size} make a cache of {cache / _GB:.1f} GB; the manifest's make "
            f"{wanted['cache_bytes'] / _GB:.1f} GB. Correct its layers, kv_heads and head_size."
        )
    return cache


def _tensor_bytes(path: Path) -> int:
    """Return the bytes of the tensors: of the file without the length of its header, and that header."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main(root: Path = PLACES) -> int:
    """Return the exit status. SageMaker tells the beginning of ``output/failure`` as the failure's reason."""
    try:
        sys.stdout.write(f"{compile_artifact(root)}\n")
    except Exception as error:  # noqa: BLE001 - without the file SageMaker tells only an exit status
        reason = str(error) if isinstance(error, CompileError) else f"{type(error).__name__}: {error}"
        (root / "output").mkdir(parents=True, exist_ok=True)
        (root / "output/failure").write_text(reason[:1000], encoding="utf-8")
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:])))
