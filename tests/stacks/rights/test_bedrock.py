"""A tenant that writes by Bedrock: its service alone may call its one model, through its own endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stacks.rights.model import Account, read_account
from tests.stacks.rights.requests import ACCOUNT, Request, context_of, judge

MODEL = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"
OTHERS = (
    "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
    "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0",
    f"arn:aws:bedrock:us-east-1:{ACCOUNT}:inference-profile/us.amazon.nova-lite-v1:0",
)
OF_AWS = "999988887777"
"""The account that owns models, which is not the tenant's."""
STREAM = "bedrock:InvokeModelWithResponseStream"


@pytest.fixture(scope="module")
def sandbox(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Account:
    folder = tmp_path_factory.mktemp("sandbox")
    for stage in ("Sandbox", "Account-111122223333-us-east-1"):
        (folder / f"assembly-{stage}").symlink_to(assembly / f"assembly-{stage}")
    return read_account(folder)


def may(account: Account, action: str, model: str) -> set[str]:
    """Return the roles that may call the model from the tenant's network."""
    roles, endpoint = account.of("sandbox")[0], account.endpoints["sandbox"]["bedrock-runtime"]
    asked = [
        Request(
            principal=role.arn,
            action=action,
            resource=model,
            account=ACCOUNT,
            context=context_of(role, **{"aws:ResourceAccount": OF_AWS}),
            identity=tuple(role.policies.values()),
            boundary=account.policies[role.boundary] if role.boundary else None,
            endpoint=endpoint,
        )
        for role in roles
    ]
    return {
        role.logical_id for role, judgement in zip(roles, judge(asked), strict=True) if judgement.is_allowed
    }


def test_the_service_s_role_alone_calls_the_tenant_s_model(sandbox: Account) -> None:
    (role,) = may(sandbox, STREAM, MODEL)
    assert role.startswith("TaskRole")


@pytest.mark.parametrize("model", OTHERS)
def test_nobody_calls_another_model_region_or_profile(sandbox: Account, model: str) -> None:
    assert may(sandbox, STREAM, model) == set()


@pytest.mark.parametrize("action", ["bedrock:InvokeModel", "bedrock:CreateModelInvocationJob"])
def test_nobody_does_anything_else_there(sandbox: Account, action: str) -> None:
    assert may(sandbox, action, MODEL) == set()
