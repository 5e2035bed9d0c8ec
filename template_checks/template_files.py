"""Template files: JSON, or YAML with CloudFormation's short tags; alone, in folders, or in a CDK assembly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from template_checks import InvalidInputError

_SUFFIXES = (".json", ".yaml", ".yml", ".template")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """One template as its file has it.

    ``name`` is the stack's name if an assembly names it, else the file's name without its endings.
    ``account`` and ``region`` are None if unknown.
    """

    name: str
    path: Path
    document: Mapping[str, Any]
    is_named: bool = False
    """Whether ``name`` is the stack's own."""
    account: str | None = None
    region: str | None = None

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a top-level section (``Resources``, ``Parameters``…); empty if absent."""
        found = self.document.get(name)
        return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """A stack in an assembly's manifest."""

    name: str
    account: str | None
    region: str | None


def read_templates(paths: Iterable[Path]) -> list[Template]:
    """Read every template of files and folders (``cdk.out``, one of its assemblies, any folder).

    Files of a folder that are no templates are skipped; a file that is named must be one.
    Raises InvalidInputError naming the file.
    """
    found: dict[Path, Template] = {}
    for path in paths:
        if path.is_dir():
            for template in _of_folder(path):
                found.setdefault(template.path.resolve(), template)
        else:
            document = _document(path)
            if not _is_template(document):
                raise InvalidInputError(f"{path}: not a CloudFormation template: it has no Resources.")
            found.setdefault(path.resolve(), _template(path, document, _stacks_of(path.parent)))
    if not found:
        raise InvalidInputError(f"{', '.join(map(str, paths))}: no CloudFormation template is in there.")
    return list(found.values())


def _of_folder(folder: Path) -> Iterator[Template]:
    stacks = _stacks_of(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path.name.startswith("assembly-") or not stacks):
            yield from _of_folder(path)
        elif path.is_file() and path.name.endswith(_SUFFIXES) and path.name not in _NOT_TEMPLATES:
            if stacks and path.name not in stacks and ".nested.template." not in path.name:
                continue  # an asset of the assembly
            document = _document(path)
            if _is_template(document):
                yield _template(path, document, stacks)


_NOT_TEMPLATES = ("manifest.json", "tree.json", "cdk.json", "package.json", "package-lock.json")


def _template(path: Path, document: Any, stacks: Mapping[str, _Stack]) -> Template:
    stack = stacks.get(path.name)
    document = _unrolled(cast("Mapping[str, Any]", document))
    return Template(
        name=stack.name if stack else path.name.split(".")[0],
        path=path,
        document=document,
        is_named=stack is not None,
        account=stack.account if stack else None,
        region=stack.region if stack else None,
    )


def _stacks_of(folder: Path) -> dict[str, _Stack]:
    """Return the stacks of an assembly by the names of their files; none if the folder is no assembly."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return {}
    document = cast("Mapping[str, Any]", _document(manifest))
    stacks: dict[str, _Stack] = {}
    for artifact in cast("Mapping[str, Any]", document.get("artifacts", {})).values():
        if artifact.get("type") == "aws:cloudformation:stack":
            account, region = _environment(str(artifact.get("environment", "")))
            properties = artifact["properties"]
            stacks[properties["templateFile"]] = _Stack(
                name=str(properties.get("stackName", "")), account=account, region=region
            )
    return stacks


def _environment(address: str) -> tuple[str | None, str | None]:
    """Return account and region of ``aws://ACCOUNT/REGION``; None for an unknown one."""
    account, _, region = address.removeprefix("aws://").partition("/")
    return (
        account if account.isdigit() else None,
        None if not region or region.startswith("unknown") else region,
    )


def _is_template(document: Any) -> bool:
    if not isinstance(document, Mapping):
        return False
    resources = cast("Mapping[str, Any]", document).get("Resources")
    return isinstance(resources, Mapping) and all(
        (isinstance(resource, Mapping) and "Type" in resource) or name.startswith(_LOOP)
        for name, resource in cast("Mapping[str, Any]", resources).items()
    )


def _document(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInputError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read: {error}") from None
    try:
        # JSON is YAML too, but reading it as YAML takes a hundred times as long.
        return json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)  # noqa: S506
    except (json.JSONDecodeError, yaml.YAMLError, InvalidInputError) as error:
        raise InvalidInputError(f"{path}: neither JSON nor YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader with CloudFormation's short tags; a date such as a policy's Version stays a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _short_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(cast("yaml.MappingNode", node), deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)  # pyright: ignore[reportUnknownMemberType]


# --- Fn::ForEach of the language extensions ---------------------------------------------------------------
_LOOP = "Fn::ForEach::"


def _unrolled(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a template with its loops written out. Loops over unknown items are left out."""
    parameters = cast("Mapping[str, Any]", document.get("Parameters") or {})
    sections = ("Resources", "Outputs", "Conditions")
    return {
        name: dict(_fields(section, parameters))
        if name in sections and isinstance(section, Mapping)
        else section
        for name, section in document.items()
    }


def _fields(section: Any, parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in cast("Mapping[str, Any]", section).items():
        if not name.startswith(_LOOP):
            yield name, value
            continue
        identifier, collection, body = cast("list[Any]", value)
        for item in _items(collection, parameters):
            yield from _fields(_with(body, str(identifier), str(item)), parameters)


def _items(collection: Any, parameters: Mapping[str, Any]) -> list[Any]:
    if isinstance(collection, list):
        return cast("list[Any]", collection)
    name = cast("Mapping[str, Any]", collection).get("Ref") if isinstance(collection, Mapping) else None
    declared = cast("Mapping[str, Any]", parameters.get(str(name)) or {})
    default = str(declared.get("Default", ""))
    return [item.strip() for item in default.split(",") if item.strip()]


def _with(value: Any, identifier: str, item: str) -> Any:
    """Return a value with the loop's identifier replaced by an item, also in names."""
    if isinstance(value, str):
        for placeholder in (f"${{{identifier}}}", f"&{{{identifier}}}"):
            value = value.replace(placeholder, item)
        return value
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if dict(fields) == {"Ref": identifier}:
            return item
        return {
            _with(str(key), identifier, item): _with(one, identifier, item) for key, one in fields.items()
        }
    if isinstance(value, list):
        return [_with(one, identifier, item) for one in cast("list[Any]", value)]
    return value
