"""The 22 mistakes, one change for each, made to a stage's templates before an engine gets them.

Most are those that the rules are tested with (``tests/stacks/mistakes``). The six below are refused by the
proof of paths or by tests, so no rule has a planted one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.stacks.mistakes import planted_in_models, planted_in_policies, planted_in_services
from tests.stacks.mistakes.planted import LISTENER, LOAD_BALANCER, PLANTED, Planted
from tests.stacks.mistakes.scene import Raw, Scene, raw_properties

assert planted_in_models
assert planted_in_policies
assert planted_in_services


def no_way_to_the_alb(scene: Scene) -> None:
    for rule in scene.all("AWS::EC2::SecurityGroupIngress", Description="Nlb to Alb"):
        raw_properties(rule)["FromPort"] = raw_properties(rule)["ToPort"] = 80


def nlb_without_a_group(scene: Scene) -> None:
    del scene.properties(LOAD_BALANCER, Type="network")["SecurityGroups"]


def consumers_not_allowed(scene: Scene) -> None:
    rule = scene.properties("AWS::EC2::SecurityGroupIngress", Description="Clients on the care side")
    rule["CidrIp"] = "192.0.2.0/24"


def certificate_that_nobody_has(scene: Scene) -> None:
    arn = "arn:aws:acm:us-east-1:111122223333:certificate/99999999-9999-4999-8999-999999999999"
    scene.properties(LISTENER, Protocol="HTTPS")["Certificates"] = [{"CertificateArn": arn}]


def no_layers_of_images(scene: Scene) -> None:
    statements = raw_properties(scene.endpoint("s3"))["PolicyDocument"]["Statement"]
    statements[:] = [each for each in statements if each["Sid"] != "LayersOfImages"]


def function_outside_the_vpc(scene: Scene) -> None:
    del scene.properties("AWS::Lambda::Function")["VpcConfig"]


_BY_PATHS_OR_TESTS = {
    1: no_way_to_the_alb,
    2: nlb_without_a_group,
    3: consumers_not_allowed,
    7: certificate_that_nobody_has,
    10: no_layers_of_images,
    21: function_outside_the_vpc,
}
MISTAKES = [
    *PLANTED,
    *(
        Planted(number=number, code="", name=change.__name__.replace("_", "-"), change=change)
        for number, change in _BY_PATHS_OR_TESTS.items()
    ),
]
NUMBERS = range(1, 23)


def plant_one(number: int, stage: Scene, stubs: Sequence[str]) -> tuple[Planted, Scene, set[str]]:
    """Return a mistake of that number, the templates with it, and the types of the resources that it changes:
    the first mistake that changes one which is not stubbed, if there is such a one."""
    tried: list[tuple[Planted, Scene, set[str]]] = []
    for mistake in MISTAKES:
        if mistake.number == number:
            scene = stage.copy()
            mistake.change(scene)
            tried.append((mistake, scene, changed_types(stage, scene)))
    return next((each for each in tried if each[2] - set(stubs)), tried[0])


def changed_types(before: Scene, after: Scene) -> set[str]:
    was, now = _resources(before), _resources(after)
    return {
        (now.get(key) or was[key])["Type"] for key in was.keys() | now.keys() if was.get(key) != now.get(key)
    }


def changed_stacks(before: Scene, after: Scene) -> set[str]:
    """Return the stacks' names in their stage (``Network``)."""
    pairs = zip(before.templates, after.templates, strict=True)
    return {now.name.rpartition("-")[2] for was, now in pairs if was.document != now.document}


def write(scene: Scene, stage: Path) -> None:
    """Write the templates into a copy of the stage's folder that they were read from."""
    for template in scene.templates:
        (stage / template.path.name).write_text(json.dumps(template.document), encoding="utf-8")


def _resources(scene: Scene) -> dict[tuple[str, str], Raw]:
    return {
        (template.name, logical_id): resource
        for template in scene.templates
        for logical_id, resource in template.document["Resources"].items()
    }
