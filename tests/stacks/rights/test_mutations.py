"""The proof can fail: without one of the policies a role gets access, and the check names role and store."""

from __future__ import annotations

from tests.stacks.rights import isolation
from tests.stacks.rights.model import Account, change_role, change_store, narrow, without


def test_a_key_policy_without_its_condition_opens_the_key_to_the_other_tenant(account: Account) -> None:
    key = account.store("pharmacy", "DataKey")
    assert key.policy
    change_store(account, key, without(key.policy, conditions=["UseByTenant"]))
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.store.logical_id for crossing in crossings} >= {"DataKey", "RecordsTable"}
    assert "kms:Decrypt" in {crossing.judgement.request.action for crossing in crossings}


def test_a_role_with_a_star_reaches_the_other_tenant_if_stores_let_it(account: Account) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Data", "Keys"))
    role = account.role("clinic", "IngestRole")
    change_role(account, role, policies={**role.policies, "anything": isolation.ANYTHING})
    crossings = isolation.through_identity_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.role.logical_id for crossing in crossings} == {role.logical_id}
    assert "s3:GetObject" in {crossing.judgement.request.action for crossing in crossings}


def test_a_role_with_a_star_and_no_boundary_gets_through_where_stores_have_no_policy(
    account: Account,
) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Models", "Orchestrator"))
    role = account.role("clinic", "IngestRole")
    changed = change_role(account, role, policies={"anything": isolation.ANYTHING})
    bounded = isolation.through_boundary_alone(account, attacker="clinic", owner="pharmacy")
    change_role(account, changed, boundary=None)
    free = isolation.through_boundary_alone(account, attacker="clinic", owner="pharmacy")
    assert bounded == []
    assert {crossing.role.logical_id for crossing in free} == {role.logical_id}
    assert "endpoint" in {crossing.store.kind for crossing in free}


def test_a_role_that_loses_its_boundary_is_named(account: Account) -> None:
    role = change_role(account, account.role("clinic", "TaskRole"), boundary=None)
    assert isolation.unbounded(account) == [role]


def test_a_bucket_without_its_refusals_is_open_to_a_role_that_may_do_anything(account: Account) -> None:
    bucket = account.store("pharmacy", "DocumentsBucket")
    assert bucket.policy
    open_policy = without(bucket.policy, sids=["RefuseStrangers", "RefuseOtherTenants"])
    change_store(account, bucket, open_policy)
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.store.logical_id for crossing in crossings} == {"DocumentsBucket"}


def test_a_role_tagged_as_another_tenant_passes_that_tenants_walls(account: Account) -> None:
    narrow(account, roles=("IngestRole", "RemoveRole"), stacks=("Data", "Keys"))
    role = account.role("clinic", "IngestRole")
    change_role(account, role, tags={**role.tags, "tenant": "pharmacy"})
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    assert {crossing.role.logical_id for crossing in crossings} == {role.logical_id}


def test_a_policy_that_names_the_other_tenants_queue_gets_through_with_its_key(account: Account) -> None:
    narrow(account, roles=("RemoveRole", "TaskRole"), stacks=("Ingestion", "Keys"))
    queue = next(
        one for one in account.stores if one.tenant == "pharmacy" and "WithdrawalsQueue" in one.logical_id
    )
    role = account.role("clinic", "RemoveRole")
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": queue.arn}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    change_role(account, role, policies={**role.policies, "stray": document})
    crossings = isolation.through_all(account, attacker="clinic", owner="pharmacy")
    assert {(crossing.role.logical_id, crossing.store.logical_id) for crossing in crossings} == {
        (role.logical_id, queue.logical_id)
    }
