"""The commands for tenant files, templates and deployments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from assistant.cli.terminal import GlobalOptions, Tenant

if TYPE_CHECKING:
    from assistant.cli.deploy import Deployment

deploy_app = typer.Typer()
tenant_app = typer.Typer(help="Write a new tenant file; find placeholders in one.", no_args_is_help=True)
images_app = typer.Typer(help="The container images of a deployment, by digest.", no_args_is_help=True)
artifacts_app = typer.Typer(help="The model artifacts of a deployment.", no_args_is_help=True)
deploy_app.add_typer(images_app, name="images")
deploy_app.add_typer(artifacts_app, name="artifacts")


@deploy_app.command()
def reach(
    context: typer.Context,
    templates: Annotated[
        list[Path], Argument(metavar="TEMPLATE…", help="Templates of one tenant: cdk.out/assembly-T.")
    ],
    tenant: Annotated[str | None, Option(metavar="T", help="Use this tenant's facts.")] = None,
) -> None:
    """Show which connections a tenant's templates allow, by port."""
    from assistant.cli.check import show_reachability

    show_reachability(GlobalOptions.of(context), templates, tenant=tenant)


@deploy_app.command()
def upgrades(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Templates of one tenant: cdk.out/assembly-T.")],
    pins: Annotated[Path, Option(metavar="FILE", help="The pinned resources: stacks/pins/T.json.")],
) -> None:
    """List what a deployment of a tenant's templates would replace or delete."""
    from assistant.cli.check import show_losses

    show_losses(folder, pins=pins)


Name = Annotated[str, Argument(metavar="NAME", help="Name of the tenant and its file.")]


@tenant_app.command(name="new")
def new_tenant(
    context: typer.Context,
    name: Name,
    source: Annotated[str, Option("--from", metavar="T", help="Copy this tenant's file.")],
    display_name: Annotated[str | None, Option(metavar="TEXT", help="Default: made of NAME.")] = None,
    knowledge: Annotated[Path | None, Option(metavar="PATH", help="Default: knowledge/NAME.")] = None,
    cidr: Annotated[
        str | None, Option(metavar="BLOCK", help="Address block of its VPC. Default: the next free one.")
    ] = None,
) -> None:
    """Copy another tenant's file to tenants/NAME.toml, with own names and with placeholders."""
    from assistant.cli.tenant import NewTenant, write_tenant

    wanted = NewTenant(name=name, source=source, display_name=display_name, knowledge=knowledge, cidr=cidr)
    write_tenant(GlobalOptions.of(context), wanted)


@tenant_app.command(name="check")
def check_tenant(context: typer.Context, name: Name) -> None:
    """List the placeholders of a tenant's files, and its conflicts with other tenants."""
    from assistant.cli.tenant import check_tenant

    check_tenant(GlobalOptions.of(context), name)


CdkArguments = Annotated[list[str] | None, Argument(metavar="[-- CDK ARGUMENTS]", help="Passed on to cdk.")]


class ImagePlatform(StrEnum):
    AMD64 = "linux/amd64"
    ARM64 = "linux/arm64"


_LOCK = Path("images.lock.toml")
ImageLockFile = Annotated[Path, Option("--images", metavar="FILE", help="Lock file of image digests.")]


@deploy_app.command()
def deploy(
    context: typer.Context, tenant: Tenant, images: ImageLockFile = _LOCK, cdk: CdkArguments = None
) -> None:
    """Deploy a tenant: checks, images, parameters, cdk deploy, schema, probe."""
    _deployment(context, tenant, images).deploy(cdk or [])


@deploy_app.command()
def diff(
    context: typer.Context, tenant: Tenant, images: ImageLockFile = _LOCK, cdk: CdkArguments = None
) -> None:
    """Show what a deployment would change; fail if it would delete or replace stateful resources."""
    _deployment(context, tenant, images).diff(cdk or [])


@artifacts_app.command()
def put(context: typer.Context, tenant: Tenant) -> None:
    """Upload the models of the Python packages to a tenant's models bucket, as its publisher."""
    from assistant.cli.artifacts import put_models
    from assistant.cli.terminal import Terminal
    from assistant.settings.tenant import load_tenant

    file = GlobalOptions.of(context).tenants_dir / f"{tenant}.toml"
    put_models(load_tenant(file), tenant_file=file, root=Path.cwd(), terminal=Terminal(steps=True))


@images_app.command()
def publish(
    to: Annotated[
        list[str], Option("--to", metavar="ACCOUNT/REGION", help="Push to the first one, copy to the others.")
    ],
    image: Annotated[
        list[str] | None, Option("--image", metavar="NAME", help="Only this image; may be repeated.")
    ] = None,
    platform: Annotated[
        ImagePlatform, Option(help="Of tasks on Fargate; the model server is always linux/amd64.")
    ] = ImagePlatform.AMD64,
    lock: Annotated[Path, Option(help="Lock file to write the digests to.")] = _LOCK,
) -> None:
    """Build and push our images, copy them to other accounts, and write their digests to the lock."""
    from assistant.cli.images import Publication, Registry
    from assistant.cli.terminal import Terminal

    publication = Publication(
        root=Path.cwd(), lock_file=lock, terminal=Terminal(steps=True), platform=platform.value
    )
    publication.publish([Registry.parse(text) for text in to], only=image or ())


@images_app.command()
def lock(
    image: Annotated[str, Argument(metavar="NAME", help="An image that AWS publishes.")],
    region: Annotated[str, Option(help="Region of the registry to ask.")],
    file: Annotated[Path, Option("--lock", help="Lock file to write the digest to.")] = _LOCK,
) -> None:
    """Write the current digest of an image that AWS publishes to the lock."""
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
