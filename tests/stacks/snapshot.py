"""One text file for each stack: a line for each resource with its logical id, its type and a digest; for the
company, whose files set what no other does, its properties below it where it carries a promise.

``python -m tests.stacks.snapshot write`` writes the files, and the pins: each stateful resource with the
properties whose change replaces it, apart from all else that a review sees.
``python -m tests.stacks.snapshot diff REVISION`` synthesizes a landed revision too, and prints every line of
a template that differs. A digest covers everything of a resource but its metadata and the hashes of assets,
which change with every edit of a function's code.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from stacks.validators import templates_of
from template_checks.upgrades import STATEFUL_TYPES, PinnedStacks, pin, templates_by_stack_name
from tests.stacks.synthesized import COMPANY, FIXTURES, ROOT, assembly_folder, kept, synthesize

FOLDER = Path(__file__).with_name("snapshots")
PINS = Path(__file__).with_name("pins")
_REPLACING = ROOT / "template_checks" / "replacing.json"
_SCHEMAS_OF = "us-east-1"
"""Whose schemas of resource types are read: it has all types."""
_DIGITS = 12
"""Of a SHA-256 in hexadecimal: of 1,500 lines, two are alike by chance once in 2.5e8 changes."""
_PROMISES = {
    "AWS::CloudTrail::Trail",
    "AWS::DynamoDB::Table",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::VPCEndpoint",
    "AWS::ECR::Repository",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::Events::Rule",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KMS::Key",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Permission",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::ResourcePolicy",
    "AWS::OpenSearchService::Domain",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SageMaker::EndpointConfig",
    "AWS::SageMaker::Model",
    "AWS::Scheduler::Schedule",
    "AWS::SecretsManager::ResourcePolicy",
}
"""Who may do what, what reaches what, what feeds what, what raises an alarm, what is kept and how: printed.
A digest tells only that there is a change."""
_SECTIONS = ("Parameters", "Conditions", "Rules", "Outputs")
"""A line for each of their entries too. Of other sections there are none."""


def snapshots(assembly: Path) -> dict[str, str]:
    """Return the snapshot of every stack of an assembly, by its path (``Pharmacy/Network.txt``); those of the
    company and of accounts with the properties of what carries a promise of privacy or security."""
    readable = (assembly / "assembly-Company").exists()
    hashes = sorted(_asset_hashes(assembly))
    return {
        f"{template.stage}/{template.stack}.txt": "".join(
            f"{line}\n"
            for line in _lines(
                _without(template.body, hashes), readable=readable or template.stage.startswith("Account-")
            )
        )
        for template in templates_of(assembly)
    }


def documents(assembly: Path) -> dict[str, str]:
    """Return every template of an assembly as sorted JSON, without metadata and hashes of assets."""
    hashes = sorted(_asset_hashes(assembly))
    return {
        f"{template.stage}/{template.stack}": json.dumps(
            _without(template.body, hashes), indent=1, sort_keys=True
        )
        for template in templates_of(assembly)
    }


def _asset_hashes(assembly: Path) -> set[str]:
    return {
        key
        for manifest in assembly.glob("assembly-*/*.assets.json")
        for kind in ("files", "dockerImages")
        for key in json.loads(manifest.read_text(encoding="utf-8")).get(kind, {})
    }


def _without(template: Mapping[str, Any], hashes: list[str]) -> Any:
    """Return the template without hashes of assets and without metadata (paths of constructs)."""
    text = json.dumps(template)
    for name in hashes:
        text = text.replace(name, "ASSET")
    document = json.loads(text)
    for resource in document["Resources"].values():
        resource.pop("Metadata", None)
    return document


def _lines(document: Mapping[str, Any], *, readable: bool) -> Iterator[str]:
    for logical_id, resource in sorted(document["Resources"].items()):
        yield f"{logical_id} {resource['Type']} {_digest(resource)}"
        if readable and resource["Type"] in _PROMISES:
            yield from _properties(resource["Properties"])
    for section in sorted(document.keys() - {"Resources", "Description"}):
        if section not in _SECTIONS:
            raise ValueError(f"A template has a section {section}. Add it to _SECTIONS.")
        for name, entry in sorted(document[section].items()):
            yield f"{section}.{name} {_digest(entry)}"


def _properties(properties: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each property, and for each statement of a policy."""
    for name, value in sorted(properties.items()):
        if isinstance(value, dict) and isinstance(statements := value.get("Statement"), list):
            yield from (f"  {name}: {_canonical(one)}" for one in statements)
        else:
            yield f"  {name}: {_canonical(value)}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    canonical = _canonical(value)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


def committed() -> dict[str, str]:
    """Return the committed snapshots by their paths."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.glob("*/*.txt"))
    }


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the difference of two sets of texts by name, as a unified diff; empty without any."""
    parts: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = (texts.get(name, "").splitlines() for texts in (before, after))
        parts += [f"{line}\n" for line in difflib.unified_diff(old, new, name, name, n=2, lineterm="")]
    return "".join(parts)


def write() -> None:
    """Write the snapshots of every stage of this folder, and the pins of its tenants; remove the snapshots of
    stacks that left."""
    _write_json(_REPLACING, replacing_properties())
    made = snapshots(kept("tests")) | snapshots(kept("company"))
    for tenant in PINS.glob("*.json"):
        stacks = templates_by_stack_name(assembly_folder(kept("tests"), tenant.stem))
        _write_json(tenant, TypeAdapter[PinnedStacks](PinnedStacks).dump_python(pin(stacks)))
    for name in committed().keys() - made.keys():
        (FOLDER / name).unlink()
    for name, text in made.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_pins(file: Path) -> PinnedStacks:
    """Return the pins of a file that ``write`` wrote."""
    return TypeAdapter[PinnedStacks](PinnedStacks).validate_json(file.read_bytes())


def replacing_properties() -> dict[str, tuple[str, ...]]:
    """Return, for each stateful type, the paths whose change replaces it always or in some cases, by
    CloudFormation's own schemas, which cfn-lint contains."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    properties: dict[str, tuple[str, ...]] = {}
    for kind in sorted(STATEFUL_TYPES):
        found = PROVIDER_SCHEMA_MANAGER.get_resource_schema(_SCHEMAS_OF, kind)
        schema = cast("dict[str, Any]", found.schema)
        always, sometimes = (
            schema.get(f"{name}Properties") or () for name in ("createOnly", "conditionalCreateOnly")
        )
        paths = (str(path).removeprefix("/properties/") for path in (*always, *sometimes))
        properties[kind] = tuple(sorted(paths))
    return properties


def difference(revision: str) -> str:
    """Return what differs between a revision's templates and those of this folder, as a unified diff."""
    with tempfile.TemporaryDirectory() as folder:
        landed = Path(folder) / "landed"
        _git("worktree", "add", "--quiet", "--detach", str(landed), revision)
        try:
            # The packages of the functions are fetched, not committed.
            (landed / "build").mkdir()
            (landed / "build" / "functions").symlink_to(ROOT / "build" / "functions")
            before = _documents_of(landed, Path(folder))
        finally:
            _git("worktree", "remove", "--force", str(landed))
    return changes(before, documents(kept("tests")) | documents(kept("company")))


def _documents_of(source: Path, out: Path) -> dict[str, str]:
    """Return the documents of a landed revision, one stage after the other: not each knows them together."""
    found: dict[str, str] = {}
    for number, files in enumerate((FIXTURES, COMPANY)):
        for stage in ("tenants", "account", "care_app"):
            context: dict[str, Any] = {} if stage == "tenants" else {"stage": stage}
            done = synthesize(out / f"{stage}{number}", source=source, **files, **context)
            if done.returncode:
                sys.exit(f"{source} cannot be synthesized:\n{done.stderr[-4000:]}")
            found |= documents(out / f"{stage}{number}")
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stacks.snapshot", description=__doc__)
    parser.add_argument("command", choices=("write", "diff"))
    parser.add_argument("revision", nargs="?", default="HEAD", help="to compare with, for diff")
    given = parser.parse_args()
    if given.command == "write":
        write()
        return
    sys.stdout.write(difference(given.revision) or f"No template differs from {given.revision}.\n")


if __name__ == "__main__":
    main()
