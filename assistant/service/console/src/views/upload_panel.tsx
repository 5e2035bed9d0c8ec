import { useRef, useState } from "preact/hooks";
import type { Api } from "../api.ts";
import { count } from "../text.ts";
import { MOST_FILES, type Picked, type UploadRow, type Uploads, chosenFiles, droppedFiles, placed, readable } from "../uploads.ts";
import type { NotePlace, UploadResult, WritableSource, WritableSources } from "../wire.ts";
import { Failure } from "./failure.tsx";
import { Icon } from "./icons.tsx";
import { TextDialog } from "./text_dialog.tsx";

const MOST_SHOWN = 100;

interface UploadPanelProps {
  readonly api: Api;
  readonly uploads: Uploads;
  readonly writable: WritableSources;
}

/** Takes files and folders, dropped or chosen, and says what became of each. */
export function UploadPanel({ api, uploads, writable: { sources, kinds } }: UploadPanelProps) {
  const [{ chosen, folder }, choose] = useState<{ chosen: string | null; folder: string | null }>({ chosen: null, folder: null });
  const [isOver, setOver] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const [opened, setOpened] = useState<NotePlace | null>(null);
  const source = sources.find(({ name }) => name === chosen) ?? sources[0];
  if (source === undefined) return null;
  const into = source.access === "folder" ? folder : "";
  const take = (picked: readonly Picked[]) => {
    const tooMany = picked.length > MOST_FILES ? `At most ${MOST_FILES} files at once. Larger folders: assistant knowledge add.` : null;
    setProblem(into === null ? "Choose the folder first: it decides who can read the files." : tooMany);
    if (into === null || tooMany !== null) return;
    const [read, others] = readable(placed(picked, into), kinds);
    uploads.leftOut.value = others;
    uploads.add(read, source.name);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer !== null)
      droppedFiles(event.dataTransfer.items).then(take, () => setProblem("The folder could not be read. Try again."));
  };
  return (
    <section class="uploads" aria-labelledby="uploads-title">
      <div
        class={`drop-zone${isOver ? " over" : ""}`}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <h3 id="uploads-title">Add documents</h3>
        <p>Drop files or a folder here, or choose them:</p>
        <p class="drop-actions">
          {sources.length > 1 && (
            <label>
              into{" "}
              <select value={source.name} onChange={(event) => choose({ chosen: event.currentTarget.value, folder: null })}>
                {sources.map(({ name }) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
          )}
          {source.access === "folder" && (
            <label>
              below{" "}
              <select value={folder ?? "?"} onChange={(event) => choose({ chosen, folder: event.currentTarget.value })}>
                <option value="?" disabled>choose a folder of {source.name}</option>
                {source.folders.map((path) => (
                  <option key={path} value={path}>{path || `the top of ${source.name}`}</option>
                ))}
              </select>
            </label>
          )}
          <FileButton name="Choose files" isDisabled={into === null} onPick={take} />
          <FileButton name="Choose a folder" isFolder isDisabled={into === null} onPick={take} />
        </p>
        <p class="hint">
          PDF, Word, PowerPoint, Excel, CSV, e-mail, text, Markdown, HTML, JSON lines. A document answers once it is live. {ACCESS[source.access]}
        </p>
      </div>
      {problem !== null && <Failure>{problem}</Failure>}
      <UploadList uploads={uploads} onOpen={setOpened} />
      {opened !== null && <TextDialog api={api} place={opened} onClose={() => setOpened(null)} />}
    </section>
  );
}

const ACCESS: Readonly<Record<WritableSource["access"], string>> = {
  everyone: "Every agent can read what you add here, unless a document narrows it.",
  folder: "The folder that you choose decides who can read them. You see those that you may read.",
  declared: "Each document must say who can read it. You see those that you may read.",
};

interface FileButtonProps {
  readonly name: string;
  readonly isFolder?: boolean;
  readonly isSmall?: boolean;
  readonly isMany?: boolean;
  readonly isDisabled?: boolean;
  readonly about?: string;
  readonly onPick: (picked: readonly Picked[]) => void;
}

/** A button that opens the browser's own choice of files. */
export function FileButton({ name, isFolder = false, isSmall = false, isMany = true, isDisabled = false, about, onPick }: FileButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        hidden
        multiple={isMany}
        aria-label={name}
        {...(isFolder ? { webkitdirectory: true } : {})}
        onChange={(event) => {
          onPick(chosenFiles(event.currentTarget.files ?? new FileList()));
          event.currentTarget.value = "";
        }}
      />
      <button type="button" class={isSmall ? "button small" : "button"} disabled={isDisabled} onClick={() => input.current?.click()}>
        {name}
        {about !== undefined && <span class="visually-hidden"> {about}</span>}
      </button>
    </>
  );
}

/** Counts of all files, and those of which there is something to say: a line for each of 500 stops the page. */
function UploadList({ uploads, onOpen }: { uploads: Uploads; onOpen: (place: NotePlace) => void }) {
  const rows = uploads.rows.value;
  const leftOut = uploads.leftOut.value;
  if (rows.length === 0 && leftOut === "") return null;
  const refused = rows.filter(({ phase }) => phase === "refused");
  const done = rows.filter(({ phase }) => phase === "done");
  const open = rows.length - refused.length - done.length;
  const waiting = done.reduce((sum, { result }) => sum + (result?.waiting ?? 0), 0);
  const told = [...refused, ...done.filter(({ result }) => result !== null && hasNotes(result))];
  const shares = rows.reduce((sum, { share, phase }) => sum + (phase === "refused" ? 1 : share), 0);
  return (
    <div class="upload-list">
      <p class="upload-counts" role="status">
        {open > 0 ? `${count(open, "file")} on the way, ` : ""}
        {done.length} read, {refused.length} refused
      </p>
      {open > 0 && <progress max={rows.length} value={shares} aria-label="Share that is sent" />}
      {leftOut !== "" && <p class="hint left-out">Left out (hidden, or of a kind that is not read): {leftOut}.</p>}
      {waiting > 0 && (
        <p class="notice warn">{count(waiting, "document waits", "documents wait")} until another person releases them.</p>
      )}
      <ul tabIndex={0} aria-label="Files with something to say">
        {told.slice(0, MOST_SHOWN).map((row) => (
          <UploadLine key={row.id} row={row} onOpen={onOpen} />
        ))}
      </ul>
      {told.length > MOST_SHOWN && <p class="hint">and {count(told.length - MOST_SHOWN, "more file")}</p>}
      {refused.length > 0 && (
        <button type="button" class="button small" onClick={() => uploads.resend(refused)}>
          Send {refused.length === 1 ? "it" : "them"} again
        </button>
      )}
      {open === 0 && (
        <button type="button" class="button small" onClick={() => uploads.clear()}>
          Close this list
        </button>
      )}
    </div>
  );
}

function hasNotes({ notes, refused }: UploadResult): boolean {
  return notes.length > 0 || refused > 0;
}

function UploadLine({ row: { path, phase, result, reason }, onOpen }: { row: UploadRow; onOpen: (place: NotePlace) => void }) {
  return (
    <li class={phase}>
      <Icon name={phase === "done" ? "check" : "alert"} />
      <span class="upload-path">{path}</span>
      <span class="upload-phase">{phase === "done" ? "read" : "refused"}</span>
      {reason !== null && <span class="failure">{reason.replace(`${path}: `, "")}</span>}
      {result !== null && result.refused > 1 && <span class="failure">and {result.refused - 1} more refusals</span>}
      {result !== null &&
        result.notes.map((note, index) => {
          const place = result.note_places?.[index];
          return (
            <span class="hint" key={note}>
              {note}{" "}
              {place !== undefined && (
                <button type="button" class="link" onClick={() => onOpen(place)}>
                  Show<span class="visually-hidden"> the place: {note}</span>
                </button>
              )}
            </span>
          );
        })}
    </li>
  );
}
