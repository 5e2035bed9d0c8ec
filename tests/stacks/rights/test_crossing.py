"""No role of one tenant may read, decrypt or write data of another in the same account, whatever it asks for.
What its own policies name is asked in ``test_every_right``."""

from __future__ import annotations

import pytest

from tests.stacks.rights import isolation
from tests.stacks.rights.model import Account
from tests.stacks.rights.own_stores import Right, claimed_rights

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
