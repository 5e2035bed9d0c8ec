"""What to do: the one column of the page that no test can see."""

from __future__ import annotations

from tests.faults import cells
from tests.faults.cells import CELLS, THE_SERVICE, Cell
from tests.faults.dependencies import (
    CARE_KEYS,
    DOCUMENTS,
    EMBEDDING,
    EVENTS,
    KEYS,
    KEYS_PARAMETER,
    LINK_SECRET,
    LIVE_SYSTEM,
    LLM,
    POWER,
    QUEUE,
    RECORDS,
    SEARCH,
    STATES,
)

_OF_DEPENDENCY = {
    EMBEDDING.name: "look at the endpoint's instances, scaling and model",
    LLM.name: "look at the endpoint's instances and scaling",
    SEARCH.name: "look at the domain's health and the tenant's alias",
    RECORDS.name: "it follows; look at throttling and the table's policy",
    EVENTS.name: "look at throttling and the table's policy",
    STATES.name: "look at throttling and the table's policy",
    DOCUMENTS.name: "look at the bucket's policy and its KMS key",
    QUEUE.name: "bring the document again: it resumes where it stopped",
    KEYS.name: "look at the issuer and the way to it",
    KEYS_PARAMETER.name: "look at the parameter and who may read it",
    POWER.name: "nothing; put `on` or `paused` into the parameter",
    LIVE_SYSTEM.name: "its owner repairs it; calls begin again by themselves",
    CARE_KEYS.name: "look at the parameter and who may read it",
    LINK_SECRET.name: "look at the key, its policy and the parameter",
}
_OF_CELL = {
    Cell(EMBEDDING.name, cells.WRONG_ANSWER): "serve the model that the tenant file names",
    Cell(LLM.name, cells.LATE_IN_THE_TEXT): "look at the endpoint's load",
    Cell(SEARCH.name, cells.WRONG_ANSWER): "fill an index of the served model and swap the alias",
    Cell(SEARCH.name, cells.DOCUMENTS_LOST): "start the worker again: it writes what is missing",
    Cell(SEARCH.name, cells.INDEX_CLOSED): "open the index, or fill a new one and swap the alias",
    Cell(SEARCH.name, cells.INDEX_DELETED): "apply the schema and start the worker again",
    Cell(
        LIVE_SYSTEM.name, cells.WRONG_ANSWER
    ): "change the connector file as the schema changed, or switch the system off",
    Cell(LIVE_SYSTEM.name, cells.OTHER_CUSTOMER): "switch the system off, and tell its owner",
    Cell(LIVE_SYSTEM.name, cells.CIRCUIT_OPEN): "its owner repairs it, or switch the system off",
    Cell(CARE_KEYS.name, cells.KEY_SET_MISSING): "put the care application's key set into the parameter",
    Cell(DOCUMENTS.name, cells.DAMAGED): "add the document again",
    Cell(DOCUMENTS.name, cells.DOWN_WHEN_BACK): "look at the bucket's policy and its KMS key",
    Cell(THE_SERVICE, cells.KILLED): "look at why the task ended (memory, its host)",
    Cell(THE_SERVICE, cells.KILLED_WAITING): "look at the store, and at why the task ended",
    Cell(THE_SERVICE, cells.KILLED_WITH_KEY): "nothing: a client that repeats its request gets an answer",
    Cell(THE_SERVICE, cells.SAME_KEY): "nothing",
    Cell(THE_SERVICE, cells.OTHER_TASK_VERDICT): "nothing",
    Cell(THE_SERVICE, cells.OTHER_TASK_CANCEL): "nothing",
    Cell(THE_SERVICE, cells.CLOCK_TOKENS): "nothing up to a minute; beyond it set the clock",
    Cell(THE_SERVICE, cells.CLOCK_AGENTS): "set the task's clock, or the issuer's",
    Cell(THE_SERVICE, cells.CLOCK_LEASES): "set the clocks",
    Cell(THE_SERVICE, cells.CLOCK_SIGNATURES): "set the task's clock",
    Cell(THE_SERVICE, cells.DISK_FULL): "make room under the state folder",
    Cell(THE_SERVICE, cells.WITHDRAWN): "agents ask again",
    **{
        Cell(each, cells.DOWN_WHILE_STREAMING): "nothing for this answer; else as in its other rows"
        for each in (
            EMBEDDING.name,
            SEARCH.name,
            STATES.name,
            QUEUE.name,
            KEYS.name,
            KEYS_PARAMETER.name,
            CARE_KEYS.name,
        )
    },
    Cell(LINK_SECRET.name, cells.DOWN_WHILE_STREAMING): "nothing: the secret is read at the start only",
}
ADVICE = {cell: _OF_CELL.get(cell) or _OF_DEPENDENCY[cell.dependency] for cell in CELLS}
