"""``assistant learn``: what is learned from signals, and what is forgotten again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from assistant.cli.terminal import GlobalOptions, Tenant

learn_app = typer.Typer(
    help="Learn from agents' feedback, and erase a patient from it.", no_args_is_help=True
)
MEMBER = "Member number, however it is written."
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
SINCE = "First day of signals, UTC. Default: 28 days before --until."
UNTIL = "End of the window, UTC. Default: now."
SHARE = "Conversations in the trial, in per cent."
HOLD_OUT = "Documents that the pairs never show: those that evaluation asks about, or half of all."
QUESTIONS = "Evaluation questions, in place of the committed ones."
DRY_RUN = "Learn and ask the open half of the questions; store nothing, take no look at the sealed half."
PROTECTED = "Use the questions that `assistant learn questions` wrote, in place of asking them now."


@learn_app.command()
def erase(
    context: typer.Context,
    tenant: Tenant,
    member: Annotated[str, Option("--member", metavar="NUMBER", help=MEMBER)],
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are."""
    from assistant.cli.records import erase_patient

    erase_patient(GlobalOptions.of(context), tenant=tenant, member=member)


@learn_app.command()
def export(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The sets become a new folder in it.")],
    since: Annotated[
        datetime | None, Option(formats=_DATES, metavar="DATE", help="UTC. Default: 90 days before --until.")
    ] = None,
    until: Annotated[datetime | None, Option(formats=_DATES, metavar="DATE", help=UNTIL)] = None,
    least_agreement: Annotated[
        float, Option(min=0, max=1, metavar="SHARE", help="Of the marks on near-identical questions.")
    ] = 0.66,
    least_marks: Annotated[
        int, Option(min=1, metavar="N", help="Marks on near-identical questions; approved texts need none.")
    ] = 1,
) -> None:
    """Write training sets: supervised and preference examples, a data card, provenance to each signal."""
    from assistant.cli.training_sets import ExportOptions, export_sets
    from assistant.tuning.training_sets import SetRules

    end = (until or datetime.now(UTC)).replace(tzinfo=UTC)
    begin = (since or end - timedelta(days=90)).replace(tzinfo=UTC)
    rules = SetRules(least_agreement=least_agreement, least_marks=least_marks)
    chosen = ExportOptions(tenant=tenant, since=begin, until=end, out=out, rules=rules)
    export_sets(GlobalOptions.of(context), chosen)


@learn_app.command()
def pairs(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The pairs become a new folder in it.")],
    hold_out: Annotated[Literal["asked", "half"], Option(help=HOLD_OUT)] = "asked",
    questions: Annotated[Path | None, Option(metavar="FILE", help=QUESTIONS)] = None,
    sentences: Annotated[
        int, Option(min=0, metavar="N", help="Sentences a passage that become anchors.")
    ] = 3,
) -> None:
    """Write pairs for tuning the embedding model: titles, questions, approved answers, sentences."""
    from assistant.cli.embedding_tuning import PairOptions, export_pairs
    from assistant.tuning.pairs import PairRules

    rules = PairRules(hold_out=hold_out, sentences=sentences)
    chosen = PairOptions(tenant=tenant, out=out, rules=rules, questions=questions)
    export_pairs(GlobalOptions.of(context), chosen)


@learn_app.command()
def embedding(
    context: typer.Context,
    tenant: Tenant,
    model: Annotated[Path, Option(metavar="DIR", help="Folder that the training job wrote.")],
    questions: Annotated[
        list[Path] | None, Option(metavar="FILE", help=QUESTIONS + " May be repeated.")
    ] = None,
) -> None:
    """Hold a tuned embedding model against the one in service, on documents that it never saw."""
    from assistant.cli.embedding_tuning import ModelComparison, compare_embeddings

    chosen = ModelComparison(tenant=tenant, model=model, questions=tuple(questions or ()))
    compare_embeddings(GlobalOptions.of(context), chosen)


@learn_app.command()
def ranking(
    context: typer.Context,
    tenant: Tenant,
    since: Annotated[datetime | None, Option(formats=_DATES, metavar="DATE", help=SINCE)] = None,
    until: Annotated[datetime | None, Option(formats=_DATES, metavar="DATE", help=UNTIL)] = None,
    seed: Annotated[int, Option(help="Chooses which signals a cap leaves.")] = 0,
    share: Annotated[int, Option(min=1, max=100, metavar="N", help=SHARE)] = 10,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY_RUN)] = False,
    questions: Annotated[Path | None, Option(metavar="FILE", help=PROTECTED)] = None,
) -> None:
    """Learn ranker weights from agents' feedback; what passes the gate goes on trial."""
    from assistant.cli.ranking import RankingOptions, learn_ranking

    chosen = RankingOptions(tenant, since, until, seed, share, dry_run, questions)
    learn_ranking(GlobalOptions.of(context), chosen)


@learn_app.command()
def releases(context: typer.Context, tenant: Tenant) -> None:
    """List the releases of ranker weights, newest first, refused ones too."""
    from assistant.cli.ranking import list_releases

    list_releases(GlobalOptions.of(context), tenant=tenant)


@learn_app.command()
def promote(context: typer.Context, tenant: Tenant) -> None:
    """Make the trial live, where it has its sample and is not worse than what serves beside it."""
    from assistant.cli.ranking import promote

    promote(GlobalOptions.of(context), tenant=tenant)


@learn_app.command()
def rollback(context: typer.Context, tenant: Tenant) -> None:
    """Take the newest release back; the one before serves again within seconds."""
    from assistant.cli.ranking import roll_back

    roll_back(GlobalOptions.of(context), tenant=tenant)


@learn_app.command()
def routing(
    context: typer.Context,
    tenant: Tenant,
    questions: Annotated[
        list[Path] | None,
        Option(
            metavar="FILE",
            help="Labelled questions, by default evaluation/T/tuning.jsonl and routing.jsonl. Repeatable.",
        ),
    ] = None,
    seed: Annotated[int, Option(help="Draws the folds of cross-validation.")] = 0,
    dry_run: Annotated[bool, Option("--dry-run", help="Learn and measure; store nothing.")] = False,
    rollback: Annotated[bool, Option("--rollback", help="Take the live router back instead.")] = False,
) -> None:
    """Learn how much each source matters for a question; what routes better than keywords serves."""
    from assistant.cli.ranking import roll_back
    from assistant.cli.routing import learn_routing
    from assistant.tuning.releases import RouterReleases

    options = GlobalOptions.of(context)
    if rollback:
        roll_back(options, tenant=tenant, kind=RouterReleases)
    else:
        learn_routing(options, tenant=tenant, paths=questions or (), seed=seed, dry_run=dry_run)


@learn_app.command()
def questions(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option("--out", metavar="FILE", help="Gets the questions' candidates, no text.")],
) -> None:
    """Observe the evaluation questions and write them for the scheduled job's gate."""
    from assistant.cli.ranking import write_questions

    write_questions(GlobalOptions.of(context), tenant=tenant, out=out)
