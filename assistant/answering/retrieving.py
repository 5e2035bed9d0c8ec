"""Question → vector → passages: the one way to retrieve, for answers, the command line and evaluation."""

from __future__ import annotations

from assistant.answering.services import TenantServices
from assistant.answering.steps import Steps
from assistant.domain.clock import Deadline
from assistant.domain.retrieval import Retrieved, SearchFilters


class RetrievePassages:
    """Embeds a question and searches the tenant's index, each under its own limit and the deadline."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def retrieve(
        self,
        question: str,
        *,
        labels: frozenset[str],
        deadline: Deadline,
        filters: SearchFilters | None = None,
        size: int | None = None,
        steps: Steps | None = None,
    ) -> Retrieved:
        """Return the best ``size`` passages (by default as many as the tenant's answers show).

        A question over the embedding model's token limit is embedded in pieces, whose mean stands for
        it: nothing is cut. Raises EmbeddingUnavailableError, SearchUnavailableError, OverloadedError,
        DeadlineExceededError.
        """
        raise NotImplementedError
