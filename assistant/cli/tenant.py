"""``assistant tenant``: writes and checks tenant files; serves the tenants on this machine, with tokens."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import TypeAdapter, ValidationError
from typer import Argument, Option

from assistant.cli.ask import Agent, Ids, sign_context
from assistant.documents.files import is_read
from assistant.documents.sources import widens
from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.domain.identity import REVOCATIONS, Role
from assistant.laptop.layout import HOST, Address, SharedSite
from assistant.laptop.tokens import CareCase, Grant, issue_token
from assistant.option import installed
from assistant.process.private_files import make_private_folder, replace_private
from assistant.stores.clients import revocations_file
from assistant.tenant import deployment_checks
from assistant.tenant.care_app import load_care_app
from assistant.tenant.tenant import TenantConfig, TenantFiles, TenantName, load_tenant, load_tenants
from assistant.tenant.toml_file import KeyMark, marked, with_values, without
from assistant.terminal.account import Deployed
from assistant.terminal.local import local_runtime
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, ids_by_kind, instant

app = typer.Typer(no_args_is_help=True, add_completion=False)
_CARE_APP = "care_app"
_DEFAULT_SOURCE = '[[sources]]\nname = "knowledge"\nnamespace = ""\naccess = "everyone"\n'
"""What a tenant file without ``[[sources]]`` means. The copy of one writes it out, to have a place for its
paths."""
_OF_ONE_BUSINESS = (("glossary",), ("embedding", "vectors"), ("answers", "examples"))
"""Keys that ``new`` does not copy: they belong to the words and documents of the source tenant."""
_REVOKED_DAYS = 90
"""After that a revocation is dropped: no access token may live longer."""
_MOST_REVOKED_BYTES = 8_192
"""Limit of an advanced SSM parameter; about 120 agents."""
OF_CUSTOMER = (
    "Print the context of this customer's conversation instead, as the local care application signs it."
)
Name = Annotated[str, Argument(metavar="NAME", help="Name of the tenant and its file.")]


@app.command(name="new")
def new_(
    context: typer.Context,
    name: Name,
    source: Annotated[str, Option("--from", metavar="T", help="Copy this tenant's file.")],
    knowledge: Annotated[Path | None, Option(metavar="PATH", help="Default: knowledge/NAME.")] = None,
) -> None:
    """Copy another tenant's file to tenants/NAME.toml, with own names and with placeholders."""
    write_tenant(GlobalOptions.of(context), name, copied=source, knowledge=knowledge)


@app.command()
def check(
    context: typer.Context,
    name: Name,
    care: Annotated[
        bool, Option("--care", help="Check the care side's file, too: care_app/NAME.toml.")
    ] = False,
) -> None:
    """List the placeholders of a tenant's files, and its conflicts with other tenants."""
    check_tenant(GlobalOptions.of(context), name, care=care)


@app.command()
def up(
    context: typer.Context,
    foreground: Annotated[bool, Option("--foreground", help="Serve in this process until a signal.")] = False,
) -> None:
    """Serve all tenants in a process that stays; the next commands then need not wait."""
    options = GlobalOptions.of(context)
    terminal = Terminal(steps=not options.json)
    runtime = local_runtime(options, terminal)
    if foreground:
        with runtime.site(command="assistant tenant up", stays=True):
            if runtime.site_here is not None:
                runtime.serve()
        return
    with terminal.waiting("starting the service"):
        address = runtime.start_apart()
    if not options.writes({"processes": _views(address)}):
        terminal.show(f"Serving at {address.service}; assistant tenant down stops it.")


@app.command()
def down(context: typer.Context) -> None:
    """Stop what serves this state folder."""
    options, terminal = GlobalOptions.of(context), Terminal()
    shared = SharedSite(options.state_dir.resolve())
    with terminal.waiting("stopping"):
        stopped = shared.stop(timeout_s=options.local_settings().stop_timeout_s)
    if not options.writes({"stopped": None if stopped is None else stopped.who}):
        terminal.show("Nothing was running." if stopped is None else f"Stopped {stopped.who}.")


@app.command()
def token(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent,
    role: Annotated[
        list[Role] | None,
        Option(
            metavar="ROLE",
            help="agent (default), knowledge_owner, reviewer, manager or auditor; may be repeated.",
        ),
    ] = None,
    label: Annotated[list[str] | None, Option(metavar="LABEL", help="Access label; may be repeated.")] = None,
    customer: Annotated[str | None, Option(metavar="ID", help=OF_CUSTOMER)] = None,
    ids: Ids = None,
) -> None:
    """Print a bearer token of the local issuer, and nothing else.

    It is for the service that runs, or that these options would start."""
    options, terminal = GlobalOptions.of(context), Terminal()
    config = options.tenant(tenant)
    if customer is not None:
        case = CareCase(customer, ids_by_kind("--id", ids or ()))
        terminal.line(sign_context(options, config, agent, case))
        return
    grant = Grant(tenant, agent, roles=tuple(role or [Role.AGENT]), labels=tuple(label or ()))
    terminal.line(issue_token(grant, state_dir=options.state_dir.resolve(), issuer=_issuer(options)))


@app.command()
def revoke(
    context: typer.Context,
    tenant: Tenant,
    agent: Annotated[str, Option(metavar="SUBJECT", help="The sub of the agent's tokens.")],
    issued_before: Annotated[
        datetime | None,
        Option(parser=instant, metavar="TIME", help="Tokens issued until then, UTC. Default: now."),
    ] = None,
    deployed: Annotated[bool, Option("--deployed", help="In the tenant's deployment, not here.")] = False,
) -> None:
    """Refuse an agent's tokens that were issued until now, within a minute; print all that are refused.

    Close the agent's account at the issuer first: it would sign a new token.
    """
    # A revocation is {"subject of an agent": "tokens issued until this time are refused"}.
    options, now = GlobalOptions.of(context), datetime.now(UTC).replace(microsecond=0)
    config, until = options.tenant(tenant), issued_before or now
    if until > now:
        raise ConfigurationError(
            f"--issued-before {until:%Y-%m-%d %H:%M} is in the future. Give a past time."
        )
    file = revocations_file(options.state_dir.resolve(), config)
    name, account = str(file), None
    if deployed:
        deployment = Deployed.of(config, options.tenants_dir / f"{tenant}.toml")
        name, account = deployment.place.parameter(tenant, "revocations"), deployment.aws
        account.require()
        stored = account.parameter(name)
    else:
        stored = file.read_text("utf-8") if file.exists() else None
    try:
        revocations = REVOCATIONS.validate_json(stored or "{}")
    except ValidationError:
        why = "is not JSON of agents and times, so the service goes by what it read last. Correct it"
        raise ConfigurationError(f"{name} {why}.") from None
    revoked = {subject: at for subject, at in revocations.items() if at > now - timedelta(days=_REVOKED_DAYS)}
    revoked[agent] = max(until, revoked.get(agent, until))
    content = REVOCATIONS.dump_json(revoked)
    if len(content) > _MOST_REVOKED_BYTES:
        why = "a parameter holds no more. Remove a signing key of the issuer instead"
        raise ConfigurationError(f"{len(revoked)} agents are revoked: {why}.")
    if account is None:
        make_private_folder(file.parent)
        replace_private(file, content)
    else:
        account.put_parameter(name, value=content.decode())
    Terminal().fields(
        {"revoked": {subject: f"until {at:%Y-%m-%d %H:%M:%S} UTC" for subject, at in revoked.items()}}
    )


# --- what serves here -------------------------------------------------------------------------------------
def _views(address: Address) -> list[dict[str, Any]]:
    """Return the rows of ``tenant up``, as its JSON has them: a row a listener, all of one process."""
    listeners = {"service": address.service, "issuer": address.issuer, **address.systems}
    return [
        {"name": name, "address": url, "state": "ready", "pid": address.pid}
        for name, url in listeners.items()
    ]


def _issuer(options: GlobalOptions) -> str:
    """Return the URL of the local issuer: of the site that runs, or that these options would start. Raises
    ConfigurationError."""
    if (address := SharedSite(options.state_dir.resolve()).read()) is not None:
        return address.issuer
    if not (port := options.local_settings().port):
        raise ConfigurationError(
            "A token names its issuer, and with --port 0 its port is known only while it runs: "
            "start it with assistant tenant up."
        )
    return f"http://{HOST}:{port + 1}"


# --- tenant files -----------------------------------------------------------------------------------------
def write_tenant(options: GlobalOptions, name: str, *, copied: str, knowledge: Path | None = None) -> None:
    """Write tenants/NAME.toml from the file of the tenant ``copied``, and print what to do with it.

    ``knowledge``: the folder of the new tenant's documents. Raises ConfigurationError or ConflictError,
    naming the conflicting file; then it writes nothing.
    """
    terminal = Terminal()
    files = load_tenants(options.tenants_dir)
    path = options.tenants_dir / f"{name}.toml"
    _refuse_name(name, path=path)
    source = files.one(copied)
    text = (options.tenants_dir / f"{copied}.toml").read_text(encoding="utf-8")
    if "sources" not in source.model_fields_set:
        text = f"{text.rstrip()}\n\n{_DEFAULT_SOURCE}"
    documents = _documents(name, source, files.folder, chosen=knowledge)
    left_out = [number for number, paths in documents.items() if not paths]
    text = with_values(text, _own_values(name, source, documents, files=files))
    text = without(text, [*_OF_ONE_BUSINESS, *(("sources", number) for number in left_out)])
    tenant = _loaded(text, name, place=options.tenants_dir)
    _refuse_clashes(tenant, files)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    terminal.show(f"{path}: written, with the settings of {source.name} and names of its own.")
    terminal.say(f"escalation and gate are {source.name}'s: change what does not fit")
    if source.glossary:
        terminal.say(
            f"the glossary is not copied: {source.name}'s customers and documents have their own words"
        )
    if source.embedding.vectors is not None:
        terminal.say(f"embedding.vectors is not copied: that file is of {source.name}'s documents")
    if left_out:
        names = ", ".join(source.sources[number].name for number in left_out)
        terminal.say(f"left out, because nothing in {knowledge} has its name: {names}")
    paths = [path for source in tenant.sources for path in source.paths]
    if not all((options.tenants_dir / path).exists() for path in paths):
        terminal.say(f"put documents into {', '.join(paths)}, seen from {options.tenants_dir}")
    if made_up := list(deployment_checks.placeholders(tenant)):
        terminal.say(
            f"before a deployment replace {len(made_up)} placeholders; with their lines: "
            f"assistant tenant check {tenant.name}"
        )


def check_tenant(options: GlobalOptions, name: str, *, care: bool = False) -> None:
    """Raise ConfigurationError with every reason why a tenant's files cannot be deployed.

    The care side's file is filled in later than the tenant's, so it is read with ``care`` alone.

    Prints warnings on stderr: those of options, and of files outside a source's folders (``open_rests``).
    """
    terminal = Terminal()
    files = load_tenants(options.tenants_dir)
    tenant = files.one(name)
    option_warnings = (sentence for option in installed() for sentence in option.warnings(tenant))
    for sentence in (*option_warnings, *open_rests(tenant)):
        terminal.warn(f"warning: {sentence}", "yellow")
    reasons = list(refusals(tenant, files))
    if care and not reasons:
        care_file = Path(_CARE_APP) / f"{name}.toml"
        care_app = load_care_app(care_file, tenant=tenant).config
        reasons += deployment_checks.said_of(care_file, deployment_checks.placeholders_of(care_app))
    if reasons:
        raise ConfigurationError("\n".join(reasons))
    where = "served locally only" if tenant.deployment is None else "ready to be deployed"
    terminal.show(f"{name}: no placeholders and no conflicts; {where}.")


def open_rests(tenant: TenantConfig) -> Iterator[str]:
    """Yield a warning for each source where more agents read the files outside its named folders (``""``)
    than those in one of them."""
    for source in tenant.sources:
        rest = source.folders.get("")
        narrower = [folder for folder, labels in source.folders.items() if widens(rest or (), of=labels)]
        if rest is not None and narrower:
            yield (
                f'folders of the source "{source.name}": "" lets more agents read than "{narrower[0]}" does, '
                'so a file that is put into the wrong folder is read by them. Give "" the narrowest labels, '
                "or leave it out: then such a file is refused."
            )


def refusals(tenant: TenantConfig, files: TenantFiles) -> Iterator[str]:
    """Yield why a tenant cannot be deployed: each placeholder with file, line and key, and each conflict with
    another valid tenant file."""
    path = files.folder / f"{tenant.name}.toml"
    yield from deployment_checks.said_of(path, deployment_checks.placeholders(tenant))
    yield from _clashes(tenant, files)


def _clashes(tenant: TenantConfig, files: TenantFiles) -> Iterator[str]:
    """Yield each conflict of a tenant with another valid file."""
    others = [other for other in files.tenants.values() if other.name != tenant.name]
    for clash in deployment_checks.clashes([*others, tenant]):
        if tenant.name in (clash.one, clash.other):
            yield f"{files.folder}: {clash.said}"


def _refuse_name(name: str, *, path: Path) -> None:
    """Raise ConfigurationError for a name that no tenant can have, ConflictError where ``path`` exists."""
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
    name: str, source: TenantConfig, documents: Mapping[int, Sequence[str]], *, files: TenantFiles
) -> Mapping[tuple[str | int, ...], str | Sequence[str]]:
    """Return the values by which the copy differs from the source's file, by their place in it.

    ``{("name",): "clinic-two", ("sources", 0, "paths"): ["../knowledge/clinic-two"], ("edge", "host_name"):
    "assistant.clinic-two.example.com"}``. ``documents``: paths by number of source, from ``_documents``.
    """
    values: dict[tuple[str | int, ...], str | Sequence[str]] = {
        ("name",): name,
        ("display_name",): name.replace("-", " ").capitalize(),
        **{("sources", number, "paths"): paths for number, paths in documents.items() if paths},
        ("embedding", "endpoint"): f"{name}-embedding",
    }
    if source.has_llm_endpoint:
        values["generation", "endpoint"] = f"{name}-llm"
    if source.deployment is None:
        return values
    values[("network", "cidr")] = _free_range(source, files)
    of_files = marked(TenantConfig, KeyMark.NAMES_A_FILE, KeyMark.IN_A_FILE)
    sections = source.model_dump(mode="json", exclude_unset=True, exclude=of_files)
    samples = _Samples(name, source.name)
    for section in (*sorted(marked(TenantConfig, KeyMark.DEPLOYMENT_READS)), "care_context"):
        for place, value in _leaves(sections.get(section), (section,)):
            sample = (
                [samples.of(place, item) for item in value]
                if isinstance(value, list)
                else samples.of(place, value)
            )
            if sample != value and place not in values:
                values[place] = sample
    return values


def _leaves(
    value: Any, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str | list[str]]]:
    """Yield the strings below a section, and its lists of strings, each with its place: ``(("reach", 0,
    "address"), "10.0.0.1")``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        if items and all(isinstance(item, str) for item in items):
            yield place, cast("list[str]", items)
        else:
            for number, inner in enumerate(items):
                yield from _leaves(inner, (*place, number))


@dataclass(slots=True)
class _Samples:
    """Makes placeholders for the source tenant's addresses, accounts and ids."""

    name: str
    source: str
    _ids: int = 0

    def of(self, place: Sequence[str | int], value: str) -> str:
        """Return the placeholder for the value at a place; the value itself where it has nothing of the
        source's.

        ``of(("network", "vpc", "vpc_id"), "vpc-0a1b2c3d4e5f60718")`` → ``"vpc-00000000000000001"``
        """
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

    def _made_up_id(self, match: re.Match[str]) -> str:
        self._ids += 1
        return f"{match[1]}-{self._ids:017x}"


def _documents(name: str, source: TenantConfig, folder: Path, *, chosen: Path | None) -> dict[int, list[str]]:
    """Return the paths for each copied source that reads files, by its number, relative to ``folder``.

    Without ``chosen`` they are ``../knowledge/NAME``, with a folder a source where there are several. With
    it, a single source reads all of it; of several sources each reads the files and folders of its name,
    perhaps none. Where nothing in it has the name of a source, the first source reads all. Raises
    ConfigurationError for a folder that does not exist.
    """
    numbers = [number for number, entry in enumerate(source.sources) if entry.paths]
    if not numbers:
        numbers = [number for number, entry in enumerate(source.sources) if entry.kind != "live"][:1]
    names = {number: source.sources[number].name for number in numbers}
    if chosen is None:
        root = f"../knowledge/{name}"
        return {
            number: [f"{root}/{part}" if names.keys() - {number} else root] for number, part in names.items()
        }
    if not chosen.exists():
        raise ConfigurationError(f"There is no such file or folder: {chosen}.")
    inside = sorted(path for path in chosen.glob("*") if path.is_dir() or is_read(path))
    paths_of = {
        number: [path for path in inside if path.name.partition(".")[0] == part]
        for number, part in names.items()
    }
    if len(numbers) < 2 or not any(paths_of.values()):
        paths_of = {number: [chosen] if number == numbers[0] else [] for number in numbers}
    return {
        number: [os.path.relpath(path.resolve(), folder.resolve()) for path in paths]
        for number, paths in paths_of.items()
    }


def _free_range(source: TenantConfig, files: TenantFiles) -> str:
    """Return the first address range below 10.64.0.0/10 of the source's size that overlaps none of a deployed
    tenant. Raises ConflictError."""
    taken = [
        IPv4Network(block)
        for tenant in files.tenants.values()
        if tenant.deployment is not None
        for block in (
            tenant.network.vpc.cidr if tenant.network.vpc else tenant.network.cidr,
            *(tenant.edge.consumer_cidrs if tenant.edge else ()),
        )
    ]
    size = IPv4Network(source.network.cidr).prefixlen
    for block in IPv4Network("10.64.0.0/10").subnets(new_prefix=size):
        if not any(block.overlaps(other) for other in taken):
            return str(block)
    raise ConflictError(
        f"No /{size} below 10.64.0.0/10 is free of address ranges of other tenants. Copy the file by hand."
    )


def _loaded(text: str, name: str, *, place: Path) -> TenantConfig:
    """Return the tenant of a file's text that is not written yet. Raises ConfigurationError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return load_tenant(path, place=place)


def _refuse_clashes(tenant: TenantConfig, files: TenantFiles) -> None:
    """Raise ConflictError for a name that another tenant's deployment has."""
    for other in files.tenants.values():
        path = files.folder / f"{other.name}.toml"
        for endpoint in deployment_checks.endpoint_names(tenant):
            if endpoint in deployment_checks.endpoint_names(other):
                raise ConflictError(f'{path} has the endpoint "{endpoint}" already. Choose another name.')
    for clash in _clashes(tenant, files):
        raise ConflictError(clash)
