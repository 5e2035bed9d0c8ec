"""The runbook: for each alarm what happened, where to look, how to fix it.

An alarm's description is made from its entry and links to it. ``python -m stacks.runbook`` writes the entries
into docs/runbook.md; a test compares the page, the entries and the templates.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from stacks.tenant import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    group: str
    title: str
    """Heading of the page, from which the anchor is derived."""
    happened: str
    look: str
    fix: str
    is_alarm: bool = True
    """Whether a CloudWatch alarm reports it; a budget reports the others."""

    @property
    def anchor(self) -> str:
        """The heading's address, as GitHub and GitLab make it of lower-case words."""
        return self.title.lower().replace(" ", "-")


_ANSWERS = "Answers"
_MODELS = "Models"
_KNOWLEDGE = "Knowledge"
_STORES = "Stores"
_SECURITY = "Security"
_MONEY = "Power and money"

ENTRIES = (
    Entry(
        group=_ANSWERS,
        title="Answers failing",
        happened="Tasks answered at least five questions with a 5xx status in five minutes while the "
        "endpoints stood. Answers of a paused tenant (503 `endpoint_paused`) are not counted.",
        look="The orchestrator's log group: lines with `log_level` `error`, by `code`. Inside a task, "
        "`https://127.0.0.1:8709/readyz` names the dependency that is not ready. The dashboard "
        "shows whether search or an endpoint fails at the same time.",
        fix="If it began with a deployment, the circuit breaker has rolled back or will; see that it did: "
        "`aws ecs describe-services`. If a dependency fails, its own alarm has the way. docs/faults.md "
        "says what each fault looks like to an agent.",
    ),
    Entry(
        group=_ANSWERS,
        title="Tasks unhealthy",
        happened="The balancer has found at least one task unhealthy for five minutes.",
        look="`aws ecs describe-services` (events) and the stopped tasks' reasons: `aws ecs list-tasks "
        "--desired-status STOPPED`, then `describe-tasks`. Exit 1 with one line in the log is a setting "
        "that is missing or does not go together.",
        fix="ECS replaces the task by itself. If replacements fail too, undo the last change: deploy the "
        "release before it.",
    ),
    Entry(
        group=_ANSWERS,
        title="No healthy task",
        happened="The balancer has no healthy task: no agent gets an answer.",
        look="As for unhealthy tasks. Also whether images can be pulled (`CannotPullContainerError`): the "
        "ECR and S3 endpoints of the VPC, and the digest in images.lock.toml.",
        fix="Deploy the release before; its image is still in the registry, for tagged images are never "
        "removed.",
    ),
    Entry(
        group=_ANSWERS,
        title="First token slow",
        happened="Half of the answers waited longer for their first token than half of the limit after "
        "which an agent gets a quote instead.",
        look="Timings by step in `done` and in the records: `assistant replay ID`. On the dashboard: "
        "concurrency and first-chunk latency of the LLM endpoint, latency of search.",
        fix="If concurrency is at the artifact's batch size, raise `max_instances` in `[models]` and "
        "deploy. If search is slow, see its storage and memory.",
    ),
    Entry(
        group=_ANSWERS,
        title="Answers without a model",
        happened="The model failed or was late in at least five answers within fifteen minutes, and agents "
        "got quotes instead of written text.",
        look="The LLM endpoint's alarms and its log group `/aws/sagemaker/Endpoints/<name>`.",
        fix="As for the model's failures. Agents go on working with quoted answers meanwhile.",
    ),
    Entry(
        group=_ANSWERS,
        title="Streams near their limit",
        happened="Tasks have held more than eight tenths of their streams for ten minutes, so scaling does "
        "not keep up or has reached `max_tasks`.",
        look="Number of running tasks against `max_tasks` in `[tasks]`; `ActiveStreams` a task.",
        fix="Raise `max_tasks` and deploy. Over the limit an agent gets 429 with `Retry-After`, nothing "
        "is lost.",
    ),
    Entry(
        group=_ANSWERS,
        title="Unexpected failures",
        happened="A task met failures that nobody expected. During a deployment this alarm rolls it back.",
        look="Lines with an `exception` in the orchestrator's log group; `exception_at` names the places.",
        fix="Deploy the release before, and report the exception's type and places: they hold no text of "
        "anyone.",
    ),
    Entry(
        group=_MODELS,
        title="LLM failing",
        happened="The LLM endpoint answered at least five calls with a 5xx in five minutes.",
        look="`aws sagemaker describe-endpoint`, then its log group. Out of memory on the device shows as "
        "a restarting container.",
        fix="If it began with a deployment, blue/green has rolled it back or will. An artifact that does "
        "not load by the image that compiled it: put the one before into the tenant file and deploy.",
    ),
    Entry(
        group=_MODELS,
        title="LLM overloaded",
        happened="The LLM endpoint refused at least twenty calls in five minutes (4xx, of which 429 is the "
        "container's full queue).",
        look="Concurrency per instance against the batch size of the artifact's manifest; number of "
        "instances against `max_instances`.",
        fix="Raise `max_instances`. If the account has no more of the instance, ask for quota "
        "(docs/from-nothing.md).",
    ),
    Entry(
        group=_MODELS,
        title="Embedding failing",
        happened="The embedding endpoint answered at least five calls with a 5xx in five minutes. Neither "
        "questions nor documents get further.",
        look="`aws sagemaker describe-endpoint` and its log group.",
        fix="As for the LLM.",
    ),
    Entry(
        group=_MODELS,
        title="New endpoint failing",
        happened="An endpoint fails or is slow in its first minutes. It tells nobody: SageMaker watches it "
        "while it deploys the endpoint, and brings the fleet before it back.",
        look="`aws sagemaker describe-endpoint`: `FailureReason`. Its log group has the container's own "
        "words.",
        fix="Nothing to do for agents: the fleet before goes on answering. Correct artifact, image or "
        "instance, and deploy again.",
    ),
    Entry(
        group=_KNOWLEDGE,
        title="Documents waiting",
        happened="The oldest document has waited in a queue for thirty minutes while the endpoints stood.",
        look="Errors and throttles of the ingestion function; whether its event source is enabled: `aws "
        "lambda list-event-source-mappings`.",
        fix="A source that stayed disabled after a pause: resume once more, it is safe to repeat. A bulk "
        "load simply takes its time, in a queue of its own.",
    ),
    Entry(
        group=_KNOWLEDGE,
        title="Documents postponed",
        happened="For an hour, while the endpoints stood, documents were put back because an endpoint or the "
        "search domain did not answer. None is lost, and none of their attempts is used up.",
        look="Lines `batch_returned` of `ingest_documents`: their `code` and `reason` name the dependency.",
        fix="Fix the dependency; the documents continue by themselves within a minute. With a large load "
        "the embedding endpoint may be too small: `max_instances` in `[models]`.",
    ),
    Entry(
        group=_KNOWLEDGE,
        title="Dead letters",
        happened="A document failed as often as it is tried, and its id lies in a dead letter queue.",
        look="`assistant knowledge status` shows `failed` with its reason; the function's log group has "
        "the line with the document's id.",
        fix="Fix the document or the cause, then `aws sqs start-message-move-task` moves the letters "
        "back. Each is an id, never a text.",
    ),
    Entry(
        group=_KNOWLEDGE,
        title="Functions failing",
        happened="A function of the tenant failed or was throttled at least three times in five minutes.",
        look="Its log group, by `function_name` of the alarm's metric.",
        fix="A retry brings a document in, or puts it among the dead letters; nothing is lost. Throttles: "
        "raise the account's concurrency quota.",
    ),
    Entry(
        group=_STORES,
        title="Search red",
        happened="The search domain has lost a primary shard: searches answer in part or not at all.",
        look="The domain's console page, cluster health; events of its nodes.",
        fix="With standby it heals by itself within minutes. Else restore the last automated snapshot, or "
        "load the documents anew from their bucket: `assistant knowledge add`.",
    ),
    Entry(
        group=_STORES,
        title="Search yellow",
        happened="A copy of a shard has been missing for thirty minutes.",
        look="Whether a node is being replaced, and whether the index asks for copies that the number of "
        "data nodes cannot hold (`[index] replicas`).",
        fix="Wait for the replacement; else correct the number of copies and deploy.",
    ),
    Entry(
        group=_STORES,
        title="Search full",
        happened="A data node has less than a fifth of its volume left. OpenSearch blocks writes when it "
        "is full.",
        look="Size of each index version: old ones behind no alias can go.",
        fix="Raise `volume_gib` in `[search]` and deploy; it grows without an outage.",
    ),
    Entry(
        group=_STORES,
        title="Search memory",
        happened="The Java heap of a search node has been over 92 % for fifteen minutes.",
        look="Number of searches and of documents on the dashboard.",
        fix="A larger `data_instance`, or more `data_nodes`, in `[search]`.",
    ),
    Entry(
        group=_STORES,
        title="Search writes blocked",
        happened="The domain refuses writes: no document comes in, none goes out. Withdrawals wait.",
        look="Storage and memory of the domain.",
        fix="As for a full or tight domain; the block lifts by itself afterwards.",
    ),
    Entry(
        group=_STORES,
        title="Search key lost",
        happened="The domain cannot use its key. If that lasts, its data cannot be read again.",
        look="State and policy of the data key, and who changed it: CloudTrail, `PutKeyPolicy`, "
        "`DisableKey`, `ScheduleKeyDeletion`.",
        fix="Enable the key, or cancel its deletion, at once. Then deploy the keys stack to restore its "
        "policy.",
    ),
    Entry(
        group=_STORES,
        title="Search snapshot failed",
        happened="An automated snapshot of the domain failed, so the way back to an earlier hour has a hole.",
        look="Cluster health at that hour.",
        fix="The next one runs within the hour. If it fails again, open a case with AWS: the snapshots "
        "are theirs.",
    ),
    Entry(
        group=_STORES,
        title="Tables throttled",
        happened="DynamoDB throttled calls on one of the tenant's tables.",
        look="Which table and which kind of call: the alarm's metrics.",
        fix="On-demand tables grow by themselves within minutes; one hot key does not. The record of an "
        "answer follows when its store is back (`done` says so).",
    ),
    Entry(
        group=_SECURITY,
        title="Raw capture late",
        happened="A raw captured call has lain in the quarantine for forty minutes. It is to be gone within "
        "the hour.",
        look="Lines `message_failed` of `redact_capture` and `overdue_capture_not_redacted` of "
        "`sweep_quarantine`, which tries every five minutes. The object's key is in them, never its text.",
        fix="Correct what they name: a right, a key, the bucket of clean copies. An object over 128 MiB is "
        "never redacted: delete it by hand, as the redactor's role, in every version.",
    ),
    Entry(
        group=_SECURITY,
        title="Key refused",
        happened="KMS refused somebody in this account the use of a key. Tenants' keys refuse whoever "
        "lacks the tenant's tag; keys of others in the account count too.",
        look="In the trail's log group: `eventSource` `kms.amazonaws.com` with `errorCode` `AccessDenied`; "
        "`userIdentity` says who, `errorMessage` which key.",
        fix="A role of ours: its policy or the key's was changed outside a deployment; deploy anew. A "
        "person or an unknown role: treat it as an attempt, and follow your incident procedure.",
    ),
    Entry(
        group=_SECURITY,
        title="Policy changed",
        happened="A policy of IAM, a bucket, a key, a queue or the search domain, or a trail, was changed by "
        "someone other than the deployment.",
        look="In the trail's log group by the event names of `stacks/observability/audit.py`; "
        "`userIdentity` says who.",
        fix="`npx cdk diff -c tenant=NAME '**'` shows no drift by itself: run `aws cloudformation "
        "detect-stack-drift` on the stack, then deploy it to restore what it says.",
    ),
    Entry(
        group=_SECURITY,
        title="Trust changed",
        happened="Someone other than the deployment changed the tags of a role, user, store or key, or made "
        "a role, user or session with the tag `tenant`. Roles are trusted by that tag. Tags of any role or "
        "user of the account count, another team's too.",
        look="In the trail's log group: `TagRole`, `UntagRole`, `TagUser`, `CreateRole`, `AssumeRole`, "
        "`TagResource`, `PutBucketTagging` and their like; `requestParameters` has the tags, `userIdentity` "
        "says who.",
        fix="The tag `tenant` or `duty`: take it off (`aws iam untag-role`), then look for what the "
        "identity read since, by its ARN: with the tag it was no stranger. Other tags: nothing to do.",
    ),
    Entry(
        group=_SECURITY,
        title="Data copied",
        happened="Someone other than the deployment exported, restored, replicated or connected a store of "
        "patients' data, or changed where it sends what it holds.",
        look="In the trail's log group: `ExportTableToPointInTime`, `RestoreTableToPointInTime`, "
        "`CreateBackup`, `UpdateTable` (replicas), `PutBucketReplication`, `CreateOutboundConnection` and "
        "their like; `requestParameters` says where to.",
        fix="A restore of yours (docs/runbook.md#back-to-an-earlier-point-in-time): keep the reason with "
        "the incident, and delete the copy when it has served. Else stop it (`aws s3api "
        "delete-bucket-replication`, `aws dynamodb update-table --replica-updates`), and treat what left "
        "as disclosed: the copy is under other walls.",
    ),
    Entry(
        group=_SECURITY,
        title="Stranger read",
        happened="Somebody who is neither a role of the tenant nor declared in `[observability] "
        "declared_principals` read, or tried to read, a store of patients' data.",
        look="In the trail's log group: `eventCategory` `Data`, `userIdentity`, `resources`. An "
        "`errorCode` means that it was refused.",
        fix="If it was refused: who tries, and why. If not: a bucket policy was changed; deploy the data "
        "stack, and treat what was read as disclosed.",
    ),
    Entry(
        group=_SECURITY,
        title="Break glass used",
        happened="A role named as `break_glass` read a store of patients' data. That is what it is for; "
        "this alarm is the second pair of eyes.",
        look="In the trail's log group: who (`userIdentity.arn` has the session's name), what, when.",
        fix="Ask for the reason and keep it with the incident. Nothing to do in the deployment.",
    ),
    Entry(
        group=_MONEY,
        title="Power switch failed",
        happened="Pausing or resuming the endpoints failed. They are as they were, or on the way.",
        look="The failed execution of the state machine: its last step has the reason, most often a "
        "deployment that ran at the same time, or no capacity for the instance.",
        fix="Run it again: it is safe to repeat. For want of capacity try another hour, or another "
        "accelerator (one line of the tenant file, deployed while paused: docs/runbook.md#another-instance).",
    ),
    Entry(
        group=_MONEY,
        title="Budget exceeded",
        happened="What the tenant cost this month, or will by its forecast, passed a mark of its budget.",
        look="Cost Explorer by the tag `tenant`, then by service. Endpoints and the search domain are most "
        "of it (docs/from-nothing.md has the table).",
        fix="Pause the tenant outside its hours (`[power]`), or raise `budget_usd_per_month`.",
        is_alarm=False,
    ),
)


PAGE = ROOT / "docs" / "runbook.md"
BEGIN = "<!-- alarms, made by python -m stacks.runbook -->"
END = "<!-- end of alarms -->"


def entry(anchor: str) -> Entry:
    """Return the entry of an alarm. Raises KeyError where there is none."""
    return _BY_ANCHOR[anchor]


def link(anchor: str) -> str:
    return f"docs/runbook.md#{anchor}"


def described(anchor: str) -> str:
    """Return the description of an alarm: what happened, and a link to what to do."""
    return f"{entry(anchor).happened} What to do: {link(anchor)}"


def markdown() -> str:
    """Return the entries as Markdown, in the order of the table."""
    parts: list[str] = []
    group = ""
    for one in ENTRIES:
        if one.group != group:
            group = one.group
            parts.append(f"### {group}\n")
        parts.append(f"#### {one.title}\n\n{one.happened}\n\n**Look.** {one.look}\n\n**Fix.** {one.fix}\n")
    return "\n".join(parts)


def with_alarms(page: str) -> str:
    """Return the page with its alarms replaced."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{markdown()}{END}{tail}"


_BY_ANCHOR = {one.anchor: one for one in ENTRIES}


def main() -> None:
    PAGE.write_text(with_alarms(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
