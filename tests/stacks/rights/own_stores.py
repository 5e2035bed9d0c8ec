"""What each role may do in its own tenant's stores. A refused crossing proves something only if the same
request to the tenant's own store is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from tests.stacks.rights.evaluator import Judgement, Request, judge
from tests.stacks.rights.isolation import key_requests
from tests.stacks.rights.model import Account, Role, Store
from tests.stacks.rights.requests import ACTIONS, KEY_USE, allow_statements, asked, covers, listed, request


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """``key_judgements`` are of what the store's service asks of its key in the role's name."""

    role: Role
    action: str
    store: Store
    judgements: tuple[Judgement, ...]
    key_judgements: tuple[Judgement, ...]

    @property
    def is_held(self) -> bool:
        """Return whether the store and its key allow at least one form of the request."""
        by_store = any(judgement.is_allowed for judgement in self.judgements)
        return by_store and (
            not self.key_judgements or any(judgement.is_allowed for judgement in self.key_judgements)
        )

    def __str__(self) -> str:
        refused = [str(judgement) for judgement in (*self.judgements, *self.key_judgements)]
        return f"{self.role} → {self.action} → {self.store}: {refused}"


def claimed_rights(account: Account, *, tenant: str) -> list[Right]:
    """Return every right on the tenant's stores that a statement of a role names, judged as deployed.

    Where a statement names all stores of a service (``*``), the matrix of crossings covers it.
    """
    roles, stores = account.of(tenant)
    keys = {store.arn: store for store in stores if store.kind == "key"}
    claims = [
        (
            role,
            action,
            store,
            _requests(account, role, action, store),
            _of_key(account, role, action, store, keys),
        )
        for role in roles
        for store in stores
        for action in ACTIONS[store.kind]
        if _is_claimed(role, action, store)
    ]
    judgements = iter(judge(asked for claim in claims for requests in claim[3:] for asked in requests))
    return [
        Right(
            role=role,
            action=action,
            store=store,
            judgements=tuple(next(judgements) for _ in requests),
            key_judgements=tuple(next(judgements) for _ in of_key),
        )
        for role, action, store, requests, of_key in claims
    ]


def _is_claimed(role: Role, action: str, store: Store) -> bool:
    """Whether a statement names the store itself: up to its end, or up to what is in it."""
    return any(
        _names(resource, store)
        for statement in allow_statements(role)
        if covers(statement, action)
        for resource in listed(statement.get("Resource", []))
    )


def _names(resource: str, store: Store) -> bool:
    rest = resource.removeprefix(store.arn)
    return rest != resource and (rest == "" or rest[0] in "/:*")


def _requests(account: Account, role: Role, action: str, store: Store) -> list[Request]:
    return [
        request(account, role, action, store, resource=resource, context=context)
        for resource, context in asked(role, action, store)
    ]


def _of_key(account: Account, role: Role, action: str, store: Store, keys: dict[str, Store]) -> list[Request]:
    if store.key is None or action not in KEY_USE:
        return []
    return list(key_requests(account, role, action, keys[store.key]))
