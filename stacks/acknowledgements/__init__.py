"""The rows of the table of exceptions, by stack."""

from stacks.acknowledgements import (
    account,
    care_app,
    corpus,
    data,
    edge,
    ingestion,
    keys,
    learning,
    models,
    network,
    observability,
    orchestrator,
)

TABLE = {
    "account": account.ROWS,
    "keys": keys.ROWS,
    "network": network.ROWS,
    "edge": edge.ROWS,
    "data": data.ROWS,
    "models": models.ROWS,
    "ingestion": ingestion.ROWS,
    "orchestrator": orchestrator.ROWS,
    "learning": learning.ROWS,
    "corpus": corpus.ROWS,
    "observability": observability.ROWS,
    "care_app": care_app.ROWS,
}
"""All rows, by the module of the stack."""

__all__ = ["TABLE"]
