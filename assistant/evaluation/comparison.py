"""Models that ``assistant evaluate --model`` compares, and what a tuned model's manifest keeps of it.

    --model qwen3-8b-gpu=endpoint:clinic-llm --model qwen3-8b-care=http://127.0.0.1:8080/v1#care

Each model is asked the same questions, one model after the other. ``ARTIFACT=`` says whose weights it serves:
the comparison of a tuned artifact with the first model's is written into its manifest, which synth reads
(``assistant.tenant.manifests.check_compared``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from assistant.answer.services import AnswerWriter, TenantServices
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.judging import WrittenModel
from assistant.evaluation.measures import MEASURES, Estimate, TenantRun, paired
from assistant.models.artifacts import model_elsewhere
from assistant.service.opened import served_generator
from assistant.tenant.added_models import ServedLlm
from assistant.tenant.manifests import Comparison, LlmManifest, write_comparison

MODEL = (
    "Compare models that write, repeatable: endpoint:NAME in the tenant's account, or URL#MODEL of a chat "
    "server. ARTIFACT= before it names the folder of model_artifacts/llm whose weights it serves."
)
_ENDPOINT = "endpoint:"
_NAMES = [measure.name for measure in MEASURES]
_OF_MODELS = _NAMES[_NAMES.index("written_right") :]
"""Measures of what a model wrote; those before are of the quotes, which all models share."""
_JUDGED_PREFIX = "written"
"""Begins the names of the measures by which a tuned model may be worse."""


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One ``--model``."""

    name: str
    """As it was given."""
    served: ServedLlm
    manifest: LlmManifest | None = None
    usd_per_hour: float | None = None
    """Price of the endpoint's instance; None where it is not known."""

    @classmethod
    def of(cls, text: str, *, artifacts: Path, region: str | None, context_tokens: int) -> Self:
        """Read a value of ``--model``. ``artifacts``: ``model_artifacts/llm``. ``region``: of the tenant's
        account, None without one. ``context_tokens``: of a model without an artifact. Raises
        ConfigurationError."""
        begins = (_ENDPOINT, "http:", "https:")
        artifact, _, name = ("", "", text) if text.startswith(begins) else text.rpartition("=")
        manifest = LlmManifest.read(artifacts / artifact) if artifact else None
        values: dict[str, Any] = {"name": "compared", "context_tokens": context_tokens}
        if manifest is not None:
            values |= {"context_tokens": manifest.sequence_length, "answering": manifest.answering}
        if name.startswith(_ENDPOINT):
            values |= {"model": name.removeprefix(_ENDPOINT), "region": region}
        else:
            url, _, model = name.partition("#")
            values |= {"model": model, "url": url}
        try:
            served = ServedLlm(**values)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigurationError(f"--model {text}: {reason}. {MODEL}") from None
        return cls(text, served, manifest)

    async def opened(
        self, services: TenantServices, stack: AsyncExitStack
    ) -> tuple[WrittenModel, TenantServices]:
        """Return the model with the tenant's services, as they are where it writes. ``stack`` closes it."""
        writer = AnswerWriter(await served_generator(self.served, stack), *model_elsewhere(self.served))
        update = {"model": self.served.name, "context_tokens": self.served.context_tokens}
        generation = services.tenant.generation.model_copy(update=update)
        tenant = services.tenant.model_copy(update={"generation": generation})
        price = self.usd_per_hour
        model = WrittenModel(writer.generator, writer.token_counter, self.name, usd_per_hour=price)
        return model, replace(services, tenant=tenant, writer=writer)


def comparison_rows(runs: Sequence[TenantRun]) -> list[tuple[str, ...]]:
    """Return a row for each measure of written answers: its title, and each model's value, interval and
    number of questions of the held-out half."""
    by_model = [run.held_out for run in runs]
    return [
        (measure.title, *(_cell(estimates.get(measure.name)) for estimates in by_model))
        for measure in MEASURES
        if measure.name in _OF_MODELS and any(measure.name in estimates for estimates in by_model)
    ]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}] of {estimate.questions}"


def keep_comparisons(models: Sequence[ComparedModel], runs: Sequence[TenantRun], *, artifacts: Path) -> None:
    """Write into the manifest of each tuned artifact how it compares with the first model's artifact.

    Raises ConfigurationError where no answer was written by both.
    """
    (first, base), *others = zip(models, runs, strict=True)
    for model, run in others:
        served, tuned = first.manifest, model.manifest
        if served is None or tuned is None or tuned.lineage is None or tuned.name == served.name:
            continue
        differences = paired(base.results, run.results)
        if "written_right" not in differences:
            raise ConfigurationError(f"{first.name} and {model.name} wrote no answer to the same question.")
        comparison = Comparison.model_validate(
            {
                "served": served.name,
                "served_sha256": served.sha256,
                "tuned_sha256": tuned.sha256,
                "questions_sha256": run.questions_sha256,
                "questions": differences["written_right"].questions,
                "better_by": {
                    measure.title: _better_by(change, better=measure.better)
                    for measure in MEASURES
                    if measure.better and measure.name.startswith(_JUDGED_PREFIX)
                    if (change := differences.get(measure.name)) is not None
                },
            }
        )
        write_comparison(artifacts / tuned.name, tenant=run.tenant, comparison=comparison)


def _better_by(change: Estimate, *, better: int) -> tuple[float, float, float]:
    """Return value, low and high of a difference, more being better."""
    value, low, high = change.value, change.low, change.high
    return (value, low, high) if better > 0 else (-value, -high, -low)
