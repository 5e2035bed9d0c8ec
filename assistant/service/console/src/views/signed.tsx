import { effect, untracked, useSignal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { Api } from "../api.ts";
import type { Config } from "../config.ts";
import { Conversation } from "../conversation.ts";
import { Earlier } from "../earlier.ts";
import { type Session, leaveForSignIn, signOutAddress } from "../oidc.ts";
import type { Host, Option, Page, QuestionContext } from "../options.ts";
import { Uploads } from "../uploads.ts";
import { summary } from "./composer.tsx";
import { Head } from "./head.tsx";
import { Icon } from "./icons.tsx";
import { Knowledge } from "./knowledge.tsx";
import { ANSWER_KEYS, KEYS_WITHOUT_REPLIES, Shortcuts } from "./shortcuts.tsx";
import { type Opening, OpeningContext } from "./welcome.tsx";
import { Workspace } from "./workspace.tsx";

interface SignedProps {
  readonly config: Config;
  readonly session: Session;
  readonly options: readonly Option[];
  readonly host?: Host | null;
}

/** The console of a signed-in agent. */
export function Signed({ config, session, options, host = null }: SignedProps) {
  const { api, conversation, earlier, joined, isSignedOut } = useConversation(session, options, host);
  const uploads = useMemo(() => new Uploads(api), [api]);
  const delivers = config.delivers?.includes(session.tenant) ?? false;
  const writes = config.replies?.includes(session.tenant) ?? false;
  const checks = config.checks?.includes(session.tenant) ?? false;
  const guard = config.guards?.[session.tenant];
  const all: readonly Page[] = [
    {
      name: "answers",
      label: "Answers",
      roles: ["agent"],
      keys: guard === undefined ? KEYS_WITHOUT_REPLIES : ANSWER_KEYS,
      draw: () => <Workspace {...{ api, conversation, earlier, joined, host, delivers, writes, checks, guard }} />,
    },
    {
      name: "knowledge",
      label: "Knowledge",
      roles: ["knowledge_owner"],
      draw: () => <Knowledge api={api} agent={session.agent} uploads={uploads} />,
    },
    ...joined.flatMap(({ pages }) => pages ?? []),
  ];
  const pages = (host === null ? all : all.slice(0, 1)).filter(({ roles }) => roles.some((role) => session.roles.includes(role)));
  const page = usePage(pages, config.service);
  const [hasShortcuts, showShortcuts] = useState(false);
  const signOut = async () => {
    conversation.forget();
    for (const { forget } of joined) forget?.();
    location.replace((await signOutAddress(config, session)) ?? "/");
  };
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={focusMain}>
        Skip to the main part
      </a>
      {host === null ? (
        <Head
          config={config}
          session={session}
          pages={pages}
          page={page}
          onShortcuts={() => showShortcuts(true)}
          onSignOut={signOut}
        />
      ) : (
        <header class="visually-hidden">
          <h1>{config.service}</h1>
        </header>
      )}
      {isSignedOut.value && (host === null ? <SignedOutBanner config={config} /> : host.signIn())}
      <OpeningContext.Provider value={openingOf(config, session.tenant)}>
        {page === null ? <NoRole /> : page.draw()}
      </OpeningContext.Provider>
      {hasShortcuts && <Shortcuts page={page} onClose={() => showShortcuts(false)} />}
    </div>
  );
}

function openingOf({ examples, unwritten }: Config, tenant: string): Opening {
  return { examples: examples?.[tenant] ?? [], isUnwritten: unwritten?.includes(tenant) ?? false };
}

/** What options bring, and the agent's conversation, restored, and told when the page goes away. */
function useConversation(session: Session, options: readonly Option[], host: Host | null) {
  const isRefused = useSignal(false);
  const isSignedOut = host?.isSignedOut ?? isRefused;
  const { api, conversation, earlier, joined, context } = useMemo(() => {
    const api = new Api({ token: () => session.accessToken, onSignedOut: () => (isSignedOut.value = true) });
    const { author } = session;
    const earlier = new Earlier({ api, storage: host?.storage ?? localStorage, author });
    const onAsked = (id: string, question: string) => void earlier.note(id, question);
    const joined = options.map((open) => open({ api, session, host }));
    const context = joined.find(({ context }) => context !== undefined)?.context;
    const storage = host?.storage ?? sessionStorage;
    const conversation = new Conversation({ api, storage, author, onAsked, context: asking(context, host) });
    return { api, conversation, earlier, joined, context };
  }, [session]);
  useLayoutEffect(() => {
    const leave = () => conversation.leave();
    addEventListener("pagehide", leave);
    const ends = joined.map(({ listen }) => listen?.());
    if (host !== null) ends.push(followChat(host, conversation, context));
    void earlier.restore();
    void conversation.restore().then((turn) => turn !== null && announce(summary(turn)));
    return () => {
      removeEventListener("pagehide", leave);
      for (const end of ends) end?.();
    };
  }, [conversation]);
  return { api, conversation, earlier, joined, isSignedOut };
}

/** The context, whose next token the host is asked for once an answer has used one. */
function asking(context: QuestionContext | undefined, host: Host | null): QuestionContext | undefined {
  if (context === undefined || host === null) return context;
  const count = (token: string) => {
    context.count(token);
    host.askContext();
  };
  return { unused: () => context.unused(), take: (token) => context.take(token), forget: () => context.forget(), count };
}

/** Begin anew with each other chat of the host, and take its context. Returns what ends that. */
function followChat({ chat }: Host, conversation: Conversation, context: QuestionContext | undefined): () => void {
  let number: number | null = null;
  let taken: string | null = null;
  return effect(() => {
    const current = chat.value;
    untracked(() => {
      if (number !== null && current?.number !== number) conversation.begin();
      number = current?.number ?? null;
      const token = current?.context ?? null;
      if (token !== null && token !== taken) context?.take(token); // one that the agent left out stays out
      taken = token;
    });
  });
}

function focusMain(event: Event): void {
  event.preventDefault(); // the fragment names the page
  document.getElementById("main")?.focus();
}

/** The page that the address names, if the agent's roles allow it; else the first that they allow. */
function usePage(pages: readonly Page[], service: string): Page | null {
  const [hash, setHash] = useState(location.hash);
  const isFirst = useRef(true);
  useLayoutEffect(() => {
    const follow = () => setHash(location.hash);
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const page = pages.find(({ name }) => hash === `#/${name}`) ?? pages[0] ?? null;
  useLayoutEffect(() => {
    if (page !== null) document.title = `${page.title ?? page.label} – ${service}`;
    if (!isFirst.current) document.getElementById("main")?.focus();
    isFirst.current = false;
  }, [page?.name]);
  return page;
}

function SignedOutBanner({ config }: { config: Config }) {
  const [problem, setProblem] = useState<string | null>(null);
  const signIn = () =>
    leaveForSignIn(config, { isSilent: true }).catch((error: unknown) =>
      setProblem(error instanceof Error ? error.message : "Sign-in failed. Try again."),
    );
  return (
    <div class="notice warn banner" role="alert">
      <Icon name="alert" />
      <span>{problem ?? "Your sign-in has ended. Nothing is lost: sign in again to go on."}</span>
      <button type="button" class="button" onClick={signIn}>
        Sign in again
      </button>
    </div>
  );
}

function NoRole() {
  return (
    <main id="main" tabIndex={-1} class="gate">
      <div class="gate-card">
        <h2 class="title">Nothing to show here</h2>
        <p>Your account has no role that opens a page: agent, reviewer, knowledge owner or manager. Ask your administrator.</p>
      </div>
    </main>
  );
}
