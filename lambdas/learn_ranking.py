"""Takes the nightly turn of the ranking loop, by schedule."""

from __future__ import annotations

import structlog

from assistant.aws.lambda_entry import Event, FunctionEntry, emit_metric
from assistant.settings import deployed_names
from assistant.settings.process import LearningSettings
from assistant.wiring.feedback import RankingTurn, open_ranking_turn

_log = structlog.get_logger(__name__)


async def run(services: RankingTurn, _event: Event) -> None:
    """Promote the release on trial, or learn the next; emit whether the gate refused it."""
    turn = await services.take()
    _log.info("ranking_turn", outcome=turn.outcome, release=turn.release, reason=turn.reason)
    refused = float(turn.outcome == "refused")
    emit_metric(deployed_names.RANKING_REFUSED, refused, service=services.metrics_service)


handle = FunctionEntry(LearningSettings, open_ranking_turn, run)
