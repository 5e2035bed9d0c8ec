"""What the learning stack's output says of every training job, and one job that completes it."""

from __future__ import annotations

import json
from typing import Any

from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.commands.training import TrainingJob
from assistant.tenant.manifests import TRAIN_OUTPUT, instance_named
from assistant.terminal.account import AwsAccount
from tests.stacks.values import deployed, stack_with, template_of

DIGEST = f"@sha256:{'a' * 64}"
REGISTRY = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
JOB = TrainingJob(
    AwsAccount(account="111122223333", region="us-east-1"),
    name="answers-2026-11",
    image=f"{REGISTRY}/assistant/train{DIGEST}",
    instance=instance_named("ml.g5.2xlarge"),
    training_set="2026-11/answers/",
    base="llm/qwen3-8b/",
    hyperparameters={"epochs": "3"},
    is_spot=False,
)


def written(value: Any) -> Any:
    """Return a template's value with references as in ``Fn::Sub``."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(written(part) for part in parts)
        case _:
            return value


def shared_request() -> dict[str, Any]:
    """Return what the deployed learning stack of the pharmacy says of every training job."""
    template = template_of(stack_with(LearningStack, deployed("pharmacy")))
    return json.loads(written(template["Outputs"][TRAIN_OUTPUT]["Value"]))
