"""Requests of a tenant's roles to its own stores: by a store's policy alone, or by all that is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.stacks.rights.evaluator import Request, judge
from tests.stacks.rights.isolation import ANYTHING
from tests.stacks.rights.model import Account, Role, Store
from tests.stacks.rights.requests import ACCOUNT, context_of


def let(account: Account, tenant: str, logical_id: str, action: str) -> set[str]:
    """Return the tenant's roles that the store's policies admit, if each role may do anything."""
    bucket = account.store(tenant, logical_id)
    roles = account.of(tenant)[0]
    asked = [request(role, action, bucket, inside="/llm/x") for role in roles]
    return {
        role.logical_id for role, judgement in zip(roles, judge(asked), strict=True) if judgement.is_allowed
    }


def request(
    role: Role, action: str, of: Store, *, inside: str = "", tags: Mapping[str, str] | None = None
) -> Request:
    return Request(
        principal=role.arn,
        action=action,
        resource=of.arn + inside,
        account=ACCOUNT,
        context=context_of(replace(role, tags={**role.tags, **(tags or {})})),
        identity=(ANYTHING,),
        resource_policy=of.policy,
    )


def as_deployed(account: Account, role: Role, action: str, of: Store, *, inside: str = "") -> Request:
    """By the role's own policies and its boundary."""
    assert role.boundary
    return replace(
        request(role, action, of, inside=inside),
        identity=tuple(role.policies.values()),
        boundary=account.policies[role.boundary],
    )
