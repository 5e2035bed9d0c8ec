"""Checks of a tenant file before a deployment. Each finding names its key.

- *Contradictions* between sections of the file, or with the manifests of its models (``contradictions``,
  ``artifact_contradictions``).
- *Clashes*: names that two tenants of one account and region share (``clashes``).
- *Placeholders*: sample values that the company has to replace (``placeholders``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel

from assistant.option import installed
from assistant.tenant.deployed_names import NEXT_ENDPOINT
from assistant.tenant.deployment import (
    RECOVERY,
    EdgeSection,
    ModelsSection,
    NetworkSection,
    PlaceSection,
    ReachEntry,
)
from assistant.tenant.manifests import EmbeddingManifest, LlmManifest
from assistant.tenant.tenant import EmbeddingSection, TenantConfig
from assistant.tenant.toml_file import KeyMark, KeyPath, line_of, marked

_ARN_REGION, _ARN_ACCOUNT = 3, 4
"""Places in an ARN that is split at its colons."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A key whose value contradicts another value, and why.

    ``place``: its path, ``("models", "capture")``. ``said``: the sentence after the key: "is needed: a folder
    under …".
    """

    place: KeyPath
    said: str

    @property
    def key(self) -> str:
        """The path as text: ``reach.0.port``."""
        return ".".join(str(part) for part in self.place)


def contradictions(
    tenant: TenantConfig, *, place: PlaceSection, edge: EdgeSection, models: ModelsSection
) -> Iterator[Contradiction]:
    """Yield all contradictions inside the tenant file. ``place``, ``edge``, ``models``: its sections, which a
    deployed tenant has."""
    yield from network_contradictions(tenant.network, place)
    yield from _profile(tenant, place, models)
    yield from _copies(place)
    yield from _certificate(edge, place)
    for name in sorted(
        place.pushers.keys() - {source.name for source in tenant.sources if source.kind != "live"}
    ):
        yield Contradiction(("deployment", "pushers", name), "there is no source of documents of this name.")
    if models.llm is None and tenant.has_llm_endpoint:
        yield Contradiction(("models", "llm"), "is needed: a folder under model_artifacts/llm.")
    yield from _models(tenant, models)
    yield from _power(tenant)
    for option in installed():
        yield from option.contradictions(tenant)
    yield from _reach(tenant)


def said_of(file: Path, wrong: Iterable[Contradiction]) -> Iterator[str]:
    """Yield each contradiction as a message: "tenants/clinic.toml: line 12: edge.host_name: …"."""
    text = file.read_text(encoding="utf-8")
    for item in wrong:
        line = line_of(text, item.place)
        yield f"{file}: {f'line {line}: ' if line else ''}{item.key}: {item.said}"


@dataclass(frozen=True, slots=True)
class Clash:
    """Two tenants of one account and region whose names collide."""

    one: str
    other: str
    said: str


def clashes(tenants: Iterable[TenantConfig]) -> Iterator[Clash]:
    """Yield a clash for each name that two deployed tenants of one account and region share or cover."""
    deployed = [tenant for tenant in tenants if tenant.deployment is not None]
    for one, other in combinations(deployed, 2):
        if _account_and_region(one) == _account_and_region(other):
            for said in (
                *_shared_endpoints(one, other),
                *_covered_names(one, other),
                *_covered_names(other, one),
            ):
                yield Clash(one.name, other.name, said)


def endpoint_names(tenant: TenantConfig) -> tuple[str, ...]:
    """Return the names of the tenant's endpoints, which are unique in an account and region."""
    llm = (tenant.generation.endpoint,) if tenant.has_llm_endpoint else ()
    next_embedding = () if tenant.embedding_next is None else (tenant.embedding_next.endpoint,)
    return (tenant.embedding.endpoint, *next_embedding, *llm)


def wrong_ending(name: str) -> str | None:
    """Return why a tenant's name has a forbidden ending; None when it has none.

    Names of stacks are the tenant's and a hyphen, those of the care side's the tenant's and ``-care-``.
    """
    for ending, why in (
        ("-", "generated names go on with a hyphen"),
        ("-care", "so are the stacks named of a tenant's care side"),
    ):
        if name.endswith(ending):
            return f'"{name}" ends in "{ending}", and {why}. Give the tenant and its file another name.'
    return None


def _account_and_region(tenant: TenantConfig) -> tuple[str, str] | None:
    """Return where a tenant is deployed; None where it is not."""
    place = tenant.deployment
    return None if place is None else (place.account, place.region)


def _shared_endpoints(one: TenantConfig, other: TenantConfig) -> Iterator[str]:
    """Yield a message for each endpoint name that both tenants have."""
    for endpoint in endpoint_names(one):
        if endpoint in endpoint_names(other):
            yield (
                f'{one.name}.toml and {other.name}.toml both have the endpoint "{endpoint}" in one account '
                "and region. Give each tenant endpoints of its own ([embedding] and [generation])."
            )


def _covered_names(one: TenantConfig, other: TenantConfig) -> Iterator[str]:
    """Yield a message when the names of ``one`` are a prefix of the names of ``other``.

    The log key, the trail and the alarms match a tenant's resources by ``<name_prefix>-<tenant>-*``.
    """
    if f"{_begins(other)}-".startswith(f"{_begins(one)}-"):
        yield (
            f"{one.name}.toml and {other.name}.toml are in one account and region, and "
            f'"{_begins(one)}-*", the pattern of keys and alarms for {one.name}, covers '
            f'"{_begins(other)}". Give {other.name} a name or name_prefix with another beginning. '
            "(With -c tenant=NAME no other file is read; make synth reads them all.)"
        )


def _begins(tenant: TenantConfig) -> str:
    """Return what the names of a tenant's resources begin with: ``assistant-clinic``."""
    prefix = tenant.deployment.name_prefix if tenant.deployment else ""
    return f"{prefix}-{tenant.name}"


def artifact_contradictions(
    tenant: TenantConfig,
    *,
    models: ModelsSection,
    llm: LlmManifest | None,
    embedding: EmbeddingManifest,
    embedding_next: EmbeddingManifest | None = None,
) -> Iterator[Contradiction]:
    """Yield each contradiction between the file and the manifests of its model artifacts.

    ``llm``: None where the tenant has no LLM endpoint.
    """
    if llm is not None:
        yield from _of_llm(tenant, llm, models=models)
    yield from _of_embedding("embedding", tenant.embedding, embedding)
    if embedding_next is not None and (following := tenant.embedding_next) is not None:
        yield from _of_embedding("embedding_next", following, embedding_next)
        if embedding_next.served_name == embedding.served_name:
            yield Contradiction(
                ("models", "embedding_next"),
                f"{embedding_next.name} and {embedding.name} both have the model {embedding.served_name} in "
                "their manifests, and files for callers are stored under that name. Rename the new one.",
            )
        if following.max_tokens < tenant.embedding.max_tokens:
            yield Contradiction(
                ("embedding_next", "max_tokens"),
                f"{following.max_tokens}, and the passages of the index have up to "
                f"{tenant.embedding.max_tokens} tokens: the model cannot embed them all.",
            )


def _of_embedding(
    key: str, section: EmbeddingSection, manifest: EmbeddingManifest
) -> Iterator[Contradiction]:
    """Yield the contradictions of the section ``key`` with its model's manifest."""
    if "dimensions" in section.model_fields_set and section.dimensions != manifest.dimensions:
        yield Contradiction(
            (key, "dimensions"),
            f"{section.dimensions}, and vectors of {manifest.name} have {manifest.dimensions}: the index "
            "would accept none of them. Delete the key.",
        )
    if section.max_tokens > manifest.max_tokens:
        yield Contradiction(
            (key, "max_tokens"),
            f"{section.max_tokens}, and {manifest.name} takes {manifest.max_tokens} at most.",
        )


def _of_llm(tenant: TenantConfig, llm: LlmManifest, *, models: ModelsSection) -> Iterator[Contradiction]:
    """Yield the contradictions of the file with the manifest of its LLM."""
    if llm.accelerator != models.accelerator:
        yield Contradiction(
            ("models", "llm"),
            f'"{llm.name}" is made for {llm.accelerator}, and models.accelerator = "{models.accelerator}".',
        )
    if tenant.generation.max_tokens >= llm.sequence_length:
        yield Contradiction(
            ("generation", "max_tokens"),
            f"{tenant.generation.max_tokens} leaves no room for a prompt in the {llm.sequence_length} tokens "
            f"of {llm.name}.",
        )


def _next_embedding(tenant: TenantConfig, models: ModelsSection) -> Iterator[Contradiction]:
    """Yield what is wrong with the second embedding model: its keys belong together, and of the two endpoints
    one has the ending ``NEXT_ENDPOINT`` (see there)."""
    following = tenant.embedding_next
    if (following is None) is not (models.embedding_next is None):
        yield Contradiction(
            ("models", "embedding_next") if following is None else ("embedding_next",),
            "[embedding_next] and models.embedding_next name one model together. Give both, or neither.",
        )
    elif following is not None and (
        following.endpoint.endswith(NEXT_ENDPOINT) is tenant.embedding.endpoint.endswith(NEXT_ENDPOINT)
    ):
        yield Contradiction(
            ("embedding_next", "endpoint"),
            f'"{following.endpoint}" and "{tenant.embedding.endpoint}": exactly one of both names ends in '
            f'"{NEXT_ENDPOINT}", so that each endpoint stays when the models change places.',
        )


def _models(tenant: TenantConfig, models: ModelsSection) -> Iterator[Contradiction]:
    """Yield what of models, sources and tasks works on one machine only, or does not fit together."""
    yield from _next_embedding(tenant, models)
    if tenant.embedding.vectors is not None:
        yield Contradiction(
            ("embedding", "vectors"),
            f'"{tenant.embedding.vectors}" is for a demo on one machine: a deployed worker has no such file, '
            "and asks the endpoint for every vector. Delete the line.",
        )
    for number, source in enumerate(tenant.sources):
        if source.ocr:
            yield Contradiction(
                ("sources", number, "ocr"),
                "the functions that parse on AWS are zip files without tesseract, and read no scans. Delete "
                "the line, and add the text of its scans.",
            )
    if tenant.embedding.endpoint == tenant.generation.endpoint:
        yield Contradiction(
            ("generation", "endpoint"), f'"{tenant.generation.endpoint}" is the embedding endpoint too.'
        )
    if models.min_instances > models.max_instances:
        yield Contradiction(("models", "min_instances"), f"{models.min_instances} is over max_instances.")
    if tenant.tasks.min_tasks > tenant.tasks.max_tasks:
        yield Contradiction(("tasks", "min_tasks"), f"{tenant.tasks.min_tasks} is over max_tasks.")


def network_contradictions(network: NetworkSection, place: PlaceSection) -> Iterator[Contradiction]:
    """Yield the contradictions of zones and subnets, in a tenant's file or its care side's."""
    key = ("deployment", "zones")
    elsewhere = [zone for zone in place.zones if zone[:-1] != place.region]
    if elsewhere:
        yield Contradiction(key, f"{', '.join(elsewhere)} is not in {place.region}.")
    if len(set(place.zones)) < len(place.zones):
        yield Contradiction(key, "contains a duplicate. List each zone once.")
    if place.profile == "hipaa" and len(place.zones) < 3:
        yield Contradiction(
            key, f"{len(place.zones)} zones; the search domain of profile hipaa has a standby, which takes 3."
        )
    vpc = network.vpc
    if vpc is None:
        return
    for name in ("subnet_ids", "route_table_ids"):
        ids: tuple[str, ...] = getattr(vpc, name)
        if len(set(ids)) < len(ids):
            yield Contradiction(("network", "vpc", name), "contains a duplicate. List each id once.")
    if len(vpc.subnet_ids) != len(place.zones):
        yield Contradiction(
            ("network", "vpc", "subnet_ids"),
            f"{len(vpc.subnet_ids)} subnets for {len(place.zones)} zones; give one a zone, in their order.",
        )


def _profile(tenant: TenantConfig, place: PlaceSection, models: ModelsSection) -> Iterator[Contradiction]:
    """Yield what the profile ``hipaa`` does not allow."""
    if place.profile == "hipaa" and models.capture == "direct":
        yield Contradiction(
            ("models", "capture"),
            '"direct" keeps what callers said as it was said; profile hipaa allows "quarantine" and "off".',
        )
    copies = tenant.index.replicas  # with the original they must divide evenly among three zones
    if place.profile == "hipaa" and "replicas" in tenant.index.model_fields_set and (copies + 1) % 3:
        yield Contradiction(
            ("index", "replicas"),
            f"{copies}; a domain with standby takes 2 or 5, and refuses any other index.",
        )


def _copies(place: PlaceSection) -> Iterator[Contradiction]:
    """Yield why recovery points cannot be copied to the vault that the file names."""
    key, vault = ("deployment", "recovery_copies"), (place.recovery_copies or "").split(":")
    if place.recovery_copies and place.profile not in RECOVERY:
        yield Contradiction(key, f"profile {place.profile} has no recovery points.")
    if vault[_ARN_REGION : _ARN_ACCOUNT + 1] == [place.region, place.account]:
        yield Contradiction(key, "is in the tenant's own account and region. Name one in another.")


def _certificate(edge: EdgeSection, place: PlaceSection) -> Iterator[Contradiction]:
    """Yield where the certificate is in another region or account than the load balancer."""
    parts = edge.certificate_arn.split(":")
    differences = [
        f"{what} {actual or 'of none'}, and the load balancer in {wanted}"
        for what, actual, wanted in (
            ("region", parts[_ARN_REGION], place.region),
            ("account", parts[_ARN_ACCOUNT], place.account),
        )
        if actual != wanted
    ]
    if differences:
        yield Contradiction(("edge", "certificate_arn"), f"it is in {'; '.join(differences)}.")


def _power(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield what is wrong with the schedule of the endpoints."""
    power = tenant.power
    if power is None:
        return
    if power.pause_at == power.resume_at:
        yield Contradiction(("power", "resume_at"), f"{power.resume_at} is pause_at too.")
    if not available_timezones():
        return  # this machine has no time zone database
    try:
        ZoneInfo(power.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        yield Contradiction(
            ("power", "time_zone"), f'"{power.time_zone}" is no IANA time zone, like "America/New_York".'
        )


def _reach(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield what is wrong with the ``[[reach]]`` entries."""
    names = [entry.name for entry in tenant.reach]
    for number, entry in enumerate(tenant.reach):
        if (entry.service_name is None) == (entry.resource_configuration_arn is None):
            yield Contradiction(
                ("reach", number, "service_name"),
                "exactly one of service_name and resource_configuration_arn is given.",
            )
        yield from _called(entry, number)
        if names.index(entry.name) < number:
            yield Contradiction(
                ("reach", number, "name"), f'"{entry.name}" is a duplicate. Give each entry its own name.'
            )


def _called(entry: ReachEntry, number: int) -> Iterator[Contradiction]:
    """Yield what keeps the service from calling a live entry, or a source's connector from calling its
    entry."""
    if not entry.is_live and entry.caller != "connectors":
        return
    if entry.is_live and entry.caller != "orchestrator":
        yield Contradiction(
            ("reach", number, "caller"),
            f'"{entry.caller}" cannot call it: the orchestrator calls entries with a connector.',
        )
    if entry.resource_configuration_arn is not None and entry.host_name is None:
        yield Contradiction(
            ("reach", number, "host_name"),
            "a resource of VPC Lattice is called by its custom domain name; ask its owner for it.",
        )
    if entry.auth == "sigv4" and entry.invoke_arn is None:
        yield Contradiction(
            ("reach", number, "invoke_arn"), 'auth = "sigv4" needs what the task\'s role may invoke.'
        )
    if entry.secret is not None and not entry.secret.startswith("secretsmanager:"):
        yield Contradiction(
            ("reach", number, "secret"),
            f'"{entry.secret}" is no place on AWS: secretsmanager:NAME, or leave it out and the deployment '
            "creates one.",
        )


SAMPLE_ACCOUNT = "111122223333"
SAMPLE_CERTIFICATE_ID = "00000000-0000-4000-8000-000000000000"
SAMPLE_SERVICE_ID = "vpce-svc-0123456789abcdef0"
"""Placeholders that ``assistant tenant new`` writes; ``_SAMPLES`` recognise them."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A pattern of placeholders, and what the text that it matches is."""

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
"""They are searched in every string of the sections that only a deployment reads; the first match counts."""

_INSTEAD: Mapping[str, str] = {
    "deployment.account": "the account that it is deployed to: aws sts get-caller-identity --query Account",
    "deployment.artifact_publishers": "the role or user that puts model artifacts, such as your own (aws iam "
    "get-user --query User.Arn, or get-role), or delete the key: then nobody may put artifacts",
    "deployment.pushers": "roles or users that exist, of whoever loads documents from outside (aws iam "
    "get-user --query User.Arn, or get-role), or delete the key: then nobody may push",
    "identity.issuer": "the base URL of the company's OpenID provider, the `iss` of its tokens",
    "care_context.issuer": "the `iss` of the tokens by which the care application says whose conversation it "
    "is",
    "edge.host_name": "the name that the care side dials, in a domain of the company",
    "edge.certificate_arn": "the certificate of edge.host_name: aws acm list-certificates",
    "edge.cors_origins": "the pages that call the API from a browser, or delete the key",
    "edge.frame_ancestors": "the pages that hold the panel, or delete the key",
    "edge.allowed_principals": "arn:aws:iam::CARE_ACCOUNT:root, the account of the care side",
    "reach.service_name": "the name that the owner of that system gives (aws ec2 "
    "describe-vpc-endpoint-service-configurations in its account), or delete the whole [[reach]] entry when "
    "the assistant calls no such system",
    "link.service_name": "the output EndpointServiceName of the assistant's edge stack",
}
"""Key (without numbers of list entries) = what to write there: the end of the sentence "Write …"."""


def placeholders(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield each placeholder in the tenant's deployment sections, with what to write there.

    Tenant files of this repository, and those of ``assistant tenant new``, are complete, so that their
    templates can be synthesized without an account; a deployment must not have their sample values. A tenant
    without ``[deployment]`` has no placeholders: on a laptop only contexts and systems of these sections are
    read, and the local care application and local addresses take their places.
    """
    if tenant.deployment is not None:
        read_by_deployment = sorted(marked(TenantConfig, KeyMark.DEPLOYMENT_READS))
        yield from _in_sections(tenant, [*read_by_deployment, "care_context"])


def placeholders_of(file: BaseModel) -> Iterator[Contradiction]:
    """Yield each placeholder of the care side's file."""
    yield from _in_sections(file, [name for name in type(file).model_fields if name != "probe"])


def _in_sections(file: BaseModel, names: Sequence[str]) -> Iterator[Contradiction]:
    """Yield each placeholder in the sections of a file, one a string."""
    data = file.model_dump(mode="json", exclude_unset=True, exclude=marked(type(file), KeyMark.IN_A_FILE))
    for name in names:
        for place, value in _texts(data.get(name), (name,)):
            for sample in _SAMPLES:
                if match := sample.pattern.search(value):
                    key = ".".join(str(part) for part in place if not isinstance(part, int))
                    instead = _INSTEAD.get(key, "what your company has")
                    yield Contradiction(
                        place,
                        f'"{value}" is a placeholder ("{match[0].strip("./@-:")}" is {sample.what}). '
                        f"Write {instead}.",
                    )
                    break


def _texts(value: Any, place: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield each string below a value, with its path."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _texts(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("Sequence[Any]", value)):
            yield from _texts(inner, (*place, number))
