"""What the account has room for, beside all else that stands in it, and what CloudFormation may do there.

Each check lists what others use: another tenant's endpoints count as much as this one's. What an account
may not be asked raises DeploymentError, which is *unknown*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from assistant.domain.errors import DeploymentError
from assistant.tenant.deployed_names import ACCOUNT_STACK, ACCOUNT_VERSION, ACCOUNT_VERSION_OUTPUT
from assistant.tenant.deployment import load_account
from assistant.terminal.account import (
    AccountChecks,
    Finding,
    endpoint_instances,
    failure,
    low_quotas,
    of_type,
    warning,
)

_MOST_TRAILS = 5
"""A region's, never more: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/WhatIsCloudTrail-Limits.html"""
_MOST_AT_ONCE = 100
"""Tasks that DescribeTasks takes; SimulatePrincipalPolicy gets as many actions."""
_CPU_UNITS = 1024


@dataclass(frozen=True, slots=True)
class RoomChecks:
    """``root`` holds ``accounts/``, the files that say what the account stage makes."""

    account: AccountChecks
    root: Path

    def checks(self) -> Mapping[str, Callable[[], Iterator[Finding]]]:
        """Return the checks by name."""
        return {
            "account stage": self._account_stage,
            "VPCs": self._vpcs,
            "trails": self._trails,
            "interface endpoints": self._endpoints,
            "Fargate": self._fargate,
            "search instances": self._search_instances,
            "endpoint instances": self._endpoint_instances,
            "execution role": self._execution_role,
        }

    @property
    def _full_name(self) -> str:
        return f"{self.account.place.name_prefix}-{self.account.tenant.name}"

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
        found = aws.outputs(ACCOUNT_STACK).get(ACCOUNT_VERSION_OUTPUT, "0")
        if int(found) < ACCOUNT_VERSION:
            yield failure(
                f"the account stage ({ACCOUNT_STACK}) is of version {found}, and this release needs "
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
        others = [name for name in names if not name.startswith(f"{self._full_name}-")]
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
            if str(cluster).endswith(f"cluster/{self._full_name}"):
                continue
            place = {"cluster": cluster}
            tasks = aws.listed("ecs", "list_tasks", "taskArns", **place, launchType="FARGATE")
            for some in _parts(tasks):
                described = aws.call("ecs", "describe_tasks", **place, tasks=some)["tasks"]
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
                there = {
                    zone
                    for each in listed["InstanceTypeDetails"]
                    if each["InstanceType"] == kind
                    for zone in each.get("AvailabilityZones", zones)
                }
                if lacking := [zone for zone in zones if zone not in there]:
                    yield failure(
                        f"OpenSearch offers no {kind} in {', '.join(lacking)}: choose other zones "
                        "([deployment] zones), or another instance ([search])."
                    )

    def _endpoint_instances(self) -> Iterator[Finding]:
        """Check that the tenant's zones have the endpoints' instances, by EC2's word: SageMaker tells no
        zones, so a type that EC2 does not have is *unknown*."""
        told: list[str] = []
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
            there = sorted({str(each["Location"]) for each in listed})
            lacking = [zone for zone in self.account.place.zones if zone not in there]
            if not there:
                said = f"EC2 has no {name}, and SageMaker tells no zones of {kind}: try an endpoint on it."
                yield Finding(kind="unknown", said=said)
            elif lacking:
                yield warning(
                    f"EC2 has no {name} in {', '.join(lacking)}, but in {', '.join(there)}: an endpoint on "
                    f"{kind} starts in the other zones alone. Choose zones that have it ([deployment] zones)."
                )
            else:
                told.append(name)
        if told:
            said = f"EC2 has {', '.join(told)} in each zone; SageMaker tells no zones of its own"
            yield Finding(kind="pass", said=said)

    def _execution_role(self) -> Iterator[Finding]:
        """Ask IAM whether CloudFormation's role may make each type of the templates, by the rights that the
        type's own schema lists. A policy that names resources answers for them alone, hence a warning."""
        aws, place = self.account.aws, self.account.place
        role = f"cdk-{place.bootstrap_qualifier}-cfn-exec-role-{aws.account}-{aws.region}"
        found = aws.call("iam", "get_role", missing="NoSuchEntity", RoleName=role)
        if found is None:
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
        for some in _parts(sorted(actions)):
            given = {"PolicySourceArn": found["Role"]["Arn"], "ActionNames": some}
            judged = aws.listed("iam", "simulate_principal_policy", "EvaluationResults", **given)
            denied += [str(each["EvalActionName"]) for each in judged if each["EvalDecision"] != "allowed"]
        if denied:
            yield warning(
                f"{role}, by which CloudFormation makes the stacks, may not, on any resource: "
                f"{', '.join(denied)}. Let the bootstrap's policies "
                "(--cloudformation-execution-policies) allow what the tenant needs."
            )


_T = TypeVar("_T")


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(items), _MOST_AT_ONCE):
        yield items[begin : begin + _MOST_AT_ONCE]
