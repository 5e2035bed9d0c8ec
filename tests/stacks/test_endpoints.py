"""The VPC has an endpoint for each service that a role may call, and its policy allows no other caller."""

from __future__ import annotations

from typing import Any

import pytest
from aws_cdk import aws_iam as iam

from assistant.domain.errors import ConfigurationError
from stacks.network import NetworkStack
from stacks.roles import WorkloadRole, allow
from stacks.tenant_stack import TenantStack
from template_checks.policies import Context, Request, endpoint_allows, statements
from tests.stacks.values import deployed, resources_of, stack_with, stage_for, template_of, with_sections


class Scene:
    """A stage with a network and one workload."""

    def __init__(self, *, runs_on: str = "ecs-tasks.amazonaws.com", **sections: Any) -> None:
        tenant = with_sections(deployed("pharmacy"), **sections)
        self.stage = stage_for(tenant)
        self.network = stack_with(NetworkStack, tenant, stage=self.stage)
        self.workload = TenantStack(self.stage, "Workload", tenant=tenant, data_class="internal")
        self.runs_on = runs_on

    def role(self, construct_id: str = "Role", **kwargs: Any) -> WorkloadRole:
        return WorkloadRole(
            self.workload, construct_id, assumed_by=self.runs_on, description="of a test", **kwargs
        )

    def calls(self, *actions: str, conditions: dict[str, Any] | None = None) -> Scene:
        self.role().may(allow(actions, "*", conditions=conditions))
        return self

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Return the endpoints by logical id."""
        self.network.create_endpoints(self.workload.callers)
        return resources_of(template_of(self.network), "AWS::EC2::VPCEndpoint")


_REACH = "ReachOrdersEndpoint"


def names(endpoints: dict[str, Any]) -> set[str]:
    return set(endpoints) - {_REACH}


@pytest.mark.parametrize(
    ("runs_on", "actions", "conditions"),
    [
        # Lambda's own network, not the tenant's.
        ("lambda.amazonaws.com", ("logs:PutLogEvents", "ec2:CreateNetworkInterface"), None),
        # A key that a service uses.
        (
            "ecs-tasks.amazonaws.com",
            ("kms:Decrypt",),
            {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
        ),
    ],
)
def test_a_call_that_does_not_leave_the_tenant_s_network_adds_no_endpoint(
    runs_on: str, actions: tuple[str, ...], conditions: dict[str, Any] | None
) -> None:
    assert names(Scene(runs_on=runs_on).calls(*actions, conditions=conditions).endpoints()) == set()


@pytest.mark.parametrize(
    ("action", "says"), [("polly:Speak", "polly:Speak"), ("*", "may call"), ("ec2:Describe*", "no endpoint")]
)
def test_an_action_of_an_unknown_service_is_refused(action: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace("*", ".")):
        Scene().calls(action).endpoints()


def test_not_action_is_refused() -> None:
    scene = Scene()
    scene.role().may(iam.PolicyStatement(not_actions=["s3:GetObject"], resources=["*"]))

    with pytest.raises(ConfigurationError, match="NotAction"):
        scene.endpoints()


def test_endpoint_policies_allow_only_the_tenant_s_principals_and_account() -> None:
    endpoints = Scene().calls("kms:Decrypt", "sqs:SendMessage", "dynamodb:Query").endpoints()

    for name in names(endpoints):
        for statement in endpoints[name]["Properties"]["PolicyDocument"]["Statement"]:
            assert statement["Condition"]["StringEquals"] == {
                "aws:PrincipalAccount": "111122223333",
                "aws:PrincipalTag/tenant": "pharmacy",
                "aws:ResourceAccount": ["111122223333"],
            }


def test_endpoint_policies_allow_only_the_roles_actions() -> None:
    endpoint = Scene().calls("sqs:SendMessage", "sqs:GetQueueUrl").endpoints()["SqsEndpoint"]

    (statement,) = endpoint["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["sqs:GetQueueUrl", "sqs:SendMessage"]


OWN, OF_AWS, FOREIGN = "111122223333", "763104351884", "999988887777"
UNTAGGED = {"aws:principalisawsservice": ("false",)}
TENANT = UNTAGGED | {"aws:principalaccount": (OWN,), "aws:principaltag/tenant": ("pharmacy",)}
SERVICE_OF_AWS = {"aws:principalisawsservice": ("true",)}


@pytest.fixture(scope="module")
def pulling() -> dict[str, Any]:
    return Scene().calls("ecr:BatchGetImage", "ecr:GetAuthorizationToken").endpoints()


@pytest.mark.parametrize(
    ("endpoint", "caller", "action", "account", "allowed"),
    [
        # A pull from the registry itself shows no tag for sure.
        ("EcrDkrEndpoint", UNTAGGED, "ecr:BatchGetImage", OWN, True),
        ("EcrDkrEndpoint", UNTAGGED, "ecr:BatchGetImage", OF_AWS, True),
        ("EcrDkrEndpoint", UNTAGGED, "ecr:BatchGetImage", FOREIGN, False),
        ("EcrDkrEndpoint", TENANT, "ecr:BatchGetImage", FOREIGN, False),
        ("EcrDkrEndpoint", TENANT, "ecr:PutImage", OWN, False),
        ("EcrApiEndpoint", TENANT, "ecr:GetAuthorizationToken", OWN, True),
        ("EcrApiEndpoint", TENANT, "ecr:BatchGetImage", OF_AWS, True),
        ("EcrApiEndpoint", TENANT, "ecr:BatchGetImage", FOREIGN, False),
        ("EcrApiEndpoint", UNTAGGED, "ecr:BatchGetImage", OWN, False),
        ("EcrApiEndpoint", SERVICE_OF_AWS, "ecr:BatchGetImage", OF_AWS, True),
        ("EcrApiEndpoint", SERVICE_OF_AWS, "ecr:PutImage", FOREIGN, False),
    ],
)
def test_images_are_pulled_from_the_own_account_and_those_of_the_lock(
    pulling: dict[str, Any],
    endpoint: str,
    caller: dict[str, tuple[str, ...]],
    action: str,
    account: str,
    allowed: bool,
) -> None:
    context = Context(known=caller | {"aws:resourceaccount": (account,)}, absent=("aws:principal",))
    request = Request(
        action=action, resources=(f"arn:aws:ecr:us-east-1:{account}:repository/any",), context=context
    )

    policy = statements(pulling[endpoint]["Properties"]["PolicyDocument"])
    assert endpoint_allows(policy, request, role=None) is allowed


def test_an_existing_endpoint_is_not_created() -> None:
    scene = Scene(network={"endpoints": {"kms": "vpce-0123456789abcdef0"}})

    assert names(scene.calls("kms:Decrypt", "sqs:SendMessage").endpoints()) == {"SqsEndpoint"}


def test_an_existing_endpoint_without_a_caller_is_refused() -> None:
    scene = Scene(network={"endpoints": {"kmz": "vpce-0123456789abcdef0"}})

    with pytest.raises(ConfigurationError, match="kmz"):
        scene.calls("kms:Decrypt").endpoints()


def test_more_endpoints_than_a_vpc_holds_are_refused() -> None:
    service = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
    reach = [{"name": f"system-{n}", "port": 443, "service_name": service} for n in range(50)]

    with pytest.raises(ConfigurationError, match=r"51 interface endpoints .1 of AWS services, 50 of"):
        Scene(reach=reach).calls("kms:Decrypt").endpoints()
