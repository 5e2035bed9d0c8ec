"""The environment of every container and function: each variable that is set has a reader, each that is read
is set or excused with a reason, and each value is valid for its reader."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser  # pyright: ignore[reportMissingTypeStubs]

import assistant.process
from assistant.option import installed
from assistant.process.settings import ProcessSettings
from stacks.models import ModelsStack
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import WITH_LLM, deployed, stack_with, stage_for, template_of

ROOT = Path(__file__).parents[2]
TENANTS = ("pharmacy", "clinic", "sandbox")
OURS = "ASSISTANT_"
STANDS_IN = "known-later"
"""For what only a deployment knows; it is a name, or a part of an address."""

NOT_SET: Mapping[str, Any] = tomllib.loads(
    Path(__file__).with_name("not_set.toml").read_text(encoding="utf-8")
)
NOT_SET_ON_AWS: Mapping[str, str] = NOT_SET["on_aws"]
"""Field = why it keeps its default, in a function or container that does not set it."""
NOT_SET_IN = {
    (reader, field) for row in NOT_SET["only_in"] for reader in row["readers"] for field in row["fields"]
}
"""(Class, field) that these leave out, and others need."""


@dataclass(frozen=True)
class Process:
    """A container or function of a template, and its environment."""

    name: str
    given: Mapping[str, Any]
    """By the template: texts and references."""
    of_image: Mapping[str, str]

    @property
    def ours(self) -> dict[str, str]:
        merged = dict(self.of_image) | {name: written(value) for name, value in self.given.items()}
        return {name: value for name, value in merged.items() if name.startswith(OURS)}

    def readers(self) -> set[type[ProcessSettings]]:
        return {reader for name in self.ours for reader in readers_of(name)}


def written(value: Any) -> str:
    """Return a value as text, with every reference stood in for."""
    match value:
        case str():
            return value
        case {"Fn::Join": [str(glue), list(parts)]}:
            return glue.join(written(part) for part in parts)
        case _:
            return STANDS_IN


def settings_classes() -> set[type[ProcessSettings]]:
    """Return every class of assistant.process, and of options, that reads the environment."""
    for module in pkgutil.iter_modules(assistant.process.__path__):
        importlib.import_module(f"assistant.process.{module.name}")
    for option in installed():
        if importlib.util.find_spec(f"{option.package}.settings"):
            importlib.import_module(f"{option.package}.settings")
    found: set[type[ProcessSettings]] = set()
    waiting: list[type[ProcessSettings]] = [ProcessSettings]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        own = kind.__dict__.get("model_config", {})
        if "env_prefix" in own and kind.__module__.startswith(("assistant.process.", "assistant.options.")):
            found.add(kind)
    return {kind for kind in found if kind.variable("").startswith(OURS)}


def readers_of(variable: str) -> set[type[ProcessSettings]]:
    return {kind for kind in settings_classes() if variable in variables_of(kind)}


def variables_of(kind: type[ProcessSettings]) -> dict[str, str]:
    return {kind.variable(field): field for field in kind.model_fields}


def processes_in(where: str, template: Mapping[str, Any]) -> Iterator[Process]:
    for name, body in template["Resources"].items():
        properties = body.get("Properties", {})
        match body["Type"]:
            case "AWS::Lambda::Function":
                yield Process(f"{where}/{name}", properties.get("Environment", {}).get("Variables", {}), {})
            case "AWS::ECS::TaskDefinition":
                for each in properties["ContainerDefinitions"]:
                    given = {pair["Name"]: pair["Value"] for pair in each.get("Environment", ())}
                    yield Process(f"{where}/{name}/{each['Name']}", given, of_image(each["Image"]))
            case "AWS::SageMaker::Model":
                for each in [properties.get("PrimaryContainer"), *properties.get("Containers", ())]:
                    if each is not None:
                        yield Process(f"{where}/{name}", each.get("Environment", {}), of_image(each["Image"]))
            case _:
                pass


def of_image(image: Any) -> dict[str, str]:
    """Return the variables that one of our own images sets."""
    for definition in (ROOT / "containers").glob("*/Dockerfile"):
        if f"private-care-assistant/{definition.parent.name.replace('_', '-')}@" in written(image):
            steps = DockerfileParser(str(definition), cache_content=True).structure
            values = [step["value"] for step in steps if step["instruction"] == "ENV"]
            return dict(pair.split("=", 1) for value in values for pair in shlex.split(value))
    return {}


@pytest.fixture(scope="module")
def processes(assembly: Path) -> list[Process]:
    of_tenants = [
        process
        for tenant in TENANTS
        for stack, template in templates_in(assembly_folder(assembly, tenant)).items()
        for process in processes_in(f"{tenant}/{stack}", template)
    ]
    (care,) = templates_in(assembly / "assembly-PharmacyCare").values()
    on_cpu = deployed(WITH_LLM)
    models = template_of(stack_with(ModelsStack, on_cpu, stage=stage_for(on_cpu)))
    beside = {"pharmacy/CareApp": care, "sandbox/Models": models}
    return [*of_tenants, *(process for where in beside for process in processes_in(where, beside[where]))]


def test_the_processes_of_a_deployment_are_found(processes: list[Process]) -> None:
    read = {reader.__name__ for process in processes for reader in process.readers()}
    assert {"ServiceSettings", "IngestingSettings", "SchemaSettings", "ProbeSettings"} <= read
    assert {process.name.split("/")[0] for process in processes} == set(TENANTS)


def test_no_variable_is_set_without_a_reader(processes: list[Process]) -> None:
    unread = {
        f"{process.name}: {name}" for process in processes for name in process.ours if not readers_of(name)
    }
    assert unread == set()


def test_a_process_reads_one_class_of_settings(processes: list[Process]) -> None:
    mixed = {process.name for process in processes if process.ours and len(process.readers()) != 1}
    assert mixed == set()


def test_every_variable_that_is_read_is_set_or_excused(processes: list[Process]) -> None:
    unset = {(reader.__name__, field) for _, reader, field in unset_in(processes)}
    unexplained = {
        (reader, field)
        for reader, field in unset
        if field not in NOT_SET_ON_AWS and (reader, field) not in NOT_SET_IN
    }
    assert unexplained == set()


def test_every_excuse_is_needed(processes: list[Process]) -> None:
    unset = {(reader.__name__, field) for _, reader, field in unset_in(processes)}
    assert NOT_SET_ON_AWS.keys() - {field for _, field in unset} == set()
    assert NOT_SET_IN - unset == set()


def unset_in(processes: Iterable[Process]) -> Iterator[tuple[Process, type[ProcessSettings], str]]:
    for process in processes:
        for reader in process.readers():
            for name, field in variables_of(reader).items():
                if name not in process.ours:
                    yield process, reader, field


def test_each_value_is_valid_for_its_reader(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in processes:
        with monkeypatch.context() as inside:
            for name, value in process.ours.items():
                inside.setenv(name, value)
            for reader in process.readers():
                settings = reader.read()
                given = {variables_of(reader)[name] for name in process.ours}
                assert given <= settings.model_fields_set, process.name


def test_no_secret_is_in_an_environment(processes: list[Process]) -> None:
    suspicious = ("SECRET", "PASSWORD", "PRIVATE_KEY", "TOKEN", "CREDENTIAL")
    places = ("ASSISTANT_LINK_SECRET_", "_TOKENS")  # where a secret is kept; how many tokens
    named = {
        f"{process.name}: {name}"
        for process in processes
        for name in process.given
        if not name.startswith(places[0]) and not name.endswith(places[1])
        if any(word in name for word in suspicious)
    }
    assert named == set()
