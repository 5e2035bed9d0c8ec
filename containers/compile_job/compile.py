"""Entry of the SageMaker training job that compiles a model for Inferentia2 or Trainium.

``assistant models compile`` starts it in the serving image, on Python 3.10 and with the standard library
alone. It exports the weights with optimum-neuron 0.4.5 (commit abf59858), compares files and numbers
with the artifact's manifest, and leaves exactly the manifest's files in ``model/artifact``. It has no
network. Below the root (``/opt/ml``):

- ``input/config/hyperparameters.json``: ``{"manifest": "<JSON>"}``, from ``_Compiling.wanted`` of
  ``assistant/options/models_lab/commands/compiling.py``: fields of the manifest (``name``, ``files``,
  ``batch_size``, ``sequence_length``, ``tensor_parallel``, ``dtype``, …).
- ``input/data/weights``: the channel with the Hugging Face model.
- ``model/artifact.json``, for ``assistant models compile --promote``: ``{"name": …, "sha256": …,
  "left_out": [], "files": {"config.json": "<sha256>"}}``.
- ``output/failure``: the reason of a failure.

Files that comments name (``optimum/commands/neuron/serve.py``) are optimum-neuron's at that commit.

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
from pathlib import Path
from typing import Any

PLACES = Path("/opt/ml")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class CompileError(Exception):
    """Its text says what is wrong and what to do; it becomes the job's failure reason."""


def compile_artifact(root: Path) -> str:
    """Compile the model of the hyperparameter ``manifest``; return ``model/artifact.json`` without the hashes
    of the files. Raises CompileError."""
    hyperparameters = json.loads((root / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    wanted = json.loads(hyperparameters["manifest"])
    weights, artifact = root / "input/data/weights", root / "model/artifact"
    if not (weights / "config.json").is_file():
        raise CompileError(f"The weights of {wanted['name']} have no config.json: put the whole model there.")
    _export(wanted, weights, artifact)
    _complete(wanted, weights, artifact)
    check_numbers(wanted, artifact)
    files = {path.relative_to(artifact).as_posix(): path for path in artifact.rglob("*") if path.is_file()}
    left_out = sorted(files.keys() - set(wanted["files"]))
    # The endpoint loads the whole folder, and its role may read the manifest's files only.
    for name in left_out:
        files.pop(name).unlink()
    hashes = {name: _sha256(path) for name, path in files.items()}
    summary = {"name": wanted["name"], "sha256": hash_of(hashes), "left_out": left_out}
    (root / "model/artifact.json").write_text(json.dumps({**summary, "files": hashes}), encoding="utf-8")
    return json.dumps(summary)


def hash_of(hashes: dict[str, str]) -> str:
    """Return the artifact's hash: of the lines that sha256sum writes for its files, in the order of their
    names.

    ``find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum``
    """
    lines = (f"{hashes[name]}  ./{name}\n" for name in sorted(hashes, key=os.fsencode))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _export(wanted: dict[str, Any], weights: Path, artifact: Path) -> None:
    """Run the export, and pass its output on. It uses no chip: whether the memory does is known from the
    manifest alone. Raises CompileError with the last lines."""
    # The default, --task=auto, looks the task up on the network, which the job does not have.
    command = ["optimum-cli", "export", "neuron", f"--model={weights}", "--task=text-generation"]
    command += [f"--{name}={wanted[name]}" for name in ("batch_size", "sequence_length")]
    command.append(f"--tensor_parallel_size={wanted['tensor_parallel']}")
    command.append(f"--instance_type={wanted['accelerator']}")
    last_lines: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        [*command, str(artifact)],
        env={**os.environ, **_OFFLINE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as export:
        for line in export.stdout or ():
            sys.stdout.write(line)
            last_lines.append(line)
    if export.returncode:
        raise CompileError(f"The export ended with {export.returncode}: {''.join(last_lines)[-700:].strip()}")


def _complete(wanted: dict[str, Any], weights: Path, artifact: Path) -> None:
    """Copy the manifest's files that the export does not write from the weights, and its chat template even
    over the one of the export. Raises CompileError for files that neither has."""
    for name in wanted["files"]:
        is_compiled = name.startswith(("checkpoint/", "model.pt", "neuron_config"))
        is_wanted = name == wanted["chat_template"] or not (artifact / name).exists()
        if is_wanted and not is_compiled and (weights / name).is_file():
            shutil.copyfile(weights / name, artifact / name)
    if missing := [name for name in wanted["files"] if not (artifact / name).is_file()]:
        raise CompileError(
            f"Neither the export nor the weights have {', '.join(missing)}. Put them beside the weights, or "
            "take them out of the manifest's files."
        )


def check_numbers(wanted: dict[str, Any], artifact: Path) -> None:
    """Compare ``neuron_config.json`` of the export with the manifest: the server refuses to start where they
    differ. Raises CompileError.

    optimum/commands/neuron/serve.py:142-168. inf2 and trn1 are one target, trn1:
    optimum/neuron/utils/instance.py:25.
    """
    neuron: dict[str, Any] = json.loads((artifact / "neuron_config.json").read_text(encoding="utf-8"))
    expected = {
        "batch_size": wanted["batch_size"],
        "sequence_length": wanted["sequence_length"],
        "tp_degree": wanted["tensor_parallel"],
        "torch_dtype": wanted["dtype"],
        "continuous_batching": wanted["continuous_batching"],
        "target": "trn1",
    }
    actual = {name: neuron.get(name) for name in expected}
    actual["torch_dtype"] = str(actual["torch_dtype"]).removeprefix("torch.")
    if wrong := [name for name, value in expected.items() if actual[name] != value]:
        text = "; ".join(f"{name} is {actual[name]}, the manifest says {expected[name]}" for name in wrong)
        raise CompileError(f"neuron_config.json: {text}.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main(root: Path = PLACES) -> int:
    """Return the exit status. SageMaker shows the first 1,024 characters of ``output/failure`` as the
    reason."""
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
