/** What suggestions bring to the console in a helpdesk: emergencies and one suggestion at most, of the chat there. */
import type { Option } from "@console/options.ts";
import { SuggestionBar } from "./suggestion_bar.tsx";
import { Suggesting } from "./suggesting.ts";

export const OPTION: Option = ({ api, host }) => {
  if (host === null) return {};
  const suggesting = new Suggesting(api);
  return {
    aboveComposer: () => <SuggestionBar suggesting={suggesting} />,
    listen: () => host.chat.subscribe((chat) => void suggesting.follow(chat?.turns ?? [])),
    forget: () => suggesting.dismiss(),
  };
};
