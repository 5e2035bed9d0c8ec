/** The console as a panel: `/panel` in a frame of a listed page. At the top it ends a sign-in in a pop-up. */
import { useEffect, useState } from "preact/hooks";
import { announcement } from "@console/announcer.ts";
import { loadConfig } from "@console/config.ts";
import type { Option, Shell } from "@console/options.ts";
import { ApiError } from "@console/problems.ts";
import { Signed } from "@console/views/signed.tsx";
import { PanelHost, greeting } from "./host.ts";
import "./panel.css";
import { SignIn } from "./sign_in.tsx";

export const SHELL: Shell = {
  path: "/panel",
  draw: (options) => (parent === window ? <PopUp /> : <Panel options={options} />),
};

function Panel({ options }: { options: readonly Option[] }) {
  const [opened, setOpened] = useState<Opened>({ problem: null });
  useEffect(() => void open().then(setOpened), []);
  useEffect(() => {
    // out of the back/forward cache: another page's port, and perhaps another agent
    const renew = ({ persisted }: PageTransitionEvent) => persisted && location.reload();
    addEventListener("pageshow", renew);
    return () => removeEventListener("pageshow", renew);
  }, []);
  return (
    <div class="in-panel">
      {"host" in opened && opened.host.isClosed.value && (
        <p class="notice bad" role="alert">
          {CLOSED}
        </p>
      )}
      {"host" in opened ? <ForAgent {...opened} options={options} /> : <Waiting problem={opened.problem} />}
      <div class="visually-hidden" role="status">
        {announcement}
      </div>
    </div>
  );
}

type Opened = { readonly problem: string | null } | Pick<Parameters<typeof ForAgent>[0], "host" | "config">;

async function open(): Promise<Opened> {
  try {
    const config = await loadConfig();
    const host = new PanelHost(config, await greeting(config.hosts ?? []), (of) => <SignIn config={config} host={of} />);
    return { config, host };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { problem: error.problem.detail };
  }
}

interface ForAgentProps {
  readonly config: Awaited<ReturnType<typeof loadConfig>>;
  readonly host: PanelHost;
  readonly options: readonly Option[];
}

function ForAgent({ config, host, options }: ForAgentProps) {
  const session = host.session.value;
  if (session !== null) return <Signed config={config} session={session} options={options} host={host} />;
  return (
    <main class="gate">
      <div class="gate-card">
        <h1>{config.service}</h1>
        <SignIn config={config} host={host} />
      </div>
    </main>
  );
}

function Waiting({ problem }: { problem: string | null }) {
  return (
    <main class="gate">
      <div class="gate-card">
        <h1>Care assistant</h1>
        {problem === null ? <p>Waiting for the page that holds this panel…</p> : <p role="alert">{problem}</p>}
      </div>
    </main>
  );
}

/** Hands what the issuer answered to the panel that opened this window, and to no other page. */
function PopUp() {
  const isAnswer = new URLSearchParams(location.search).has("state");
  const panel = window.opener as Window | null;
  useEffect(() => {
    const answer = location.search;
    history.replaceState(null, "", location.pathname);
    if (!isAnswer || panel === null) return;
    panel.postMessage(answer, location.origin);
    close();
  }, []);
  return (
    <main class="gate">
      <div class="gate-card">
        <h1>Care assistant</h1>
        <p>{isAnswer ? (panel === null ? CUT_OFF : "You can close this window.") : NOT_HERE}</p>
      </div>
    </main>
  );
}

const CLOSED =
  "The panel no longer listens to the page around it, which sent too much that it does not take: this may be the chat of before. Load the page again.";
const CUT_OFF =
  "The sign-in page cut this window off from the panel (Cross-Origin-Opener-Policy). Close it, and tell your administrator: one-time codes work here.";
const NOT_HERE = "The panel belongs in a page of your helpdesk.";
