"""Orders to ``model_artifacts/jobs.py``, which starts jobs and trial endpoints by SageMaker's Python SDK.

The SDK is 731 MB in an environment of its own, which only whoever starts such jobs installs
(docs/decisions/0101-jobs-by-the-sdk.md). That script reads an order from stdin and answers on stdout:

    {"kind": "training_job", "region": "eu-central-1", "name": "compile-…", "instance": "ml.trn1.32xlarge", …}
    {"arn": "arn:aws:sagemaker:…"}        or {"error": "…"} where AWS or the SDK refused
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from assistant.domain.errors import ConfigurationError, DeploymentError

_STAMP = "build/sagemaker/stamp"
"""``make sagemaker-sdk`` writes it last, into the environment's folder."""
_LIMIT_S = 600.0
"""For an import of 4 s and at most three calls, each with the retries of boto3."""


def require_sdk(root: Path) -> Path:
    """Return the Python that has the SDK. Raises ConfigurationError where it is not installed."""
    if not (stamp := root / _STAMP).exists():
        raise ConfigurationError(
            f"SageMaker's SDK is not installed in {stamp.parent}. Run: make sagemaker-sdk"
        )
    return stamp.parent / "bin/python"


def start(
    kind: Literal["training_job", "endpoint"], order: Mapping[str, Any], *, region: str, root: Path
) -> str:
    """Start a job or an endpoint, and return its ARN. It does not wait for its end.

    ``order``: what the function of this ``kind`` in ``model_artifacts/jobs.py`` reads. ``root``: the
    checkout.

    Raises ConfigurationError without the SDK, DeploymentError for what AWS or the SDK refused.
    """
    try:
        done = subprocess.run(
            [require_sdk(root), root / "model_artifacts/jobs.py"],
            input=json.dumps({"kind": kind, "region": region, **order}),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(
            f"SageMaker's SDK did not answer within {_LIMIT_S:.0f} s. Was {order['name']} started?"
        ) from None
    if done.returncode:
        raise DeploymentError(f"model_artifacts/jobs.py ended with {done.returncode}: {done.stderr[-2000:]}")
    answer: Mapping[str, str] = json.loads(done.stdout)
    if "error" in answer:
        raise DeploymentError(answer["error"])
    return answer["arn"]
