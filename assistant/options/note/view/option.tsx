/** What notes bring to the console: the note of the open conversation, to read and copy. */
import type { Option } from "@console/options.ts";
import "./note.css";
import { NoteKey } from "./note_key.tsx";

export const OPTION: Option = ({ api }) => ({ aboveComposer: () => <NoteKey api={api} /> });
