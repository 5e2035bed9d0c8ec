"""``assistant aws doctor``: checks what a deployment of a tenant needs, before anything is made.

It changes nothing, and asks the deployed model to check sentences. Each check passes, warns, fails, or is
*unknown*: one that AWS does not let us ask is unknown, never a pass.
``assistant aws deploy`` begins with the same checks, but that of the model, and stops where one fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import orjson

from assistant.answer.services import AnswerWriter
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError, DependencyError, DeploymentError, UnauthenticatedError
from assistant.domain.identity import Role
from assistant.evaluation.check_pairs import ModelAlone, ask_pairs, load_check_pairs
from assistant.models.artifacts import CharacterTokenCounter, unknown_model
from assistant.option import installed
from assistant.tenant.deployed_names import ACCOUNT_STACK, ACCOUNT_VERSION, ACCOUNT_VERSION_OUTPUT
from assistant.tenant.deployment import ACCOUNT_TRAIL, PlaceSection, load_account
from assistant.tenant.manifests import CheckCounts, EmbeddingManifest, LlmManifest, Part, load_compatibility
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.account import (
    BUCKET_OUTPUT,
    AccountChecks,
    Deployed,
    Finding,
    Kind,
    Templates,
    failure,
    low_quotas,
    of_type,
    warning,
)
from assistant.terminal.publishing import Registry, images_of, model_files, unverified

Check = Callable[[], Iterable[Finding] | None]
"""A check yields a finding for each fault. It passes where it yields none or returns None, and raises
DeploymentError where it cannot be asked. ``checked`` runs it, and fills in ``Finding.check``."""
CLAIMS = frozenset({"tenant", "roles"})
"""What the assistant reads in an agent's token, beside the claims that RFC 7519 registers."""
_MOST_TRAILS, _MOST_VALUES = 5, 500
"""Trails in a region, and values over all selectors of a trail. AWS raises these quotas for nobody:
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/WhatIsCloudTrail-Limits.html"""
_CDK_QUALIFIER = "hnb659fds"
"""That of a bootstrap without ``--qualifier``."""
_MOST_AT_ONCE = 100
"""Tasks that one DescribeTasks takes."""
_CPU_UNITS = 1024
"""Of a task definition, for one vCPU."""


def checked(name: str, check: Check, *, otherwise: Kind = "unknown") -> Iterator[Finding]:
    """Run a check and yield its findings under its name: one pass where it yields none, one of the kind
    ``otherwise`` where it raises."""
    silent = True
    try:
        for finding in check() or ():
            silent = False
            yield replace(finding, check=name)
    except (ConfigurationError, DeploymentError) as error:
        text = f"not asked: {error.message}" if otherwise == "unknown" else error.message
        yield Finding(kind=otherwise, said=text, check=name)
    else:
        if silent:
            yield Finding(kind="pass", said="", check=name)


def tools(root: Path) -> Iterator[Finding]:
    """Check that the programs that a deployment calls are on this machine."""
    if not (root / "node_modules/.bin/cdk").exists() or not (root / "cdk.json").exists():
        yield failure(f"{root} has no CDK. In a clone of the repository run: make setup")
    for name, purpose in (
        ("aws", "the walk's commands are AWS's own"),
        ("docker", "make images builds with it"),
    ):
        if shutil.which(name) is None:
            yield warning(f"there is no {name} on this machine: {purpose}.")


def unreviewed(place: PlaceSection, tenants: Iterable[TenantConfig]) -> Iterator[Finding]:
    """Fail where a ``hipaa`` tenant shares account and bootstrap with a tenant whose deliveries nobody has to
    review: who deploys by a bootstrap may change all that was deployed by it. Warn of one with a bootstrap of
    its own, which ends at its tenant only if its policy does."""
    if place.profile != "hipaa":
        return
    for name, its in [(each.name, each.deployment) for each in tenants]:
        if its is None or its.account != place.account or its.profile == "hipaa":
            continue
        policy = f"with the policy of .github/execution-policy.yaml for {name} (docs/from-nothing.md)"
        if its.bootstrap_qualifier == place.bootstrap_qualifier:
            yield failure(
                f"{name} shares this tenant's account and bootstrap, and its deliveries need no review: who "
                f"deploys it may change this tenant's stacks. Give {name} another account, or a "
                f"bootstrap_qualifier of its own, bootstrapped {policy}."
            )
        else:
            role = f"cdk-{its.bootstrap_qualifier}-cfn-exec-role-{its.account}-{its.region}"
            yield warning(f"deliveries of {name} need no review. Look that {role} was made {policy}.")


def support(parts: Iterable[Part], *, today: date, accepted: date | None) -> Iterator[Finding]:
    """Fail for each part whose support ended after the day that the tenant file accepts, and warn of the
    others. ``parts``: those that end soon, or have ended."""
    accept = "Take another, or accept the day: accepted_end_of_support of [deployment] (docs/writers.md)."
    for part in parts:
        refused = part.is_refused(today=today, accepted=accepted)
        yield failure(f"{part}. {accept}") if refused else warning(f"{part}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentChecks:
    """The checks of the account, the issuer and the model artifacts. The templates were checked before."""

    account: AccountChecks
    stage: Path
    """The tenant's folder of the cloud assembly."""
    root: Path
    """A clone of the repository, with ``model_artifacts/``, and with ``accounts/``, which says what the
    account stage makes."""
    configuration_of: Callable[[str], Mapping[str, Any]]
    """Reads an issuer's published configuration (OpenID Connect Discovery 1.0)."""

    def checks(self) -> Mapping[str, Check]:
        """Return the checks by name. They raise DeploymentError for what cannot be asked."""
        of_options = {
            name: check
            for option in installed()
            for name, check in option.account_checks(self.account).items()
        }
        return {
            **self.account.checks(),
            "account stage": self._account_stage,
            "VPCs": self._vpcs,
            "trails": self._trails,
            "interface endpoints": self._endpoints,
            "IAM": self._iam,
            "Fargate": self._fargate,
            "search instances": self._search_instances,
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
        """Check the version of the CDK's bootstrap, and that the tenant file names the key of its bucket."""
        aws, qualifier = self.account.aws, self.account.place.bootstrap_qualifier
        command = f"npx cdk bootstrap --app '' aws://{aws.account}/{aws.region} --qualifier {qualifier}"
        if qualifier != _CDK_QUALIFIER:  # else it would replace the roles of CDK's own bootstrap
            command += f" --toolkit-stack-name CDKToolkit-{qualifier}"
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
        """Return the highest bootstrap version that a stack of the assembly requires."""
        manifest = json.loads((self.stage / "manifest.json").read_bytes())
        properties = (artifact.get("properties", {}) for artifact in manifest["artifacts"].values())
        return max(int(stack.get("requiresBootstrapStackVersion", 0)) for stack in properties)

    def _balancers(self) -> None:
        """Raise DeploymentError where the region has no load balancer: some new accounts may not make any,
        and no call of AWS tells which."""
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
        repositories = {str(repo["repositoryName"]) for repo in listed}
        for repository, digest in sorted(set(re.findall(pattern, text))):
            image: dict[str, Any] = {"repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
            absent = "ImageNotFoundException"
            if repository not in repositories:
                yield failure(f"there is no repository {repository}. Deploy the account stage first.")
            elif aws.call("ecr", "describe_images", missing=absent, **image) is None:
                push = f"make images TO={aws.account}/{aws.region}"
                yield failure(f"{repository} has no image {digest}. Run: {push}")

    def _signatures(self) -> Iterator[Finding]:
        """Verify the signature of each image of this account's registry with the key of the tenant file.
        Images of AWS's registries have none."""
        key, aws = self.account.place.image_key, self.account.aws
        registry = Registry(account=aws.account, region=aws.region)
        listed = images_of(self.account.templates, url_suffix=registry.url_suffix)
        own_images = [image for image in listed if image.startswith(f"{registry.host}/")]
        if key is None:
            yield warning("no signature of an image is verified: declare deployment.image_key.")
            return
        if not key.startswith("awskms:"):
            key = str(self.account.tenant_file.parent / key)
        try:
            login = (registry.host, registry.login())
            yield from map(failure, unverified(own_images, key=key, login=login))
        except (ConfigurationError, DeploymentError) as error:
            # not "unknown", which would let a deployment go on
            yield failure(f"no signature of an image can be verified: {error.message}")

    def _network(self) -> Iterator[Finding]:
        """Warn where the tenant's address range overlaps that of another network of the account."""
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
        """Check that the issuer publishes a configuration; warn where it does not list our claims."""
        identity = self.account.tenant.identity
        if identity is None:
            return
        configuration = self.configuration_of(identity.issuer)
        claims = _listed(configuration.get("claims_supported"))
        if claims and (lacking := sorted(CLAIMS - set(map(str, claims)))):
            yield warning(
                f"{identity.issuer} does not list the claims {', '.join(lacking)}, and a token without "
                "one is refused with 401. Some issuers list only standard claims: look into a token of it."
            )

    def _artifacts(self) -> Iterator[Finding]:
        """Check that the bucket of models holds every file of the tenant's models, none of them empty."""
        aws, tenant, models = self.account.aws, self.account.tenant.name, self.account.tenant.models
        if models is None:
            return
        outputs = aws.outputs(f"{self.account.full_name}-Data")
        if BUCKET_OUTPUT not in outputs:
            raise DeploymentError("the bucket of models is made by the first deployment.")
        bucket = outputs[BUCKET_OUTPUT]
        for wanted in model_files(models, folder=self.root / "model_artifacts"):
            folder = {"Bucket": bucket, "Prefix": wanted.prefix}
            listed = aws.call("s3", "list_objects_v2", **folder).get("Contents", ())
            uploaded = {str(file["Key"]).removeprefix(wanted.prefix) for file in listed if file["Size"]}
            if lacking := sorted(set(wanted.files) - uploaded):
                yield failure(
                    f"s3://{bucket}/{wanted.prefix} lacks {', '.join(lacking)}. Run: assistant aws "
                    f"put-artifacts --tenant {tenant}, or see model_artifacts/README.md"
                )

    def _driver(self) -> Iterator[Finding]:
        """Warn of a combination of image, SDK and machine image that ``compatibility.toml`` warns of."""
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
                is_its_row = (row.image, row.sdk, row.ami) == (manifest.image, manifest.sdk, manifest.ami)
                if is_its_row and row.warning:
                    yield warning(f"{manifest.name}: {row.warning}")

    # --- what the account has room for --------------------------------------------------------------------
    # Each check adds what this tenant needs to what all others in the account use, and compares that with a
    # quota.
    def _of_type(self, kind: str) -> list[Mapping[str, Any]]:
        return list(of_type(self.account.templates, kind))

    def _is_own(self, tagged: Mapping[str, Any]) -> bool:
        """Return whether a resource has this tenant's tag."""
        return {"Key": "tenant", "Value": self.account.tenant.name} in tagged.get("Tags", ())

    def _account_stage(self) -> Iterator[Finding]:
        """Compare the version of the deployed account stage with this release's. Nothing is checked where the
        file in ``accounts/`` lets the account stage create nothing."""
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
        """Compare the VPCs with the region's quota."""
        wanted = len(self._of_type("AWS::EC2::VPC"))
        others = [
            vpc for vpc in self.account.aws.listed("ec2", "describe_vpcs", "Vpcs") if not self._is_own(vpc)
        ]
        name = "VPCs per Region"
        if wanted:
            yield from low_quotas(self.account.aws, "vpc", {name: wanted}, used={name: len(others)})

    def _trails(self) -> Iterator[Finding]:
        """Look for this tenant's stores among what the account's trail records, and count its values. Without
        that trail: compare the region's trails with the most that it takes, if the account stage makes it."""
        aws = self.account.aws
        listed = aws.call("cloudtrail", "describe_trails", includeShadowTrails=True)["trailList"]
        names = sorted(str(trail["Name"]) for trail in listed)
        for trail in listed:
            if trail["Name"] == ACCOUNT_TRAIL:
                home, given = replace(aws, region=trail["HomeRegion"]), {"TrailName": ACCOUNT_TRAIL}
                yield from self._recorded(home.call("cloudtrail", "get_event_selectors", **given))
        makes = load_account(self.root / "accounts", account=aws.account, region=aws.region).trail == "create"
        if makes and ACCOUNT_TRAIL not in names and len(names) >= _MOST_TRAILS:
            yield failure(
                f"the region has {len(names)} trails ({', '.join(names)}), the most that it takes: the "
                "account stage would fail. Delete one first (docs/runbook.md, One trail an account)."
            )

    def _recorded(self, selectors: Mapping[str, Any]) -> Iterator[Finding]:
        """Look for this tenant's stores among what the account's trail records."""
        fields = [each for one in selectors["AdvancedEventSelectors"] for each in one["FieldSelectors"]]
        values = [value for each in fields for key, of in each.items() if key != "Field" for value in of]
        place = self.account.place
        stores = ("s3:::", f"dynamodb:{place.region}:{place.account}:table/")
        wanted = [f":{kind}{place.name_prefix}-" for kind in stores]
        missing = [f"…{name}*" for name in wanted if not any(value.endswith(name) for value in values)]
        full = len(values) + len(missing) > _MOST_VALUES
        if missing:
            yield failure(
                f"{ACCOUNT_TRAIL}, with {len(values)} of {_MOST_VALUES} values, does not record "
                f"{' and '.join(missing)}: reads there would raise no alarm. "
                + ("It takes no more: use another account." if full else "Deploy the account stage again.")
            )

    def _iam(self) -> Iterator[Finding]:
        """Compare roles and policies with IAM's quotas, of the account and of one role. Where both fit: say
        how many more tenants of this size the account takes."""
        aws, templates = self.account.aws, self.account.templates
        summary = aws.call("iam", "get_account_summary")["SummaryMap"]
        room, fits = list[int](), True
        for kind, name in (("AWS::IAM::Role", "Roles"), ("AWS::IAM::ManagedPolicy", "Policies")):
            wanted, used, most = len(self._of_type(kind)), summary[name], summary[f"{name}Quota"]
            if used + wanted > most:  # some of those used may be this tenant's
                deployed = {stack: aws.template(stack) or {} for stack in templates}
                used -= len(list(of_type(deployed, kind)))
            room += [(most - used) // wanted - 1] if wanted else []
            if used + wanted > most:
                fits = False
                yield failure(
                    f"the account takes {most} {name.lower()}; others use {used}, and this tenant has "
                    f"{wanted}. Ask for more at Service Quotas (IAM, in us-east-1), or use another account."
                )
        most_managed, most_inline = summary["AttachedPoliciesPerRoleQuota"], summary["RolePolicySizeQuota"]
        for full in _full_roles(templates, most_managed=most_managed, most_inline=most_inline):
            fits = False
            yield failure(full)
        if fits and room:
            yield Finding(
                kind="pass", said=f"At least {min(room)} more tenants of this size fit the account's IAM."
            )

    def _endpoints(self) -> Iterator[Finding]:
        """Compare the interface endpoints of the tenant's VPC with its quota; a new VPC has no others."""
        wanted = sum(
            item.get("VpcEndpointType") == "Interface" for item in self._of_type("AWS::EC2::VPCEndpoint")
        )
        vpc, others = self.account.tenant.network.vpc, 0
        if vpc is not None:
            wished = {"vpc-id": vpc.vpc_id, "vpc-endpoint-type": "Interface"}
            filters = [{"Name": name, "Values": [value]} for name, value in wished.items()]
            listed = self.account.aws.listed("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=filters)
            others = sum(not self._is_own(item) for item in listed)
        name = "Interface VPC endpoints per VPC"
        yield from low_quotas(self.account.aws, "vpc", {name: wanted}, used={name: others})

    def _fargate(self) -> Iterator[Finding]:
        """Compare the vCPU of all tasks with the quota. A service counts twice, since a deployment runs its
        old and its new tasks together; a template without one runs a single task."""
        name, wanted = "Fargate On-Demand vCPU resource count", 0.0
        for template in self.account.templates.values():
            only_this = {"": template}
            task_counts = [
                2 * int(target["MaxCapacity"])
                for target in of_type(only_this, "AWS::ApplicationAutoScaling::ScalableTarget")
                if target.get("ServiceNamespace") == "ecs"
            ]
            for task in of_type(only_this, "AWS::ECS::TaskDefinition"):
                wanted += int(task["Cpu"]) / _CPU_UNITS * max(task_counts, default=1)
        if wanted:
            used = self._running_vcpu()
            yield from low_quotas(self.account.aws, "fargate", {name: wanted}, used={name: used})

    def _running_vcpu(self) -> float:
        """Return the vCPU of the tasks in all clusters but the tenant's own."""
        aws, units = self.account.aws, 0
        for cluster in aws.listed("ecs", "list_clusters", "clusterArns"):
            if str(cluster).endswith(f"cluster/{self.account.full_name}"):
                continue
            given = {"cluster": cluster}
            tasks = aws.listed("ecs", "list_tasks", "taskArns", **given, launchType="FARGATE")
            for batch in _batches(tasks):
                described = aws.call("ecs", "describe_tasks", **given, tasks=batch)["tasks"]
                units += sum(int(task.get("cpu", 0)) for task in described)
        return units / _CPU_UNITS

    def _search_instances(self) -> Iterator[Finding]:
        """Check that OpenSearch Service offers the domain's instance types in its zones."""
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
                    for details in listed["InstanceTypeDetails"]
                    if details["InstanceType"] == kind
                    for zone in details.get("AvailabilityZones", zones)
                }
                if lacking := [zone for zone in zones if zone not in offered]:
                    yield failure(
                        f"OpenSearch offers no {kind} in {', '.join(lacking)}: choose other zones "
                        "([deployment] zones), or another instance ([search])."
                    )


def writer_findings(deployed: Deployed, *, root: Path) -> Iterator[Finding]:
    """Let the model that writes for a deployed tenant check the shipped pairs, by the caller's credentials.

    Nothing is asked where no model writes, or what was written down of it is believed already. Raises
    DeploymentError where it cannot be asked.
    """
    tenant, name = deployed.config, deployed.config.models and deployed.config.models.llm
    llm = LlmManifest.read(root / "model_artifacts" / "llm" / name) if name else None
    if tenant.answers.mode != "auto" or (llm and not llm.answering.writes_answers):
        return
    if llm is not None:
        endpoint = {"EndpointName": tenant.generation.endpoint, "missing": "ValidationException"}
        described = deployed.aws.call("sagemaker", "describe_endpoint", **endpoint)
        if described is None or described["EndpointStatus"] != "InService":
            yield warning(
                "the model does not run, so it was not asked, and the page says *not checked*. Resume the "
                f"tenant, then run: assistant aws doctor --tenant {tenant.name}"
            )
            return
    if (counts := asyncio.run(_checked_pairs(tenant, llm, region=deployed.place.region))) is None:
        return
    if not counts.named + counts.marked:
        raise DeploymentError(
            "the model gave no verdict. You need sagemaker:InvokeEndpointWithResponseStream on its endpoint, "
            "or bedrock:InvokeModelWithResponseStream on its model."
        )
    if not counts.is_believed:
        yield warning(f"the model {counts}. The page says *not checked* of what it writes.")
        return
    place = "[bedrock] of the tenant file, then deploy"
    if llm is not None:
        place = (
            f"[answering] of model_artifacts/llm/{llm.name}/manifest.toml, and put its artifact.json again "
            "(model_artifacts/README.md, steps 6 to 8)"
        )
    numbers = ", ".join(f"{key} = {number}" for key, number in counts.model_dump().items())
    yield warning(
        f"the model {counts}. The page says *not checked* until this line is in {place}: "
        f"sentence_check = {{ {numbers} }}"
    )


async def _checked_pairs(tenant: TenantConfig, llm: LlmManifest | None, *, region: str) -> CheckCounts | None:
    """Return how the deployed model checks the shipped pairs; None where there is none, or it is believed."""
    from assistant.models.sagemaker import SageMakerGenerator, SageMakerRuntime

    context_tokens, writer = tenant.generation.context_tokens, None
    async with AsyncExitStack() as stack:
        if llm is not None:
            context_tokens = llm.sequence_length
            runtime = await stack.enter_async_context(SageMakerRuntime.open(region=region))
            generator = SageMakerGenerator(runtime, endpoint=tenant.generation.endpoint)
            model = unknown_model(llm.served_name, llm.answering)
            writer = AnswerWriter(generator, model, CharacterTokenCounter())
        for option in installed():
            writer = writer or await option.deployed_writer(tenant, stack)
        if writer is None or writer.model.checks:
            return None
        return await ask_pairs(ModelAlone(writer, context_tokens), load_check_pairs(), clock=SystemClock())


def _full_roles(templates: Templates, *, most_managed: int, most_inline: int) -> Iterator[str]:
    """Yield what is wrong with each role that has more managed policies, or more characters of inline ones,
    than IAM takes. References count as they stand in the template, about as long as what they become."""
    for stack, template in templates.items():
        resources = template["Resources"]
        for name, role in resources.items():
            if role["Type"] != "AWS::IAM::Role":
                continue
            own = role["Properties"]
            inline, managed = list(own.get("Policies", ())), len(own.get("ManagedPolicyArns", ()))
            for each in resources.values():
                if {"Ref": name} in each.get("Properties", {}).get("Roles", ()):
                    managed += each["Type"] == "AWS::IAM::ManagedPolicy"
                    inline += [each["Properties"]] if each["Type"] == "AWS::IAM::Policy" else []
            size = sum(len(orjson.dumps(policy["PolicyDocument"])) for policy in inline)
            if managed > most_managed:
                yield f"{stack}: role {name} has {managed} managed policies, and IAM takes {most_managed}."
            if size > most_inline:
                yield f"{stack}: role {name} has some {size} characters inline, and IAM takes {most_inline}."


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(items), _MOST_AT_ONCE):
        yield items[begin : begin + _MOST_AT_ONCE]


def _listed(value: Any) -> list[Any]:
    """Return a value of JSON that is a list; an empty list for any other."""
    return cast("list[Any]", value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class _PublishedKeys:
    """The issuer's published keys, as the key source that ``CachedKeySet`` reads."""

    keys_of: Callable[[str], str]
    issuer: str

    async def fetch(self) -> bytes:
        """Return the key set as JSON. Raises DependencyError."""
        try:
            return (await asyncio.to_thread(self.keys_of, self.issuer)).encode()
        except DeploymentError as error:
            raise DependencyError(error.message) from None


def token_findings(token: str, *, tenant: TenantConfig, keys_of: Callable[[str], str]) -> Iterator[Finding]:
    """Yield a finding for each claim of an agent's token, then one for the whole token, verified as the
    service does.

    ``keys_of``: returns an issuer's key set as JSON. Raises ConfigurationError for a tenant without
    ``[identity]``, and for a text that is no token.
    """
    from joserfc import jws
    from joserfc.errors import JoseError

    from assistant.service.identity import CachedKeySet, TokenVerifier  # the service's packages

    if (identity := tenant.identity) is None:
        raise ConfigurationError(f"{tenant.name} has no [identity] section: no issuer is known.")
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        read = {name: claims.get(name) for name in ("iss", "aud", "sub", "exp", "iat", "tenant", "roles")}
    except (JoseError, ValueError, AttributeError):
        raise ConfigurationError("This is no signed token (a JWT of three parts).") from None
    roles, audiences = _listed(read["roles"]), _listed(read["aud"]) or [read["aud"]]
    judged = {
        "iss": (read["iss"] == identity.issuer, f"must be {identity.issuer}"),
        "aud": (identity.audience in audiences, f"must hold {identity.audience}"),
        "sub": (isinstance(read["sub"], str) and read["sub"], "must name the agent"),
        "exp": (isinstance(read["exp"], int | float), "must be a time"),
        "iat": (isinstance(read["iat"], int | float), "must be a time"),
        "tenant": (read["tenant"] == tenant.name, f"must be {tenant.name}"),
        "roles": (set(map(str, roles)) & set(Role), f"must be a list with one of {', '.join(Role)}"),
    }
    for name, (is_right, requirement) in judged.items():
        actual = "there is none" if read[name] is None else f"it is {json.dumps(read[name])}"
        failures = () if is_right else (failure(f"{requirement}; {actual}"),)
        yield from checked(name, lambda failures=failures: failures)
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
