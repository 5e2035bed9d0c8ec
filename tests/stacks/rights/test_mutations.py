"""The proof can fail: without one of the policies a role gets access, and the check names role and store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.stacks.rights import isolation
from tests.stacks.rights.model import Account, Policy, Role, Store


def without(policy: Policy, **dropped: Any) -> Policy:
    """Return the policy without the statements of ``sids``, and without the conditions of ``conditions``."""
    statements = [
        {key: value for key, value in statement.items() if key != "Condition"}
        if statement.get("Sid") in dropped.get("conditions", ())
        else statement
        for statement in policy["Statement"]
        if statement.get("Sid") not in dropped.get("sids", ())
    ]
    return {**policy, "Statement": statements}


def change_store(account: Account, store: Store, policy: Policy) -> None:
    account.stores[account.stores.index(store)] = replace(store, policy=policy)


def change_role(account: Account, role: Role, **fields: Any) -> Role:
    changed = replace(role, **fields)
    account.roles[account.roles.index(role)] = changed
    return changed


def store_of(account: Account, tenant: str, logical_id: str) -> Store:
    return next(one for one in account.stores if (one.tenant, one.logical_id) == (tenant, logical_id))


def role_of(account: Account, tenant: str, name: str) -> Role:
    return next(one for one in account.roles if one.tenant == tenant and name in one.logical_id)


def narrow(account: Account, *, roles: tuple[str, ...], stacks: tuple[str, ...]) -> None:
    """Keep only the roles and stores of a mutation; other tests evaluate the whole account."""
    account.roles[:] = [role for role in account.roles if any(name in role.logical_id for name in roles)]
    account.stores[:] = [store for store in account.stores if store.stack in stacks]


def test_a_key_policy_without_its_condition_opens_the_key_to_the_other_tenant(account: Account) -> None:
    key = store_of(account, "pharmacy", "DataKey")
    assert key.policy
    change_store(account, key, without(key.policy, conditions=["UseByTenant"]))
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.store.logical_id for crossing in crossings} >= {"DataKey", "RecordsTable"}
    assert "kms:Decrypt" in {crossing.judgement.request.action for crossing in crossings}


def test_a_role_with_a_star_reaches_the_other_tenant_if_stores_let_it(account: Account) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Data", "Keys"))
    role = role_of(account, "clinic", "IngestRole")
    change_role(account, role, policies={**role.policies, "anything": isolation.ANYTHING})
    crossings = isolation.through_identity_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.role.logical_id for crossing in crossings} == {role.logical_id}
    assert "s3:GetObject" in {crossing.judgement.request.action for crossing in crossings}


def test_a_role_with_a_star_and_no_boundary_gets_through_where_stores_have_no_policy(
    account: Account,
) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Models", "Orchestrator"))
    role = role_of(account, "clinic", "IngestRole")
    changed = change_role(account, role, policies={"anything": isolation.ANYTHING})
    bounded = isolation.through_boundary_alone(account, attacker="clinic", owner="pharmacy")
    change_role(account, changed, boundary=None)
    free = isolation.through_boundary_alone(account, attacker="clinic", owner="pharmacy")
    assert bounded == []
    assert {crossing.role.logical_id for crossing in free} == {role.logical_id}
    assert "endpoint" in {crossing.store.kind for crossing in free}


def test_a_role_that_loses_its_boundary_is_named(account: Account) -> None:
    role = change_role(account, role_of(account, "clinic", "TaskRole"), boundary=None)
    assert isolation.unbounded(account) == [role]


def test_a_bucket_without_its_refusals_is_open_to_a_role_that_may_do_anything(account: Account) -> None:
    bucket = store_of(account, "pharmacy", "DocumentsBucket")
    assert bucket.policy
    open_policy = without(bucket.policy, sids=["RefuseStrangers", "RefuseOtherTenants"])
    change_store(account, bucket, open_policy)
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.store.logical_id for crossing in crossings} == {"DocumentsBucket"}


def test_a_role_tagged_as_another_tenant_passes_that_tenants_walls(account: Account) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Data", "Keys"))
    role = role_of(account, "clinic", "IngestRole")
    change_role(account, role, tags={**role.tags, "tenant": "pharmacy"})
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.role.logical_id for crossing in crossings} == {role.logical_id}


def test_a_policy_that_names_the_other_tenants_queue_gets_through_with_its_key(account: Account) -> None:
    narrow(account, roles=("RemoveRole", "TaskRole"), stacks=("Ingestion", "Keys"))
    queue = next(
        one for one in account.stores if one.tenant == "pharmacy" and "WithdrawalsQueue" in one.logical_id
    )
    role = role_of(account, "clinic", "RemoveRole")
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": queue.arn}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    change_role(account, role, policies={**role.policies, "stray": document})
    crossings = isolation.through_all(account, attacker="clinic", owner="pharmacy")
    assert {(crossing.role.logical_id, crossing.store.logical_id) for crossing in crossings} == {
        (role.logical_id, queue.logical_id)
    }
