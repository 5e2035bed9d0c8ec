import { useEffect, useState } from "preact/hooks";
import { announcement } from "../announcer.ts";
import { type Entry, enter } from "../boot.ts";
import type { Option } from "../options.ts";
import { Signed } from "./signed.tsx";
import { SignIn } from "./sign_in.tsx";

export function App({ options }: { options: readonly Option[] }) {
  const [entry, setEntry] = useState<Entry | null>(null);
  useEffect(() => void enter().then(setEntry), []);
  return (
    <>
      <Opened entry={entry} options={options} />
      <div class="visually-hidden" role="status">
        {announcement}
      </div>
    </>
  );
}

function Opened({ entry, options }: { entry: Entry | null; options: readonly Option[] }) {
  if (entry?.kind === "signed_in") return <Signed config={entry.config} session={entry.session} options={options} />;
  if (entry?.kind === "signed_out") {
    return <SignIn config={entry.config} hasWork={entry.hasWork} problem={entry.problem ?? null} />;
  }
  return (
    <main class="gate">
      <div class="gate-card">
        <h1>Care assistant</h1>
        {entry?.kind === "unavailable" ? (
          <>
            <p role="alert">{entry.problem}</p>
            <button type="button" class="button primary" onClick={() => location.reload()}>
              Load again
            </button>
          </>
        ) : (
          <p>Opening…</p>
        )}
      </div>
    </main>
  );
}
