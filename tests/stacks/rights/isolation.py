"""The policies that separate two tenants, checked one by one and together. A check returns each crossing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.stacks.rights.model import Account, Policy, Role, Store
from tests.stacks.rights.requests import (
    ACCOUNT,
    ACTIONS,
    KEY_USE,
    Judgement,
    Request,
    allow_statements,
    asked,
    context_of,
    covers,
    judge,
    request,
)

ANYTHING: Policy = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
OPEN: dict[str, Policy] = {
    kind: {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": action,
                "Resource": "*",
            }
        ],
    }
    for kind, action in (("key", "kms:*"), ("role", "sts:AssumeRole"))
}
"""Policies that leave the decision to the caller's: without a policy a key and a role deny everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A role that has access to another tenant's store."""

    role: Role
    store: Store
    judgement: Judgement

    def __str__(self) -> str:
        return f"{self.role} → {self.judgement.request.action} → {self.store}"


def through_all(account: Account, *, attacker: str, owner: str) -> list[Crossing]:
    """Return the crossings of every role of one tenant into every store of the other, as deployed."""
    return _through(account, account.of(attacker)[0], account.of(owner)[1], lambda store, asked: asked)


def through_identity_alone(account: Account, *, attacker: str, owner: str) -> list[Crossing]:
    """Return the crossings by the roles' policies alone: stores allow everything; roles have no boundary."""

    def opened(store: Store, asked: Request) -> Request:
        return replace(asked, resource_policy=OPEN.get(store.kind), boundary=None, endpoint=None)

    return _through(account, account.of(attacker)[0], account.of(owner)[1], opened)


def through_stores_alone(account: Account, *, attacker: str, owner: str) -> list[Crossing]:
    """Every role of one with a policy that allows anything and nothing that bounds it, against those stores
    of the other that a policy of their own, or that of their key, protects."""
    roles = _almighty(account.of(attacker)[0])
    guarded = [store for store in account.of(owner)[1] if store.kind in ("bucket", "key", "role", "secret")]

    def unbound(store: Store, asked: Request) -> Request:
        return replace(asked, boundary=None, endpoint=None)

    return _through(account, roles, guarded, unbound, passing=("iam:PassRole",)) + _unlocked(
        account, roles, account.of(owner)[1]
    )


def through_boundary_alone(
    account: Account, *, attacker: str, owner: str, bounded: bool = True
) -> list[Crossing]:
    """Return the crossings of roles that may do anything; only the boundary and the stores' tags apply."""
    roles = _almighty(account.of(attacker)[0])
    tagged = [store for store in account.of(owner)[1] if store.kind in TELL_TAGS]

    def opened(store: Store, asked: Request) -> Request:
        return replace(
            asked,
            context={**asked.context, "aws:ResourceTag/tenant": store.tenant},
            resource_policy=OPEN.get(store.kind),
            boundary=asked.boundary if bounded else None,
            endpoint=None,
        )

    return _through(account, roles, tagged, opened)


TELL_TAGS = (
    "endpoint",
    "function",
    "key",
    "log group",
    "queue",
    "secret",
    "stack",
    "state machine",
    "topic",
    "role",
)
"""Kinds whose service tells policies the tags of a resource ("AWS services that work with IAM", column ABAC),
without being asked to as S3 and DynamoDB are."""


def unbounded(account: Account) -> list[Role]:
    """Return the tenants' roles without a boundary, or with one that no stack makes."""
    return [role for role in account.roles if role.boundary not in account.policies]


def _almighty(roles: list[Role]) -> list[Role]:
    """Return the roles with a policy that allows anything; one of those that differ in nothing else that a
    policy could tell apart, which are tags and boundary."""
    kinds = {(tuple(sorted(role.tags.items())), role.boundary): role for role in reversed(roles)}
    return [replace(role, policies={"anything": ANYTHING}) for role in kinds.values()]


def _through(
    account: Account,
    roles: list[Role],
    stores: list[Store],
    as_if: Callable[[Store, Request], Request],
    *,
    passing: tuple[str, ...] = (),
) -> list[Crossing]:
    tried = [
        (role, store, as_if(store, request(account, role, action, store, resource=resource, context=context)))
        for role in roles
        for store in stores
        for action in ACTIONS[store.kind]
        if action not in passing
        for resource, context in asked(role, action, store)
    ]
    return _found([(role, store, asked) for role, store, asked in tried if _is_open(role, asked)])


def _is_open(role: Role, asked: Request) -> bool:
    """Say whether any policy at all speaks of the action: where none does, AWS refuses, and nothing is left
    to evaluate."""
    return asked.resource_policy is not None or any(
        covers(statement, asked.action) for statement in allow_statements(role)
    )


def _unlocked(account: Account, roles: list[Role], stores: list[Store]) -> list[Crossing]:
    """Return the crossings into stores without a denying policy, by their keys alone."""
    keys = {store.arn: store for store in account.stores if store.kind == "key"}
    tried = [
        (role, store, replace(used, boundary=None, endpoint=None))
        for role in roles
        for store in stores
        if store.key is not None
        for action in ACTIONS[store.kind]
        if action in KEY_USE
        for used in key_requests(account, role, action, keys[store.key])
    ]
    return _found(tried)


def key_requests(account: Account, role: Role, action: str, key: Store) -> Iterator[Request]:
    """Yield what a service asks of a store's key, in the name of who asked it for this action."""
    use, service = KEY_USE[action]
    for resource, context in asked(role, use, key):
        via = {**context, "kms:ViaService": f"{service}.us-east-1.amazonaws.com"}
        yield request(account, role, use, key, resource=resource, context=via)


def _found(tried: list[tuple[Role, Store, Request]]) -> list[Crossing]:
    judgements = judge(asked for _, _, asked in tried)
    return [
        Crossing(role=role, store=store, judgement=judgement)
        for (role, store, _), judgement in zip(tried, judgements, strict=True)
        if judgement.is_allowed
    ]


def let(account: Account, tenant: str, logical_id: str, action: str, *, inside: str = "/llm/x") -> set[str]:
    """Return the tenant's roles that the store's policies admit, if each role may do anything."""
    bucket = account.store(tenant, logical_id)
    roles = account.of(tenant)[0]
    asked = [unlimited_request(role, action, bucket, inside=inside) for role in roles]
    return {
        role.logical_id for role, judgement in zip(roles, judge(asked), strict=True) if judgement.is_allowed
    }


def unlimited_request(
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
        unlimited_request(role, action, of, inside=inside),
        identity=tuple(role.policies.values()),
        boundary=account.policies[role.boundary],
    )
