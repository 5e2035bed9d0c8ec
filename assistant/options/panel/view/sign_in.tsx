/** Sign-in by a pop-up. The panel keeps the verifier, so that what the pop-up hands back is of no use elsewhere. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Config } from "@console/config.ts";
import { SignInError, beginSignIn, endSignIn } from "@console/oidc.ts";
import { Failure } from "@console/views/failure.tsx";
import type { PanelHost } from "./host.ts";

type Begun = Awaited<ReturnType<typeof beginSignIn>>;

export function SignIn({ config, host }: { config: Config; host: PanelHost }) {
  const begun = useRef<Begun | null>(null);
  const end = useRef(() => {});
  const [failure, setFailure] = useState<string | null>(null);
  const told = async (act: () => Promise<void>) => {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setFailure(error.message);
    }
  };
  // before the click: a browser opens a window only at once
  const begin = async () => {
    begun.current = await beginSignIn(config, { isSilent: false, redirectUri: `${location.origin}/panel` });
  };
  useEffect(() => {
    void told(begin);
    return () => end.current();
  }, []);
  const finish = async ({ underway }: Begun, answer: unknown) => {
    const session = await endSignIn(config, { answer: new URLSearchParams(String(answer)), underway });
    if (session === null) throw new SignInError("You are not signed in. Try again.");
    if (!host.enter(session)) throw new SignInError("Another agent works in this panel. Load the page again first.");
  };
  const signIn = () => {
    setFailure(null);
    const current = begun.current;
    if (current === null) return void told(begin);
    const popUp = open(current.address, "_blank", "popup,width=480,height=720");
    if (popUp === null) return setFailure("This page does not let the panel open a window. Allow pop-ups for it.");
    end.current();
    const listen = ({ source, origin, data }: MessageEvent<unknown>) => {
      if (source !== popUp || origin !== location.origin) return;
      end.current();
      void told(async () => {
        begun.current = null;
        await finish(current, data).finally(() => host.session.peek() === null && void told(begin));
      });
    };
    addEventListener("message", listen);
    end.current = () => removeEventListener("message", listen);
  };
  return (
    <section class="panel-sign-in" aria-label="Sign-in">
      <p role="status">{host.isSignedOut.value ? "Your sign-in has ended. Nothing is lost: sign in again to go on." : "Sign in to ask."}</p>
      {failure !== null && <Failure>{failure}</Failure>}
      <button type="button" class="button primary" onClick={signIn}>
        Sign in
      </button>
    </section>
  );
}
