"""The training job's entry and its program for Trainium, without torch: what is refused, and what Python 3.10
in AWS's image understands."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import make_dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from assistant.options.models_lab.commands.packaging import lineage_of
from assistant.tenant.manifests import LlmManifest

FOLDER = Path(__file__).parents[3] / "containers/training_job"
ON_TRAINIUM = ("contract.py", "train.py", "neuron/train_neuron.py")
"""What ``assistant models train`` puts into the job's channel ``code``."""
OF_THE_IMAGE = {"torch", "torch_xla", "datasets", "optimum", "peft", "transformers"}
"""Packages of AWS's image that the program may import; its Dockerfile names them (train_neuron.py)."""
SINCE_3_11 = {
    "file_digest",
    "StrEnum",
    "TaskGroup",
    "ExceptionGroup",
    "Self",
    "assert_never",
    "tomllib",
    "UTC",
}


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The entry, as the image starts it: its folder is first on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("train", "contract"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import train as entry  # pyright: ignore[reportMissingImports]

    yield entry
    for name in ("train", "contract"):
        sys.modules.pop(name, None)


def given(train: ModuleType, root: Path, **hyperparameters: str) -> object:
    config = root / "input/config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    return train.Places(root)


@pytest.mark.parametrize(
    ("is_neuron", "task", "reason"),
    [
        (True, "preference", "preference is none of domain here: feedback trains on a GPU or CPU"),
        (False, "domain", "domain is none of answers, preference here: continued pre-training is built for"),
    ],
)
def test_what_an_accelerator_cannot_do_is_refused_by_name(
    train: ModuleType, tmp_path: Path, is_neuron: bool, task: str, reason: str
) -> None:
    with pytest.raises(train.TrainingError) as refused:
        train.program_of(given(train, tmp_path, task=task), is_neuron=is_neuron)
    assert reason in str(refused.value)


def test_a_refusal_is_written_where_sagemaker_shows_it(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(train, tmp_path, task="domain")
    monkeypatch.setenv("TRAINING_ROOT", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert "built for Trainium alone" in str(ended.value.code)
    assert "built for Trainium alone" in (tmp_path / "output/failure").read_text()


@pytest.mark.parametrize("left_out", [None, "sft.train.jsonl", "sft.validation.jsonl"])
def test_only_files_that_the_set_names_are_trained_on(
    train: ModuleType, tmp_path: Path, left_out: str | None
) -> None:
    import contract  # pyright: ignore[reportMissingImports]

    files = {f"sft.{split}.jsonl": b'{"id": 1}\n' for split in ("train", "validation")}
    named = {name: sha256(content).hexdigest() for name, content in files.items() if name != left_out}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "manifest.json").write_text(json.dumps({"files": named}))
    if left_out is None:
        assert contract.read_splits(tmp_path, "sft")[1:] == ([{"id": 1}], [{"id": 1}])
        (tmp_path / "sft.train.jsonl").write_bytes(b'{"id": 2}\n')
        left_out = "sft.train.jsonl"
    with pytest.raises(train.TrainingError, match=f"{left_out} is not the one of the manifest"):
        contract.read_splits(tmp_path, "sft")


@pytest.mark.parametrize("name", ON_TRAINIUM)
def test_the_program_for_trainium_is_python_3_10_and_imports_what_its_image_holds(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text(), feature_version=(3, 10))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {module.partition(".")[0] for module in imported}
    beside = {Path(other).stem for other in ON_TRAINIUM}
    assert roots <= sys.stdlib_module_names | OF_THE_IMAGE | beside
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | roots
    names |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert not names & SINCE_3_11


def test_a_card_names_data_weights_and_licences(train: ModuleType, tmp_path: Path) -> None:
    import contract  # pyright: ignore[reportMissingImports]

    places = given(train, tmp_path, task="answers", base_licence="MIT", set_licence="CC-BY-4.0")
    (tmp_path / "input/data/training").mkdir(parents=True)
    (tmp_path / "input/data/training/manifest.json").write_text('{"files": {"sft.train.jsonl": "00"}}')
    (tmp_path / "input/data/model").mkdir()
    wanted = make_dataclass("Wanted", [("epochs", float)])(2.0)
    card = contract.card_of(places, "answers", "2" * 64, wanted, ["pytest"], steps=3)
    assert card["licences"] == {"base": "MIT", "set": "CC-BY-4.0"}
    assert card["set"]["files"] == {"sft.train.jsonl": "00"}
    assert card["base_model"] == contract.digest_of(tmp_path / "input/data/model")
    assert (card["hyperparameters"], card["steps"]) == ({"epochs": 2.0}, 3)
    (tmp_path / "training.json").write_text(json.dumps(card))
    base = LlmManifest.read(FOLDER.parents[1] / "model_artifacts/llm/qwen3-8b-gpu")
    assert lineage_of(base, tmp_path / "training.json").licences == card["licences"]
    given(train, tmp_path, task="answers")
    assert contract.card_of(places, "answers", "22", wanted, [])["licences"]["base"] == "unknown"
