import { useSignal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { Api } from "../api.ts";
import { CareContexts } from "../care_context.ts";
import type { Config } from "../config.ts";
import { Conversation } from "../conversation.ts";
import { Earlier } from "../earlier.ts";
import { type Session, leaveForSignIn, signOutAddress } from "../oidc.ts";
import { Review } from "../review.ts";
import { ReviewDrafts } from "../review_drafts.ts";
import { Uploads } from "../uploads.ts";
import { summary } from "./composer.tsx";
import { Head, type Page } from "./head.tsx";
import { Icon } from "./icons.tsx";
import { Knowledge } from "./knowledge.tsx";
import { ReviewPage } from "./review/review.tsx";
import { Shortcuts } from "./shortcuts.tsx";
import { Workspace } from "./workspace.tsx";

/** Any of the roles opens the page. */
const PAGE_ROLES: Record<Page, readonly string[]> = {
  answers: ["agent"],
  knowledge: ["knowledge_owner"],
  review: ["reviewer", "knowledge_owner"],
};
const TITLES: Record<Page, string> = { answers: "Answers", knowledge: "Knowledge", review: "Review desk" };

/** The console of a signed-in agent. */
export function Signed({ config, session }: { config: Config; session: Session }) {
  const { api, conversation, contexts, earlier, isSignedOut } = useConversation(session);
  const review = useMemo(() => reviewOf(api, session), [api, session]);
  const uploads = useMemo(() => new Uploads(api), [api]);
  const isAllowed = (page: Page) => PAGE_ROLES[page].some((role) => session.roles.includes(role));
  const pages = (Object.keys(PAGE_ROLES) as Page[]).filter(isAllowed);
  const page = usePage(pages, config.service);
  const [hasShortcuts, showShortcuts] = useState(false);
  const signOut = async () => {
    conversation.forget();
    contexts.forget();
    ReviewDrafts.clear(sessionStorage);
    location.replace((await signOutAddress(config, session)) ?? "/");
  };
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={focusMain}>
        Skip to the main part
      </a>
      <Head
        config={config}
        session={session}
        pages={pages}
        page={page}
        onShortcuts={() => showShortcuts(true)}
        onSignOut={signOut}
      />
      {isSignedOut.value && <SignedOutBanner config={config} />}
      {page === null && <NoRole />}
      {page === "answers" && (
        <Workspace
          api={api}
          conversation={conversation}
          contexts={contexts}
          earlier={earlier}
          delivers={config.delivers?.includes(session.tenant) ?? false}
        />
      )}
      {page === "review" && <ReviewPage review={review} />}
      {page === "knowledge" && <Knowledge api={api} agent={session.agent} uploads={uploads} />}
      {hasShortcuts && <Shortcuts page={page} onClose={() => showShortcuts(false)} />}
    </div>
  );
}

function reviewOf(api: Api, { author, agent }: Session): Review {
  return new Review({ api, storage: sessionStorage, author, reviewer: agent });
}

/** The agent's conversation, restored, and told when the page goes away. */
function useConversation(session: Session) {
  const isSignedOut = useSignal(false);
  const { api, contexts, conversation, earlier } = useMemo(() => {
    const api = new Api({ token: () => session.accessToken, onSignedOut: () => (isSignedOut.value = true) });
    const { author } = session;
    const earlier = new Earlier({ api, storage: localStorage, author });
    const onAsked = (id: string, question: string) => void earlier.note(id, question);
    const contexts = new CareContexts();
    const onLeft = () => contexts.forget();
    const conversation = new Conversation({ api, storage: sessionStorage, author, onAsked, contexts, onLeft });
    return { api, contexts, earlier, conversation };
  }, [session]);
  useLayoutEffect(() => {
    const leave = () => conversation.leave();
    const takeContext = () => contexts.take(location, history);
    addEventListener("pagehide", leave);
    addEventListener("hashchange", takeContext);
    takeContext();
    void earlier.restore();
    void conversation.restore().then((turn) => turn !== null && announce(summary(turn)));
    return () => {
      removeEventListener("pagehide", leave);
      removeEventListener("hashchange", takeContext);
    };
  }, [conversation]);
  return { api, contexts, conversation, earlier, isSignedOut };
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
  const page = pages.find((name) => hash === `#/${name}`) ?? pages[0] ?? null;
  useLayoutEffect(() => {
    if (page !== null) document.title = `${TITLES[page]} – ${service}`;
    if (!isFirst.current) document.getElementById("main")?.focus();
    isFirst.current = false;
  }, [page]);
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
        <p>Your account has none of the roles agent, reviewer and knowledge owner. Ask your administrator.</p>
      </div>
    </main>
  );
}
