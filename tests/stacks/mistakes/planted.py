"""The mistakes as changes to correct templates. Each finds its resources by type, in any templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.stacks.mistakes.scene import Scene, raw_properties

LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"
DOMAIN = "AWS::OpenSearchService::Domain"


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
def alb_by_its_default(scene: Scene) -> None:
    balancer = scene.properties(LOAD_BALANCER, LoadBalancerAttributes="idle_timeout.timeout_seconds")
    kept = [one for one in balancer["LoadBalancerAttributes"] if "idle" not in one["Key"]]
    balancer["LoadBalancerAttributes"] = kept


@plant(6, "nlb-idle-timeout")
def nlb_by_its_default(scene: Scene) -> None:
    del scene.properties(LISTENER, Protocol="TCP")["ListenerAttributes"]


# --- 7 and 8: names and zones -----------------------------------------------------------------------------


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


@plant(9, "endpoint-private-dns")
def vpc_without_names(scene: Scene) -> None:
    for vpc in scene.all("AWS::EC2::VPC"):
        raw_properties(vpc)["EnableDnsHostnames"] = False
