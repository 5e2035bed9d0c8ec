import assert from "node:assert/strict";
import { test } from "node:test";
import { renderToString } from "preact-render-to-string";
import type { Api } from "../src/api.ts";
import { Conversation } from "../src/conversation.ts";
import type { Earlier } from "../src/earlier.ts";
import type { Host } from "../src/options.ts";
import { type Turn, afterEvent, newTurn, storedTurn } from "../src/turn.ts";
import { WorkspaceState, WorkspaceContext } from "../src/views/workspace_state.ts";
import { ReplyActions } from "../src/views/reply.tsx";
import { TurnView } from "../src/views/turn_view.tsx";
import type { Act, AnswerEvent, Done, SentenceEnded, Source, Sources, Started, StoredAnswer } from "../src/wire.ts";

const TEXT = "Wait a day. Ask for the dose.";
const SOURCE: Source = {
  ...{ n: 1, document_id: "refill", title: "Refill too soon", url: null, source: "Claims", snippet: "x" },
  ...{ span: [0, 9], content_hash: "h" },
};
const SECTION = { document_id: "refill", title: "Refill too soon", effective_date: null, text: "1. Wait.", citations: [1] };
const OFFERED = { question: "When again?", text: "From **day 23** <b>on</b>.", n: 1 };
const OVERDOSE = { name: "Possible overdose", text: "Stay on the line.", call: "Poison Control, 1-800-222-1222" };

const started = (changes: Partial<Started> = {}): AnswerEvent => ({
  event: "started",
  data: { answer_id: "a", conversation_id: "c", ...changes },
});
const sources = (changes: Partial<Sources> = {}): AnswerEvent => ({
  event: "sources",
  data: { sources: [SOURCE], ...changes },
});
const token = (text: string): AnswerEvent => ({ event: "token", data: { text } });
const done = (changes: Partial<Done> = {}): AnswerEvent => ({
  event: "done",
  data: { finish_reason: "stop", citations: [1], ...changes },
});
/** The sentence of `TEXT` that a part of it is. */
function sentence(part: string, changes: Partial<SentenceEnded> = {}): AnswerEvent {
  const start = TEXT.indexOf(part);
  const place = { index: start, start, end: start + part.length, citations: [1] };
  return { event: "sentence", data: { ...place, support: "supported", ...changes } };
}
function withheld(at: number, values: readonly string[]): AnswerEvent {
  const place = { index: at, start: at, end: at, citations: [] };
  return { event: "sentence", data: { ...place, support: "unsupported", detail: "withheld", values } };
}

function turnOf(...events: AnswerEvent[]): Turn {
  return events.reduce(afterEvent, newTurn("key", "Why?"));
}

function workspaceWith(api: Partial<Record<keyof Api, unknown>> = {}, { delivers = false, sends = true, host = null as Host | null } = {}): WorkspaceState {
  const storage = { getItem: () => null, setItem: () => undefined, removeItem: () => undefined };
  const service = api as unknown as Api;
  const conversation = new Conversation({
    ...{ api: service, author: "i t amira" },
    storage: storage as unknown as Storage,
  });
  const guard = sends ? "seen" : undefined;
  return new WorkspaceState({ api: service, conversation, earlier: {} as Earlier, delivers, guard, host });
}

/** The page of a turn. */
function page(turn: Turn, workspace = workspaceWith()): string {
  return renderToString(
    <WorkspaceContext.Provider value={workspace}>
      <TurnView turn={turn} />
    </WorkspaceContext.Provider>,
  );
}

const words = (html: string) => html.replace(/<[^>]*>/g, "").replace(/\s+/g, " ");

test("an emergency stands above whatever answer comes, with whom to call", () => {
  const began = turnOf(started({ red_flags: [OVERDOSE] }));
  const silent = [sources(), done({ finish_reason: "no_evidence" })].reduce(afterEvent, began);
  for (const html of [page(began), page(silent)]) {
    assert.match(html, /role="alert"/);
    assert.match(html, /<a href="tel:18002221222">1-800-222-1222<\/a>/);
    assert.equal(html.indexOf("Stay on the line.") < html.indexOf("For you"), true);
  }
  assert.match(words(page(silent)), /Not in the knowledge base/);
});

const UNCHECKED = /written in Spanish\. Emergencies are not checked in Spanish here/;

test("a message in a language without red flags has a notice in their place, also reopened", () => {
  const began = turnOf(started({ unchecked_language: "es" }));
  assert.match(page(began), /role="alert"/);
  assert.match(words(page(began)), UNCHECKED);
  assert.doesNotMatch(words(page(turnOf(started()))), UNCHECKED);
  const record = { outcome: "done", sentences: [], text: "", gate: null, unchecked_language: "es" };
  const stored = { record, sources: [], verdicts: [], sent: [] } as unknown as StoredAnswer;
  assert.match(words(page(storedTurn(stored))), UNCHECKED);
});

test("the notice goes when a model has read the message, or the agent, who is not asked again", () => {
  const began = turnOf(started({ unchecked_language: "es" }));
  const read = afterEvent(began, { event: "red_flags", data: { red_flags: [] } });
  assert.doesNotMatch(words(page(read)), UNCHECKED);
  const { conversation } = workspaceWith();
  conversation.turns.value = [began];
  conversation.readForEmergency(began);
  const [turn] = conversation.turns.value;
  assert.doesNotMatch(words(page(afterEvent(turn!, started({ unchecked_language: "es" })))), UNCHECKED);
});

test("a reopened answer keeps the names of its emergencies", () => {
  const record = { outcome: "done", sentences: [], text: "", gate: null, red_flags: ["Possible overdose"] };
  const stored = { record, sources: [], verdicts: [], sent: [] } as unknown as StoredAnswer;
  assert.match(words(page(storedTurn(stored))), /Possible overdose.*Ask again to see what to do/);
});

test("an approved answer to a near question comes first, as safe Markdown", () => {
  const html = page(turnOf(started(), sources({ offered: OFFERED }), token("Yes.")));
  assert.match(words(html), /Approved answer to: When again\?From day 23 &lt;b>on&lt;\/b>\..*For you/);
  assert.match(html, /<strong>day 23<\/strong>/);
});

test("an offered answer goes into the reply as plain text, after what is written there, and is reported", async () => {
  const acts: Act[] = [];
  const workspace = workspaceWith({ report: async (_: string, act: Act) => void acts.push(act) });
  const turn = turnOf(started(), sources({ offered: OFFERED }), done());
  workspace.conversation.setReply("a", "Dear patient,");
  workspace.conversation.takeOffered(turn);
  workspace.conversation.takeOffered(turn);
  assert.equal(workspace.conversation.replies.value["a"], "Dear patient,\n\nFrom day 23 <b>on</b>.");
  assert.deepEqual(acts, [{ kind: "offered_used", act_id: "a-offered_used" }]);
});

test("where no replies are sent there is no button for one, and the lines can be copied", () => {
  const turn = turnOf(started(), sources({ offered: OFFERED }), token(TEXT), sentence("Wait a day."), done());
  const drawn = (sends: boolean) => {
    const workspace = workspaceWith({}, { sends });
    const dock = (
      <WorkspaceContext.Provider value={workspace}>
        <ReplyActions turn={turn} />
      </WorkspaceContext.Provider>
    );
    return words(page(turn, workspace) + renderToString(dock));
  };
  for (const button of [/Put into the reply/, /Write a reply/]) {
    assert.match(drawn(true), button);
    assert.doesNotMatch(drawn(false), button);
  }
  assert.match(drawn(false), /Copy these lines/);
});

test("an offered answer can be edited before the model has ended, and not sent", () => {
  const workspace = workspaceWith({ report: async () => undefined });
  const turn = turnOf(started(), sources({ offered: OFFERED }));
  workspace.conversation.takeOffered(turn);
  assert.match(page(turn, workspace), /<textarea id="reply"[^]*<button type="button" class="button primary" disabled>/);
});

test("the document's section is open until the first word, and one line below the answer from then on", () => {
  const waiting = turnOf(started(), sources({ section: SECTION }));
  assert.match(page(waiting), /<details class="folded section" open>/);
  assert.match(words(page(waiting)), /From the document: Refill too soon/);
  const writing = page(afterEvent(waiting, token("Wait a day.")));
  assert.match(writing, /<details class="folded section">/);
  assert.equal(writing.indexOf("Wait a day.") < writing.indexOf("From the document"), true);
});

test("a sentence to check says so beside its source", () => {
  const check = { support: "unsupported", detail: "check", reasons: ["value_not_cited"] } as const;
  const html = page(turnOf(started(), sources(), token(TEXT), sentence("Ask for the dose.", check), done()));
  assert.match(html, /class="sentence unsupported"[^]*Check with the source: it lacks one of these values[^]*aria-label="Source 1/);
  assert.match(words(html), /1 sentence to check before use/);
});

test("a notice stands in the place of a withheld sentence, and the answer says how many there are", () => {
  const events = [sentence("Wait a day."), withheld(12, ["17 mg", "EX-99"]), sentence("Ask for the dose."), done()];
  const html = words(page(turnOf(started(), sources(), token(TEXT), withheld(0, []), ...events)));
  assert.match(html, /it states something, which no source of this answer holds\.Wait a day\./);
  const notice = "A sentence was withheld: it states “17 mg”, “EX-99”, which no source of this answer holds.";
  assert.match(html, new RegExp(`Wait a day\\.1${notice}.*Ask for the dose\\.`));
  assert.match(html, /2 sentences withheld/);
  assert.doesNotMatch(html, /to check before use/);
});

test("an answer of which every sentence was withheld shows the notices", () => {
  const html = words(page(turnOf(started(), sources(), withheld(0, ["17 mg"]), done())));
  assert.match(html, /No sentence of this answer is supported.*it states “17 mg”/);
});

test("the lines that matter are marked, for those who do not see it too", () => {
  const key = sentence("Ask for the dose.", { is_key: true });
  const html = page(turnOf(started(), sources(), token(TEXT), sentence("Wait a day."), key, done({ mode: "quoted" })));
  assert.match(html, /<mark class="sentence-text">Ask for the dose\.<\/mark><span class="visually-hidden"> \(this line/);
  assert.equal(html.split("<mark").length, 2);
});

test("an answer made without some of its steps says which", () => {
  const html = page(turnOf(started(), sources(), token("Yes."), done({ degraded: ["second_search", "reranking"] })));
  assert.match(words(html), /asked again, the answer may be better.*made without second search, reranking\..*Yes\./);
});

test("an answer of a source that loads for the first time says so, above the text", () => {
  const loading = [{ reason: "first_load" as const, source: "handbook", live: 29, expected: 244 }];
  const html = page(turnOf(started(), sources(), token("Yes."), done({ certainty: "possibly", loading })));
  assert.match(words(html), /Loading: 29 of 244 documents of handbook\.The answer may change\..*Yes\./);
});

test("a recorded answer says that it is not live", () => {
  const html = page(turnOf(started({ recorded_model: "a model, 20 Nov 2026" }), sources()));
  assert.match(words(html), /Recorded answer, not live/);
});

test("quotes of other documents are folded to one line", () => {
  const html = page(turnOf(started(), sources(), token("Yes."), done({ also: [SECTION] })));
  assert.match(html, /<details class="folded also"><summary[^>]*>Also possible: Refill too soon/);
});

test("a source opens by itself once, in a wide window, without a report or the focus", () => {
  const acts: Act[] = [];
  const turn = turnOf(started(), sources({ section: SECTION }));
  const opened = [true, false].map((matches) => {
    const workspace = workspaceWith({ report: async (_: string, act: Act) => void acts.push(act) });
    workspace.conversation.turns.value = [turn];
    Object.assign(globalThis, { matchMedia: () => ({ matches }), document: { querySelector: () => null } });
    workspace.openBeside(turn);
    const open = workspace.open.value;
    workspace.close();
    workspace.openBeside(turn);
    assert.equal(workspace.open.value, null);
    return open;
  });
  assert.deepEqual(opened, [{ turnKey: "key", n: 1, opener: null, sentences: null }, null]);
  assert.deepEqual(acts, []);
});

test("a reply is sent where it is delivered, and else recorded only", () => {
  const turn = { ...turnOf(started(), sources(), token(TEXT), done()), isRecorded: true };
  for (const [delivers, label, hint] of [
    [true, "Send", "until you send or discard it"],
    [false, "Record as sent", "Recording delivers nothing"],
  ] as const) {
    const workspace = workspaceWith({}, { delivers });
    workspace.conversation.setReply(turn.answerId ?? "", "Dear patient");
    const html = words(page(turn, workspace));
    assert.match(html, new RegExp(`${label}(?! as)`));
    assert.match(html, new RegExp(hint));
  }
});

/** A quoted answer of these lines, each as it stands after `glue`; `far`: which of them may be folded. */
function quoted(lines: readonly string[], { glue = "\n", far = [] }: { glue?: string; far?: readonly number[] } = {}): Turn {
  let at = 0;
  const events = lines.flatMap((line, index): AnswerEvent[] => {
    const before = index === 0 ? "" : glue;
    const start = at + before.length;
    at = start + line.length;
    const place = { index, start, end: at, citations: [1], support: "supported" as const };
    const quote = far.includes(index) ? ("folded" as const) : ("shown" as const);
    return [token(before + line), { event: "sentence", data: { ...place, quote } }];
  });
  return turnOf(started(), sources(), ...events, done({ mode: "quoted" }));
}

test("every character of a quote is shown, and none of it is Markdown", () => {
  const line = "Type *1_2_3* & `x` <b>now</b> at https://a.example/b_c, [see](https://a.example) ![i](j) ~~5~~ # 3 \\\\ | end";
  const html = page(quoted([line]));
  assert.match(words(html.replaceAll("&lt;", "‹").replaceAll("&amp;", "&")), /Type \*1_2_3\* & `x` ‹b>now‹\/b> at https:\/\/a\.example\/b_c, \[see\]/);
  assert.doesNotMatch(html, /<(?:em|strong|code|b|img|del)\b|href/);
});

test("steps of a quote keep their numbers, and far ones are folded", () => {
  const steps = Array.from({ length: 8 }, (_, n) => `${n + 1}. Turn ${n + 1}.`);
  const html = page(quoted(steps, { far: [1, 2, 3, 6] }));
  assert.match(html, /<details class="fold"><summary>3 more lines<\/summary>/);
  assert.equal(html.match(/class="fold"/g)?.length, 1); // a single line is not worth it
  assert.match(html, /<li value="5">/);
  const [open = "", inside = ""] = html.split("<summary>");
  assert.match(open, /Turn 1/);
  assert.match(inside, /Turn 2[^]*<\/details>[^]*Turn 5/);
});

test("sentences of a paragraph are folded between those that are shown", () => {
  const html = page(quoted(["One.", "Two.", "Three.", "Four."], { glue: " ", far: [1, 2] }));
  assert.match(html, /One\.[^]*<details class="fold"><summary>2 more lines<\/summary>[^]*Two\.[^]*Three\.[^]*<\/details>[^]*Four\./);
});

test("a reply opens by itself once, where a model writes one for the customer of a helpdesk", () => {
  const besideChat = () => workspaceWith({}, { host: {} as Host });
  const workspace = besideChat();
  const written = turnOf(started(), sources(), token("Yes."), done({ mode: "written" }));
  assert.deepEqual([workspace.opensReply(written, true), workspace.opensReply(written, true)], [true, false]);
  assert.equal(workspaceWith().opensReply(written, true), false);
  assert.equal(besideChat().opensReply({ ...written, key: "a" }, true), false);
});

test("the badge says what checked a written text, and a doubted sentence what is wrong", () => {
  const begun = [started(), sources(), token(TEXT), sentence("Wait a day."), sentence("Ask for the dose.")];
  const plain = page(turnOf(...begun, done({ mode: "written" })));
  assert.match(words(plain), /Written by the model · not checked/);
  const ended = turnOf(...begun, done({ mode: "written", check_follows: true }));
  assert.match(words(page(ended)), /Written by the model · being checked/);
  const [first, second] = ended.sentences.map(({ index }) => index);
  const check = (verdict: "held" | "opposite") =>
    page(
      afterEvent(ended, {
        event: "checked",
        data: {
          by: "qwen",
          sentences: [
            { index: first ?? 0, verdict, words: verdict === "held" ? "" : "a day", cited: { n: 1, start: 0, end: 9 } },
            { index: second ?? 0, verdict: "held" },
          ],
        },
      }),
    );
  assert.match(words(check("held")), /· each sentence checked by qwen against the documents(?!:)/);
  const doubted = check("opposite");
  assert.match(words(doubted), /against the documents: 1 to look at/);
  assert.match(doubted, /<u>a day<\/u>/);
  assert.match(words(doubted), /A line says otherwise/);
});

test("headings between folded lines lie in the same fold", () => {
  const html = page(quoted(["One.", "Two.", "Three."], { glue: "\n\n**Steps**\n\n", far: [1, 2] }));
  assert.equal(html.match(/class="fold"/g)?.length, 1);
  assert.match(html, /One\.[^]*<summary>2 more lines<\/summary>[^]*Steps[^]*Two\.[^]*Steps[^]*Three\./);
});
