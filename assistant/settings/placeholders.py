"""Values of a deployment that stand for ones that only the company knows: no deployment may carry them.

A tenant file of this repository, and one that ``assistant tenant new`` writes, is whole: its templates can
be synthesized and judged without an account. What is made up in it is recognised here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from assistant.settings.deployment_checks import Contradiction, Place
from assistant.settings.tenant_file import WHERE_IT_STANDS, TenantConfig

SAMPLE_ACCOUNT = "111122223333"
SAMPLE_CERTIFICATE_ID = "00000000-0000-4000-8000-000000000000"
SAMPLE_SERVICE_ID = "vpce-svc-0123456789abcdef0"


@dataclass(frozen=True, slots=True)
class _Sample:
    pattern: re.Pattern[str]
    what: str


_SAMPLES = (
    _Sample(
        re.compile(r"(?<!\d)(111122223333|444455556666|123456789012|0{12})(?!\d)"),
        "an account of AWS's documentation",
    ),
    _Sample(re.compile(r"(^|[.@/-])example(\.(com|org|net))?($|[:/])"), "a host name that nobody owns"),
    _Sample(re.compile(r"0123456789abcdef|0{8}|(0[a-f])\1{3}"), "an id that was made up"),
)
"""Recognised in any string of the sections that only a deployment reads."""

_INSTEAD: Mapping[str, str] = {
    "deployment.account": "the account that it is deployed to: aws sts get-caller-identity --query Account",
    "deployment.artifact_publishers": "the role of the build that packages model artifacts (aws iam get-role "
    "--role-name NAME --query Role.Arn), or delete the key: then nobody may put artifacts",
    "identity.issuer": "the base URL of the company's OpenID provider, the `iss` of its tokens",
    "edge.host_name": "the name that the care side dials, in a domain of the company",
    "edge.certificate_arn": "the certificate of edge.host_name: aws acm list-certificates",
    "edge.allowed_principals": "arn:aws:iam::CARE_ACCOUNT:root, the account of the care side",
    "reach.service_name": "the name that the owner of that system gives (aws ec2 "
    "describe-vpc-endpoint-service-configurations in its account), or delete the whole [[reach]] entry when "
    "the assistant calls no such system",
    "link.service_name": "the output EndpointServiceName of the assistant's edge stack",
}
"""Key = what belongs there."""


def placeholders(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield each value of the tenant's deployment that was made up, with what belongs there."""
    yield from _in_sections(tenant, sorted(WHERE_IT_STANDS))


def placeholders_of(file: BaseModel) -> Iterator[Contradiction]:
    """Yield each made-up value of another file of a deployment: the care side's."""
    yield from _in_sections(file, [name for name in type(file).model_fields if name != "probe"])


def _in_sections(file: BaseModel, names: Sequence[str]) -> Iterator[Contradiction]:
    data = file.model_dump(mode="json", exclude_unset=True)
    for name in names:
        for place, value in _texts(data.get(name), (name,)):
            for sample in _SAMPLES:
                if found := sample.pattern.search(value):
                    key = ".".join(str(part) for part in place if not isinstance(part, int))
                    instead = _INSTEAD.get(key, "what your company has")
                    yield Contradiction(
                        place,
                        f'"{value}" is a placeholder ("{found[0].strip("./@-:")}" is {sample.what}). '
                        f"Write {instead}.",
                    )
                    break


def _texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _texts(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("Sequence[Any]", value)):
            yield from _texts(inner, (*place, number))
