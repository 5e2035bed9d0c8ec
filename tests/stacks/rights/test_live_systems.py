"""What proves the assistant to a live system, says who signs contexts, and switches systems off: one role of
one tenant reads it, and no role of any tenant writes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.cli.aws.templates import prove, refuse_broken_rules, refuse_paths
from template_checks.templates import Templates
from tests.stacks.rights import isolation
from tests.stacks.rights.isolation import ANYTHING, key_requests
from tests.stacks.rights.model import Account, Policy, Role, Store, change_role, change_store, narrow, without
from tests.stacks.rights.requests import ACCOUNT, ACTIONS, Request, asked, context_of, judge, request

TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
OTHER = {"pharmacy": "clinic", "clinic": "pharmacy"}
TASK = "TaskRole"
KEY_SET, SWITCH = "care-jwks", "systems/orders"
SECRET = "OrdersSecret"
READ_SECRET, READ, WRITE = "secretsmanager:GetSecretValue", "ssm:GetParameter", "ssm:PutParameter"
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/administrator"


def of_systems(account: Account, tenant: str) -> list[Store]:
    names = (KEY_SET, SWITCH)
    return [account.store(tenant, SECRET), *(account.store(tenant, name) for name in names)]


def let(account: Account, roles: Iterable[Role], stores: Iterable[Store]) -> set[tuple[str, str, str]]:
    """Return (role, action, store) of every action that the policies of a deployed account allow."""
    tried = [
        (role, store, request(account, role, action, store, resource=resource, context=context))
        for store in stores
        for action in ACTIONS[store.kind]
        for role in roles
        for resource, context in asked(role, action, store)
    ]
    judgements = judge(one for _, _, one in tried)
    return {
        (f"{role.tenant}/{role.logical_id[: len(TASK)]}", one.action, store.logical_id)
        for (role, store, one), judgement in zip(tried, judgements, strict=True)
        if judgement.is_allowed
    }


def granting(action: str, store: Store) -> Policy:
    statement = {"Effect": "Allow", "Action": action, "Resource": store.arn}
    return {"Version": "2012-10-17", "Statement": [statement]}


def by_person(action: str, of: Store, *, tags: dict[str, str]) -> Request:
    """Return a call of a person, or of a role of somebody else's, that may do anything."""
    role = Role(
        tenant="",
        stack="",
        logical_id="Administrator",
        arn=ADMINISTRATOR,
        tags=tags,
        assumed_by=(),
        policies={"anything": ANYTHING},
        boundary=None,
    )
    return Request(
        principal=ADMINISTRATOR,
        action=action,
        resource=of.arn,
        account=ACCOUNT,
        context=context_of(role),
        identity=(ANYTHING,),
        resource_policy=of.policy,
    )


@TENANT
def test_the_task_alone_reads_them_and_no_role_of_any_tenant_writes_them(
    account: Account, tenant: str
) -> None:
    stores = of_systems(account, tenant)
    assert let(account, account.roles, stores) == {
        (f"{tenant}/{TASK}", READ_SECRET, stores[0].logical_id),
        (f"{tenant}/{TASK}", READ, KEY_SET),
        (f"{tenant}/{TASK}", READ, SWITCH),
    }


@TENANT
def test_the_key_of_a_secret_opens_for_the_task_and_not_for_another_tenants(
    account: Account, tenant: str
) -> None:
    secret = account.store(tenant, SECRET)
    (key,) = [one for one in account.stores if one.arn == secret.key]
    own, others = (account.role(name, TASK) for name in (tenant, OTHER[tenant]))
    anything = replace(others, policies={"anything": ANYTHING}, boundary=None)
    assert any(one.is_allowed for one in judge(key_requests(account, own, READ_SECRET, key)))
    assert not any(one.is_allowed for one in judge(key_requests(account, anything, READ_SECRET, key)))


@TENANT
def test_who_owns_a_system_puts_its_secret_and_does_not_read_it(account: Account, tenant: str) -> None:
    secret = account.store(tenant, SECRET)
    put, read, theirs = judge(
        [
            by_person("secretsmanager:PutSecretValue", secret, tags={}),
            by_person(READ_SECRET, secret, tags={}),
            by_person("secretsmanager:PutSecretValue", secret, tags={"tenant": OTHER[tenant]}),
        ]
    )
    assert (put.is_allowed, read.is_allowed, theirs.is_allowed) == (True, False, False)


@pytest.mark.parametrize(
    ("role", "action", "name"),
    [
        ("IngestRole", READ_SECRET, None),
        ("IngestRole", READ, KEY_SET),
        (TASK, WRITE, SWITCH),
    ],
)
def test_a_grant_to_a_role_of_the_same_tenant_is_found(
    account: Account, role: str, action: str, name: str | None
) -> None:
    store = account.store("pharmacy", SECRET) if name is None else account.store("pharmacy", name)
    planted = account.role("pharmacy", role)
    before = let(account, account.of("pharmacy")[0], [store])
    more = {**planted.policies, "planted": granting(action, store)}
    change_role(account, planted, policies=more)
    found = let(account, account.of("pharmacy")[0], [store]) - before
    assert {(name, done) for _, done, name in found} == {(store.logical_id, action)}


@pytest.mark.parametrize(("action", "name"), [(READ, KEY_SET), (WRITE, SWITCH)])
def test_a_grant_on_a_parameter_of_another_tenant_is_found(account: Account, action: str, name: str) -> None:
    """A parameter has no policy of its own, and no stack tags it: the roles' policies alone decide."""
    store = account.store("pharmacy", name)
    narrow(account, roles=(TASK,), stacks=("",))
    planted = account.role("clinic", TASK)
    change_role(account, planted, policies={**planted.policies, "planted": granting(action, store)})
    crossings = isolation.through_all(account, attacker="clinic", owner="pharmacy")
    assert {(one.store.logical_id, one.judgement.request.action) for one in crossings} == {(name, action)}


def test_a_grant_on_a_secret_of_another_tenant_is_found_in_the_role_and_stopped_by_the_secret(
    account: Account,
) -> None:
    secret = account.store("pharmacy", SECRET)
    narrow(account, roles=(TASK,), stacks=("Data",))
    planted = account.role("clinic", TASK)
    change_role(account, planted, policies={**planted.policies, "planted": granting(READ_SECRET, secret)})
    by_role = isolation.through_identity_alone(account, attacker="clinic", owner="pharmacy")
    assert {(one.role.logical_id, one.store.kind) for one in by_role} == {(planted.logical_id, "secret")}
    assert isolation.through_all(account, attacker="clinic", owner="pharmacy") == []


@pytest.mark.parametrize(
    ("sid", "opened"),
    [
        ("ReadByTenant", set[str]()),  # the other statement refuses roles of another tenant too
        ("RefuseOtherTenants", {"secretsmanager:PutSecretValue", "secretsmanager:PutResourcePolicy"}),
    ],
)
def test_a_secret_without_a_refusal_is_open_to_a_role_that_may_do_anything(
    account: Account, sid: str, opened: set[str]
) -> None:
    secret = account.store("pharmacy", SECRET)
    assert secret.policy
    narrow(account, roles=(TASK,), stacks=("Data", "Keys"))
    change_store(account, secret, without(secret.policy, sids=[sid]))
    crossings = isolation.through_stores_alone(account, attacker="clinic", owner="pharmacy")
    actions = {one.judgement.request.action for one in crossings}
    assert actions >= opened
    assert READ_SECRET not in actions
    assert bool(actions) == bool(opened)
    stranger = by_person(READ_SECRET, account.store("pharmacy", SECRET), tags={})
    assert judge([stranger])[0].is_allowed is (sid == "ReadByTenant")


def test_runs_reach_their_system_and_the_services_that_they_call(
    clinic_file: Path, clinic_assembly: Path
) -> None:
    stage = clinic_assembly / "assembly-Clinic"
    refuse_broken_rules(stage, tenant_file=clinic_file)
    refuse_paths(stage, tenant_file=clinic_file)
    report = prove(Templates.read([stage]))
    assert "company system wiki" in {row.target for row in report.rows if row.source == "connectors"}
    called = {row.service for row in report.calls if row.caller == "connectors"}
    assert called >= {"dynamodb", "s3", "sqs", "secretsmanager", "ecr.dkr", "logs"}


def test_runs_alone_read_the_secret_of_the_wiki(account: Account) -> None:
    (secret,) = [one for one in account.stores if one.logical_id == "WikiSecret"]
    assert let(account, account.roles, [secret]) == {("clinic/Connecto", READ_SECRET, "WikiSecret")}
