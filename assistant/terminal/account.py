"""A tenant's AWS account: the calls that commands make to it (``AwsAccount``), checks before a deployment
(``AccountChecks``), and the outputs of a tenant's stacks (``Deployed``).

All calls have timeouts. The checks change nothing. A failure here would make the deployment fail. A warning
(a quota below what the tenant may use, something that a person has to look at) does not stop it.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.tenant.deployment import PlaceSection
from assistant.tenant.deployment_checks import Contradiction, said_of
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.terminal import GlobalOptions

Templates = Mapping[str, Mapping[str, Any]]
"""Name of a stack = its CloudFormation template."""
_LIMITS = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"})

_NEVER_CREATED = frozenset(
    {
        "REVIEW_IN_PROGRESS",
        "CREATE_IN_PROGRESS",
        "CREATE_FAILED",
        "ROLLBACK_IN_PROGRESS",
        "ROLLBACK_FAILED",
        "ROLLBACK_COMPLETE",
    }
)
"""A first creation that has not ended, or failed: ``cdk deploy`` creates such a stack again."""
_COMPILES_ON = "ml.trn1.32xlarge"
"""Where ``assistant models compile`` runs its training job, for Inferentia2 too."""
_LAMBDA_QUOTA = "L-B99A9384"
"""Code of the quota of concurrent executions; AWS's default is 1,000."""


def place_of(tenant: TenantConfig, file: Path) -> PlaceSection:
    """Return where a tenant is deployed. Raises ConfigurationError when it is only served locally."""
    if tenant.deployment is None:
        raise ConfigurationError(f"{file}: there is no [deployment] section, so it is only served locally.")
    return tenant.deployment


@contextmanager
def aws_errors(service: str, call: str) -> Generator[None]:
    """Turn an error of boto3 inside the block into DeploymentError."""
    try:
        yield
    except ClientError as error:
        raise DeploymentError(f"{service} refused {call}: {error}") from None
    except BotoCoreError as error:
        raise DeploymentError(f"Cannot call {service}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccount:
    """One account and region, by the credentials of whoever runs the command."""

    account: str
    region: str
    credentials: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Arguments of boto3's client for an assumed role; empty: the credentials of whoever runs the command."""

    def as_role(self, arn: str) -> AwsAccount:
        """Return the account with the credentials of a role, which last an hour. Raises DeploymentError."""
        session = self.call("sts", "assume_role", RoleArn=arn, RoleSessionName="assistant")["Credentials"]
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        credentials = {key: str(session[name]) for key, name in zip(keys, names, strict=True)}
        return AwsAccount(account=self.account, region=self.region, credentials=credentials)

    def require(self) -> None:
        """Raise DeploymentError when the credentials are missing or another account's."""
        account = self.call("sts", "get_caller_identity")["Account"]
        if account != self.account:
            raise DeploymentError(
                f"These credentials are of account {account}; the tenant file says {self.account}. "
                "Use those of the right account (AWS_PROFILE)."
            )

    def parameter(self, name: str) -> str | None:
        """Return an SSM parameter's value, or None where there is none. Raises DeploymentError."""
        response = self.call("ssm", "get_parameter", missing="ParameterNotFound", Name=name)
        return None if response is None else str(response["Parameter"]["Value"])

    def put_parameter(self, name: str, *, value: str, overwrite: bool = True) -> None:
        """Write a parameter; above 4 KB it is an advanced one. Raises DeploymentError."""
        given = {"Name": name, "Value": value, "Type": "String", "Tier": "Intelligent-Tiering"}
        self.call("ssm", "put_parameter", **given, Overwrite=overwrite)

    def template(self, stack: str) -> Mapping[str, Any] | None:
        """Return a deployed stack's template; None where there is none. Raises DeploymentError."""
        if self._described(stack) is None:
            return None
        body = self.call("cloudformation", "get_template", StackName=stack)["TemplateBody"]
        return cast("Mapping[str, Any]", json.loads(body) if isinstance(body, str) else body)

    def stacks(self, prefix: str) -> list[Mapping[str, Any]]:
        """Return a tenant's stacks and the record of those that are gone. Raises DeploymentError.

        ``prefix``: ``assistant-pharmacy-``. After it there is no other "-": assistant-pharmacy-two-Data is
        another tenant's, assistant-pharmacy-care-Link the care side's.
        """
        listed = self.listed("cloudformation", "list_stacks", "StackSummaries")
        parts = ((stack, stack["StackName"].removeprefix(prefix)) for stack in listed)
        return [stack for stack, part in parts if part != stack["StackName"] and "-" not in part]

    def outputs(self, stack: str) -> Mapping[str, str]:
        """Return a deployed stack's outputs; empty where there is none. Raises DeploymentError."""
        outputs = (self._described(stack) or {}).get("Outputs", [])
        return {str(output["OutputKey"]): str(output["OutputValue"]) for output in outputs}

    def resources(self, stack: str) -> Mapping[str, str]:
        """Return the physical ids of a stack's resources by their logical ones. Raises DeploymentError."""
        given = {"StackName": stack, "key": "StackResourceSummaries"}
        listed = self.listed("cloudformation", "list_stack_resources", **given)
        return {row["LogicalResourceId"]: str(row.get("PhysicalResourceId")) for row in listed}

    def invoke(self, function: str, event: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Invoke a function and return its result. Raises DeploymentError, also when it failed."""
        answer = self.call("lambda", "invoke", FunctionName=function, Payload=json.dumps(event or {}))
        payload = answer["Payload"].read()
        if answer.get("FunctionError"):
            raise DeploymentError(f"{function} failed: {payload.decode(errors='replace')[:500]}")
        return cast("Mapping[str, Any]", json.loads(payload or b"{}"))

    def _described(self, stack: str) -> Mapping[str, Any] | None:
        """Return CloudFormation's description of a stack; None where it was never created."""
        response = self.call("cloudformation", "describe_stacks", missing="ValidationError", StackName=stack)
        described = response["Stacks"][0] if response else None
        return None if described is None or described["StackStatus"] in _NEVER_CREATED else described

    def call(self, service: str, call: str, *, missing: str | Collection[str] = (), **given: Any) -> Any:
        """Return the response of boto3's ``call`` with the arguments ``given``: ``call("kms", "describe_key",
        KeyId="…")``.

        None for an error whose code is in ``missing``. Raises DeploymentError for any other.
        """
        codes = (missing,) if isinstance(missing, str) else missing
        with aws_errors(service, call):
            try:
                return getattr(self.client(service), call)(**given)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in codes:
                    raise
                return None

    def pages(self, service: str, call: str, **given: Any) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a call. Raises DeploymentError."""
        with aws_errors(service, call):
            yield from self.client(service).get_paginator(call).paginate(**given)

    def listed(self, service: str, call: str, key: str, **given: Any) -> list[Mapping[str, Any]]:
        """Return the entries under ``key`` of all pages of a call. Raises DeploymentError."""
        return [entry for page in self.pages(service, call, **given) for entry in page.get(key, ())]

    def client(self, service: str) -> Any:
        """Return a client of boto3 with these credentials and timeouts."""
        return cast("Any", boto3).client(service, region_name=self.region, config=_LIMITS, **self.credentials)


def wait_until(state: str, is_over: Callable[[], bool], *, poll_s: float, limit_s: float) -> None:
    """Poll until ``is_over`` returns True. Raises DeploymentError after ``limit_s``; its text has ``state``,
    which says what is still going on: "the table is being deleted"."""
    ends = time.monotonic() + limit_s
    while not is_over():
        if time.monotonic() > ends:
            raise DeploymentError(f"After {limit_s / 60:.0f} minutes {state}. Run the command again.")
        time.sleep(poll_s)


# --- checks -----------------------------------------------------------------------------------------------
Kind = Literal["pass", "warn", "fail", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A result of a check: what is wrong, and what to do; for a pass perhaps what was found."""

    kind: Kind
    said: str
    check: str = ""
    """Name of the check; ``doctor.checked`` fills it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChecks:
    """The checks of one tenant's templates in its account."""

    aws: AwsAccount
    tenant: TenantConfig
    place: PlaceSection
    tenant_file: Path
    templates: Templates

    @property
    def full_name(self) -> str:
        """What the names of the tenant's stacks, trails and clusters begin with."""
        return f"{self.place.name_prefix}-{self.tenant.name}"

    def checks(self) -> Mapping[str, Callable[[], Iterator[Finding]]]:
        """Return the checks by name. They raise DeploymentError for what the caller may not ask."""
        return {
            "zones": self._zones,
            "certificate": self._certificate,
            "roles": self._publishers,
            "care keys": self._care_keys,
            "functions at once": self._functions,
            "instances": self._instances,
        }

    def _zones(self) -> Iterator[Finding]:
        """Check that AWS offers the service of each interface endpoint in the tenant's zones; which zone a
        name means differs from account to account."""
        known: dict[str, set[str]] = {}
        endpoints = of_type(self.templates, "AWS::EC2::VPCEndpoint")
        interfaces = (endpoint for endpoint in endpoints if endpoint.get("VpcEndpointType") == "Interface")
        for name in sorted({str(endpoint["ServiceName"]) for endpoint in interfaces}):
            offered = self.aws.call(
                "ec2", "describe_vpc_endpoint_services", missing="InvalidServiceName", ServiceNames=[name]
            )
            if offered is None or not offered["ServiceDetails"]:
                yield self._absent_service(name)
            else:
                details = offered["ServiceDetails"]
                known[name] = {zone for service in details for zone in service["AvailabilityZones"]}
        wanted = self.place.zones
        lacking = {name: [zone for zone in wanted if zone not in known[name]] for name in known}
        listed = [f"{name} is not in {', '.join(zones)}" for name, zones in lacking.items() if zones]
        if not listed:
            return
        everywhere = sorted(set[str]().union(*known.values()).intersection(*known.values()))
        kept = [zone for zone in wanted if zone in everywhere]
        named = (kept + [zone for zone in everywhere if zone not in kept])[: len(wanted)]
        if len(named) == len(wanted):
            advice = f"Every service is in these: zones = {json.dumps(sorted(named))}"
        else:
            advice = f"All services together are in {', '.join(everywhere) or 'no zone'}: another region."
        yield self._refused(("deployment", "zones"), f"in this account {'; '.join(listed)}. {advice}")

    def _absent_service(self, name: str) -> Finding:
        """Return the finding on a service that is not offered: of AWS, or of the owner of a ``[[reach]]``
        entry."""
        if "vpce-svc-" not in name:
            return self._refused(("deployment", "region"), f"{name} is not offered in {self.aws.region}.")
        numbers = [number for number, each in enumerate(self.tenant.reach) if each.service_name == name]
        return self._refused(
            ("reach", *numbers[:1], "service_name"),
            f"{name} is not offered to this account. Is the name right, and does its owner allow "
            f"arn:aws:iam::{self.aws.account}:root (aws ec2 modify-vpc-endpoint-service-permissions)?",
        )

    def _certificate(self) -> Iterator[Finding]:
        """Check that the certificate exists, is issued, and is for the tenant's host name."""
        edge = self.tenant.edge
        if edge is None:
            return
        place, call = ("edge", "certificate_arn"), {"CertificateArn": edge.certificate_arn}
        described = self.aws.call("acm", "describe_certificate", missing="ResourceNotFoundException", **call)
        if described is None:
            yield self._refused(
                place,
                "there is no such certificate. Ask for one: aws acm request-certificate --validation-method "
                f"DNS --domain-name {edge.host_name}",
            )
            return
        certificate = described["Certificate"]
        names = {
            str(certificate.get("DomainName")),
            *map(str, certificate.get("SubjectAlternativeNames", [])),
        }
        if not names & {edge.host_name, f"*.{edge.host_name.partition('.')[2]}"}:
            yield self._refused(place, f"it is for {', '.join(sorted(names))}, not {edge.host_name}.")
        if certificate.get("Status") != "ISSUED":
            yield self._refused(place, f"it is {certificate.get('Status')}. {_record(certificate)}")

    def _publishers(self) -> Iterator[Finding]:
        """Check that the roles and users of this account exist that publishers' and pushers' roles trust."""
        trusted: list[tuple[tuple[str | int, ...], str]] = [
            (("artifact_publishers", number), arn)
            for number, arn in enumerate(self.place.artifact_publishers)
        ]
        for source, arns in self.place.pushers.items():
            trusted += [(("pushers", source, number), arn) for number, arn in enumerate(arns)]
        for key, arn in trusted:
            kind, _, path = arn.rpartition(":")[2].partition("/")  # "role" or "user"
            name = path.rpartition("/")[2]
            if f":{self.aws.account}:" not in arn:
                continue
            given = {f"{kind.title()}Name": name}
            if self.aws.call("iam", f"get_{kind}", missing="NoSuchEntity", **given) is None:
                yield self._refused(
                    ("deployment", *key),
                    f"there is no {kind} {name}, and IAM trusts none that is not there. Make it first, or "
                    "delete the key.",
                )

    def _care_keys(self) -> Iterator[Finding]:
        """Check the parameter with the public keys of the care application. No deployment makes it, since
        whoever writes it decides whose data may be shown."""
        section = self.tenant.care_context
        if section is None or section.plain_ids:
            return
        name = section.jwks_parameter or self.place.parameter(self.tenant.name, "care-jwks")
        value = self.aws.parameter(name)
        keys = None if value is None else _keys_of(value)
        put = (
            "Put the care application's public keys into it: aws ssm put-parameter "
            f"--name {name} --type String --tier Intelligent-Tiering --overwrite --value file://care-jwks.json"
        )
        if keys and any("d" in key for key in keys):
            yield self._refused(
                ("care_context",),
                f"the parameter {name} holds a private key, with which anyone who reads it signs contexts. "
                f"Replace that key in the care application. {put}",
            )
        elif not keys:
            state = "is missing" if value is None else "holds no key set"
            yield warning(
                f"The parameter {name} {state}. Until it has one, each question that brings a context is "
                f"refused with 503, and no answer shows a customer's live data. {put}"
            )

    def _functions(self) -> Iterator[Finding]:
        """Compare the account's limit of concurrent functions with the most that the tenant's queues
        start."""
        sources = of_type(self.templates, "AWS::Lambda::EventSourceMapping")
        at_once = (source.get("ScalingConfig", {}).get("MaximumConcurrency", 1) for source in sources)
        wanted = sum(map(int, at_once))
        limit = int(self.aws.call("lambda", "get_account_settings")["AccountLimit"]["ConcurrentExecutions"])
        if limit < wanted:
            yield warning(
                f"Lambda runs {limit} functions at once in this account, and the tenant's queues may "
                f"ask for {wanted}: documents wait. {_increase('lambda', _LAMBDA_QUOTA, 1000)}"
            )

    def _instances(self) -> Iterator[Finding]:
        """Compare SageMaker's quotas with the instances of the endpoints, and of a job that compiles the
        LLM."""
        models = self.tenant.models
        if models is None:
            return
        counts = endpoint_instances(self.templates)
        usage = {f"{kind} for endpoint usage": count for kind, count in counts.items()}
        yield from low_quotas(self.aws, "sagemaker", usage, used=self._used_instances())
        if models.llm is not None and models.accelerator in ("inf2", "trn1"):
            job = {f"{_COMPILES_ON} for training job usage": 1}
            yield from low_quotas(self.aws, "sagemaker", job, why=f" (to compile {models.llm} on)")

    def _used_instances(self) -> dict[str, int]:
        """Return how many instances the account's other endpoints have now, by the name of their quota."""
        of_tenant, used = {name for name, _ in endpoint_variants(self.templates)}, dict[str, int]()
        for listed in self.aws.listed("sagemaker", "list_endpoints", "Endpoints"):
            name = str(listed["EndpointName"])
            if name in of_tenant:
                continue
            endpoint = self.aws.call("sagemaker", "describe_endpoint", EndpointName=name)
            given = {"EndpointConfigName": endpoint["EndpointConfigName"]}
            config = self.aws.call("sagemaker", "describe_endpoint_config", **given)
            kinds = {each["VariantName"]: each.get("InstanceType") for each in config["ProductionVariants"]}
            for variant in endpoint.get("ProductionVariants", ()):
                quota = f"{kinds.get(variant['VariantName'])} for endpoint usage"
                used[quota] = used.get(quota, 0) + int(variant.get("CurrentInstanceCount", 1))
        return used

    def _refused(self, place: tuple[str | int, ...], said: str) -> Finding:
        """Return the failure of a key of the tenant file, with file and line."""
        (line,) = said_of(self.tenant_file, [Contradiction(place, said)])
        return failure(line)


def require_quota(aws: AwsAccount, usage: str) -> None:
    """Raise DeploymentError, with how to ask for more, unless SageMaker's quota allows one instance."""
    if low := [finding.said for finding in low_quotas(aws, "sagemaker", {usage: 1})]:
        raise DeploymentError("\n".join(low))


def low_quotas(
    aws: AwsAccount,
    service: str,
    wanted: Mapping[str, float],
    *,
    used: Mapping[str, float] | None = None,
    why: str = "",
) -> Iterator[Finding]:
    """Yield a warning for each quota that is too low, with the command that asks for more.

    ``wanted``, ``used``: by the quota's name, what the tenant needs and what others of the account use
    already. ``service``: its code at Service Quotas. ``why``: added to the text.
    """
    quotas: dict[str, Mapping[str, Any]] = {}
    # the account's own quotas come before AWS's defaults
    for call in ("list_service_quotas", "list_aws_default_service_quotas"):
        if wanted.keys() - quotas.keys():
            listed = aws.listed("service-quotas", call, "Quotas", ServiceCode=service)
            quotas = {each["QuotaName"]: each for each in listed} | quotas
    for name, count in wanted.items():
        if name not in quotas:
            yield warning(f"{service} has no quota {name} in this region.")
        elif (allowed := float(quotas[name]["Value"])) < count + (taken := (used or {}).get(name, 0)):
            increase = _increase(service, quotas[name]["QuotaCode"], math.ceil(count + taken))
            others = f", others of the account use {taken:g}" if taken else ""
            yield warning(f"quota {name}: {allowed:g}{others}, and {count:g} are wanted{why}. {increase}")


def _keys_of(key_set: str) -> list[Mapping[str, Any]]:
    """Return the keys of a JWKS; none where it is something else."""
    try:
        keys = json.loads(key_set)["keys"]
    except (ValueError, KeyError, TypeError):
        return []
    listed = cast("list[Any]", keys) if isinstance(keys, list) else []
    return [cast("Mapping[str, Any]", key) for key in listed if isinstance(key, dict)]


def warning(said: str) -> Finding:
    """Return a finding after which a deployment goes on."""
    return Finding(kind="warn", said=said)


def failure(said: str) -> Finding:
    """Return a finding that stops a deployment."""
    return Finding(kind="fail", said=said)


def endpoint_instances(templates: Templates) -> dict[str, int]:
    """Return how many instances of each type the endpoints may need.

    That is the most of a scaled fleet and one more, since a blue/green deployment runs a second fleet for a
    while.
    """
    targets = of_type(templates, "AWS::ApplicationAutoScaling::ScalableTarget")
    most = [int(target["MaxCapacity"]) for target in targets if target.get("ServiceNamespace") == "sagemaker"]
    wanted: dict[str, int] = {}
    for config in of_type(templates, "AWS::SageMaker::EndpointConfig"):
        (variant,) = config["ProductionVariants"]
        kind = str(variant["InstanceType"])
        wanted[kind] = wanted.get(kind, 0) + max(most, default=1) + 1
    return wanted


def instance_changes(deployed: Templates, new: Templates) -> list[str]:
    """Return which endpoints would get another instance type that an update cannot give them.

    "If the update would change the instance type for any model that is a target for auto scaling, the update
    fails" (Amazon SageMaker AI developer guide, "Update endpoints that use auto scaling"). A new endpoint has
    no such limit: pausing and resuming makes one.
    """
    before, after = (
        {
            (endpoint, str(variant.get("VariantName"))): str(variant.get("InstanceType"))
            for endpoint, variant in variants
        }
        for variants in map(endpoint_variants, (deployed, new))
    )
    targets = of_type(deployed, "AWS::ApplicationAutoScaling::ScalableTarget")
    # The ResourceId of a Fargate service is an expression, which matches no endpoint below.
    scaled = [target.get("ResourceId") for target in targets]
    return [
        f"endpoint {endpoint}, variant {variant}: from {was} to {after[endpoint, variant]}"
        for (endpoint, variant), was in sorted(before.items())
        if after.get((endpoint, variant), was) != was and f"endpoint/{endpoint}/variant/{variant}" in scaled
    ]


def endpoint_variants(templates: Templates) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (endpoint's name, variant) for each variant that an endpoint starts with."""
    for template in templates.values():
        resources = template.get("Resources", {})
        for endpoint in of_type({"": template}, "AWS::SageMaker::Endpoint"):
            config = resources.get(_logical_id(endpoint.get("EndpointConfigName")), {})
            for variant in config.get("Properties", {}).get("ProductionVariants", []):
                yield str(endpoint.get("EndpointName")), variant


def _logical_id(value: Any) -> str | None:
    """Return the logical id that a property refers to."""
    match value:
        case {"Ref": str(logical_id)} | {"Fn::GetAtt": [str(logical_id), *_]}:
            return logical_id
        case _:
            return None


def _increase(service: str, code: str, count: int) -> str:
    """Return the sentence with the command that asks for a higher quota."""
    return (
        "Ask for more: aws service-quotas request-service-quota-increase "
        f"--service-code {service} --quota-code {code} --desired-value {count}"
    )


def _record(certificate: Mapping[str, Any]) -> str:
    """Return the advice to put the DNS record into the zone that the certificate waits for."""
    records = [
        option["ResourceRecord"]
        for option in certificate.get("DomainValidationOptions", [])
        if "ResourceRecord" in option and option.get("ValidationStatus") != "SUCCESS"
    ]
    if not records:
        return "aws acm describe-certificate says why."
    listed = ", ".join(f"{record['Name']} {record['Type']} {record['Value']}" for record in records)
    return f"Put this record into the domain's public zone, and wait until it is ISSUED: {listed}"


def of_type(templates: Templates, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the properties of each resource of a type."""
    for template in templates.values():
        for resource in template.get("Resources", {}).values():
            if resource["Type"] == kind:
                yield resource.get("Properties", {})


BUCKET_OUTPUT, PUBLISHER_OUTPUT = "ModelsBucketName", "ArtifactPublisherArn"
"""Outputs of a tenant's data stack."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A tenant that has a ``[deployment]``, with the calls to its account, by the credentials of whoever runs
    the command."""

    config: TenantConfig
    place: PlaceSection

    @classmethod
    def of(cls, config: TenantConfig, file: Path) -> Deployed:
        """Return the deployment of a tenant and its file. Raises ConfigurationError when it is only served
        locally."""
        return cls(config, place_of(config, file))

    @classmethod
    def named(cls, options: GlobalOptions, tenant: str) -> Deployed:
        """Read a tenant's file, and return its deployment. Raises ConfigurationError as ``of``, and for a
        wrong file."""
        file = options.tenants_dir / f"{tenant}.toml"
        return cls.of(load_tenant(file), file)

    @property
    def aws(self) -> AwsAccount:
        return AwsAccount(account=self.place.account, region=self.place.region)

    def stack(self, name: str) -> str:
        """Return the full name of a stack of the tenant's stage (``Data``)."""
        return f"{self.place.name_prefix}-{self.config.name}-{name}"

    def output(self, stack: str, name: str, *, lacks: str) -> str:
        """Return one output of a stack. ``lacks``: what is missing without it, and what to do before the next
        deployment. Raises DeploymentError, also where the credentials are another account's."""
        self.aws.require()
        value = self.aws.outputs(self.stack(stack)).get(name)
        if value is None:
            raise DeploymentError(f"{self.stack(stack)} has no {lacks}, and deploy.")
        return value

    def models_bucket(self) -> str:
        """Return the name of the bucket of models. Raises DeploymentError."""
        return self.output("Data", BUCKET_OUTPUT, lacks="bucket of models: it is the first to be made")

    def publisher(self) -> Any:
        """Return an S3 client by the role that puts models, for an hour at most. Raises DeploymentError."""
        lacks = "publisher's role: name a role or user in deployment.artifact_publishers"
        return self.aws.as_role(self.output("Data", PUBLISHER_OUTPUT, lacks=lacks)).client("s3")
