"""The reading side of a tenant's passage index in OpenSearch: one hybrid query a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assistant.adapters.aws.opensearch_client import call
from assistant.adapters.aws.opensearch_info import read_info
from assistant.adapters.aws.opensearch_query import LEXICAL, search_body
from assistant.adapters.aws.opensearch_rows import passage_of
from assistant.adapters.aws.opensearch_schema import LEG_WEIGHTS, PIPELINE, PassageSchema
from assistant.domain.clock import Deadline
from assistant.domain.documents import Passage
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.domain.retrieval import (
    IndexInfo,
    PassageQuery,
    RankedPassage,
    Retrieved,
    reciprocal_rank_fusion,
)

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

CALL_TIMEOUT_S = 30.0
COSINE_DECIMALS = 6
SCORE_DECIMALS = 5
_ANSWER_FIELDS = "timed_out,hits.hits._index,hits.hits.fields,hits.hits.matched_queries"


class OpenSearchPassageSearch:
    """``PassageSearch`` of one tenant: searches what ``alias`` points at, and nothing by any other name.

    ``schema`` says whose vectors the questions are; an index of other vectors is refused. The client is
    shared and not closed here.
    """

    def __init__(self, client: AsyncOpenSearch, *, alias: str, schema: PassageSchema) -> None:
        self._client = client
        self._alias = alias
        self._schema = schema

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        """Return the best ``query.size`` passages by one call, which is never repeated.

        The domain's pipeline fuses the legs; the raw scores that come with its hits tell each leg's ranks,
        and put passages that tie, which it leaves in the order of its segments, in order of their ids.
        """
        limit_s = deadline.within_s(CALL_TIMEOUT_S)
        if len(query.vector) != self._schema.dimensions:
            raise SearchUnavailableError(
                f"The index has {self._schema.dimensions} dimensions, the question {len(query.vector)}."
            )
        try:
            answer = await call(
                self._client,
                f"POST /{self._alias}/_search",
                body=search_body(query),
                params={
                    "search_pipeline": PIPELINE,
                    "include_named_queries_score": "true",
                    "allow_partial_search_results": "false",
                    "filter_path": _ANSWER_FIELDS,
                },
                timeout_s=limit_s,
            )
        except SearchUnavailableError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The answer's deadline has passed; ask again.") from None
            raise
        hits = _read_hits(answer)
        version = self._version_of(hits)
        return Retrieved(
            passages=_ranked(hits, query),
            best_cosine=max((hit.cosine for hit in hits), default=0.0),
            index_version=version,
        )

    async def info(self) -> IndexInfo:
        return await read_info(self._client, self._alias, timeout_s=CALL_TIMEOUT_S)

    def _version_of(self, hits: Sequence[_Hit]) -> str:
        """Return the version that answered. Raises SearchUnavailableError when it has other vectors."""
        version = hits[0].index.removeprefix(f"{self._alias}-") if hits else self._schema.version
        if not version.endswith(f"-{self._schema.model_version}"):
            raise SearchUnavailableError(
                f"The index {version} holds vectors of another model than the question's, "
                f"{self._schema.model_version}: fill and swap in a new version."
            )
        return version


@dataclass(slots=True)  # two hundred a search: a frozen one takes three times as long to make
class _Hit:
    """A passage that one leg found, or both; its text is unpacked only when it is shown."""

    index: str
    passage_id: str
    kept: str
    lexical_score: float | None
    """BM25, of every hit that has a word of the question, whichever leg found it."""
    cosine: float


def _read_hits(answer: Any) -> list[_Hit]:
    try:
        if answer["timed_out"]:  # always there: an answer without hits is none, not an empty index
            raise SearchUnavailableError("The passage index did not finish the search in time.")
        return [_read_hit(hit) for hit in answer.get("hits", {}).get("hits", ())]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _odd(error) from None


def _read_hit(hit: Mapping[str, Any]) -> _Hit:
    fields = hit["fields"]
    score = hit.get("matched_queries", {}).get(LEXICAL)
    return _Hit(
        index=hit["_index"],
        passage_id=fields["passage_id"][0],
        kept=fields["kept"][0],
        lexical_score=None if score is None else round(score, SCORE_DECIMALS),
        cosine=round(fields["cosine"][0], COSINE_DECIMALS),
    )


def _ranked(hits: Sequence[_Hit], query: PassageQuery) -> tuple[RankedPassage, ...]:
    """Return the best passages with the legs' ranks and scores, ties in order of passage ids."""
    by_id = {hit.passage_id: hit for hit in hits}
    found = [hit for hit in hits if hit.lexical_score is not None]
    found.sort(key=lambda hit: (-(hit.lexical_score or 0.0), hit.passage_id))
    nearest = sorted(hits, key=lambda hit: (-hit.cosine, hit.passage_id))
    legs = [[hit.passage_id for hit in leg[: query.leg_size]] for leg in (found, nearest)]
    lexical_ranks, vector_ranks = ({name: rank for rank, name in enumerate(leg, start=1)} for leg in legs)
    fused = reciprocal_rank_fusion(legs, weights=list(LEG_WEIGHTS.values()))
    best = list(fused.items())[: query.size]
    return tuple(
        RankedPassage(
            passage=_unpacked(by_id[name]),
            rank=rank,
            fused_score=score,
            lexical_rank=lexical_ranks.get(name),
            lexical_score=by_id[name].lexical_score if name in lexical_ranks else None,
            vector_rank=vector_ranks.get(name),
            cosine=by_id[name].cosine,
        )
        for rank, (name, score) in enumerate(best, start=1)
    )


def _unpacked(hit: _Hit) -> Passage:
    try:
        return passage_of(hit.kept)
    except (KeyError, TypeError, ValueError) as error:
        raise _odd(error) from None


def _odd(error: Exception) -> SearchUnavailableError:
    # the error's text may quote a passage
    return SearchUnavailableError(f"The passage index answered oddly ({type(error).__name__}).")
