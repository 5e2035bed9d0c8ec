"""The commands for tenant files, templates and deployments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.global_options import GlobalOptions, Tenant

if TYPE_CHECKING:
    from assistant.cli.deploy import Deployment


def add_deploy_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (deploy, diff):
        app.command()(command)
    app.add_typer(images_app)
    app.add_typer(artifacts_app)
    for command in (check, facts, reach):
        app.command()(command)


def check(
    context: typer.Context,
    templates: Annotated[
        list[Path], typer.Argument(metavar="TEMPLATE…", help="Files or folders, also a cdk.out.")
    ],
    facts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What no template holds: docs/checks.md.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="T", help="Take the facts of this tenant instead.")
    ] = None,
) -> None:
    """Hold CloudFormation templates, anyone's, against twenty-three mistakes."""
    from assistant.cli.check import check_templates

    check_templates(GlobalOptions.of(context), templates, facts=facts, tenant=tenant)


def facts(context: typer.Context, tenant: Tenant) -> None:
    """Print what no template of a tenant holds: a file for `check --facts`."""
    from assistant.cli.check import print_facts

    print_facts(GlobalOptions.of(context), tenant=tenant)


def reach(
    context: typer.Context,
    templates: Annotated[
        list[Path], typer.Argument(metavar="TEMPLATE…", help="Those of one tenant: cdk.out/assembly-T.")
    ],
    tenant: Annotated[
        str | None, typer.Option(metavar="T", help="Whose consumers and existing endpoints.")
    ] = None,
) -> None:
    """Show what can be reached on which port, by a tenant's templates alone."""
    from assistant.cli.check import show_reachability

    show_reachability(GlobalOptions.of(context), templates, tenant=tenant)


tenant_app = typer.Typer(help="Begin a tenant's file; look for what is made up in one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the tenant and its file.")]


@tenant_app.command(name="new")
def new_tenant(
    context: typer.Context,
    name: Name,
    source: Annotated[str, typer.Option("--from", metavar="T", help="The tenant whose file is copied.")],
    display_name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What people read; made of NAME when absent.")
    ] = None,
    knowledge: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Documents; knowledge/NAME when absent.")
    ] = None,
    cidr: Annotated[
        str | None, typer.Option(metavar="BLOCK", help="Of its VPC; the next free one when absent.")
    ] = None,
) -> None:
    """Write tenants/NAME.toml from another tenant's, with names of its own and placeholders for its place."""
    from assistant.cli.tenant import NewTenant, write_tenant

    wanted = NewTenant(name=name, source=source, display_name=display_name, knowledge=knowledge, cidr=cidr)
    write_tenant(GlobalOptions.of(context), wanted)


@tenant_app.command(name="check")
def check_tenant(context: typer.Context, name: Name) -> None:
    """Name each placeholder of a tenant's files by file, line and key, and each clash with another tenant."""
    from assistant.cli.tenant import check_tenant

    check_tenant(GlobalOptions.of(context), name)


images_app = typer.Typer(
    name="images", help="The container images of a deployment, by digest.", no_args_is_help=True
)
artifacts_app = typer.Typer(
    name="artifacts", help="The model artifacts of a deployment.", no_args_is_help=True
)
CdkArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[-- CDK ARGUMENTS]", help="Handed to cdk as they stand.")
]


class ImagePlatform(StrEnum):
    AMD64 = "linux/amd64"
    ARM64 = "linux/arm64"


_LOCK = Path("images.lock.toml")
ImageLockFile = Annotated[Path, typer.Option("--images", metavar="FILE", help="Lock of image digests.")]


def deploy(
    context: typer.Context, tenant: Tenant, images: ImageLockFile = _LOCK, cdk: CdkArguments = None
) -> None:
    """Deploy a tenant: checks, images, parameters, cdk deploy, schema, probe."""
    _deployment(context, tenant, images).deploy(cdk or [])


def diff(
    context: typer.Context, tenant: Tenant, images: ImageLockFile = _LOCK, cdk: CdkArguments = None
) -> None:
    """Show what deploying a tenant would change; fail when it would take away what must stay."""
    _deployment(context, tenant, images).diff(cdk or [])


@artifacts_app.command()
def put(context: typer.Context, tenant: Tenant) -> None:
    """Put the models that come as Python packages into a tenant's models bucket, as its publisher."""
    from assistant.cli.artifacts import put_models
    from assistant.cli.terminal import Terminal
    from assistant.settings.tenant import load_tenant

    file = GlobalOptions.of(context).tenants_dir / f"{tenant}.toml"
    put_models(load_tenant(file), tenant_file=file, root=Path.cwd(), terminal=Terminal(steps=True))


@images_app.command()
def publish(
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="ACCOUNT/REGION", help="First the one to push to, then copies."),
    ],
    image: Annotated[
        list[str] | None, typer.Option("--image", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    platform: Annotated[
        ImagePlatform, typer.Option(help="Of tasks on Fargate; the model server is always linux/amd64.")
    ] = ImagePlatform.AMD64,
    lock: Annotated[Path, typer.Option(help="Where digests are written.")] = _LOCK,
) -> None:
    """Build our images, push them, copy them to other accounts, and write their digests into the lock."""
    from assistant.cli.images import Publication, Registry
    from assistant.cli.terminal import Terminal

    publication = Publication(
        root=Path.cwd(), lock_file=lock, terminal=Terminal(steps=True), platform=platform.value
    )
    publication.publish([Registry.parse(text) for text in to], only=image or ())


@images_app.command()
def lock(
    image: Annotated[str, typer.Argument(metavar="NAME", help="An image of AWS.")],
    region: Annotated[str, typer.Option(help="Whose registry is asked.")],
    file: Annotated[Path, typer.Option("--lock", help="Where the digest is written.")] = _LOCK,
) -> None:
    """Write the digest that an image published by AWS has today into the lock."""
    from assistant.cli.images import Publication
    from assistant.cli.terminal import Terminal

    Publication(root=Path.cwd(), lock_file=file, terminal=Terminal(steps=True)).lock(image, region=region)


def _deployment(context: typer.Context, tenant: str, images: Path) -> Deployment:
    from assistant.cli.deploy import deployment_of
    from assistant.cli.terminal import Terminal
    from assistant.settings.tenant import load_tenant

    options = GlobalOptions.of(context)
    return deployment_of(
        load_tenant(options.tenants_dir / f"{tenant}.toml"),
        tenants_dir=options.tenants_dir,
        images=images,
        root=Path.cwd(),
        terminal=Terminal(steps=True),
    )
