"""The VPC has an endpoint for each service that a role may call, and its policy allows no other caller."""

from __future__ import annotations

from typing import Any

import pytest
from aws_cdk import aws_iam as iam

from assistant.domain.errors import ConfigurationError
from stacks.network import NetworkStack
from stacks.roles import WorkloadRole, allow, attach
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
    ("action", "expected"),
    [
        ("sqs:SendMessage", {"SqsEndpoint"}),
        ("cloudwatch:PutMetricData", {"MonitoringEndpoint"}),
        ("sagemaker:InvokeEndpointWithResponseStream", {"SagemakerRuntimeEndpoint"}),
        ("sagemaker:DescribeEndpoint", {"SagemakerApiEndpoint"}),
        ("ecr:GetAuthorizationToken", {"EcrApiEndpoint", "EcrDkrEndpoint"}),
        ("s3:GetObject", {"S3Endpoint"}),
        ("es:ESHttpGet", set()),
    ],
)
def test_a_role_that_calls_a_service_adds_its_endpoint(action: str, expected: set[str]) -> None:
    assert names(Scene().calls(action).endpoints()) == expected


def test_own_attached_and_declared_statements_count() -> None:
    scene = Scene()
    attach(scene.workload, "Attached", scene.role("ByAttached"), [allow("events:PutEvents", "*")])
    scene.role("ByOther").declare([allow("states:StartExecution", "*")])
    scene.calls("sts:AssumeRole")

    assert names(scene.endpoints()) == {"StatesEndpoint", "EventsEndpoint", "StsEndpoint"}


def test_a_denied_action_adds_no_endpoint() -> None:
    scene = Scene()
    scene.role().may(
        iam.PolicyStatement(effect=iam.Effect.DENY, actions=["sqs:SendMessage"], resources=["*"])
    )

    assert names(scene.endpoints()) == set()


def test_calls_from_a_platform_s_own_network_add_no_endpoint() -> None:
    scene = Scene(runs_on="lambda.amazonaws.com")

    assert names(scene.calls("logs:PutLogEvents", "ec2:CreateNetworkInterface").endpoints()) == set()


def test_calls_from_a_task_add_an_endpoint() -> None:
    assert names(Scene().calls("logs:PutLogEvents").endpoints()) == {"LogsEndpoint"}


def test_a_key_used_through_a_service_adds_no_kms_endpoint() -> None:
    through_s3 = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}

    assert names(Scene().calls("kms:Decrypt", conditions=through_s3).endpoints()) == set()


def test_a_role_names_the_services_that_its_platform_needs() -> None:
    scene = Scene()
    scene.role(through=["ssmmessages"])

    assert names(scene.endpoints()) == {"SsmmessagesEndpoint"}


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


def test_logical_ids_do_not_depend_on_order() -> None:
    one, other = Scene(), Scene()
    for scene, order in (
        (one, ("kms:Decrypt", "ssm:GetParameter")),
        (other, ("ssm:GetParameter", "kms:Decrypt")),
    ):
        for number, action in enumerate(order):
            role = scene.role(f"Role{number}")
            role.may(allow(action, "*"))

    assert one.endpoints() == other.endpoints()


def test_an_interface_endpoint_has_private_dns_and_admits_only_callers() -> None:
    endpoint = Scene().calls("kms:Decrypt").endpoints()["KmsEndpoint"]["Properties"]

    assert endpoint["VpcEndpointType"] == "Interface"
    assert endpoint["PrivateDnsEnabled"] is True
    assert endpoint["SecurityGroupIds"] == [{"Fn::GetAtt": ["EndpointsGroup", "GroupId"]}]
    assert endpoint["SubnetIds"] == [{"Ref": f"Subnet{number}"} for number in (1, 2, 3)]


def test_a_gateway_endpoint_is_in_every_route_table() -> None:
    endpoint = Scene().calls("dynamodb:GetItem").endpoints()["DynamodbEndpoint"]["Properties"]

    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["RouteTableIds"] == [{"Ref": f"RouteTable{number}"} for number in (1, 2, 3)]


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


def test_the_s3_policy_allows_image_layers_and_custom_resource_responses() -> None:
    endpoint = Scene().calls("s3:GetObject", "ecr:BatchGetImage").endpoints()["S3Endpoint"]

    by_name = {s["Sid"]: s for s in endpoint["Properties"]["PolicyDocument"]["Statement"]}
    layers, answers = by_name["LayersOfImages"], by_name["AnswerOfCustomResource"]
    assert "prod-us-east-1-starport-layer-bucket/*" in str(layers["Resource"])
    assert layers["Action"] == ["s3:GetObject"]
    assert "cloudformation-custom-resource-response-useast1/*" in str(answers["Resource"])
    assert answers["Action"] == ["s3:PutObject"]


OWN, OF_AWS, FOREIGN = "111122223333", "763104351884", "999988887777"
UNTAGGED = {"aws:principalisawsservice": ("false",)}
TENANT = UNTAGGED | {"aws:principalaccount": (OWN,), "aws:principaltag/tenant": ("pharmacy",)}
SERVICE_OF_AWS = {"aws:principalisawsservice": ("true",)}


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
    endpoint: str, caller: dict[str, tuple[str, ...]], action: str, account: str, allowed: bool
) -> None:
    made = Scene().calls("ecr:BatchGetImage", "ecr:GetAuthorizationToken").endpoints()[endpoint]
    context = Context(known=caller | {"aws:resourceaccount": (account,)}, absent=("aws:principal",))
    request = Request(
        action=action, resources=(f"arn:aws:ecr:us-east-1:{account}:repository/any",), context=context
    )

    policy = statements(made["Properties"]["PolicyDocument"])
    assert endpoint_allows(policy, request, role=None) is allowed


def test_an_existing_endpoint_is_not_created() -> None:
    scene = Scene(network={"endpoints": {"kms": "vpce-0123456789abcdef0"}})

    assert names(scene.calls("kms:Decrypt", "sqs:SendMessage").endpoints()) == {"SqsEndpoint"}


def test_an_existing_endpoint_without_a_caller_is_refused() -> None:
    scene = Scene(network={"endpoints": {"kmz": "vpce-0123456789abcdef0"}})

    with pytest.raises(ConfigurationError, match="kmz"):
        scene.calls("kms:Decrypt").endpoints()


def test_a_reach_entry_has_its_own_endpoint_and_security_group() -> None:
    endpoint = Scene().endpoints()[_REACH]["Properties"]

    assert endpoint["ServiceName"] == "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
    assert endpoint["SecurityGroupIds"] == [{"Fn::GetAtt": ["ReachOrdersGroup", "GroupId"]}]


def test_a_reach_entry_may_be_a_lattice_resource() -> None:
    arn = "arn:aws:vpc-lattice:us-east-1:111122223333:resourceconfiguration/rcfg-0123456789abcdef0"
    reach = [{"name": "ledger", "port": 5432, "resource_configuration_arn": arn, "caller": "connectors"}]

    scene = Scene(reach=reach)
    scene.network.create_endpoints(scene.workload.callers)
    template = template_of(scene.network)

    endpoint = resources_of(template, "AWS::EC2::VPCEndpoint")["ReachLedgerEndpoint"]["Properties"]
    assert (endpoint["VpcEndpointType"], endpoint["ResourceConfigurationArn"]) == ("Resource", arn)
    into = [
        (rule["Properties"]["SourceSecurityGroupId"]["Fn::GetAtt"][0], rule["Properties"]["FromPort"])
        for rule in resources_of(template, "AWS::EC2::SecurityGroupIngress").values()
        if rule["Properties"]["GroupId"] == {"Fn::GetAtt": ["ReachLedgerGroup", "GroupId"]}
    ]
    assert into == [("ConnectorsGroup", 5432)]


def test_more_endpoints_than_a_vpc_holds_are_refused() -> None:
    service = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
    reach = [{"name": f"system-{n}", "port": 443, "service_name": service} for n in range(50)]

    with pytest.raises(ConfigurationError, match=r"51 interface endpoints .1 of AWS services, 50 of"):
        Scene(reach=reach).calls("kms:Decrypt").endpoints()
