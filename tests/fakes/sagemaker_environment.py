"""``build/sagemaker`` of a checkout under test, and what ``model_artifacts/jobs.py`` asks of AWS.

The SDK is a stand-in (tests/fakes/sagemaker_sdk). With SAGEMAKER_SDK=real, as ``check-models`` says, it
is the one of the environment that ``make sagemaker-sdk`` made.
"""
# pyright: basic

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests/fakes/sagemaker_sdk"


def install_sdk(root: Path, *, real: bool = os.environ.get("SAGEMAKER_SDK") == "real") -> None:
    """Make ``build/sagemaker`` of a checkout."""
    home = root / "build/sagemaker"
    home.parent.mkdir(exist_ok=True)
    if real:
        home.symlink_to(ROOT / "build/sagemaker")
        return
    python = home / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={STAND_IN} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (home / "stamp").touch()


def request_of(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return what CreateTrainingJob is given for an order, by the stand-in."""
    spec = importlib.util.spec_from_file_location("jobs", ROOT / "model_artifacts/jobs.py")
    assert spec is not None
    assert spec.loader is not None
    jobs = importlib.util.module_from_spec(spec)
    requests: list[dict[str, Any]] = []

    class Session:
        def client(self, *_: str) -> Any:
            return self

        def create_training_job(self, **request: Any) -> None:
            requests.append(request)

        def describe_training_job(self, **_: str) -> dict[str, str]:
            return {"TrainingJobArn": "arn"}

    with patch.object(sys, "path", [str(STAND_IN), *sys.path]):
        spec.loader.exec_module(jobs)
    jobs.training_job(order, session=Session(), region="us-east-1")
    return requests[0]
