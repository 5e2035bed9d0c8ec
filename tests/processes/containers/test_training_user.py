"""The training job's entry, started as root as SageMaker does: it goes on as the image's user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

JOB = Path(__file__).parents[3] / "containers/training_job"
PROGRAM = """
import os
def refused(path):
    try:
        path.write_text("changed")
    except PermissionError:
        return True
    return False
def train(places):
    (places.checkpoints / "checkpoint-1" / "whole").write_text("")
    (places.model / "adapter").write_text("weights")
    hyperparameters = places.hyperparameters.read_text()
    return {
        "user": os.getresuid(), "group": os.getresgid(), "groups": os.getgroups(),
        "program_is_refused": refused(places.root.parent / "job" / "train.py"),
        "input_is_refused": refused(places.hyperparameters),
        "root_comes_back": comes_back(), "hyperparameters": hyperparameters,
    }
def comes_back():
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def home() -> Iterator[Path]:
    """SageMaker's folders, root's, with a half-written checkpoint; and the image's programs.

    ``train_lora``, which needs torch, is a program that says who it runs as.
    """
    made = Path(tempfile.mkdtemp(prefix="assistant-training-"))  # other users may not enter tmp_path
    made.chmod(0o755)
    (made / "job").mkdir()
    for name in ("train.py", "contract.py"):
        shutil.copy(JOB / name, made / "job")
    (made / "job" / "train_lora.py").write_text(PROGRAM)
    for folder in ("input/config", "input/data/training", "checkpoints/checkpoint-1", "model"):
        (made / "ml" / folder).mkdir(parents=True)
    (made / "ml/input/config/hyperparameters.json").write_text('{"task": "answers"}')
    (made / "ml/checkpoints/checkpoint-1/weights").write_text("from the last run")
    yield made
    shutil.rmtree(made)


def run(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, home / "job" / "train.py"],
        env={
            "TRAINING_ROOT": str(home / "ml"),
            "TRAINING_USER": image_user(),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        extra_groups=[4],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def image_user() -> str:
    return str(DockerfileParser(str(JOB / "Dockerfile"), cache_content=True).envs["TRAINING_USER"])


def owner(path: Path) -> int:
    return path.stat(follow_symlinks=False).st_uid


def test_the_image_names_a_user_that_is_not_root() -> None:
    assert int(image_user()) > 1000


@needs_root
def test_the_program_trains_as_that_user_and_writes_checkpoints_and_the_model_alone(home: Path) -> None:
    done = run(home)
    assert done.returncode == 0, done.stderr
    facts, user = json.loads(done.stdout), int(image_user())
    assert facts["user"] == facts["group"] == [user, user, user]
    assert facts["groups"] == []
    assert facts["root_comes_back"] is False
    assert owner(home / "ml/model/adapter") == int(image_user())
    assert owner(home / "ml/checkpoints/checkpoint-1/weights") == int(image_user())  # so it can delete it
    assert facts["hyperparameters"] == '{"task": "answers"}'
    assert facts["input_is_refused"] is True
    assert facts["program_is_refused"] is True


@needs_root
def test_a_link_in_a_checkpoint_gives_away_no_other_file(home: Path) -> None:
    (home / "outside").write_text("of root")
    (home / "ml/checkpoints/link").symlink_to(home / "outside")
    assert run(home).returncode == 0
    assert owner(home / "outside") == 0


@needs_root
def test_an_input_that_the_user_cannot_read_ends_the_job_with_the_reason(home: Path) -> None:
    secret = home / "ml/input/data/training/sft.jsonl"
    secret.write_text("")
    secret.chmod(0o600)
    done = run(home)
    assert done.returncode == 1
    assert f"cannot read {secret}" in (home / "ml/output/failure").read_text()
