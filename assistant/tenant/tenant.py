"""The tenant file, ``tenants/<name>.toml``: its model ``TenantConfig``, and how files are read
(``load_tenants``).

Docstrings of fields are the text of docs/tenant-file.md.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from assistant.domain.answers import Guard
from assistant.domain.documents import ID_SEPARATOR
from assistant.domain.errors import ConfigurationError
from assistant.domain.paths import canonical_path
from assistant.tenant.deployment import (
    CareContextSection,
    EdgeSection,
    IdentitySection,
    ModelsSection,
    NetworkSection,
    ObservabilitySection,
    PlaceSection,
    PowerSection,
    Profile,
    ReachEntry,
    ReachTable,
    SearchSection,
    TasksSection,
)
from assistant.tenant.toml_file import KeyMark, OpenSection, OptionTable, StrictModel, marked, read_strict

GlossaryText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]


Subject = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Contact = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
ExampleMessage = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]
AgentName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LabelName = Annotated[str, StringConstraints(pattern=r"^\w[\w.:@/-]{0,63}$")]
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


class WritersSection(StrictModel):
    """Knowledge owners that may write a source, by claims of their tokens. Empty: all of them."""

    agents: Annotated[tuple[AgentName, ...], Field(max_length=200)] = ()
    """``sub`` of their tokens."""
    labels: Annotated[tuple[LabelName, ...], Field(max_length=200)] = ()
    """Access labels of their tokens; one is enough."""


Access = Literal["everyone", "folder", "declared"]
SourceKind = Literal["procedures", "help", "qa", "catalogue", "reviews", "community", "live"]
"""What the documents of a source are. ``procedures``: rules for agents; ``help``: pages for customers;
``qa``: questions with answers of the company; ``catalogue``: items with price and properties; ``reviews``
and ``community``: what customers say; ``live``: an internal system, asked at the moment of the question."""


_SEARCH_LIMIT_S = 2.0
"""Default of ``SourceEntry.deadline_s`` for a source of documents."""


_OcrLanguage = Annotated[str, StringConstraints(pattern=r"^[a-z]{3,4}(_[a-z]{2,5})?$")]


class SourceTable(OptionTable):
    """A table of an option in a ``[[sources]]`` entry."""

    @property
    def labels_given(self) -> set[str]:
        """The labels that restrictions of another system map to."""
        return set()


class SourceEntry(OpenSection):
    """One ``[[sources]]`` of the tenant file: where documents come from, and who may send them."""

    name: SourceName
    """Name of the source in records, commands and the inbox."""
    namespace: SourceName | Literal[""] | None = None
    """Prefix before the colon in the ids of its documents; by default the name. One source may have an empty
    one: its documents keep the ids of their files."""
    paths: tuple[str, ...] = ()
    """Files or folders, relative to the tenant file, that ``assistant knowledge add`` reads by default."""
    writers: WritersSection = WritersSection()
    """Who sends, withdraws and lists its documents; for all others they do not exist. Files that ``assistant
    knowledge add`` reads on this machine, and files in the inbox folder with the source's name, belong to the
    source too."""
    labels: Annotated[tuple[LabelName, ...], Field(max_length=200)] | None = None
    """Access labels that its documents may have; by default all of the tenant's."""
    access: Access | None = None
    """Where the labels of its documents come from; only a ``live`` source, which has none, leaves it out."""
    folders: Mapping[str, Annotated[tuple[LabelName, ...], Field(max_length=200)]] = {}
    """With ``access = "folder"``: the labels of the files below each folder, by its path from the source's
    root; the longest path counts, and ``""`` is for all others."""
    kind: SourceKind = "procedures"
    """What it has. Without a learned router, words that are usual for a kind choose sources; ``catalogue``
    and ``reviews`` are also read as a shop's items, and ``live`` is a system without documents."""
    reach: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{1,30}$")
    """The ``[[reach]]`` entry with the connector of a ``live`` source."""
    licence: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """Terms under which its texts may be used, as their owner states them: rows of a corpus carry it."""
    weight: float = Field(default=1.0, gt=0.0, le=10.0)
    """Multiplies how much the router thinks that the source matters."""
    freshness_days: int | None = Field(default=None, ge=1, le=3650)
    """Half-life of a document's worth by its date, as for reviews; by default age does not matter."""
    deadline_s: float | None = Field(default=None, gt=0.0, le=10.0)
    """A source that takes longer is left out of the answer, and named. By default 2 s; of a ``live`` source
    that of its ``[[reach]]`` entry, which bounds each request in any case."""
    elements: bool = False
    """Whether its documents may name live elements, like ``{{orders.status}}``; otherwise that stays text."""

    most_lost: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of a document's words that may be missing in its text: struck, hidden, not readable.
    A document above it is refused, with its losses named, until its owner has looked at it. 1 takes all."""
    ocr: bool = False
    """Whether scanned pages of its PDF files are read, by the program tesseract; else a load names them."""
    ocr_languages: Annotated[tuple[_OcrLanguage, ...], Field(min_length=1, max_length=8)] = ("eng",)
    """Languages of its scans, as tesseract calls them."""

    @property
    def labels_of_its_system(self) -> set[str]:
        """Labels that restrictions of the system map to, which its documents come from."""
        return {label for table in self.option_tables(SourceTable) for label in table.labels_given}

    @model_validator(mode="after")
    def _labels_come_from_somewhere(self) -> Self:
        if self.access is None and self.kind != "live":
            raise ValueError(
                f'the source "{self.name}" does not say where the labels of its documents come from. '
                'access = "everyone" keeps the meaning of a file without the key: every agent reads a '
                'document, unless it carries labels of its own. access = "declared": each document carries '
                'labels, or is refused. access = "folder": folders gives them'
            )
        if (self.access == "folder") != bool(self.folders):
            raise ValueError(
                f'the source "{self.name}": access = "folder" and folders = {{ "PATH" = ["LABEL"] }} belong '
                "together; write both or neither"
            )
        for folder, labels in self.folders.items():
            if folder and (posixpath.normpath(f"./{folder}") != folder or folder in ("..", ".")):
                raise ValueError(
                    f'folders of the source "{self.name}" has "{folder}", which no file is below. Write it '
                    'from the source\'s root, like "pay/board": no slash at its ends, no part . or ..'
                )
            for other, others in self.folders.items():
                if canonical_path(folder) == canonical_path(other) and set(labels) != set(others):
                    raise ValueError(
                        f'folders of the source "{self.name}" has "{folder}" and "{other}", two spellings of '
                        "one folder, with different labels. Give both the same."
                    )
        return self

    @property
    def recognised(self) -> tuple[str, ...]:
        """Languages in which its scans are read; none where they are not."""
        return self.ocr_languages if self.ocr else ()

    @property
    def id_prefix(self) -> str:
        """Prefix of the ids of its documents: ``wiki:``, or empty."""
        namespace = self.name if self.namespace is None else self.namespace
        return f"{namespace}{ID_SEPARATOR}" if namespace else ""

    @property
    def search_limit_s(self) -> float:
        """Longest time of a search of its documents."""
        return _SEARCH_LIMIT_S if self.deadline_s is None else self.deadline_s


def default_source() -> SourceEntry:
    """Return the source of a tenant file without ``[[sources]]``: ids as in the files, any knowledge owner
    writes."""
    return SourceEntry(name="knowledge", namespace="", access="everyone")


SMALLEST_COSINE_GAP = 0.05
"""Least difference of the mean cosines of related and unrelated texts: below it a model cannot separate
them."""


class EmbeddingSection(StrictModel):
    """``[embedding]``: the model that turns texts into vectors."""

    endpoint: str = "embedding"
    """Name of its endpoint, unique in an account and region."""
    model: str = "all-MiniLM-L6-v2"
    """Name of the model, as records have it. A deployment takes it from the artifact."""
    dimensions: int = Field(default=384, ge=1)
    """Numbers in a vector. A deployment takes it from the artifact."""
    max_tokens: int = Field(default=256, ge=16)
    """Limit of one embedding input, special tokens included."""
    cosine_unrelated: float = Field(default=0.07, ge=-1.0, le=1.0)
    """Mean cosine of a question with unrelated text, over the pairs in
    assistant/model_server/cosine_pairs.json. The default is the packaged model's; the ``artifact.json`` of
    another model has its own."""
    cosine_related: float = Field(default=0.517, ge=-1.0, le=1.0)
    """Mean cosine of a question with the text that answers it, over the same pairs."""
    vectors: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=500)] | None, KeyMark.NO_ANSWER
    ] = None
    """File with vectors of documents that are loaded again and again, relative to the tenant file. Only with
    embedded stores; refused in a deployed tenant."""

    @model_validator(mode="after")
    def _related_is_clearly_over_unrelated(self) -> Self:
        if self.cosine_related - self.cosine_unrelated <= SMALLEST_COSINE_GAP:
            raise ValueError(
                f"cosine_related = {self.cosine_related} is not more than {SMALLEST_COSINE_GAP} over "
                f"cosine_unrelated = {self.cosine_unrelated}; take both from the artifact.json of the model"
            )
        return self


class GenerationSection(StrictModel):
    """``[generation]``: the model that writes answers."""

    endpoint: str = "llm"
    """Name of its endpoint, unique in an account and region."""
    model: str = "SmolLM2-135M-Instruct"
    """Name of the model, as records have it. A deployment takes it from the artifact."""
    context_tokens: int = Field(default=2048, ge=256)
    """Prompt and answer of one stream together."""
    max_tokens: int = Field(default=700, ge=1, le=4096)
    """Longest written answer, in tokens; at most a fifth of ``context_tokens`` is taken."""
    reads: bool = True
    """Whether the model reads a conversation of several turns, and writes its searches, before it answers."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0: the likeliest token each time; higher values vary the words."""


class RetrievalSection(StrictModel):
    """``[retrieval]``: how much a search reads."""

    leg_size: int = Field(default=100, ge=1, le=1000)
    """Candidates of each half of a search, by words and by vectors."""
    passages: int = Field(default=5, ge=1, le=50)
    """Number of sources of an answer."""


class IndexSection(StrictModel):
    """Size of the passage index on an OpenSearch domain; not used by the embedded index."""

    shards: int = Field(default=1, ge=1, le=64)
    """A shard holds some ten million passages; results of all shards are fused."""
    replicas: int = Field(default=0, ge=0, le=8)
    """Replicas: 0 on one data node; 2 or 5 with standby, where a domain refuses other numbers."""


class GateSection(StrictModel):
    """``[gate]``: when nothing in the knowledge base is near a question."""

    model_cosine: float = Field(default=0.25, ge=-1.0, le=1.0)
    """No model is asked when none is as near as this: what a model reads it can refuse by itself.

    100 and 98 % of answerable messages as agents type them have one (n = 138 each, ``evaluation/messages``).
    """


_TONE = "Friendly, calm and plain, as one person to another. Short sentences. No exclamation marks."


class AnswersSection(StrictModel):
    """How answers are made from the documents."""

    mode: Literal["auto", "quoted"] = "auto"
    """``auto``: written when the served model's manifest has ``writes_answers``, else quoted. ``quoted``: the
    model is never called."""
    max_words: int = Field(default=160, ge=20, le=1000)
    """Longest section that is shown of the best document."""
    also_words: int = Field(default=80, ge=10, le=500)
    """Longest run that chooses a second section of the best document; longest section of the next one."""
    tone: str = Field(default=_TONE, min_length=1, max_length=1_000)
    """How the company writes to the people it serves: part of the prompt of a reply."""
    reply_languages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")], ...] = ("en",)
    """ISO 639-1 codes of the languages in which a reply may be written: it is in the customer's, where that
    is one of them, else in ``language``."""
    examples: Annotated[tuple[ExampleMessage, ...], KeyMark.NO_ANSWER, Field(max_length=4)] = ()
    """Questions that the empty page of the console offers. They are read before anybody has signed in."""
    escalation: Annotated[Mapping[Subject, Contact], Field(max_length=200)] = {}
    """Subject = whom to ask beside an answer that is not certain: the contact whose name, the words before
    its first comma, stands in the section that is shown; ``default`` where none does. A subject is a note for
    readers of the file. A model that writes names one of them by its number."""

    @property
    def desks(self) -> tuple[str, ...]:
        """Whom a model may name, each once."""
        return tuple(dict.fromkeys(self.escalation.values()))


class RedFlagEntry(StrictModel):
    """One ``[[red_flags]]`` of the tenant file: an emergency, shown above the answer to a message on it."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    """Name in records."""
    examples: Annotated[tuple[ExampleMessage, ...], Field(min_length=5, max_length=50)]
    """Messages about it, as agents type or paste them. A flag that the shipped weights do
    not know is found by them: ten or more, as varied as can be (docs/red-flags.md)."""
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    """What the agent must know or do now."""
    call: Contact
    """Whom to call."""


class LimitsSection(StrictModel):
    """Limits of one process's work for the tenant."""

    streams: int = Field(default=64, ge=1)
    """Answers in progress in one process."""
    streams_per_agent: int = Field(default=4, ge=1)
    """Answers in progress of one agent in one process."""
    questions_per_minute: int = Field(default=120, ge=1)
    """Limit of one agent in one process, as the next two are. So many may come at once, then one after
    another at this rate; beyond it the response is 429."""
    writes_per_minute: int = Field(default=600, ge=1)
    """Requests that are no questions and no reads: marks, sent texts, live elements read again, documents,
    uploads, decisions at the desk."""
    reads_per_minute: int = Field(default=1200, ge=1)
    """GET and HEAD: reads of others' answers, audits and the desk's lists are recorded, which is a write."""
    answer_deadline_s: float = Field(default=100.0, gt=0, le=100.0)
    """Longest time of an answer, in seconds: searches and calls of models end then."""
    embedding_timeout_s: float = Field(default=5.0, gt=0)
    """Longest time of a call of the embedding endpoint, in seconds."""
    search_timeout_s: float = Field(default=5.0, gt=0)
    """Longest time of a search of the index, in seconds."""
    first_token_timeout_s: float = Field(default=20.0, gt=0)
    """Time after which a quote replaces written text."""


class SecretsSection(StrictModel):
    """``[secrets]``: where keys are."""

    document_links: str = "state:document-links"
    """Key of the tokens in document links: ``state:NAME`` (created on first use in the state folder),
    ``file:PATH`` (relative to the tenant file; must exist, 32 bytes or more), or ``kms:NAME`` (an SSM
    parameter with a data key that KMS encrypted, base64)."""


_LIVE_VALUES_DAYS = 30
_LIVE_VALUES_DAYS_OF_DEV = 1


class DeployedKeeping(StrictModel):
    """What decides how long AWS keeps copies. The deployment writes it into the service's file; a receipt of
    a withdrawal names the periods."""

    profile: Profile
    capture: Literal["quarantine", "direct", "off"]
    capture_texts: Literal["none", "redacted"] = "none"
    training: bool = False
    """Whether training sets are made."""
    recovery_copies: str | None = None
    """Vault that recovery points are copied to."""


class RecordsSection(StrictModel):
    """How long records keep what is a customer's own. What was sent to a patient is kept as long as records
    are; live values in it are not."""

    live_values_days: int | None = Field(default=None, ge=0, le=2192)
    """Days for which values of live elements in sent texts can be read; afterwards their labels stand there.
    0: never kept. By default 30, in which a complaint about a message comes, and 1 under the profile
    ``dev``, whose data nobody answers for. 2192 days are six years."""
    deployed: Annotated[DeployedKeeping | None, KeyMark.DEPLOYMENT_WRITES] = None
    """Written by the deployment; do not set it."""


class ReviewSection(StrictModel):
    """``[review]``: how people decide what is served."""

    two_people: bool | None = None
    """Whether what one person decides goes live only by another one's approval; by default under the profile
    ``hipaa`` alone, which cannot be without it."""
    guard: Guard | None = None
    """What a reply needs in which the check finds something, before it is sent. ``seen``, the default: the
    agent says that they looked at it. ``reason``: and why it is right. ``second_person``: and another agent
    confirms the text. Under the profile ``hipaa`` it is one of the last two, by default ``reason``."""


class TenantTable(OptionTable):
    """A table of an option at the top of a tenant file."""

    writes: ClassVar[bool] = False
    """Whether a model of the option writes answers, so that there is no LLM endpoint."""


class TenantSection(TenantTable):
    """A table at the top of a tenant file that is there with its defaults where the file has none."""

    @classmethod
    def field(cls) -> tuple[Any, Any]:
        return Annotated[cls, cls.mark], cls()

    @classmethod
    def of(cls, section: OpenSection) -> Self:
        return next(section.option_tables(cls))


class TenantConfig(OpenSection):
    """One tenant file, ``tenants/<name>.toml``."""

    schema_version: Literal[1]
    """Version of the form of this file."""
    name: TenantName
    """The tenant's name: 2 to 31 lower-case letters, digits and hyphens. It equals the file's name."""
    display_name: str = Field(min_length=1, max_length=100)
    """Name that agents see."""
    language: str = "en"
    """Language of documents and questions. Another than ``en`` has no stop words and word ranks, and is
    refused."""
    labels: Annotated[tuple[LabelName, ...], Field(max_length=200)] = ()
    """The vocabulary of access labels: a document with any other label is refused. Labels of agents' tokens
    are not limited to it."""
    sources: Annotated[tuple[SourceEntry, ...], Field(min_length=1, max_length=50)] = Field(
        default_factory=lambda: (default_source(),)
    )
    embedding: EmbeddingSection = EmbeddingSection()
    embedding_next: Annotated[EmbeddingSection | None, KeyMark.NO_ANSWER] = None
    """The embedding model of an index that is filled beside the live one, or that is kept to go back to. Both
    endpoints exist while it is set; the live index decides which one embeds questions."""
    generation: GenerationSection = GenerationSection()
    retrieval: RetrievalSection = RetrievalSection()
    index: IndexSection = IndexSection()
    gate: GateSection = GateSection()
    answers: AnswersSection = AnswersSection()
    red_flags: Annotated[tuple[RedFlagEntry, ...], Field(max_length=30)] = ()
    """Emergencies that messages may be about (docs/red-flags.md)."""
    limits: LimitsSection = LimitsSection()
    secrets: SecretsSection = SecretsSection()
    records: Annotated[RecordsSection, KeyMark.NO_ANSWER] = RecordsSection()
    review: Annotated[ReviewSection, KeyMark.NO_ANSWER] = ReviewSection()
    care_context: Annotated[CareContextSection | None, KeyMark.NO_ANSWER] = None
    """Who signs whose conversation it is. Without it no question has a context."""
    glossary: Annotated[Mapping[GlossaryText, GlossaryText], Field(max_length=2000)] = {}
    """Callers' word = the documents' word. Retrieval adds it to the question, and the evidence gate treats
    both as equal. Prompt and answer do not contain it."""

    # Only a deployment on AWS reads the following sections; a tenant that is only served locally has none.
    deployment: Annotated[PlaceSection | None, KeyMark.DEPLOYMENT_READS] = None
    identity: Annotated[IdentitySection | None, KeyMark.DEPLOYMENT_READS] = None
    network: Annotated[NetworkSection, KeyMark.DEPLOYMENT_READS] = NetworkSection()
    edge: Annotated[EdgeSection | None, KeyMark.DEPLOYMENT_READS] = None
    models: Annotated[ModelsSection | None, KeyMark.DEPLOYMENT_READS] = None
    power: Annotated[PowerSection | None, KeyMark.DEPLOYMENT_READS] = None
    search: Annotated[SearchSection, KeyMark.DEPLOYMENT_READS] = SearchSection()
    tasks: Annotated[TasksSection, KeyMark.DEPLOYMENT_READS] = TasksSection()
    observability: Annotated[ObservabilitySection, KeyMark.DEPLOYMENT_READS] = ObservabilitySection()
    reach: Annotated[tuple[ReachEntry, ...], KeyMark.DEPLOYMENT_READS] = ()

    @model_validator(mode="after")
    def _sources_are_apart_and_know_their_labels(self) -> Self:
        for what, values in (
            ("name", [source.name for source in self.sources]),
            ("namespace", [source.id_prefix.removesuffix(ID_SEPARATOR) for source in self.sources]),
        ):
            doubled = sorted({value for value in values if values.count(value) > 1})
            if doubled:
                raise ValueError(f'two sources have the {what} "{doubled[0]}"; ids of both would be the same')
        for source in self.sources:
            allowed = self.labels if source.labels is None else source.labels
            for key, named, known in (
                ("labels", source.labels or (), self.labels),
                *(("folders", labels, allowed) for labels in source.folders.values()),
                ("connector", sorted(source.labels_of_its_system), allowed),
            ):
                unknown = [label for label in named if label not in known]
                if unknown:
                    raise ValueError(
                        f'{key} of the source "{source.name}" has "{unknown[0]}", which is none of '
                        f"{', '.join(known) or 'the labels, for there are none'}; add it to labels at the top"
                    )
        return self

    @model_validator(mode="after")
    def _labels_have_a_source(self) -> Self:
        if self.labels and "sources" not in self.model_fields_set:
            raise ValueError(
                "there are labels, and no [[sources]] says where documents get them. Write [[sources]] with "
                'name = "knowledge", namespace = "" and access = "everyone" to keep the meaning'
            )
        return self

    @model_validator(mode="after")
    def _red_flags_have_their_own_names(self) -> Self:
        names = [flag.name for flag in self.red_flags]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'two red_flags have the name "{doubled[0]}"; give each its own')
        return self

    @model_validator(mode="after")
    def _live_sources_name_their_system(self) -> Self:
        systems = [entry.name for entry in self.reach if entry.is_live]
        for source in self.sources:
            if source.kind != "live" and source.reach is not None:
                raise ValueError(
                    f'the source "{source.name}" has reach, and its kind is "{source.kind}". Delete reach; '
                    'only kind = "live" has it'
                )
            if source.kind == "live" and (source.reach not in systems or source.paths):
                raise ValueError(
                    f'the source "{source.name}" is live: reach names one of the [[reach]] entries with a '
                    f"connector ({', '.join(systems) or 'there are none'}), and it has no paths"
                )
        return self

    @model_validator(mode="after")
    def _a_patients_reply_is_guarded(self) -> Self:
        if self.guard == "seen" and self.deployment is not None and self.deployment.profile == "hipaa":
            raise ValueError(
                'review.guard = "seen", and the profile is "hipaa": write "reason" or "second_person"'
            )
        return self

    @model_validator(mode="after")
    def _plain_ids_are_for_development(self) -> Self:
        if self.care_context is not None and self.care_context.plain_ids:
            profile = None if self.deployment is None else self.deployment.profile
            if profile not in (None, "dev"):
                raise ValueError(
                    f'care_context.plain_ids = true, and the profile is "{profile}": anyone could name any '
                    'customer. Delete it; only profile = "dev" may have it'
                )
        return self

    def source_of(self, document_id: str) -> SourceEntry | None:
        """Return the source of a document's tenant-wide id; None if it has no source.

        An id without the prefix of another source belongs to the source with the empty namespace.
        """
        prefix = document_id[: document_id.find(ID_SEPARATOR) + 1]
        by_prefix = {source.id_prefix: source for source in self.sources}
        return by_prefix.get(prefix) or by_prefix.get("")

    @property
    def has_llm_endpoint(self) -> bool:
        """Whether an LLM endpoint of the tenant writes, and not a model of an option."""
        return not any(table.writes for table in self.option_tables(TenantTable))

    @property
    def is_dev(self) -> bool:
        """Whether it is deployed with the profile ``dev``."""
        return self.deployment is not None and self.deployment.profile == "dev"

    @property
    def endpoint_hours_share(self) -> float:
        """Share of all hours in which the endpoints run."""
        return 1.0 if self.power is None else self.power.hours_share

    @property
    def task_cpu_units(self) -> int:
        """CPU of a task: 1024 are one vCPU."""
        return self.tasks.cpu_units or (512 if self.is_dev else 1024)

    @property
    def task_architecture(self) -> Literal["X86_64", "ARM64"]:
        """Processor of the tasks."""
        return self.tasks.architecture or ("ARM64" if self.is_dev else "X86_64")

    @property
    def stage_id(self) -> str:
        """Name of the tenant's CDK stage and of the folder of its templates: ``NorthShop`` for north-shop."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def needs_two_people(self) -> bool:
        """Whether nothing of the review desk goes live by one person's decision."""
        is_hipaa = self.deployment is not None and self.deployment.profile == "hipaa"
        return is_hipaa or bool(self.review.two_people)

    @property
    def guard(self) -> Guard:
        """Return what a reply needs in which the check finds something."""
        is_hipaa = self.deployment is not None and self.deployment.profile == "hipaa"
        return self.review.guard or ("reason" if is_hipaa else "seen")

    @property
    def live_values_days(self) -> int:
        """Return for how many days live values in sent texts can be read."""
        if self.records.live_values_days is not None:
            return self.records.live_values_days
        return _LIVE_VALUES_DAYS_OF_DEV if self.is_dev else _LIVE_VALUES_DAYS

    def settings_hash(self) -> str:
        """Return the SHA-256 (hex) of all settings that shape answers; every answer's record has it.

        The deployment sections, ``records``, ``care_context``, the embedding model of another index, the file
        of kept vectors and the console's examples are not part of it; connectors are. A release that adds a
        key with a say in answers or replies changes it.
        """
        left_out = marked(TenantConfig, KeyMark.DEPLOYMENT_READS, KeyMark.NO_ANSWER)
        shaping = self.model_dump_json(exclude=left_out)
        tables = ((entry, table) for entry in self.reach for table in entry.option_tables(ReachTable))
        if systems := [{"name": entry.name, **table.shaping()} for entry, table in tables if table.is_live]:
            shaping += json.dumps(systems, sort_keys=True)
        return hashlib.sha256(shaping.encode()).hexdigest()


def load_tenant(path: Path, *, place: Path | None = None) -> TenantConfig:
    """Read one tenant file. Raises ConfigurationError naming file, line, key and what is allowed.

    ``place``: the folder that its other files are relative to, where it is not the file's own.
    """
    tenant = read_strict(path, TenantConfig)
    if tenant.name != path.stem:
        raise ConfigurationError(
            f'{path}: name = "{tenant.name}" must equal the file\'s name, "{path.stem}".'
        )
    if not any(entry.files for entry in tenant.reach):
        return tenant
    entries = tuple(entry.with_files(place or path.parent) for entry in tenant.reach)
    return tenant.model_copy(update={"reach": entries})


@dataclass(frozen=True, slots=True)
class TenantFiles:
    """The tenant files of a folder, each read on its own: an invalid file affects no other tenant."""

    folder: Path
    tenants: Mapping[str, TenantConfig]
    refused: Mapping[str, ConfigurationError]
    """Name of the file without suffix = its error: file, line, key and what is allowed."""

    def one(self, name: str) -> TenantConfig:
        """Return a tenant by its exact name. Raises ConfigurationError: that of its file, or where there is
        none."""
        if name in self.refused:
            raise self.refused[name]
        if name not in self.tenants:
            known = ", ".join(sorted({*self.tenants, *self.refused}))
            raise ConfigurationError(f"There is no tenant {name} in {self.folder}; there are {known}.")
        return self.tenants[name]

    def without(self, refused: Mapping[str, ConfigurationError]) -> TenantFiles:
        """Return the same files with further tenants refused: name = error."""
        kept = {name: tenant for name, tenant in self.tenants.items() if name not in refused}
        return replace(self, tenants=kept, refused={**self.refused, **refused})


def load_tenants(folder: Path, *, only: Collection[str] = ()) -> TenantFiles:
    """Read every ``*.toml`` of a folder, or those named by ``only``.

    Raises ConfigurationError when no tenant file is valid.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"{folder}: there is no such folder of tenant files. Run the command in the root of the "
            "repository, or name the folder: --tenants DIR."
        )
    tenants: dict[str, TenantConfig] = {}
    refused: dict[str, ConfigurationError] = {}
    for path in sorted(folder.glob("*.toml")):
        if only and path.stem not in only:
            continue
        try:
            tenants[path.stem] = load_tenant(path)
        except ConfigurationError as error:
            refused[path.stem] = error
    if not tenants:
        messages = "\n".join(error.message for error in refused.values())
        raise ConfigurationError(messages or f"{folder}: no tenant file (*.toml) in this folder.")
    return TenantFiles(folder, tenants, refused)
