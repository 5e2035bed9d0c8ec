"""Released ranker weights and routers: which serve, and which may not serve at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson
import structlog
from pydantic import ValidationError

from assistant.answering.rank import INDEX_FEATURES, Weights, read_weights
from assistant.answering.routing import Router, read_router
from assistant.domain.desk import DeskItem, RankerRelease, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from assistant.settings.tenant import TenantConfig

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    weights: Weights
    share_percent: int
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranker that serves one conversation."""

    weights: Weights | None
    """None: the shipped ones."""
    propensity: float = 1.0
    """Probability that a conversation gets these weights now."""


SHIPPED = Ranking(None)


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases of one tenant that may serve."""

    live: Weights | None = None
    trial: Trial | None = None
    refused: int = 0
    """Live or trial releases that may not serve."""

    def ranking_of(self, conversation_id: str, *, now: datetime) -> Ranking:
        """Return the ranker of a conversation: always the same while a trial runs."""
        trial = self.trial
        if trial is None or (trial.ends_at is not None and now >= trial.ends_at):
            return SHIPPED if self.live is None else Ranking(self.live)
        share = trial.share_percent / 100
        if _place(conversation_id, trial.weights.sha256) < trial.share_percent:
            return Ranking(trial.weights, share)
        return Ranking(self.live, 1.0 - share)


NO_RELEASES = Releases()
_SERVING = (ReleaseState.LIVE, ReleaseState.TRIAL, ReleaseState.REPLACED)


def read_releases(items: Iterable[DeskItem]) -> Releases:
    """Return the newest live release and the newest trial that may serve.

    ``items``: the latest changed first. Another one in these states is logged and counted: its hash is not
    that of its weights, its weights cannot be read or name unknown features, or it has no report of the
    evaluation gate. In place of a live one the weights before it serve.
    """
    found: dict[ReleaseState, Weights] = {}
    trial: Trial | None = None
    refused: list[ReleaseState | None] = []
    for item in items:
        state = None
        try:
            release = RankerRelease.model_validate_json(item.body)
            state = release.state
            if state not in _SERVING or state in found:
                continue
            found[state] = weights = _checked(release)
        except (ValidationError, ConfigurationError) as error:
            reason = error.message if isinstance(error, ConfigurationError) else "not a release"
            if state is not ReleaseState.REPLACED:
                _log.error("ranker_release_refused", item_id=item.item_id, reason=reason)
                refused.append(state)
            continue
        if state is ReleaseState.TRIAL and release.share_percent:
            trial = Trial(weights, release.share_percent, release.trial_ends_at)
    live = found.get(ReleaseState.LIVE)
    if live is None and ReleaseState.LIVE in refused:
        live = found.get(ReleaseState.REPLACED)
    return Releases(live, trial, len(refused))


def _checked(release: RankerRelease) -> Weights:
    """Return a release's weights. Raises ConfigurationError saying why they may not serve."""
    raw = release.weights_json.encode()
    if hashlib.sha256(raw).hexdigest() != release.artifact_hash:
        raise ConfigurationError("artifact_hash is not the hash of weights_json")
    weights = read_weights(raw, name="weights_json", kind="ranker")
    unknown = sorted(weights.features.keys() - set(INDEX_FEATURES))
    if unknown:
        raise ConfigurationError(f"weights_json names unknown features: {', '.join(unknown[:5])}")
    try:
        report = orjson.loads(release.report)
    except orjson.JSONDecodeError:
        report = None
    if not isinstance(report, dict) or not report:
        raise ConfigurationError("it has no report of the evaluation gate")
    return weights


def read_released_router(items: Iterable[DeskItem], *, tenant: TenantConfig) -> Router | None:
    """Return the live router; None where none is live, or where it may not serve, which is logged.

    It may not where its hash is not that of its file, or where it was fitted on other sources or another
    embedding model: then the words of the kinds decide.
    """
    for item in items:
        try:
            release = RouterRelease.model_validate_json(item.body)
            if release.state is ReleaseState.LIVE:
                return _checked_router(release, tenant)
        except (ValidationError, ConfigurationError) as error:
            reason = error.message if isinstance(error, ConfigurationError) else "not a release"
            _log.error("router_release_refused", item_id=item.item_id, reason=reason)
    return None


def _checked_router(release: RouterRelease, tenant: TenantConfig) -> Router:
    """Return a release's router. Raises ConfigurationError saying why it may not serve."""
    raw = release.router_json.encode()
    if hashlib.sha256(raw).hexdigest() != release.artifact_hash:
        raise ConfigurationError("artifact_hash is not the hash of router_json")
    router, embedding = read_router(raw), tenant.embedding
    names = [source.name for source in tenant.sources]
    if not router.fits(sources=names, embedding_model=embedding.model, dimensions=embedding.dimensions):
        raise ConfigurationError("it was fitted on other sources or another embedding model")
    return router


def _place(conversation_id: str, artifact_hash: str) -> int:
    """Return a conversation's place in a trial, 0 to 99: another one in each trial."""
    digest = hashlib.sha256(f"{artifact_hash} {conversation_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % 100
