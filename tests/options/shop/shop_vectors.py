"""Writes the vectors of the committed shop documents, so that a new state does not embed them.

    python -m tests.options.shop.shop_vectors [--state FOLDER] [--port N]

It asks the local embedding endpoint. The same documents and model give the same bytes on one kind of
processor; one without bfloat16 gives vectors at a cosine of 0.9999 or more.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from assistant.documents.files import SourceDocument, read_sources
from assistant.documents.passages import InProcessParser, Received
from assistant.documents.work import BatchEmbedder
from assistant.models.artifacts import TOKENIZER_FILE
from assistant.models.opened import ModelStores, open_model_clients
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.stage.knowledge import write_kept_vectors

TENANTS = Path(__file__).parents[3] / "tests/tenants"
NAME = "shop"


def shop() -> TenantConfig:
    return load_tenant(TENANTS / f"{NAME}.toml")


def vectors_file(tenant: TenantConfig) -> Path:
    """Return the file that the tenant names. Raises ValueError when it names none."""
    if tenant.embedding.vectors is None:
        raise ValueError(f"{tenant.name}.toml names no vectors in [embedding]")
    return (TENANTS / tenant.embedding.vectors).resolve()


def embedded_texts(tenant: TenantConfig, *, tokenizer_json: Path) -> list[str]:
    """Return each text that ingestion embeds of the tenant's own files, once, in order."""
    parser = InProcessParser.load(
        tokenizer_json, max_tokens=tenant.embedding.max_tokens, language_code=tenant.language
    )
    return list(dict.fromkeys(_texts(tenant, parser)))


def _texts(tenant: TenantConfig, parser: InProcessParser) -> Iterator[str]:
    paths = [TENANTS / path for source in tenant.sources for path in source.paths]
    for item in read_sources(paths):
        if not isinstance(item, SourceDocument):
            raise ValueError(f"{item.origin} is no document")  # noqa: TRY004 (the file is wrong)
        received = Received(item.document, item.document.content_hash(), datetime.now(UTC))
        yield from parser.parse_one(received).texts


async def _embed(
    runtime: LocalRuntime, tenant: TenantConfig, texts: Sequence[str]
) -> tuple[list[list[float]], str]:
    """Return the endpoint's vectors, shape (len(texts), dimensions), and the digest of its model."""
    settings = runtime.layout.worker_settings()
    async with AsyncExitStack() as stack:
        stores = await ModelStores.open(
            tenant,
            settings=settings,
            clients=await stack.enter_async_context(open_model_clients(settings, models=runtime.models)),
            stack=stack,
            clock=None,
            models=set(),
        )
        embedder = BatchEmbedder(await stores.embedder(purpose="passage"), clock=stores.clock)
        (vectors,) = await embedder.embed([texts])
    if not isinstance(vectors, list):
        raise vectors
    return vectors, stores.model.digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--state", type=Path, default=Path(".state"))
    parser.add_argument("--port", type=int, help="the first of the ports, where the usual ones are taken")
    given = parser.parse_args()
    options = GlobalOptions(tenants_dir=TENANTS, state_dir=given.state, port=given.port, json=False)
    runtime, tenant = local_runtime(options, Terminal()), shop()
    with runtime.site(command="shop_vectors"):
        folder = runtime.layout.models_dir / tenant.embedding.model
        texts = embedded_texts(tenant, tokenizer_json=folder / TOKENIZER_FILE)
        vectors, digest = asyncio.run(_embed(runtime, tenant, texts))
    path = vectors_file(tenant)
    write_kept_vectors(path, dict(zip(texts, vectors, strict=True)), model_digest=digest)
    Terminal().say(f"{path}: {len(texts):,} vectors, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
