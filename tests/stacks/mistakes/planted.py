"""The mistakes as changes to correct templates. Each finds its resources by type, in any templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"
DOMAIN = "AWS::OpenSearchService::Domain"
NOWHERE = "203.0.113.0/24"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A planted mistake: its number, the code of the expected finding, and the change that makes it."""

    number: int
    code: str
    name: str
    change: Callable[[Scene], None]

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


PLANTED: list[Planted] = []


def plant(number: int, code: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def keep(change: Callable[[Scene], None]) -> Callable[[Scene], None]:
        name = change.__name__.replace("_", "-")
        PLANTED.append(Planted(number=number, code=code, name=name, change=change))
        return change

    return keep


# --- 1 to 3: the way in -----------------------------------------------------------------------------------
@plant(1, "nlb-to-alb-egress")
def nlb_may_not_leave(scene: Scene) -> None:
    (group,) = scene.groups_of(LOAD_BALANCER, Type="network")
    scene.close(group, "Egress")


@plant(1, "nlb-to-alb-ingress")
def alb_lets_nobody_in(scene: Scene) -> None:
    (group,) = scene.groups_of(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    scene.close(group, "Ingress")


@plant(1, "nlb-to-alb-ingress")
def alb_group_opens_another_port(scene: Scene) -> None:
    for listener in scene.all(LISTENER, Protocol="HTTPS"):
        raw_properties(listener)["Port"] = 9999
    scene.properties(TARGET_GROUP, TargetType="alb").update(Port=9999)


@plant(1, "nlb-to-alb-ingress")
def alb_without_a_group_of_its_own(scene: Scene) -> None:
    del scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")[
        "SecurityGroups"
    ]


@plant(2, "nlb-without-group")
def nlb_without_a_group(scene: Scene) -> None:
    del scene.properties(LOAD_BALANCER, Type="network")["SecurityGroups"]


@plant(3, "consumer-cidr")
def consumer_of_another_block(scene: Scene) -> None:
    scene.know(consumer_cidrs=(*scene.facts.consumer_cidrs, NOWHERE))


@plant(3, "consumer-cidr")
def nobody_is_let_in(scene: Scene) -> None:
    (group,) = scene.groups_of(LOAD_BALANCER, Type="network")
    scene.close(group, "Ingress")


# --- 4 to 6: listeners ------------------------------------------------------------------------------------
@plant(4, "alb-target-attributes")
def alb_target_with_attributes(scene: Scene) -> None:
    attributes = [{"Key": "deregistration_delay.timeout_seconds", "Value": "120"}]
    scene.properties(TARGET_GROUP, TargetType="alb").update(TargetGroupAttributes=attributes)


@plant(4, "alb-target-protocol")
def alb_target_by_tls(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb").update(Protocol="TLS")


@plant(4, "alb-target-port")
def alb_target_on_another_port(scene: Scene) -> None:
    scene.properties(TARGET_GROUP, TargetType="alb").update(Port=8080)


@plant(5, "alb-listener-dependency")
def alb_target_before_its_listener(scene: Scene) -> None:
    scene.one(TARGET_GROUP, TargetType="alb").raw.pop("DependsOn")  # type: ignore[attr-defined]


@plant(6, "alb-idle-timeout")
def alb_cuts_after_a_minute(scene: Scene) -> None:
    attributes = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    _attribute(attributes["LoadBalancerAttributes"], "idle_timeout.timeout_seconds")["Value"] = "60"


@plant(6, "alb-idle-timeout")
def alb_by_its_default(scene: Scene) -> None:
    balancer = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    kept = [one for one in balancer["LoadBalancerAttributes"] if "idle" not in one["Key"]]
    balancer["LoadBalancerAttributes"] = kept


@plant(6, "nlb-idle-timeout")
def nlb_by_its_default(scene: Scene) -> None:
    del scene.properties(LISTENER, Protocol="TCP")["ListenerAttributes"]


def _attribute(attributes: list[Raw], key: str) -> Raw:
    return next(one for one in attributes if one["Key"] == key)


# --- 7 and 8: names and zones -----------------------------------------------------------------------------
@plant(7, "consumer-private-dns")
def private_dns_in_the_first_phase(scene: Scene) -> None:
    link = next(
        one for one in scene.all("AWS::EC2::VPCEndpoint") if "vpce-svc" in str(one.properties["ServiceName"])
    )
    raw_properties(link)["PrivateDnsEnabled"] = True


@plant(8, "invented-zone")
def zone_that_nobody_has(scene: Scene) -> None:
    scene.properties("AWS::EC2::Subnet").update(AvailabilityZone="dummy1a")


@plant(8, "standby-zones")
def standby_in_two_zones(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["ZoneAwarenessConfig"]["AvailabilityZoneCount"] = 2


@plant(8, "standby-nodes")
def standby_with_two_masters(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["DedicatedMasterCount"] = 2


@plant(8, "standby-nodes")
def standby_with_four_nodes(scene: Scene) -> None:
    scene.properties(DOMAIN)["ClusterConfig"]["InstanceCount"] = 4


# --- 9 and 10: endpoints ----------------------------------------------------------------------------------
@plant(9, "missing-endpoint")
def no_endpoint_for_the_model(scene: Scene) -> None:
    scene.remove(scene.endpoint("sagemaker.runtime"))


@plant(9, "missing-endpoint")
def no_endpoint_for_logs(scene: Scene) -> None:
    scene.remove(scene.endpoint("logs"))


@plant(9, "missing-endpoint")
def no_endpoint_for_image_layers(scene: Scene) -> None:
    scene.remove(scene.endpoint("ecr.dkr"))


@plant(9, "missing-endpoint")
def no_endpoint_for_keys(scene: Scene) -> None:
    scene.remove(scene.endpoint("kms"))


@plant(9, "endpoint-private-dns")
def private_dns_off(scene: Scene) -> None:
    raw_properties(scene.endpoint("ecr.api"))["PrivateDnsEnabled"] = False


@plant(9, "endpoint-private-dns")
def private_dns_left_to_its_default(scene: Scene) -> None:
    del raw_properties(scene.endpoint("sagemaker.runtime"))["PrivateDnsEnabled"]


@plant(9, "endpoint-private-dns")
def vpc_without_names(scene: Scene) -> None:
    for vpc in scene.all("AWS::EC2::VPC"):
        raw_properties(vpc)["EnableDnsHostnames"] = False


def _s3_statements(scene: Scene) -> list[Raw]:
    return raw_properties(scene.endpoint("s3"))["PolicyDocument"]["Statement"]


@plant(10, "s3-policy-layers")
def image_layers_forgotten(scene: Scene) -> None:
    statements = _s3_statements(scene)
    statements[:] = [one for one in statements if "starport" not in str(one)]


@plant(10, "s3-policy-layers")
def image_layers_only_of_ones_own(scene: Scene) -> None:
    for statement in _s3_statements(scene):
        own = {"StringEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}
        statement["Condition"] = own


def _only_another_bucket(scene: Scene) -> None:
    for statement in _s3_statements(scene):
        if "starport" not in str(statement):
            statement["Resource"] = "arn:aws:s3:::some-other-bucket/*"


@plant(10, "s3-policy-model")
def model_bucket_forgotten(scene: Scene) -> None:
    _only_another_bucket(scene)


@plant(10, "s3-policy-capture")
def capture_may_not_be_put(scene: Scene) -> None:
    for statement in _s3_statements(scene):
        statement["Action"] = "s3:GetObject"


@plant(10, "s3-policy-documents")
def document_bucket_forgotten(scene: Scene) -> None:
    _only_another_bucket(scene)
