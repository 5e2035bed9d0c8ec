"""Changes to an account's policies, by which a proof is shown to be able to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


def narrow(account: Account, *, roles: tuple[str, ...], stacks: tuple[str, ...]) -> None:
    """Keep only the roles and stores of a mutation; other tests evaluate the whole account."""
    account.roles[:] = [role for role in account.roles if any(name in role.logical_id for name in roles)]
    account.stores[:] = [store for store in account.stores if store.stack in stacks]
