"""``assistant aws doctor``: what a deployment of a tenant needs, asked before anything is made.

It changes nothing. Each check passes, warns, fails, or is *unknown*: what cannot be asked is never a pass.
``assistant aws deploy`` begins with the same checks and stops where one fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, DependencyError, DeploymentError, UnauthenticatedError
from assistant.domain.identity import Role
from assistant.option import Place
from assistant.tenant.deployed_names import ACCOUNT_STACK, ACCOUNT_VERSION, ACCOUNT_VERSION_OUTPUT
from assistant.tenant.deployment import load_account
from assistant.tenant.manifests import EmbeddingManifest, LlmManifest, load_compatibility
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.account import (
    BUCKET_OUTPUT,
    AccountChecks,
    Finding,
    Kind,
    endpoint_instances,
    failure,
    low_quotas,
    of_type,
    warning,
)
from assistant.terminal.publishing import Cosign, Registry, images_of, model_files, unverified

Check = Callable[[], Iterable[Finding] | None]
CHECKS = Place[Callable[[AccountChecks], Mapping[str, Check]]]("checks of an account")
CLAIMS = frozenset({"tenant", "roles"})
"""That the assistant reads in an agent's token, beside the registered ones."""
_MOST_TRAILS = 5
"""A region's, never more: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/WhatIsCloudTrail-Limits.html"""
_MOST_AT_ONCE = 100
"""Tasks that DescribeTasks takes; SimulatePrincipalPolicy gets as many actions."""
_CPU_UNITS = 1024


def checked(name: str, check: Check, *, otherwise: Kind = "unknown") -> Iterator[Finding]:
    """Yield what a check found, by its name: a pass for nothing, ``otherwise`` where it raised."""
    silent = True
    try:
        for finding in check() or ():
            silent = False
            yield replace(finding, check=name)
    except (ConfigurationError, DeploymentError) as error:
        said = f"not asked: {error.message}" if otherwise == "unknown" else error.message
        yield Finding(kind=otherwise, said=said, check=name)
    else:
        if silent:
            yield Finding(kind="pass", said="", check=name)


def tools(root: Path) -> Iterator[Finding]:
    """Check what the commands of a deployment call on this machine."""
    if not (root / "node_modules/.bin/cdk").exists() or not (root / "cdk.json").exists():
        yield failure(f"{root} has no CDK. In a clone of the repository run: make setup")
    for name, what in (
        ("aws", "the walk's commands are AWS's own"),
        ("docker", "make images builds with it"),
    ):
        if shutil.which(name) is None:
            yield warning(f"there is no {name} on this machine: {what}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentChecks:
    """What is asked of the account, the issuer and the artifacts, for templates that are proven already."""

    account: AccountChecks
    stage: Path
    """The tenant's folder of the cloud assembly."""
    root: Path
    """Of a clone: ``model_artifacts/``, and ``accounts/``, which says what the account stage makes."""
    configuration_of: Callable[[str], Mapping[str, Any]]
    """Reads an issuer's published configuration (OpenID Connect Discovery 1.0)."""

    def checks(self) -> Mapping[str, Check]:
        """Return the checks by name. They raise DeploymentError for what cannot be asked."""
        of_options = {name: check for of in CHECKS.joined() for name, check in of(self.account).items()}
        return {
            **self.account.checks(),
            "account stage": self._account_stage,
            "VPCs": self._vpcs,
            "trails": self._trails,
            "interface endpoints": self._endpoints,
            "Fargate": self._fargate,
            "search instances": self._search_instances,
            "endpoint instances": self._endpoint_instances,
            "execution role": self._execution_role,
            **of_options,
            "bootstrap": self._bootstrap,
            "load balancers": self._balancers,
            "images": self._images,
            "image signatures": self._signatures,
            "network": self._network,
            "issuer": self._issuer,
            "model artifacts": self._artifacts,
            "driver": self._driver,
        }

    def _bootstrap(self) -> Iterator[Finding]:
        aws, qualifier = self.account.aws, self.account.place.bootstrap_qualifier
        command = f"npx cdk bootstrap --app '' aws://{aws.account}/{aws.region} --qualifier {qualifier}"
        version = aws.parameter(f"/cdk-bootstrap/{qualifier}/version")
        needed = self._needed_bootstrap()
        if version is None or int(version) < needed:
            has = "is not bootstrapped" if version is None else f"has version {version}, {needed} is needed"
            yield failure(f"{aws.account}/{aws.region} {has}. Run: {command}")
            return
        bucket = f"cdk-{qualifier}-assets-{aws.account}-{aws.region}"
        encryption = aws.call("s3", "get_bucket_encryption", Bucket=bucket)
        rules = encryption["ServerSideEncryptionConfiguration"]["Rules"]
        keys = {rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID") for rule in rules}
        for name in sorted(key for key in keys if key and not key.endswith("alias/aws/s3")):
            key = aws.call("kms", "describe_key", KeyId=name)["KeyMetadata"]["Arn"]
            if key != self.account.place.bootstrap_key:
                yield failure(
                    f"{bucket} is encrypted with {key}, and tasks and functions read the tenant file there: "
                    f'write bootstrap_key = "{key}" into [deployment]. The key\'s policy must let '
                    f"IAM policies of account {aws.account} allow kms:Decrypt."
                )

    def _needed_bootstrap(self) -> int:
        manifest = json.loads((self.stage / "manifest.json").read_bytes())
        stacks = (each.get("properties", {}) for each in manifest["artifacts"].values())
        return max(int(each.get("requiresBootstrapStackVersion", 0)) for each in stacks)

    def _balancers(self) -> None:
        """Look for a load balancer in the region: some new accounts may not make any, and no call says so."""
        if not self.account.aws.listed("elbv2", "describe_load_balancers", "LoadBalancers"):
            raise DeploymentError(
                "this account has no load balancer in the region, and AWS refuses them to some new accounts "
                '("this account currently does not support creating load balancers"). If it is new, ask '
                "first, in a support case: enable internal Application and Network Load Balancers for "
                f"account {self.account.aws.account} in {self.account.aws.region}."
            )

    def _images(self) -> Iterator[Finding]:
        """Check that this account's registry holds every image that the templates name by digest."""
        aws, text = self.account.aws, json.dumps(self.account.templates)
        pattern = rf"{aws.account}\.dkr\.ecr\.{aws.region}\.[^/]*/([a-z0-9._/-]+)@(sha256:[0-9a-f]{{64}})"
        listed = aws.listed("ecr", "describe_repositories", "repositories")
        repositories = {str(each["repositoryName"]) for each in listed}
        for repository, digest in sorted(set(re.findall(pattern, text))):
            image: dict[str, Any] = {"repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
            gone = "ImageNotFoundException"
            if repository not in repositories:
                yield failure(f"there is no repository {repository}. Deploy the account stage first.")
            elif aws.call("ecr", "describe_images", missing=gone, **image) is None:
                push = f"make images TO={aws.account}/{aws.region}"
                yield failure(f"{repository} has no image {digest}. Run: {push}")

    def _signatures(self) -> Iterator[Finding]:
        """Verify each image in this account's registry by the declared key. AWS's have no signature."""
        key, aws = self.account.place.image_key, self.account.aws
        registry = Registry(account=aws.account, region=aws.region)
        named = images_of(self.account.templates, url_suffix=registry.url_suffix)
        ours = [image for image in named if image.startswith(f"{registry.host}/")]
        if key is None:
            yield warning("no signature of an image is verified: declare deployment.image_key.")
            return
        if not key.startswith("awskms:"):
            key = str(self.account.tenant_file.parent / key)
        try:
            cosign = Cosign(key=key, logins={registry.host: registry.login()})
            yield from map(failure, unverified(ours, cosign))
        except (ConfigurationError, DeploymentError) as error:  # unknown would let a deployment go on
            yield failure(f"no signature of an image can be verified: {error.message}")

    def _network(self) -> Iterator[Finding]:
        tenant = self.account.tenant
        planned = ip_network(tenant.network.cidr)
        for vpc in self.account.aws.listed("ec2", "describe_vpcs", "Vpcs"):
            tags = {tag["Key"]: tag["Value"] for tag in vpc.get("Tags", ())}
            if tags.get("tenant") != tenant.name and planned.overlaps(ip_network(vpc["CidrBlock"])):
                yield warning(
                    f"network.cidr {planned} overlaps {vpc['VpcId']} ({vpc['CidrBlock']}): the two can "
                    "never be peered, or share a transit gateway."
                )

    def _issuer(self) -> Iterator[Finding]:
        identity = self.account.tenant.identity
        if identity is None:
            return
        configuration = self.configuration_of(identity.issuer)
        claims = _list(configuration.get("claims_supported"))
        if claims and (lacking := sorted(CLAIMS - set(map(str, claims)))):
            yield warning(
                f"{identity.issuer} does not list the claims {', '.join(lacking)}, and a token without "
                "one is refused with 401. Some issuers list only standard claims: look into a token of it."
            )

    def _artifacts(self) -> Iterator[Finding]:
        aws, tenant, models = self.account.aws, self.account.tenant.name, self.account.tenant.models
        if models is None:
            return
        outputs = aws.outputs(f"{self.account.full_name}-Data")
        if BUCKET_OUTPUT not in outputs:
            raise DeploymentError("the bucket of models is made by the first deployment.")
        bucket = outputs[BUCKET_OUTPUT]
        for wanted in model_files(models, folder=self.root / "model_artifacts"):
            place = {"Bucket": bucket, "Prefix": wanted.prefix}
            listed = aws.call("s3", "list_objects_v2", **place).get("Contents", ())
            uploaded = {str(each["Key"]).removeprefix(wanted.prefix) for each in listed if each["Size"]}
            if lacking := sorted(set(wanted.files) - uploaded):
                yield failure(
                    f"s3://{bucket}/{wanted.prefix} lacks {', '.join(lacking)}. Run: assistant aws "
                    f"put-artifacts --tenant {tenant}, or see model_artifacts/README.md"
                )

    def _driver(self) -> Iterator[Finding]:
        models, folder = self.account.tenant.models, self.root / "model_artifacts"
        if models is None:
            return
        rows = load_compatibility(folder / "compatibility.toml").row
        manifests = [
            *([] if models.llm is None else [LlmManifest.read(folder / "llm" / models.llm)]),
            *(EmbeddingManifest.read(folder / "embedding" / name) for name in models.embeddings),
        ]
        for manifest in manifests:
            for row in rows:
                known = (row.image, row.sdk, row.ami) == (manifest.image, manifest.sdk, manifest.ami)
                if known and row.warning:
                    yield warning(f"{manifest.name}: {row.warning}")

    # --- what the account has room for --------------------------------------------------------------------
    # Each check lists what others use: another tenant's endpoints count as much as this one's.
    def _of_type(self, kind: str) -> list[Mapping[str, Any]]:
        return list(of_type(self.account.templates, kind))

    def _is_own(self, tagged: Mapping[str, Any]) -> bool:
        return {"Key": "tenant", "Value": self.account.tenant.name} in tagged.get("Tags", ())

    def _account_stage(self) -> Iterator[Finding]:
        """Compare the version of the account stage with this release's. A company may make all itself."""
        aws = self.account.aws
        config = load_account(self.root / "accounts", account=aws.account, region=aws.region)
        if "create" not in config.model_dump().values():
            return
        version = aws.outputs(ACCOUNT_STACK).get(ACCOUNT_VERSION_OUTPUT, "0")
        if int(version) < ACCOUNT_VERSION:
            yield failure(
                f"the account stage ({ACCOUNT_STACK}) is of version {version}, and this release needs "
                f"{ACCOUNT_VERSION}. Run first: npx cdk deploy -c stage=account -c "
                f"tenant={self.account.tenant.name} '**'"
            )

    def _vpcs(self) -> Iterator[Finding]:
        wanted = len(self._of_type("AWS::EC2::VPC"))
        others = [
            each for each in self.account.aws.listed("ec2", "describe_vpcs", "Vpcs") if not self._is_own(each)
        ]
        name = "VPCs per Region"
        if wanted:
            yield from low_quotas(self.account.aws, "vpc", {name: wanted}, used={name: len(others)})

    def _trails(self) -> Iterator[Finding]:
        wanted = len(self._of_type("AWS::CloudTrail::Trail"))
        trails = self.account.aws.call("cloudtrail", "describe_trails", includeShadowTrails=True)["trailList"]
        names = sorted(str(each["Name"]) for each in trails)
        others = [name for name in names if not name.startswith(f"{self.account.full_name}-")]
        if wanted and len(others) + wanted > _MOST_TRAILS:
            yield failure(
                f"the region has {len(others)} trails ({', '.join(others)}) and takes {_MOST_TRAILS}, never "
                "more: the tenant's last stack would fail. Delete one, or use another region."
            )

    def _endpoints(self) -> Iterator[Finding]:
        wanted = sum(
            each.get("VpcEndpointType") == "Interface" for each in self._of_type("AWS::EC2::VPCEndpoint")
        )
        vpc, others = self.account.tenant.network.vpc, 0
        if vpc is not None:
            wished = {"vpc-id": vpc.vpc_id, "vpc-endpoint-type": "Interface"}
            filters = [{"Name": name, "Values": [value]} for name, value in wished.items()]
            listed = self.account.aws.listed("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=filters)
            others = sum(not self._is_own(each) for each in listed)
        name = "Interface VPC endpoints per VPC"
        yield from low_quotas(self.account.aws, "vpc", {name: wanted}, used={name: others})

    def _fargate(self) -> Iterator[Finding]:
        """Compare the vCPU of all tasks: a roll-out runs the service twice."""
        name, wanted = "Fargate On-Demand vCPU resource count", 0.0
        for template in self.account.templates.values():
            alone = {"": template}
            most = [
                2 * int(each["MaxCapacity"])
                for each in of_type(alone, "AWS::ApplicationAutoScaling::ScalableTarget")
                if each.get("ServiceNamespace") == "ecs"
            ]
            for task in of_type(alone, "AWS::ECS::TaskDefinition"):
                wanted += int(task["Cpu"]) / _CPU_UNITS * max(most, default=1)
        if wanted:
            used = self._running_vcpu()
            yield from low_quotas(self.account.aws, "fargate", {name: wanted}, used={name: used})

    def _running_vcpu(self) -> float:
        """Return the vCPU of the tasks in all clusters but the tenant's own."""
        aws, units = self.account.aws, 0
        for cluster in aws.listed("ecs", "list_clusters", "clusterArns"):
            if str(cluster).endswith(f"cluster/{self.account.full_name}"):
                continue
            place = {"cluster": cluster}
            tasks = aws.listed("ecs", "list_tasks", "taskArns", **place, launchType="FARGATE")
            for part in _parts(tasks):
                described = aws.call("ecs", "describe_tasks", **place, tasks=part)["tasks"]
                units += sum(int(each.get("cpu", 0)) for each in described)
        return units / _CPU_UNITS

    def _search_instances(self) -> Iterator[Finding]:
        """Check that the zones of the search domain have its instances."""
        for domain in self._of_type("AWS::OpenSearchService::Domain"):
            cluster = domain["ClusterConfig"]
            zones = self.account.place.zones[: len(domain["VPCOptions"]["SubnetIds"])]
            for kind in sorted(
                {cluster[key] for key in ("InstanceType", "DedicatedMasterType") if key in cluster}
            ):
                given: dict[str, Any] = {"EngineVersion": domain["EngineVersion"], "InstanceType": kind}
                listed = self.account.aws.call(
                    "opensearch", "list_instance_type_details", **given, RetrieveAZs=True
                )
                offered = {
                    zone
                    for each in listed["InstanceTypeDetails"]
                    if each["InstanceType"] == kind
                    for zone in each.get("AvailabilityZones", zones)
                }
                if lacking := [zone for zone in zones if zone not in offered]:
                    yield failure(
                        f"OpenSearch offers no {kind} in {', '.join(lacking)}: choose other zones "
                        "([deployment] zones), or another instance ([search])."
                    )

    def _endpoint_instances(self) -> Iterator[Finding]:
        """Check that the tenant's zones have the endpoints' instances, by EC2's word: SageMaker tells no
        zones, so a type that EC2 does not have is *unknown*."""
        in_each_zone: list[str] = []
        for kind in sorted(endpoint_instances(self.account.templates)):
            name = kind.removeprefix("ml.")
            given = {"Filters": [{"Name": "instance-type", "Values": [name]}]}
            listed = self.account.aws.listed(
                "ec2",
                "describe_instance_type_offerings",
                "InstanceTypeOfferings",
                LocationType="availability-zone",
                **given,
            )
            zones = sorted({str(each["Location"]) for each in listed})
            lacking = [zone for zone in self.account.place.zones if zone not in zones]
            if not zones:
                said = f"EC2 has no {name}, and SageMaker tells no zones of {kind}: try an endpoint on it."
                yield Finding(kind="unknown", said=said)
            elif lacking:
                yield warning(
                    f"EC2 has no {name} in {', '.join(lacking)}, but in {', '.join(zones)}: an endpoint on "
                    f"{kind} starts in the other zones alone. Choose zones that have it ([deployment] zones)."
                )
            else:
                in_each_zone.append(name)
        if in_each_zone:
            said = f"EC2 has {', '.join(in_each_zone)} in each zone; SageMaker tells no zones of its own"
            yield Finding(kind="pass", said=said)

    def _execution_role(self) -> Iterator[Finding]:
        """Ask IAM whether CloudFormation's role may make each type of the templates, by the rights that the
        type's own schema lists. A policy that names resources answers for them alone, hence a warning."""
        aws, place = self.account.aws, self.account.place
        role = f"cdk-{place.bootstrap_qualifier}-cfn-exec-role-{aws.account}-{aws.region}"
        described_role = aws.call("iam", "get_role", missing="NoSuchEntity", RoleName=role)
        if described_role is None:
            raise DeploymentError(f"there is no role {role}: a bootstrap of the company's own?")
        kinds = {
            str(resource["Type"])
            for template in self.account.templates.values()
            for resource in template.get("Resources", {}).values()
        }
        actions: set[str] = set()
        for kind in sorted(
            each for each in kinds if each.startswith("AWS::") and each != "AWS::CDK::Metadata"
        ):
            described = aws.call(
                "cloudformation",
                "describe_type",
                missing="TypeNotFoundException",
                Type="RESOURCE",
                TypeName=kind,
            )
            handlers = json.loads("{}" if described is None else described["Schema"]).get("handlers", {})
            actions |= set(handlers.get("create", {}).get("permissions", ()))
        if not actions:
            raise DeploymentError("CloudFormation tells the rights of no type (cloudformation:DescribeType).")
        denied: list[str] = []
        for part in _parts(sorted(actions)):
            given = {"PolicySourceArn": described_role["Role"]["Arn"], "ActionNames": part}
            judged = aws.listed("iam", "simulate_principal_policy", "EvaluationResults", **given)
            denied += [str(each["EvalActionName"]) for each in judged if each["EvalDecision"] != "allowed"]
        if denied:
            yield warning(
                f"{role}, by which CloudFormation makes the stacks, may not, on any resource: "
                f"{', '.join(denied)}. Let the bootstrap's policies "
                "(--cloudformation-execution-policies) allow what the tenant needs."
            )


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(items), _MOST_AT_ONCE):
        yield items[begin : begin + _MOST_AT_ONCE]


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class _PublishedKeys:
    """The issuer's keys as it publishes them, for one check on this machine."""

    keys_of: Callable[[str], str]
    issuer: str

    async def fetch(self) -> bytes:
        try:
            return (await asyncio.to_thread(self.keys_of, self.issuer)).encode()
        except DeploymentError as error:
            raise DependencyError(error.message) from None


def token_findings(token: str, *, tenant: TenantConfig, keys_of: Callable[[str], str]) -> Iterator[Finding]:
    """Yield what each claim of an agent's token is to the assistant, and whether the whole of it is taken.

    Raises ConfigurationError for a tenant without ``[identity]``, and for a text that is no token.
    """
    from joserfc import jws
    from joserfc.errors import JoseError

    from assistant.service.identity import CachedKeySet, TokenVerifier  # the service's packages

    if (identity := tenant.identity) is None:
        raise ConfigurationError(f"{tenant.name} has no [identity] section: no issuer is known.")
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        given = {name: claims.get(name) for name in ("iss", "aud", "sub", "exp", "iat", "tenant", "roles")}
    except (JoseError, ValueError, AttributeError):
        raise ConfigurationError("This is no signed token (a JWT of three parts).") from None
    roles, audiences = _list(given["roles"]), _list(given["aud"]) or [given["aud"]]
    wanted = {
        "iss": (given["iss"] == identity.issuer, f"must be {identity.issuer}"),
        "aud": (identity.audience in audiences, f"must hold {identity.audience}"),
        "sub": (isinstance(given["sub"], str) and given["sub"], "must name the agent"),
        "exp": (isinstance(given["exp"], int | float), "must be a time"),
        "iat": (isinstance(given["iat"], int | float), "must be a time"),
        "tenant": (given["tenant"] == tenant.name, f"must be {tenant.name}"),
        "roles": (set(map(str, roles)) & set(Role), f"must be a list with one of {', '.join(Role)}"),
    }
    for name, (is_right, said) in wanted.items():
        has = "there is none" if given[name] is None else f"it is {json.dumps(given[name])}"
        wrong = () if is_right else (failure(f"{said}; {has}"),)
        yield from checked(name, lambda wrong=wrong: wrong)
    clock = SystemClock()
    verifier = TokenVerifier(
        keys=CachedKeySet(_PublishedKeys(keys_of, identity.issuer), clock=clock),
        issuer=identity.issuer,
        audience=identity.audience,
        tenants=[tenant.name],
        clock=clock,
    )

    def verified() -> Iterator[Finding]:
        try:
            asyncio.run(verifier.identify(f"Bearer {token}"))
        except UnauthenticatedError as error:
            why = "It is expired, or not signed by a key of the issuer, or not by ES256 or RS256."
            yield failure(error.message if "claim" in error.message else f"{error.message} {why}")
        except DependencyError as error:
            raise DeploymentError(error.message) from None

    yield from checked("signature", verified)
