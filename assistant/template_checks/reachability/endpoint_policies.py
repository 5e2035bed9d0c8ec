"""Whether an endpoint's policy lets a call through."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant.template_checks.policies import Statement, covers, plain, statements
from assistant.template_checks.reachability.calls import Call
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import at, items, text

_ACCOUNT_OF_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def passes(endpoint: Resource, call: Call) -> bool | None:
    """Return whether the policy of ``endpoint`` lets a call through; None where the templates do not tell.

    An endpoint without a policy lets everything through.
    """
    document = endpoint.properties.get("PolicyDocument")
    if document is None:
        return True
    verdicts = [_every(call, resource, statements(document)) for resource in call.resources or ("*",)]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _every(call: Call, resource: str, found: list[Statement]) -> bool | None:
    allowed = [_about(one, call, resource) for one in found if one.allows]
    denied = [_about(one, call, resource) for one in found if not one.allows]
    if True in denied:
        return False
    if True in allowed:
        return None if None in denied else True
    return None if None in allowed else False


def _about(statement: Statement, call: Call, resource: str) -> bool | None:
    """Return whether a statement is about all of the call."""
    if not statement.names_action(call.action):
        return False
    verdicts = [_names(statement, resource)]
    for operator, keys in statement.conditions.items():
        verdicts += [_holds(operator, key, values, call, resource) for key, values in keys.items()]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _names(statement: Statement, resource: str) -> bool | None:
    if statement.not_resources:
        return None
    verdicts = [covers(pattern, resource) for pattern in statement.resources or ("*",)]
    return True if True in verdicts else (None if None in verdicts else False)


def _holds(operator: str, key: str, values: tuple[str, ...], call: Call, resource: str) -> bool | None:
    if operator not in ("StringEquals", "StringLike", "ForAnyValue:StringEquals"):
        return None
    known = _context(call, resource).get(key.lower())
    if known is None:
        # AWS signs for its own buckets itself: its principals have neither our account nor our tags.
        return False if call.role is None and key.lower().startswith("aws:principal") else None
    return any(covers(value, known) for value in values)


def _context(call: Call, resource: str) -> Mapping[str, str]:
    """Return the condition keys of a request that the templates tell, in lower case."""
    account = call.station.resource.template.account
    named = _ACCOUNT_OF_ARN.match(resource)
    owner = named.group(1) if named else account
    context: dict[str, str] = {}
    if owner is not None and call.role is not None:
        context["aws:resourceaccount"] = owner
    if call.role is not None:
        if account is not None:
            context["aws:principalaccount"] = account
        for tag in items(call.role.properties.get("Tags")):
            context[f"aws:principaltag/{text(at(tag, 'Key'))}".lower()] = plain(at(tag, "Value"))
    return context
