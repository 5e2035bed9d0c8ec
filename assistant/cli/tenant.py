"""``assistant tenant new`` and ``check``: copies a tenant file; finds placeholders and conflicts in one."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from assistant.cli.global_options import GlobalOptions
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.settings import deployment_checks
from assistant.settings.care_app import CareApp, load_care_app
from assistant.settings.tenant import (
    DEFAULT_SOURCE,
    WHERE_IT_STANDS,
    TenantConfig,
    TenantFiles,
    TenantName,
    load_tenant,
    load_tenants,
)
from assistant.settings.toml_file import with_values

_CARE_APP = "care_app"
_DEFAULT_SOURCE = f'[[sources]]\nname = "{DEFAULT_SOURCE.name}"\nnamespace = ""\n'
"""The default source of a file without sources: the copy writes it, for its paths."""
_TAKEN = "address ranges of other tenants"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTenant:
    """The options of a new tenant."""

    name: str
    source: str
    """Name of the tenant whose file is copied."""
    display_name: str | None = None
    knowledge: Path | None = None
    """File or folder of documents, relative to the working folder."""
    cidr: str | None = None


def write_tenant(options: GlobalOptions, wanted: NewTenant) -> None:
    """Write a tenant file from another one, and print what to do with it.

    Raises ConfigurationError or ConflictError, naming the conflicting file; then it writes nothing.
    """
    terminal = Terminal()
    files = load_tenants(options.tenants_dir)
    path = options.tenants_dir / f"{wanted.name}.toml"
    _refuse_name(wanted.name, path=path)
    source = files.one(wanted.source)
    text = (options.tenants_dir / f"{wanted.source}.toml").read_text(encoding="utf-8")
    if "sources" not in source.model_fields_set:
        text = f"{text.rstrip()}\n\n{_DEFAULT_SOURCE}"
    try:
        text = with_values(text, _own_values(wanted, source, files=files))
    except ConfigurationError as error:
        raise ConfigurationError(f"{options.tenants_dir / wanted.source}.toml: {error.message}") from None
    tenant = _loaded(text, wanted.name, place=options.tenants_dir)
    _refuse_clashes(tenant, files)
    _create(path, text)
    terminal.out.print(
        f"{path}: written, with the settings of {source.name} and names of its own.", markup=False
    )
    terminal.say(f"glossary, escalation and gate are {source.name}'s: change what does not fit")
    paths = [path for each in tenant.sources for path in each.paths]
    if not all((options.tenants_dir / each).exists() for each in paths):
        terminal.say(f"put documents into {', '.join(paths)}, seen from {options.tenants_dir}")
    if made_up := list(deployment_checks.placeholders(tenant)):
        terminal.say(
            f"before a deployment replace {len(made_up)} placeholders; with their lines: "
            f"assistant tenant check {tenant.name}"
        )


def check_tenant(options: GlobalOptions, name: str) -> None:
    """Raise ConfigurationError with every reason why a tenant's files cannot be deployed."""
    files = load_tenants(options.tenants_dir)
    tenant = files.one(name)
    wrong = list(refusals(tenant, files))
    care_file = Path(_CARE_APP) / f"{name}.toml"
    if care_file.exists() and not wrong:
        wrong += care_refusals(care_file, load_care_app(care_file, tenant=tenant))
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    where = "served locally only" if tenant.deployment is None else "ready to be deployed"
    Terminal().out.print(f"{name}: no placeholders and no conflicts; {where}.", markup=False)


def refusals(tenant: TenantConfig, files: TenantFiles) -> Iterator[str]:
    """Yield why a tenant cannot be deployed.

    That is each placeholder with file, line and key, and each conflict with another valid file.
    """
    path = files.folder / f"{tenant.name}.toml"
    yield from deployment_checks.said_of(path, deployment_checks.placeholders(tenant))
    others = [other for other in files.tenants.values() if other.name != tenant.name]
    for clash in deployment_checks.clashes([*others, tenant]):
        if tenant.name in (clash.one, clash.other):
            yield f"{files.folder}: {clash.said}"


def care_refusals(path: Path, care: CareApp) -> Sequence[str]:
    """Return the placeholders of the care side's file, each with file, line and key."""
    return tuple(deployment_checks.said_of(path, deployment_checks.placeholders_of(care.config)))


def _refuse_name(name: str, *, path: Path) -> None:
    try:
        TypeAdapter(TenantName).validate_python(name)
    except ValidationError:
        raise ConfigurationError(
            f'"{name}" is not a tenant name. Use 2 to 31 lower-case letters, digits and hyphens; '
            "begin with a letter."
        ) from None
    if why := deployment_checks.wrong_ending(name):
        raise ConfigurationError(why)
    if path.exists() or path.is_symlink():
        raise ConflictError(f"{path} exists already. Choose another name, or edit that file.")


def _own_values(
    wanted: NewTenant, source: TenantConfig, *, files: TenantFiles
) -> Mapping[tuple[str | int, ...], str | Sequence[str]]:
    """Return the values that differ from the source's file, by place."""
    values: dict[tuple[str | int, ...], str | Sequence[str]] = {
        ("name",): wanted.name,
        ("display_name",): wanted.display_name or wanted.name.replace("-", " ").capitalize(),
        **_paths(wanted, source, files.folder),
        ("embedding", "endpoint"): f"{wanted.name}-embedding",
        ("generation", "endpoint"): f"{wanted.name}-llm",
    }
    if source.deployment is None:
        return values
    values[("network", "cidr")] = _free_range(wanted, source, files)
    files_read = {"reach": {"__all__": {"inline", "ca_pem", "connector", "ca_file"}}}
    given = source.model_dump(mode="json", exclude_unset=True, exclude=files_read)
    samples = _Samples(wanted.name, source.name)
    for section in (*WHERE_IT_STANDS, "care_context"):
        for place, value in _leaves(given.get(section), (section,)):
            made_up = (
                [samples.of(place, each) for each in value]
                if isinstance(value, list)
                else samples.of(place, value)
            )
            if made_up != value and place not in values:
                values[place] = made_up
    return values


def _leaves(
    value: Any, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str | list[str]]]:
    """Yield the strings below a section, and its lists of strings, by place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        several = cast("list[Any]", value)
        if several and all(isinstance(each, str) for each in several):
            yield place, cast("list[str]", several)
        else:
            for number, inner in enumerate(several):
                yield from _leaves(inner, (*place, number))


@dataclass(slots=True)
class _Samples:
    """Makes placeholders for the source's own addresses, accounts and ids."""

    name: str
    source: str
    _ids: int = 0

    def of(self, place: Sequence[str | int], value: str) -> str:
        match place:
            case ["edge", "host_name"]:
                return f"assistant.{self.name}.example.com"
            case ["identity", "issuer"]:
                return f"https://login.{self.name}.example.com"
            case ["care_context", "issuer"]:
                return f"https://care.{self.name}.example.com"
            case ["edge", "client_certificates"]:
                return f"s3://certificates.example.com/{self.name}.pem"
            case ["observability", "alarm_email"]:
                return f"alarms@{self.name}.example.com"
            case ["reach", _, "service_name"]:
                return re.sub(r"vpce-svc-\w+", deployment_checks.SAMPLE_SERVICE_ID, value)
            case ["edge", "certificate_arn"]:
                place_of = re.sub(r":\d{12}:", f":{deployment_checks.SAMPLE_ACCOUNT}:", value)
                return re.sub(
                    r"certificate/.*", f"certificate/{deployment_checks.SAMPLE_CERTIFICATE_ID}", place_of
                )
            case _:
                value = re.sub(r"\b([a-z]+)-[0-9a-f]{8,17}\b", self._made_up_id, value)
        value = re.sub(r"(?<!\d)\d{12}(?!\d)", deployment_checks.SAMPLE_ACCOUNT, value)
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(self.source)}(?![A-Za-z0-9])", self.name, value)

    def _made_up_id(self, found: re.Match[str]) -> str:
        self._ids += 1
        return f"{found[1]}-{self._ids:017x}"


def _paths(
    wanted: NewTenant, source: TenantConfig, folder: Path
) -> Mapping[tuple[str | int, ...], Sequence[str]]:
    """Return the paths of each source that has some; those of the first are the chosen ones."""
    return {
        ("sources", 0, "paths"): [_knowledge(wanted, folder)],
        **{
            ("sources", number, "paths"): [f"../knowledge/{wanted.name}/{other.name}"]
            for number, other in enumerate(source.sources)
            if number and other.paths
        },
    }


def _knowledge(wanted: NewTenant, folder: Path) -> str:
    if wanted.knowledge is None:
        return f"../knowledge/{wanted.name}"
    if not wanted.knowledge.exists():
        raise ConfigurationError(f"There is no such file or folder: {wanted.knowledge}.")
    return os.path.relpath(wanted.knowledge.resolve(), folder.resolve())


def _free_range(wanted: NewTenant, source: TenantConfig, files: TenantFiles) -> str:
    """Return the chosen range, or the next free one of the source's size."""
    taken = {
        IPv4Network(block): f"{name}.toml"
        for name, tenant in files.tenants.items()
        if tenant.deployment is not None
        for block in (
            tenant.network.vpc.cidr if tenant.network.vpc else tenant.network.cidr,
            *(tenant.edge.consumer_cidrs if tenant.edge else ()),
        )
    }
    if wanted.cidr is not None:
        try:
            asked = IPv4Network(wanted.cidr)
        except (AddressValueError, NetmaskValueError, ValueError) as error:
            raise ConfigurationError(f"--cidr {wanted.cidr}: {error}.") from None
        for block, file in taken.items():
            if block.overlaps(asked):
                raise ConflictError(f"--cidr {asked} overlaps {block} of {files.folder / file}.")
        return str(asked)
    size = IPv4Network(source.network.cidr).prefixlen
    for block in IPv4Network("10.64.0.0/10").subnets(new_prefix=size):
        if not any(block.overlaps(other) for other in taken):
            return str(block)
    raise ConflictError(f"No /{size} below 10.64.0.0/10 is free of {_TAKEN}. Give one: --cidr BLOCK.")


def _loaded(text: str, name: str, *, place: Path) -> TenantConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return load_tenant(path, place=place)


def _refuse_clashes(tenant: TenantConfig, files: TenantFiles) -> None:
    for other in files.tenants.values():
        path = files.folder / f"{other.name}.toml"
        for endpoint in deployment_checks.endpoint_names(tenant):
            if endpoint in deployment_checks.endpoint_names(other):
                raise ConflictError(f'{path} has the endpoint "{endpoint}" already. Choose another name.')
    for clash in deployment_checks.clashes([*files.tenants.values(), tenant]):
        if tenant.name in (clash.one, clash.other):
            raise ConflictError(f"{files.folder}: {clash.said}")


def _create(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConflictError(f"{path} exists already. Choose another name, or edit that file.") from None
