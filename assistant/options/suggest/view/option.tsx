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
      let read = "";
      return host.chat.subscribe((chat) => {
        const turns = chat?.turns ?? [];
        const isOther = chat?.number !== number;
        if (isOther) suggesting.dismiss(); // nothing of the chat before stays
        else if (JSON.stringify(turns) === read) return; // a new context alone says nothing new
        [number, read] = [chat?.number, JSON.stringify(turns)];
        void suggesting.follow(turns);
      });
    },
    forget: () => suggesting.dismiss(),
  };
};
