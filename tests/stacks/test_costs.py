"""What a tenant costs is read off its templates: nothing is overlooked, and the page says what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.settings.prices import FILE, load_prices
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.synthesized import assembly_folder
from tools.costs import PAGE, Line, markdown, priced, unknown_types, with_costs

TENANTS = ("pharmacy", "clinic", "sandbox")


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_resource_type_is_listed_with_or_without_an_hourly_cost(assembly: Path, tenant: str) -> None:
    templates = templates_by_stack_name(assembly_folder(assembly, tenant)).values()

    unknown = unknown_types(templates, load_prices())

    assert not unknown, f"add it to {FILE}: {sorted(unknown)}"


def test_the_page_has_the_costs_of_the_templates(assembly: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_costs(page, assembly=assembly, prices=load_prices()), (
        "run: make synth && python -m tools.costs"
    )


def test_an_endpoint_costs_only_while_on() -> None:
    template = {
        "Resources": {
            "Config": {
                "Type": "AWS::SageMaker::EndpointConfig",
                "Properties": {
                    "ProductionVariants": [
                        {"InstanceType": "ml.g6e.2xlarge", "InitialInstanceCount": 2, "VolumeSizeInGB": 50}
                    ]
                },
            }
        }
    }

    table = markdown({"one": list(priced([template]))}, load_prices())

    assert "| Endpoints | 5.62 | 0.00 |" in table


def test_tasks_are_priced_at_the_minimum_of_their_scaling() -> None:
    template = {
        "Resources": {
            "Tasks": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"Cpu": "1024", "Memory": "2048"}},
            "Service": {"Type": "AWS::ECS::Service", "Properties": {"TaskDefinition": {"Ref": "Tasks"}}},
            "OfASchedule": {
                "Type": "AWS::ECS::TaskDefinition",
                "Properties": {"Cpu": "256", "Memory": "512"},
            },
            "Scaling": {
                "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "Properties": {"ServiceNamespace": "ecs", "MinCapacity": 3},
            },
        }
    }

    assert [(line.name, line.amount) for line in priced([template])] == [("task_vcpu", 3), ("task_gib", 6)]


def test_an_instance_without_a_price_is_named_with_the_file() -> None:
    line = Line("Endpoints", "ml.p9.large", 1, "endpoint")

    with pytest.raises(ConfigurationError, match=rf"{FILE}: there is no price \[endpoint.'ml.p9.large'\]"):
        markdown({"one": [line]}, load_prices())


def test_an_invalid_price_file_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(FILE.read_text(encoding="utf-8").replace('found = "api"', 'found = "hearsay"', 1))

    with pytest.raises(ConfigurationError, match=r"prices\.toml: endpoint\.ml\.g6e\.2xlarge\.found"):
        load_prices(path)
