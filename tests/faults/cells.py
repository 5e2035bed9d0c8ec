"""What must have a row: every dependency in every condition, and what can happen to the service itself."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.dependencies import CARE_KEYS, DEPENDENCIES, DOCUMENTS, LIVE_SYSTEM, LLM, SEARCH

DOWN_AT_START = "down at start"
DOWN_WHILE_STREAMING = "down while streaming"
SLOW = "slow"
WRONG_ANSWER = "wrong answer"
FAULTS = (DOWN_AT_START, DOWN_WHILE_STREAMING, SLOW, WRONG_ANSWER)
LATE_IN_THE_TEXT = "slow in the middle of its text"
NO_FINISH = "wrong answer in the middle of its text"
DAMAGED = "bytes changed"
DOWN_WHEN_BACK = "down while a reader comes back"
DOCUMENTS_LOST = "documents lost from the index"
INDEX_CLOSED = "index closed"
INDEX_DELETED = "alias gone"
OTHER_CUSTOMER = "data of another customer"
CIRCUIT_OPEN = "down for longer"
KEY_SET_MISSING = "the parameter is missing"

THE_SERVICE = "the service itself"
KILLED = "killed while streaming"
KILLED_WITH_KEY = "killed while streaming, then the same Idempotency-Key"
KILLED_WAITING = "killed while its record waits, and no reader comes back"
SAME_KEY = "two tasks, one Idempotency-Key at the same instant"
OTHER_TASK_VERDICT = "two tasks, the verdict on the other one"
OTHER_TASK_CANCEL = "two tasks, cancelled on the other one"
CLOCK_TOKENS = "clock off by 45 s"
CLOCK_AGENTS = "clock off by 5 minutes"
CLOCK_LEASES = "two tasks whose clocks differ by 10 minutes"
CLOCK_SIGNATURES = "clock off by 5 minutes, and AWS refuses the signatures"
DISK_FULL = "disk full (embedded stores)"
WITHDRAWN = "a document withdrawn that an answer shows"


@dataclass(frozen=True)
class Cell:
    dependency: str
    fault: str


CELLS = (
    *(Cell(dependency.name, fault) for dependency in DEPENDENCIES for fault in FAULTS),
    Cell(LLM.name, LATE_IN_THE_TEXT),
    Cell(LLM.name, NO_FINISH),
    Cell(DOCUMENTS.name, DAMAGED),
    Cell(DOCUMENTS.name, DOWN_WHEN_BACK),
    Cell(SEARCH.name, DOCUMENTS_LOST),
    Cell(SEARCH.name, INDEX_CLOSED),
    Cell(SEARCH.name, INDEX_DELETED),
    Cell(LIVE_SYSTEM.name, OTHER_CUSTOMER),
    Cell(LIVE_SYSTEM.name, CIRCUIT_OPEN),
    Cell(CARE_KEYS.name, KEY_SET_MISSING),
    *(
        Cell(THE_SERVICE, fault)
        for fault in (
            KILLED,
            KILLED_WITH_KEY,
            KILLED_WAITING,
            SAME_KEY,
            OTHER_TASK_VERDICT,
            OTHER_TASK_CANCEL,
            CLOCK_TOKENS,
            CLOCK_AGENTS,
            CLOCK_LEASES,
            CLOCK_SIGNATURES,
            DISK_FULL,
            WITHDRAWN,
        )
    ),
)
