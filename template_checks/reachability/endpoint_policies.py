"""Whether an endpoint's policy lets a call through."""

from __future__ import annotations

import re

from template_checks.conditions import Context
from template_checks.patterns import STRANGER
from template_checks.permissions import Request, endpoint_lets
from template_checks.policies import plain, statements
from template_checks.reachability.calls import Call
from template_checks.templates import Resource
from template_checks.values import Target

_ACCOUNT_OF_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def passes(endpoint: Resource, call: Call) -> bool | None:
    """Return whether the policy of ``endpoint`` lets a call through; None where the templates do not tell.

    An endpoint without a policy lets everything through.
    """
    document = endpoint.properties.get("PolicyDocument")
    if document is None:
        return True
    policy = statements(document)
    verdicts = [
        endpoint_lets(policy, _request(endpoint, call, resource), role=call.role)
        for resource in call.resources or ("*",)
    ]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _request(endpoint: Resource, call: Call, resource: str) -> Request:
    known = {
        "aws:sourcevpce": (plain(Target(endpoint)),),
        "aws:sourcevpc": (plain(endpoint.properties.get("VpcId")),),
    }
    if call.role is None:
        # AWS signs for its own buckets itself: its principals have neither our account nor our tags.
        stranger = (f"{STRANGER}AWS",)
        known |= {
            "aws:principalaccount": stranger,
            "aws:principalarn": stranger,
            "aws:securetransport": ("true",),
        }
        context = Context(known=known, absent=("aws:principaltag/", "aws:principalorg"))
    else:
        named = _ACCOUNT_OF_ARN.match(resource)
        known["aws:resourceaccount"] = (named.group(1) if named else call.station.resource.account,)
        context = Context(known=known)
    return Request(action=call.action, resources=(resource,), context=context)
