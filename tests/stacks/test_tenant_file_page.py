"""docs/tenant-file.md: keys change on AWS what it says, and its tenant in an existing VPC synthesizes.

``python -m tests.stacks.test_tenant_file_page [KEY…]`` (``make tenant-file``) measures what keys (all)
change: a key is set to another value (tests/company/changes.toml; left out where that file has none), both
files are synthesized, and the templates are compared. docs/tenant-file.json keeps the result. All keys take
fifteen minutes of two cores.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tomlkit
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment_checks import placeholders
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import with_options
from tests.stacks.synthesized import ROOT, assembly_folder
from tools.pages import DATA, PAGE, tenant_tables

COMPANY = ROOT / "tests/company/tenants"
CHANGES = ROOT / "tests/company/changes.toml"
_OF_A_PROCESS = 24
NEW = "a new deployment"
"""What a stack is whose name, account or region changes."""
FIXED = {"createOnlyProperties": "replaces", "conditionalCreateOnlyProperties": "may replace"}
"""List of properties in a resource type's schema = what a change of one does."""
Effect = str | dict[str, list[str]]
Stacks = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Name of the stack in its stage = where it is deployed and by which name, and its template."""


@cache
def changes() -> Mapping[str, Any]:
    return tomllib.loads(CHANGES.read_text(encoding="utf-8"))


def place_of(value: Any, parts: Sequence[str]) -> list[str | int] | None:
    """Return where a key is set; of a list's entries the first that has it. None where it is nowhere."""
    if not parts:
        return []
    head, *rest = parts
    if isinstance(value, list):
        entries = [int(head)] if head.isdigit() else range(len(value))
        below = rest if head.isdigit() else parts
        for number in entries:
            if number < len(value) and (inner := place_of(value[number], below)) is not None:
                return [number, *inner]
        return None
    if not isinstance(value, dict):
        return None
    if head in value:
        inner = place_of(value[head], rest)
        return None if inner is None else [head, *inner]
    return place_of(value, rest) if value.get("kind") == head else None


def at(data: Any, place: Iterable[Any]) -> Any:
    for part in place:
        data = data[part]
    return data


def put(data: Any, path: str, value: Any) -> None:
    """Set a key, or delete it where the value is "-"; a number that a list does not have appends to it."""
    parts = path.split(".")
    place = place_of(data, parts)
    holder: Any
    last: Any
    if place is None:
        parent = place_of(data, parts[:-1])
        assert parent is not None, f"{path}: its table is in no file"
        holder, last = at(data, parent), parts[-1]
    else:
        holder, last = at(data, place[:-1]), place[-1]
    if value == "-":
        del holder[last]
    elif isinstance(holder, list) and place is None:
        holder.append(value)
    else:
        holder[last] = value


def base_of(key: str) -> dict[str, Any]:
    """Return the file in which a key is changed."""
    name = changes()["from"].get(key, "company")
    data = tomllib.loads((COMPANY / f"{name}.toml").read_text(encoding="utf-8"))
    for path, value in changes()["given"].get(key, {}).items():
        put(data, path, value)
    return data


def changed(key: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file with another value of a key."""
    data = copy.deepcopy(dict(base))
    put(data, key, changes()["to"].get(key, "-"))
    for path, value in changes()["with"].get(key, {}).items():
        put(data, path, value)
    return data


def synthesized(data: Mapping[str, Any]) -> Stacks:
    """Return every stack of one tenant's file. Raises ConfigurationError."""
    from stacks.application import build

    settings = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "company/tenants"
        shutil.copytree(COMPANY, files, ignore=shutil.ignore_patterns("*.toml"))
        shutil.copytree(COMPANY / "connectors", files / "connectors", dirs_exist_ok=True)
        name = data["name"]
        (files / f"{name}.toml").write_text(tomlkit.dumps(dict(data)), encoding="utf-8")
        os.environ["CDK_VALIDATION"] = "false"
        with contextlib.redirect_stderr(io.StringIO()):
            made = Path(build(settings | {"tenants": str(files), "tenant": name}).synth().directory)
        try:
            return dict(_stacks(next(iter(made.glob("assembly-*")))))
        finally:
            shutil.rmtree(made)


def _stacks(assembly: Path) -> Iterator[tuple[str, tuple[str, Mapping[str, Any]]]]:
    manifest = json.loads((assembly / "manifest.json").read_text(encoding="utf-8"))
    for artifact in manifest["artifacts"].values():
        if artifact["type"] == "aws:cloudformation:stack":
            properties = artifact["properties"]
            template = json.loads((assembly / properties["templateFile"]).read_text(encoding="utf-8"))
            name = artifact["displayName"].split("/")[1].split(" ")[0]
            yield name, (f"{artifact['environment']}/{properties['stackName']}", template)


@cache
def _fixed(kind: str, named: str) -> tuple[tuple[str, ...], ...]:
    """Return the paths of a type's properties in a list of its schema, which is CloudFormation's own."""
    if not kind.startswith("AWS::"):
        return ()
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    return tuple(tuple(path.split("/")[2:]) for path in schema.get(named) or ())


def _property(resource: Mapping[str, Any], path: Iterable[str]) -> Any:
    value: Any = resource.get("Properties", {})
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _named_in(value: Any, stack: str, stacks: Stacks) -> Iterator[tuple[str, str]]:
    """Yield the resources to which a value refers, through outputs of other stacks too."""
    match value:
        case {"Ref": str() as logical_id} | {"Fn::GetAtt": [str() as logical_id, *_]}:
            yield stack, logical_id
        case {"Fn::GetStackOutput": {"StackName": name, "OutputName": output}}:
            other = next(each for each, (place, _) in stacks.items() if place.endswith(f"/{name}"))
            yield from _named_in(stacks[other][1]["Outputs"][output]["Value"], other, stacks)
        case dict():
            for inner in value.values():
                yield from _named_in(inner, stack, stacks)
        case list():
            for inner in value:
                yield from _named_in(inner, stack, stacks)
        case _:
            pass


def _resources(stacks: Stacks) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {
        (name, logical_id): resource
        for name, (_, template) in stacks.items()
        for logical_id, resource in template["Resources"].items()
    }


def lost(before: Stacks, after: Stacks) -> dict[tuple[str, str], str]:
    """Return what becomes of each resource that does not stay, by stack and logical id.

    A resource is replaced where a property differs that only a new one takes, or where that property refers
    to a replaced one.
    """
    old, new = _resources(before), _resources(after)
    found = dict.fromkeys(old.keys() - new.keys(), "removes")
    changed = True
    while changed:
        changed = False
        for key in (old.keys() & new.keys()) - found.keys():
            for named, word in FIXED.items():
                paths = _fixed(old[key]["Type"], named)
                pairs = [(_property(old[key], path), _property(new[key], path)) for path in paths]
                if any(
                    one != other or found.keys() & set(_named_in(other, key[0], after))
                    for one, other in pairs
                ):
                    found[key] = word
                    changed = True
                    break
    return found


def effect(before: Stacks, after: Stacks) -> Effect:
    """Return each stack that differs, with the types of resources that it replaces or removes."""
    found: dict[str, list[str]] = {}
    gone = lost(before, after)
    for name in {**before, **after}:
        if name not in before or name not in after:
            found[name] = ["removes the stack" if name in before else "adds the stack"]
        elif before[name][0] != after[name][0]:
            return NEW
        else:
            resources = before[name][1]["Resources"]
            said = {
                f"{word} {resources[logical_id]['Type'].removeprefix('AWS::')}"
                for (stack, logical_id), word in gone.items()
                if stack == name
            }
            if said or before[name][1] != after[name][1]:
                found[name] = sorted(said)
    return dict(sorted(found.items()))


def measured(keys: Iterable[str]) -> dict[str, Effect]:
    """Return the effect of each key."""
    bases: dict[str, Stacks] = {}
    found: dict[str, Effect] = {}
    for key in keys:
        base = base_of(key)
        text = json.dumps(base, default=str)  # dates
        try:
            before = bases[text] if text in bases else bases.setdefault(text, synthesized(base))
            found[key] = effect(before, synthesized(changed(key, base)))
        except ConfigurationError as error:
            raise ConfigurationError(f"{key}: {error.message}") from None
    return found


def all_keys() -> list[str]:
    """Return the keys of the file."""
    return [key.path for table in tenant_tables() for key in table.keys]


def optional_tables() -> list[str]:
    """Return the tables whose addition or deletion is measured."""
    return [table.path for table in tenant_tables() if table.path in changes()["to"]]


def measurable() -> list[str]:
    return [key for key in [*optional_tables(), *all_keys()] if said(key) is None]


def said(key: str) -> str | None:
    """Return what the page says of a key that is not measured."""
    return next(
        (text for begin, text in changes()["said"].items() if f"{key}.".startswith(f"{begin}.")), None
    )


def examples_of_files(keys: Iterable[str]) -> dict[str, Any]:
    """Return a value of each key: of the first file that sets it."""
    patterns = ("company/tenants/company.toml", "company/tenants/scribe.toml", "tenants/*.toml")
    paths = [path for pattern in patterns for path in sorted((ROOT / "tests").glob(pattern))]
    texts = [json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str) for path in paths]
    files = [json.loads(text) for text in texts]  # a day as the page has it
    found = dict.fromkeys(keys)
    for key in found:
        places = ((data, place_of(data, key.split("."))) for data in files)
        of_files = [at(data, place) for data, place in places if place is not None]
        found[key] = of_files[0] if of_files else (changes()["examples"] | changes()["to"]).get(key)
    return found


def kept() -> dict[str, Any]:
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}


def measure(keys: Sequence[str]) -> dict[str, Effect]:
    """Measure in processes of some keys each: the CDK keeps every application in memory."""
    found: dict[str, Effect] = {}
    groups = [keys[start : start + _OF_A_PROCESS] for start in range(0, len(keys), _OF_A_PROCESS)]
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for group in pool.imap_unordered(measured, groups):
            found |= group
            sys.stdout.write(f"{len(found)} of {len(keys)} keys\n")
            sys.stdout.flush()
    return found


def write(found: dict[str, Effect]) -> None:
    """Write the file anew: what was found, and what was kept of the other keys."""
    known = {key: row["on_aws"] for key, row in kept().items()} | found
    values = examples_of_files(all_keys())
    data = {key: {"on_aws": known[key]} for key in optional_tables()}
    data |= {key: {"example": values[key], "on_aws": said(key) or known[key]} for key in values}
    lines = (f"  {json.dumps(key)}: {json.dumps(row, ensure_ascii=False)}" for key, row in data.items())
    DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


KNOWN = kept()
KEYS = all_keys()
MEASURED = measurable()
SAMPLED = 1
"""Keys that each run measures; ten seconds of a synth each."""


def test_every_key_has_a_row_with_the_value_of_the_first_file_that_sets_it() -> None:
    examples = {key: KNOWN[key]["example"] for key in KEYS}
    assert examples == examples_of_files(KEYS), "run: make tenant-file"


def test_what_is_said_and_not_measured_is_that_of_the_changes() -> None:
    assert KNOWN.keys() == {*KEYS, *MEASURED}
    not_measured = KNOWN.keys() - set(MEASURED)
    assert {key: KNOWN[key]["on_aws"] for key in not_measured} == {key: said(key) for key in not_measured}


def test_a_change_for_a_key_that_is_gone_is_found() -> None:
    tables = changes()
    named = {key for name in ("from", "given", "with", "to", "examples") for key in tables[name]}
    assert named - KNOWN.keys() == set()


def test_each_change_changes_the_file() -> None:
    assert [key for key in MEASURED if changed(key, base := base_of(key)) == base] == []


def test_a_sample_of_keys_changes_the_stacks_that_the_page_names(company_assembly: Path) -> None:
    """Every change of a template or a default draws other keys."""
    templates = dict(_stacks(assembly_folder(company_assembly, "company")))
    drawn = random.Random(hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).digest())  # noqa: S311 - no secret
    sample = drawn.sample(MEASURED, SAMPLED)

    assert measured(sample) == {key: KNOWN[key]["on_aws"] for key in sample}, "run: make tenant-file"


def test_the_page_s_tenant_in_an_existing_vpc_is_complete_and_creates_no_vpc() -> None:
    block = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    data = tomllib.loads(block)
    tenant = with_options(TenantConfig).model_validate_json(json.dumps(data))
    assert list(placeholders(tenant)) == []

    network = synthesized(data)["Network"][1]["Resources"].values()

    kinds = {resource["Type"] for resource in network}
    assert kinds & {"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::RouteTable"} == set()
    made = [each["Properties"] for each in network if each["Type"] == "AWS::EC2::VPCEndpoint"]
    assert {each["VpcId"] for each in made} == {data["network"]["vpc"]["vpc_id"]}
    assert not [each for each in made if str(each["ServiceName"]).endswith((".kms", ".s3"))]


if __name__ == "__main__":
    try:
        write(measure(sys.argv[1:] or measurable()))
    except ConfigurationError as error:
        sys.exit(error.message)
