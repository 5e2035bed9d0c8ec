"""What must hold of every image definition, whether or not Docker runs here."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

from assistant.options.desk.stack import MOVER
from assistant.options.models_lab.stack.learning import RELEASE
from tests.stage.image_build import context_files

ROOT = Path(__file__).parents[2]
DEFINITIONS = sorted((ROOT / "containers").glob("*/Dockerfile"))
OF_ASSISTANT = [one for one in DEFINITIONS if one.parent.name != "training_job"]
"""A job imports nothing of ours, and starts as root, which owns its folders."""
OWN_ENTRY = [one for one in DEFINITIONS if one.parent.name != "corpus_job"]
"""The base of the corpus job, which is EMR Serverless's, brings its entry point and its user."""
own_entry = pytest.mark.parametrize("definition", OWN_ENTRY, ids=lambda path: path.parent.name)
of_assistant = pytest.mark.parametrize("definition", OF_ASSISTANT, ids=lambda path: path.parent.name)
each = pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.parent.name)
MOST_BYTES = 4 * 1024 * 1024
"""The service's code, with what it says of itself, and its lock fill 3.1 MiB, its page 0.3."""
JOB = "containers/corpus_job/job.py"
IMPORTED_BY_NAME = {
    "assistant.service": ("assistant.options.sources.task",),
    "awslambdaric": (f"lambdas.{MOVER}", "assistant.options.models_lab.make_sets"),
}
"""Program = modules that no import statement of it names, scheduled tasks of its image among them."""


def instructions(definition: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(str(definition), cache_content=True)
    return [(step["instruction"].upper(), step["value"]) for step in parser.structure]


def final(definition: Path, instruction: str) -> list[str]:
    """Return the values of an instruction in the last stage, which is the image."""
    steps = instructions(definition)
    start = max(number for number, (name, _) in enumerate(steps) if name == "FROM")
    return [value for name, value in steps[start:] if name == instruction]


@each
def test_the_linter_finds_nothing(definition: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, definition], capture_output=True, text=True, timeout=30, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@each
def test_every_stage_stands_on_the_one_pinned_base(definition: Path) -> None:
    stages = [value.split(" AS ") for name, value in instructions(definition) if name == "FROM"]
    named = {stage[1] for stage in stages[:-1]}
    assert {base for base, *_ in stages} - named == {"${PYTHON_IMAGE}"}
    assert [value for name, value in instructions(definition) if name == "ARG"] == ["PYTHON_IMAGE"]


@each
def test_packages_are_installed_from_a_lock_by_hash_only(definition: Path) -> None:
    installs = [value for name, value in instructions(definition) if name == "RUN" and " pip " in value]
    assert installs
    assert all("--require-hashes" in command and "--only-binary :all:" in command for command in installs)


def test_the_corpus_job_stands_on_spark_as_the_stack_s_release_and_ends_as_its_user() -> None:
    (definition,) = [one for one in DEFINITIONS if one not in OWN_ENTRY]
    base = (definition.parent / "base-image.lock").read_text(encoding="utf-8").splitlines()[-1]
    assert base.startswith(f"public.ecr.aws/emr-serverless/spark/{RELEASE}:")
    # https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/application-custom-image.html
    assert final(definition, "USER") == ["hadoop:hadoop"]
    assert final(definition, "ENTRYPOINT") == final(definition, "CMD") == []


@pytest.mark.parametrize(
    "definition", [one for one in OF_ASSISTANT if one in OWN_ENTRY], ids=lambda path: path.parent.name
)
def test_the_image_runs_as_nobody_in_particular(definition: Path) -> None:
    user = final(definition, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


@own_entry
def test_no_shell_stands_between_the_signal_and_the_process(definition: Path) -> None:
    assert json.loads(final(definition, "ENTRYPOINT")[-1])[0] == "python"
    assert final(definition, "STOPSIGNAL") == ["SIGTERM"]


@each
def test_the_image_holds_no_secret_and_no_build_step(definition: Path) -> None:
    assert final(definition, "RUN") == []
    assert [name for name, _ in instructions(definition) if name == "ADD"] == []
    assert "SECRET" not in " ".join(final(definition, "ENV")).upper()


@of_assistant
def test_the_context_is_small_and_holds_nothing_private(definition: Path) -> None:
    names = context_files(definition, ROOT)
    assert sum((ROOT / name).stat().st_size for name in names) < MOST_BYTES
    others = {"learning": {"lambdas"}, "corpus_job": {"containers"}}
    beside = others.get(definition.parent.name, set())
    assert {name.split("/")[0] for name in names} == beside | {"assistant", "requirements"}
    assert {name for name in names if name.startswith("containers/")} <= {JOB}
    assert [
        name for name in names if "__pycache__" in name or name.endswith((".sqlite", ".ts", ".tsx"))
    ] == []
    # Tables beside our own code; a tenant's file is mounted.
    assert {name.split("/")[0] for name in names if name.endswith(".toml")} <= {"assistant"}


@of_assistant
def test_the_context_holds_every_module_that_the_process_may_import(definition: Path) -> None:
    needed = {name for start in started(definition) for name in reached(start)}
    assert len(needed) > 10
    assert sorted(needed - set(context_files(definition, ROOT))) == []


def test_the_context_of_the_training_job_is_its_lock_and_its_programs() -> None:
    (definition,) = [one for one in DEFINITIONS if one.parent.name == "training_job"]
    assert sorted(context_files(definition, ROOT)) == [
        "containers/training_job/contract.py",
        "containers/training_job/requirements.txt",
        "containers/training_job/train.py",
        "containers/training_job/train_lora.py",
    ]


def started(definition: Path) -> list[str | None]:
    """Return the files that the image is started with: Lambda names the handler, EMR Serverless the job."""
    if definition not in OWN_ENTRY:
        return [JOB]
    *_, module = json.loads(final(definition, "ENTRYPOINT")[-1])
    return [file_of(name) for name in (f"{module}.__main__", *IMPORTED_BY_NAME.get(module, ()))]


def reached(start: str | None) -> set[str]:
    """Return the files of all our modules that are imported from one, at its top or inside its functions."""
    found: set[str] = set()
    ahead = {start}
    while ahead:
        name = ahead.pop()
        if name is not None and name not in found:
            found.add(name)
            ahead |= {file_of(module) for module in imported(ROOT / name)}
    return found


def imported(file: Path) -> Iterator[str]:
    """Yield the names that a file imports when it runs, each with the packages that it lies in."""
    module = ast.parse(file.read_bytes())
    module.body = [node for node in module.body if not is_for_types(node)]
    for node in ast.walk(module):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def file_of(module: str) -> str | None:
    """Return the file of a module of ours, relative to the repository; None for any other name."""
    if module.partition(".")[0] not in ("assistant", "lambdas", "tools"):
        return None
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if (ROOT / name).is_file()), None)
