/** What live systems bring to the console: whose data a question may read, and a second try of a failed element. */
import type { Option } from "@console/options.ts";
import { refill } from "./api.ts";
import { CareContexts } from "./care_context.ts";
import "./context_bar.css";
import { ContextBar } from "./context_bar.tsx";

export const OPTION: Option = ({ api, host }) => {
  const contexts = new CareContexts();
  return {
    context: contexts,
    aboveComposer: () => <ContextBar contexts={contexts} />,
    refill: (answerId, { id }) => refill(api, answerId, id, contexts.token()),
    listen: () => {
      if (host !== null) return () => {}; // its page hands the context over, and no other way leads in
      const take = () => contexts.takeFrom(location, history);
      addEventListener("hashchange", take);
      take();
      return () => removeEventListener("hashchange", take);
    },
  };
};
