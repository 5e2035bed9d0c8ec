/** What suggestions bring to the console in a helpdesk: emergencies and one suggestion at most, of the chat there. */
import type { Option } from "@console/options.ts";
import { SuggestionBar } from "./suggestion_bar.tsx";
import { Suggesting } from "./suggesting.ts";

export const OPTION: Option = ({ api, host }) => {
  if (host === null) return {};
  const suggesting = new Suggesting(api);
  return {
    aboveComposer: () => <SuggestionBar suggesting={suggesting} />,
    listen: () => {
      let number: number | undefined;
      return host.chat.subscribe((chat) => {
        if (chat?.number !== number) suggesting.dismiss(); // nothing of the chat before stays
        number = chat?.number;
        void suggesting.follow(chat?.turns ?? []);
      });
    },
    forget: () => suggesting.dismiss(),
  };
};
