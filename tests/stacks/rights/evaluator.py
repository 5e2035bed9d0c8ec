"""Requests to AWS, judged by policies: by iam-simulate, in a Node process of its own (decision 0016)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stacks.rights.model import Policy

HERE = Path(__file__).parent
NODE = Path(sys.executable).parent / "node"
LIMIT_S = 500
_ENCRYPTION_CONTEXT = '"kms:EncryptionContext:'
_STAND_IN = '"aws:PrincipalTag/kms:EncryptionContext:'
"""The evaluator passes over keys with a part of the caller's choice after a colon, and takes them after a
slash. Put for it in policies and requests alike, so that nothing else changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``boundary`` and ``endpoint`` are None where there is no boundary or no endpoint policy."""

    principal: str
    action: str
    resource: str
    account: str
    context: Mapping[str, str]
    identity: Sequence[Policy] = ()
    resource_policy: Policy | None = None
    boundary: Policy | None = None
    endpoint: Policy | None = None
    s3_tags: bool = False
    """Whether the bucket tells its tags to policies (attribute-based access, off unless asked for)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    request: Request
    result: str
    """``Allowed``, ``ImplicitlyDenied`` or ``ExplicitlyDenied``; ``Error`` for an action that takes no such
    resource."""
    blocked_by: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        return self.result == "Allowed"

    def __str__(self) -> str:
        asked = self.request
        return f"{asked.principal} {asked.action} {asked.resource}: {self.result} {self.blocked_by}"


def judge(requests: Iterable[Request], *, knows_all: bool = True) -> list[Judgement]:
    """Return a judgement on each request, in order. Raises where the evaluator refuses one; with
    ``knows_all=False`` its judgement is then an error."""
    book = _PolicyBook()
    asked = list(requests)
    sent = {"requests": [book.written(request) for request in asked], "policies": book.policies}
    done = subprocess.run(
        [str(NODE), str(HERE / "evaluate.mjs")],
        input=json.dumps(sent).replace(_ENCRYPTION_CONTEXT, _STAND_IN),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"the evaluator failed (npm ci --prefix {HERE} installs it): {done.stderr[-2000:]}"
        )
    judged = [
        Judgement(request=request, result=result, blocked_by=tuple(blocked_by))
        for request, (result, blocked_by) in zip(asked, json.loads(done.stdout), strict=True)
    ]
    if knows_all and (unknown := [str(one) for one in judged if one.result == "Error"]):
        raise RuntimeError(f"the evaluator refused {unknown[:10]}")
    return judged


@dataclass(slots=True)
class _PolicyBook:
    """Each policy once, because many requests share it."""

    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    _names: dict[int, str] = field(default_factory=dict[int, str])

    def written(self, request: Request) -> dict[str, Any]:
        return {
            "principal": request.principal,
            "action": request.action,
            "resource": request.resource,
            "account": request.account,
            "context": request.context,
            "identity": [self._name(policy) for policy in request.identity],
            "resource_policy": self._name_or_none(request.resource_policy),
            "boundary": None if request.boundary is None else [self._name(request.boundary)],
            "endpoint": None if request.endpoint is None else [self._name(request.endpoint)],
            "s3_tags": request.s3_tags,
        }

    def _name_or_none(self, policy: Policy | None) -> str | None:
        return None if policy is None else self._name(policy)

    def _name(self, policy: Policy) -> str:
        name = self._names.get(id(policy))
        if name is None:
            name = self._names[id(policy)] = f"policy-{len(self.policies)}"
            self.policies[name] = policy
        return name
