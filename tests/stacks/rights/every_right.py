"""Every right of every role, as two requests: for what its tenant has, and for the same of a neighbour."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.stacks.rights.evaluator import Request
from tests.stacks.rights.isolation import TELL_TAGS
from tests.stacks.rights.model import Account, Role, Store
from tests.stacks.rights.requests import (
    ACTIONS,
    allow_statements,
    context_of,
    fulfilled,
    listed,
    own,
    request,
)

_TAG = "aws:ResourceTag/tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One action on one resource, as a statement of a role's policy names them."""

    role: Role
    action: str
    resource: str
    conditions: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return f"{self.role}: {self.action} on {self.resource}"

    @property
    def names_one(self) -> bool:
        """Whether it names a single thing, which is the tenant's or of no tenant."""
        return not re.search(r"[*?]", self.resource)


def rights_of(account: Account, tenant: str) -> Iterator[Right]:
    """Yield what the statements of the tenant's roles allow."""
    for role in account.of(tenant)[0]:
        for statement in allow_statements(role):
            conditions = statement.get("Condition", {})
            for action in _expanded(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield Right(role=role, action=action, resource=resource, conditions=conditions)


def asked_twice(account: Account, right: Right, *, neighbour: str) -> Iterator[tuple[Request, Request]]:
    """Yield requests by the right, for what its tenant has and for the same of a neighbour: the neighbour's
    store of the same role, else what has the neighbour's name. With the owner's tag, where the service is
    known to tell it or the right asks for it."""
    role, tenant = right.role, right.role.tenant
    resource = _one_of(own(role, right.resource), right.action)
    store = next((one for one in account.of(tenant)[1] if _is_in(resource, one.arn)), None)
    twin = account.twin(store, tenant=neighbour) if store else None
    there = resource.replace(store.arn, twin.arn) if store and twin else resource.replace(tenant, neighbour)
    tells = _TAG in str(right.conditions) or (store is not None and store.kind in TELL_TAGS)
    for given in fulfilled(right.conditions) or [{}]:
        kept = {key: own(role, value) for key, value in given.items()}
        turned = {key: value.replace(tenant, neighbour) for key, value in kept.items()}
        yield (
            _request(account, right, resource, kept | ({_TAG: tenant} if tells else {}), store),
            _request(account, right, there, turned | ({_TAG: neighbour} if tells else {}), twin),
        )


def _request(
    account: Account, right: Right, resource: str, context: Mapping[str, str], store: Store | None
) -> Request:
    role = right.role
    store = store or Store(tenant=role.tenant, stack="", logical_id=resource, kind="", arn=resource)
    context = context_of(role, **context)
    return request(account, role, right.action, store, resource=resource, context=context)


def _one_of(pattern: str, action: str) -> str:
    """Return the ARN of a resource that a pattern names, of the kind that the action takes."""
    if pattern == "*":
        return pattern
    named = pattern.replace("*", "x").replace("?", "a")
    if action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        return f"{named.partition(':log-stream:')[0].removesuffix(':x')}:log-stream:x"
    return re.sub(r"^(arn:aws:logs:.*):x$", r"\1:*", named)


def _is_in(resource: str, arn: str) -> bool:
    rest = resource.removeprefix(arn)
    return rest != resource and (rest == "" or rest[0] in "/:")


_KNOWN = sorted({action for actions in ACTIONS.values() for action in actions})


def _expanded(actions: object) -> Iterator[str]:
    for action in listed(actions):
        if "*" in action:
            yield from (each for each in _KNOWN if fnmatch.fnmatchcase(each, action))
        else:
            yield action
