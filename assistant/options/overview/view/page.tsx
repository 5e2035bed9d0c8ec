import { useEffect, useRef, useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import type { Api } from "@console/api.ts";
import { clockTime, count } from "@console/text.ts";
import { saveFile } from "@console/saving.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import type { Series } from "./bars.ts";
import { HOW, MARKS, NAMES, type Name, OF_A_ROW, REPLIED, USED, dayBefore, half, seriesOf, share } from "./numbers.ts";
import type { Counts, CountedDocument, Overview, Row, Table } from "./wire.ts";

const PERIODS = [7, 30, 90];
const MIDNIGHT = `${dayBefore(0)}T00:00:00Z`;
const OF_A_DAY = ["questions", ...HOW, "thanks", "gaps", "teachable"] as const;
const TIMES = REPLIED.map((name) => NAMES[name]);

/** The page of managers and auditors: numbers, no words of agents or patients. */
export function OverviewPage({ api }: { api: Api }) {
  const [days, setDays] = useState(30);
  return (
    <main id="main" tabIndex={-1} class="overview">
      <div class="overview-head">
        <h2 class="title">Overview</h2>
        <nav aria-label="Period">
          <ul class="views">
            {PERIODS.map((each) => (
              <li key={each}>
                <button type="button" class="view" aria-current={each === days ? "true" : undefined} onClick={() => setDays(each)}>
                  {each} days
                </button>
              </li>
            ))}
          </ul>
        </nav>
      </div>
      <Period key={days} api={api} days={days} />
    </main>
  );
}

/** One period. Each has a component of its own: numbers that come late are not shown under another. */
function Period({ api, days }: { api: Api; days: number }) {
  const [shown, setShown] = useState<Overview | null>(null);
  const { failure, run } = useCall("The numbers could not be read");
  const isGone = useRef(false);
  useEffect(() => {
    void run(async () => {
      const asked = new URLSearchParams({ from: dayBefore(days - 1), to: dayBefore(0) });
      setShown(await api.read<Overview>(`/v1/overview?${asked}`));
      if (!isGone.current) announce("Numbers shown");
    });
    return () => void (isGone.current = true);
  }, []);
  if (failure !== null) return <Failure>{failure}</Failure>;
  if (shown === null) return <p class="hint">Reading…</p>;
  return <Numbers overview={shown} file={(table) => api.file(fileOf(shown, table), "text/csv")} />;
}

function fileOf({ first, last }: Overview, table: Table): string {
  return `/v1/overview?${new URLSearchParams({ from: first, to: last, table })}`;
}

type ReadFile = (table: Table) => Promise<Blob>;

function Numbers({ overview, file }: { overview: Overview; file: ReadFile }) {
  const { total, days } = overview;
  const labels = days.map(({ day }) => day.slice(5));
  const rows = days.map((day) => ({ ...day, name: day.day }));
  const replies = [{ ...total, name: "Replies within" }];
  return (
    <>
      <Remarks overview={overview} />
      <Headline total={total} />
      {clockTime(MIDNIGHT) !== "00:00" && <p class="hint">Days are UTC’s: each begins at {clockTime(MIDNIGHT)} here.</p>}
      <div class="plots">
        <Plot title="Questions a day, by how they were answered" labels={labels} series={seriesOf(HOW, days)} rows={rows} columns={OF_A_DAY} />
        <Plot title="What became of answers, by the day of the question" labels={labels} series={seriesOf(USED, days)} rows={rows} columns={USED} />
        <Plot title="Time from the question to the reply" labels={TIMES} series={timesOf(total)} rows={replies} columns={REPLIED} />
        <Plot title="Marks, by the day of the question" labels={labels} series={seriesOf(MARKS, days)} rows={rows} columns={MARKS} />
      </div>
      <Save table="days" words="days" file={file} />
      <Part title="Sources that answers quote" table="sources" rows={overview.sources} file={file} />
      <Part title="Desks that answers name to ask" table="desks" rows={overview.desks} file={file} />
      <Part title="Groups of agents, by their labels" table="groups" rows={overview.groups} file={file} />
      <Documents overview={overview} file={file} />
    </>
  );
}

function timesOf(total: Counts): Series[] {
  return [{ name: "Replies", colour: "--plot-1", values: REPLIED.map((name) => total[name]) }];
}

/** What is left out of the numbers. */
function Remarks({ overview: { smallest_group, small_days, uncounted_days } }: { overview: Overview }) {
  return (
    <>
      {uncounted_days > 0 && <p class="notice plain">{count(uncounted_days, "day")} of the period not counted yet: look again later.</p>}
      {small_days > 0 && (
        <p class="notice plain">
          On {count(small_days, "day")} fewer than {smallest_group} agents asked: what they sent and marked is left out.
        </p>
      )}
    </>
  );
}

function Headline({ total }: { total: Counts }) {
  const answered = total.approved + total.written + total.quoted;
  const used = USED.reduce((sum, name) => sum + total[name], 0);
  const facts: readonly (readonly [string, string | number])[] = [
    ["Questions", total.questions],
    ["With an answer", share(answered, total.questions)],
    ["Not found", share(total.not_found, total.questions)],
    ["Gaps", total.gaps],
    ["Sent as it is", share(total.sent_as_is, used)],
    ["Edited", share(total.sent_edited, used)],
    ["Half of the replies", half(total)],
    ["Good / bad", `${total.marked_good} / ${total.marked_bad}`],
  ];
  return (
    <dl class="headline">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

interface PlotProps extends CountedProps {
  readonly labels: readonly string[];
  readonly series: readonly Series[];
}

/** Bars, and below them their numbers as a table. */
function Plot({ labels, series, ...counted }: PlotProps) {
  const { title } = counted;
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    let [clear, isGone] = [() => {}, false];
    const draw = async () => {
      const { drawBars } = await import("./bars.ts");
      if (isGone || place.current === null) return;
      clear();
      clear = drawBars(place.current, labels, series);
    };
    const redraw = () => void draw();
    dark.addEventListener("change", redraw);
    redraw();
    return () => {
      isGone = true;
      dark.removeEventListener("change", redraw);
      clear();
    };
  }, [labels.join(), JSON.stringify(series)]);
  return (
    <figure class="plot">
      <figcaption>
        <h3>{title}</h3>
        <ul class="plot-names">
          {series.map(({ name, colour }) => (
            <li key={name}>
              <span class={`swatch ${colour.slice(2)}`} /> {name}
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={place} class="bars" role="img" aria-label={`${title}: the table below has the numbers`} />
      <details>
        <summary>Table</summary>
        <Counted {...counted} />
      </details>
    </figure>
  );
}

interface CountedProps {
  readonly title: string;
  readonly rows: readonly Row[];
  readonly columns: readonly Name[];
}

function Counted({ title, rows, columns }: CountedProps) {
  return (
    <div class="numbers" role="region" tabIndex={0} aria-label={`Table: ${title}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            {columns.map((column) => (
              <th key={column} scope="col">
                {NAMES[column]}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">{row.name}</th>
              {columns.map((column) => (
                <td key={column}>{row[column]}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Save({ table, words, file }: { table: Table; words: string; file: ReadFile }) {
  const { isBusy, failure, run } = useCall("Not saved");
  const save = () => run(async () => saveFile(await file(table), `${table}.csv`));
  return (
    <p class="save">
      <button type="button" class="button small" disabled={isBusy} onClick={() => void save()}>
        <Icon name="out" /> CSV<span class="visually-hidden"> of {words}</span>
      </button>
      {failure !== null && <Failure>{failure}</Failure>}
    </p>
  );
}

function Part({ title, table, rows, file }: { title: string; table: Table; rows: readonly Row[]; file: ReadFile }) {
  if (rows.length === 0) return null;
  return (
    <section class="part">
      <h3>{title}</h3>
      <Counted title={title} rows={rows} columns={OF_A_ROW} />
      <Save table={table} words={title} file={file} />
    </section>
  );
}

function Documents({ overview: { documents, others }, file }: { overview: Overview; file: ReadFile }) {
  if (documents.length + others === 0) return null;
  // who may work at the desk has its page in the head, where it is installed
  const hasDesk = document.querySelector('nav a[href="#/review"]') !== null;
  return (
    <section class="part">
      <h3>Documents, the greatest damage first</h3>
      <p class="hint">Damage: answers that rest on a document × its years × edited replies.{others > 0 && ` ${count(others, "other document")} not named here.`}</p>
      <div class="numbers" role="region" tabIndex={0} aria-label="Table: documents">
        <table>
          <thead>
            <tr>
              {["Document", "Answers", "Edited", "Bad", "Age, days", "Damage", "Review", "Teach it"].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {documents.map((one) => (
              <DocumentRow key={one.document_id} document={one} hasDesk={hasDesk} />
            ))}
          </tbody>
        </table>
      </div>
      <Save table="documents" words="documents" file={file} />
    </section>
  );
}

function DocumentRow({ document: one, hasDesk }: { document: CountedDocument; hasDesk: boolean }) {
  return (
    <tr>
      <th scope="row">{one.title}</th>
      <td>{one.answers}</td>
      <td>{one.edited}</td>
      <td>{one.marked_bad}</td>
      <td>{one.age_days}</td>
      <td>{one.damage}</td>
      <td>{one.review_after === null ? "–" : `${one.review_after}${one.is_due ? " (due)" : ""}`}</td>
      <td>{one.teachable > 0 && hasDesk ? <a href="#/review">{one.teachable}<span class="visually-hidden"> unanswered: teach {one.title}</span></a> : one.teachable}</td>
    </tr>
  );
}
