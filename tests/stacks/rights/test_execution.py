"""The policy of CloudFormation's role for one tenant: what its templates need, and nothing of a neighbour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.stacks.delivery_roles import ROOT, policies_of
from tests.stacks.rights.isolation import OPEN, TELL_TAGS
from tests.stacks.rights.model import KINDS, Account, Store
from tests.stacks.rights.requests import ACCOUNT, ACTIONS, REGION, Judgement, Request, judge, schema_actions

TEMPLATE = ROOT / ".github" / "execution-policy.yaml"
TENANT, NEIGHBOUR = "clinic", "pharmacy"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/cdk-{TENANT}-cfn-exec-role-{ACCOUNT}-{REGION}"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/assistant-boundary"
POLICIES = policies_of(TEMPLATE, "Executes", tenant=TENANT, account=ACCOUNT, Qualifier=TENANT)
TYPES = {kind: name for name, kind in KINDS.items()}
SERVICES = {"domain": "es", "log group": "logs", "role": "iam", "state machine": "states"}
"""Prefix of a kind's actions, where its type's second part in lower case is another."""


def asked(action: str, resource: str, *, kind: str = "", **context: str) -> Request:
    """Return a request of CloudFormation's role, to what leaves the decision to it."""
    return Request(
        principal=ROLE,
        action=action,
        resource=resource,
        account=ACCOUNT,
        context={"aws:PrincipalArn": ROLE, "aws:PrincipalAccount": ACCOUNT, **context},
        identity=POLICIES,
        resource_policy=OPEN.get(kind),
    )


def tag_of(store: Store) -> Mapping[str, str]:
    """Return the tags that services give to policies. OpenSearch Service gives a domain's; its content is
    denied whole."""
    return {"aws:ResourceTag/tenant": store.tenant} if store.kind in (*TELL_TAGS, "domain") else {}


def of_schema(store: Store) -> Iterator[Request]:
    """Yield what CloudFormation asks of a resource, by the schema of its type: its own service's actions."""
    kind = TYPES[store.kind]
    service = SERVICES.get(store.kind, kind.split("::")[1].lower())
    made = {"aws:RequestTag/tenant": store.tenant, "iam:PermissionsBoundary": BOUNDARY, **tag_of(store)}
    for action in schema_actions(kind):
        if action.startswith(f"{service}:") and action != "iam:DeleteRolePermissionsBoundary":
            yield asked(action, store.arn, kind=store.kind, **made)


def of_store(store: Store) -> Iterator[Request]:
    """Yield what reads, writes, opens or takes away a store."""
    for action, inside in ACTIONS[store.kind].items():
        if not action.startswith("sts:"):
            for part in inside.split("|"):
                resource = f"{store.arn}{part.format(key='any/thing')}"
                yield asked(action, resource, kind=store.kind, **tag_of(store))


def shown(judged: list[Judgement], *results: str) -> list[str]:
    return sorted({str(one) for one in judged if one.result in results})


def test_it_is_held_for_what_the_templates_of_its_tenant_have(account: Account) -> None:
    stores = [store for store in account.of(TENANT)[1] if store.kind in TYPES]
    # An action of a type may take something else than the resource: the evaluator knows its kinds.
    judged = judge([one for store in stores for one in of_schema(store)], knows_all=False)
    assert sum(one.is_allowed for one in judged) > 500
    assert shown(judged, "ImplicitlyDenied", "ExplicitlyDenied") == []


def test_what_it_does_to_stores_of_its_tenant_it_does_to_none_of_a_neighbour(account: Account) -> None:
    own, others = account.of(TENANT)[1], account.of(NEIGHBOUR)[1]
    held = shown(judge([one for store in own for one in of_store(store)]), *_DENIED)
    assert [one for one in held if " es:ESHttp" not in one] == []
    refused = judge([one for store in others for one in of_store(store)])
    assert len(refused) > 300
    assert shown(refused, "Allowed") == []


_DENIED = ("ImplicitlyDenied", "ExplicitlyDenied")
_IAM = f"arn:aws:iam::{ACCOUNT}:"
_OURS, _THEIRS = f"{_IAM}role/assistant/{TENANT}/x", f"{_IAM}role/assistant/{NEIGHBOUR}/x"


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:CreateRole", _OURS, {}),
        ("iam:CreateRole", _OURS, {"iam:PermissionsBoundary": f"{_IAM}policy/wide"}),
        ("iam:CreateRole", _THEIRS, {"iam:PermissionsBoundary": BOUNDARY}),
        (
            "iam:CreateRole",
            _OURS,
            {"iam:PermissionsBoundary": BOUNDARY, "aws:RequestTag/tenant": NEIGHBOUR},
        ),
        ("iam:TagRole", _OURS, {"aws:RequestTag/tenant": NEIGHBOUR}),
        ("iam:DeleteRolePermissionsBoundary", _OURS, {}),
        ("iam:PutRolePermissionsBoundary", _OURS, {"iam:PermissionsBoundary": f"{_IAM}policy/wide"}),
        ("iam:CreatePolicyVersion", BOUNDARY, {}),
        ("iam:AttachRolePolicy", f"{_IAM}role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}", {}),
        ("iam:PassRole", _THEIRS, {}),
        ("iam:CreateUser", f"{_IAM}user/x", {}),
    ],
)
def test_no_role_is_made_or_used_beyond_the_tenant(
    action: str, resource: str, context: Mapping[str, str]
) -> None:
    """A template of its own could otherwise make one that reaches a neighbour."""
    assert shown(judge([asked(action, resource, **context)]), "Allowed") == []


def test_it_fits_the_quota_of_a_managed_policy() -> None:
    assert len(str(POLICIES[0]).replace(" ", "")) < 6144
