"""Whether an endpoint's policy allows a request. True, False, or None if the templates do not decide it.

The order is IAM's ("Policy evaluation logic"): a Deny that applies ends it; otherwise an Allow is needed.
What roles may do is proven by an evaluator of its own, in the tests of rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from template_checks.conditions import (
    Context,
    all_of,
    any_of,
    conditions_hold,
    covers_spelt,
    negated,
    overlaps,
)
from template_checks.policies import Statement, plain, spellings
from template_checks.templates import Resource
from template_checks.values import at, items, text

_ABSENT_FOR_ROLES = (
    "aws:principaltag/",
    "aws:principalservicename",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:calledvia",
    "aws:multifactorauth",
    "aws:federatedprovider",
)
"""Keys that a role's own request does not have, unless the caller says so."""
Policy = Sequence[Statement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An action on one resource, which policies may name by any of ``resources``. ``*`` in it: on each one.

    ``context`` are the request's own keys; those of its principal are added.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=Context)

    def having(self, known: Mapping[str, tuple[str, ...]], *, absent: tuple[str, ...]) -> Request:
        """Return the request with more keys. Its own win."""
        context = Context(known={**known, **self.context.known}, absent=(*absent, *self.context.absent))
        return replace(self, context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a request: a role by its spellings, in an account."""

    roles: tuple[str, ...] = ()
    account: str = ""


def endpoint_allows(policy: Policy, request: Request, *, role: Resource | None) -> bool | None:
    """Return whether an endpoint's policy allows a request of a role; of AWS itself if ``role`` is None."""
    if role is None:
        return _decide(policy, request, Principal())
    return _decide(policy, _by_role(request, role), _of_role(role))


def _decide(policy: Policy, request: Request, principal: Principal) -> bool | None:
    return all_of([negated(_denied(policy, request, principal)), _allowed(policy, request, principal)])


def _denied(policy: Policy, request: Request, principal: Principal | None = None) -> bool | None:
    return any_of(_applies(one, request, principal) for one in policy if one.effect == "Deny")


def _allowed(policy: Policy, request: Request, principal: Principal | None = None) -> bool | None:
    return any_of(_applies(one, request, principal) for one in policy if one.allows)


def _of_role(role: Resource) -> Principal:
    return Principal(roles=spellings(role), account=role.account)


def _by_role(request: Request, role: Resource) -> Request:
    known: dict[str, tuple[str, ...]] = {
        "aws:principalarn": spellings(role),
        "aws:principalaccount": (role.account,),
        "aws:principalisawsservice": ("false",),
        "aws:principaltype": ("AssumedRole",),
        "aws:requestedregion": (role.region,),
        "aws:securetransport": ("true",),
        "aws:viaawsservice": ("false",),
        "s3:tlsversion": ("1.2",),
    }
    for tag in items(role.properties.get("Tags")):
        known[f"aws:principaltag/{text(at(tag, 'Key'))}".lower()] = (plain(at(tag, "Value")),)
    return request.having(known, absent=_ABSENT_FOR_ROLES)


def _applies(statement: Statement, request: Request, principal: Principal | None = None) -> bool | None:
    """Return whether a statement is about a request; with a principal, also whether it names that."""
    verdicts = [
        statement.may_name_action(request.action),
        _names_resource(statement, request),
        conditions_hold(statement.conditions, request.context),
    ]
    if principal is not None:
        verdicts.append(any_of([_names_role(statement, principal), _names_account(statement, principal)]))
    return all_of(verdicts)


def _names_resource(statement: Statement, request: Request) -> bool | None:
    if statement.not_resources:
        return negated(_is_named(statement.not_resources, statement, request))
    return _is_named(statement.resources or ("*",), statement, request)


def _is_named(patterns: Iterable[str], statement: Statement, request: Request) -> bool | None:
    found = [request.context.filled_in(pattern) for pattern in patterns]
    present = [pattern for pattern in found if pattern is not None]
    verdict = any_of(covers_spelt(pattern, request.resources) for pattern in present)
    if verdict is not False or statement.allows:
        return verdict
    # A Deny of some of the resources that the request names with * may apply.
    named = [name for name in request.resources if "*" in name]
    return None if any(overlaps(pattern, name) for pattern in present for name in named) else False


def _names_role(statement: Statement, principal: Principal) -> bool | None:
    """Return whether a statement names the principal itself, or everybody."""
    if statement.not_principals:
        return negated(_is_among(statement.not_principals, principal))
    # Only an endpoint's policy may be without principals.
    return _is_among(statement.principals, principal) if statement.principals else True


def _is_among(kinds: Mapping[str, tuple[str, ...]], principal: Principal) -> bool | None:
    verdicts: list[bool | None] = []
    for kind, names in kinds.items():
        for name in names:
            if kind == "*" or (kind == "AWS" and name == "*"):
                verdicts.append(True)
            elif kind == "AWS":
                verdicts.append(covers_spelt(name, principal.roles))
    return any_of(verdicts)


def _names_account(statement: Statement, principal: Principal) -> bool | None:
    """Return whether a statement names the principal's account, which then decides by its own policies."""
    if not principal.account:
        return False
    whole = (principal.account, f"arn:aws:iam::{principal.account}:root")
    return any_of(covers_spelt(name, whole) for name in statement.principals.get("AWS", ()))
