import assert from "node:assert/strict";
import { test } from "node:test";
import { lostAnswer, unreachable } from "../src/problems.ts";
import {
  type Turn,
  afterEvent,
  afterProblem,
  afterStop,
  newTurn,
  sourceToOpen,
  silentTitle,
  storedTurn,
} from "../src/turn.ts";
import type { AnswerEvent, Source, StoredAnswer } from "../src/wire.ts";

const EVENTS: AnswerEvent[] = [
  { event: "started", data: { answer_id: "a", conversation_id: "c" } },
  { event: "sources", data: { sources: [] } },
  { event: "token", data: { text: "Yes" } },
  { event: "token", data: { text: "." } },
  { event: "sentence", data: { index: 0, start: 0, end: 4, citations: [1], support: "supported" } },
  { event: "done", data: { finish_reason: "stop", citations: [1] } },
];

test("a turn goes through its phases", () => {
  const phases: string[] = [];
  EVENTS.reduce((turn: Turn, event) => {
    const next = afterEvent(turn, event);
    phases.push(next.phase);
    return next;
  }, newTurn("key", "Why?"));
  assert.deepEqual(phases, ["searching", "writing", "writing", "writing", "writing", "finished"]);
});

test("the text is what the tokens say", () => {
  const turn = EVENTS.reduce(afterEvent, newTurn("key", "Why?"));
  assert.equal(turn.text, "Yes.");
  assert.equal(turn.sentences.length, 1);
  assert.equal(turn.finishReason, "stop");
});

test("an ended turn stays as it is", () => {
  const stopped = afterStop(EVENTS.slice(0, 3).reduce(afterEvent, newTurn("key", "Why?")));
  assert.equal(EVENTS.slice(3).reduce(afterEvent, stopped), stopped);
  assert.equal(afterProblem(stopped, lostAnswer()), stopped);
});

test("an error event ends the turn with its problem and keeps the text", () => {
  const begun = EVENTS.slice(0, 3).reduce(afterEvent, newTurn("key", "Why?"));
  const failed = afterEvent(begun, { event: "error", data: unreachable() });
  assert.equal(failed.phase, "failed");
  assert.equal(failed.text, "Yes");
  assert.equal(failed.problem?.code, "unreachable");
});

test("an answer whose writer or connection is gone is incomplete, not failed", () => {
  for (const problem of [lostAnswer(), { ...unreachable(), code: "interrupted" }]) {
    const begun = EVENTS.slice(0, 3).reduce(afterEvent, newTurn("key", "Why?"));
    assert.equal(afterProblem(begun, problem).phase, "interrupted");
  }
});

test("an answer counts as recorded when the service says so, as older ones did by saying nothing", () => {
  const recorded = [undefined, true, false].map((flag) => {
    const data = { finish_reason: "stop" as const, citations: [], ...(flag === undefined ? {} : { recorded: flag }) };
    return afterEvent(newTurn("key", "Why?"), { event: "done", data }).isRecorded;
  });
  assert.deepEqual(recorded, [true, true, false]);
});

test("an answer that comes again from its record takes the place of what broke off", () => {
  const section = { document_id: "d", title: "t", effective_date: null, text: "x", citations: [1] };
  const data = { sources: [], section };
  const begun = EVENTS.slice(0, 3).reduce(afterEvent, newTurn("key", "Why?"));
  const before = [{ event: "sources", data } as AnswerEvent, ...EVENTS.slice(2, 5)].reduce(afterEvent, begun);
  const turn = EVENTS.reduce(afterEvent, before);
  assert.deepEqual([turn.text, turn.sentences.length, turn.phase], ["Yes.", 1, "finished"]);
  assert.equal(turn.section, section);
});

test("the source to open is the section's, else the first document that a quoted answer cites", () => {
  const turn = EVENTS.reduce(afterEvent, newTurn("key", "Why?"));
  const sentences = turn.sentences.map((sentence) => ({ ...sentence, citations: [1, 2] }));
  const sources = [{ n: 1, kind: "approved" }, { n: 2 }, { n: 3 }] as unknown as Source[];
  const written = { ...turn, sentences, sources };
  const quoted = { ...written, findings: { ...turn.findings, mode: "quoted" as const } };
  const section = { document_id: "d", title: "t", effective_date: null, text: "x", citations: [3] };
  assert.deepEqual([written, quoted, { ...written, section }].map(sourceToOpen), [null, 2, 3]);
});

test("a stored answer says how it ended", () => {
  const phases = (["done", "failed", "cancelled", "disconnected"] as const).map(
    (outcome) => storedTurn({ ...STORED, record: { ...STORED.record, outcome } }).phase,
  );
  assert.deepEqual(phases, ["finished", "failed", "stopped", "interrupted"]);
});

test("a stored answer whose writer was gone is incomplete, not failed", () => {
  const record = { ...STORED.record, outcome: "failed" as const, error_code: "interrupted" };
  const turn = storedTurn({ ...STORED, record });
  assert.deepEqual([turn.phase, turn.problem], ["interrupted", null]);
});

test("a stored answer without evidence says what was missing", () => {
  const record = {
    ...STORED.record,
    finish_reason: "no_evidence" as const,
    gate: { missing_terms: ["zebra", "migration"] },
  };
  assert.equal(storedTurn({ ...STORED, record }).reason, "zebra, migration");
});

test("a stored thanks has nothing to answer", () => {
  const record = { ...STORED.record, finish_reason: "no_evidence" as const, reading: { asks: false } };
  assert.equal(silentTitle(storedTurn({ ...STORED, record })), "Nothing to answer");
});

const STORED: StoredAnswer = {
  record: {
    answer_id: "a",
    question: "Why?",
    outcome: "done",
    finish_reason: "stop",
    error_code: null,
    text: "Yes.",
    sentences: [],
    gate: null,
    asked_at: "2026-11-20T08:00:00Z",
    finished_at: "2026-11-20T08:00:02Z",
  },
  sources: [],
  verdicts: [],
  sent: [],
};

test("a preview gives way to the sources, and later emergencies join those that are shown", () => {
  const flags = ["a", "b"].map((name) => ({ name, text: name, call: "911" }));
  const section = { document_id: "d", title: "D", effective_date: null, text: "Wait.", citations: [] };
  const [started, preview, sources] = [
    { event: "started", data: { answer_id: "a", conversation_id: "c", red_flags: flags.slice(0, 1) } },
    { event: "preview", data: { section } },
    { event: "sources", data: { sources: [] } },
  ] as const;
  const early = afterEvent(afterEvent(newTurn("key", "Why?"), started), preview);
  assert.equal(early.preview, section);
  const turn = afterEvent(early, sources);
  assert.equal(turn.preview, null);
  assert.deepEqual(afterEvent(turn, { event: "red_flags", data: { red_flags: flags } }).redFlags, flags);
});

test("a check after the end marks sentences, and takes the mark of one that named no source", () => {
  const text = "Wait. Ask.";
  const place = { citations: [], support: "unsupported", detail: "check", reasons: ["no_citation"] } as const;
  const written: AnswerEvent[] = [
    ...EVENTS.slice(0, 2),
    { event: "token", data: { text } },
    { event: "sentence", data: { index: 0, start: 0, end: 5, ...place } },
    { event: "sentence", data: { index: 1, start: 6, end: 10, citations: [1], support: "supported" } },
    { event: "done", data: { finish_reason: "stop", citations: [1], check_follows: true } },
  ];
  const ended = written.reduce(afterEvent, newTurn("key", "Why?"));
  assert.deepEqual([ended.phase, ended.checkedBy], ["finished", "follows"]);
  const verdicts = [{ index: 0, verdict: "held" }, { index: 1, verdict: "opposite", words: "Ask" }] as const;
  const checked = afterEvent(ended, { event: "checked", data: { by: "m", sentences: verdicts } });
  assert.deepEqual(checked.sentences.map(({ support }) => support), ["supported", "unsupported"]);
  assert.deepEqual(checked.checkedBy, { by: "m" });
  assert.equal(afterEvent(ended, { event: "checked", data: { by: "m", sentences: [] } }).checkedBy, null);
  assert.equal(afterProblem(ended, lostAnswer()), ended);
});
