/** What suggestions bring to the console: emergencies and one suggestion at most, of the chat that a page hands over. */
import type { Option } from "@console/options.ts";
import { SuggestionBar } from "./suggestion_bar.tsx";
import { Suggesting, TURNS_EVENT } from "./suggesting.ts";
import type { TurnOfChat } from "./wire.ts";

export const OPTION: Option = ({ api }) => {
  const suggesting = new Suggesting(api);
  return {
    aboveComposer: () => <SuggestionBar suggesting={suggesting} />,
    listen: () => {
      const follow = (event: Event) => void suggesting.follow((event as CustomEvent<readonly TurnOfChat[]>).detail);
      addEventListener(TURNS_EVENT, follow);
      return () => removeEventListener(TURNS_EVENT, follow);
    },
    forget: () => suggesting.dismiss(),
  };
};
