"""No role of one tenant may read, decrypt or write data of another in the same account, whatever it asks for.
What its own policies name is asked in ``test_every_right``."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.stacks.rights import isolation
from tests.stacks.rights.isolation import key_requests
from tests.stacks.rights.model import Account, Role, Store
from tests.stacks.rights.requests import (
    ACTIONS,
    KEY_USE,
    Judgement,
    Request,
    allow_statements,
    asked,
    covers,
    judge,
    listed,
    request,
)


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


WAYS = [("clinic", "pharmacy"), ("pharmacy", "clinic")]
BOTH_WAYS = pytest.mark.parametrize(("attacker", "owner"), WAYS)
ONE_WAY = pytest.mark.parametrize(
    ("attacker", "owner"), [WAYS[0], pytest.param(*WAYS[1], marks=pytest.mark.night)]
)
"""And the other one by night: each takes ten seconds or more."""
OWNERS = pytest.mark.parametrize("owner", ["pharmacy", "clinic"])


@pytest.fixture(scope="module")
def rights(_as_deployed: Account) -> dict[str, list[Right]]:
    """What each tenant's roles may do in its own stores."""
    return {owner: claimed_rights(_as_deployed, tenant=owner) for owner in ("pharmacy", "clinic")}


@OWNERS
def test_each_role_is_let_do_to_its_own_stores_what_its_policies_name(
    rights: dict[str, list[Right]], owner: str
) -> None:
    assert len(rights[owner]) > 150
    assert [str(right) for right in rights[owner] if not right.is_held] == []


@BOTH_WAYS
def test_no_role_gets_through_to_any_store_of_another_tenant(
    account: Account, attacker: str, owner: str
) -> None:
    crossings = isolation.through_all(account, attacker=attacker, owner=owner)
    assert [str(crossing) for crossing in crossings] == []


@ONE_WAY
def test_what_roles_may_do_ends_at_their_tenant_even_if_stores_let_everybody_in(
    account: Account, attacker: str, owner: str
) -> None:
    crossings = isolation.through_identity_alone(account, attacker=attacker, owner=owner)
    assert [str(crossing) for crossing in crossings] == []


@ONE_WAY
def test_stores_and_keys_refuse_another_tenants_roles_even_if_these_may_do_anything(
    account: Account, attacker: str, owner: str
) -> None:
    crossings = isolation.through_stores_alone(account, attacker=attacker, owner=owner)
    assert [str(crossing) for crossing in crossings] == []


@ONE_WAY
def test_the_boundary_ends_at_the_tenant_even_if_roles_may_do_anything_and_stores_let_everybody_in(
    account: Account, attacker: str, owner: str
) -> None:
    crossings = isolation.through_boundary_alone(account, attacker=attacker, owner=owner)
    assert [str(crossing) for crossing in crossings] == []


@OWNERS
def test_a_domain_knows_roles_of_its_tenant_alone(account: Account, owner: str) -> None:
    """The domain's access policy leaves the decision to identities; the domain refuses unmapped roles."""
    own = {role.arn for role in account.of(owner)[0]}
    assert len(account.mapped[owner]) >= 4  # the master, who writes, who withdraws, who searches
    assert account.mapped[owner] <= own


def test_every_role_is_bounded_and_carries_its_tenant(account: Account) -> None:
    assert [str(role) for role in isolation.unbounded(account)] == []
    assert [str(role) for role in account.roles if role.tags.get("tenant") != role.tenant] == []
