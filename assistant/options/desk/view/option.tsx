/** What the review desk brings to the console: its page, and that of recall. */
import type { Option } from "@console/options.ts";
import { DeskApi } from "./api.ts";
import { ReviewDrafts } from "./drafts.ts";
import { KEYS, ReviewPage } from "./page.tsx";
import "./recall.css";
import { RecallPage } from "./recall_page.tsx";
import "./review.css";
import { Review } from "./review.ts";

export const OPTION: Option = ({ api, host, session: { author, agent } }) => {
  const storage = host?.storage ?? sessionStorage;
  const review = new Review({ api: new DeskApi(api), storage, author, reviewer: agent });
  return {
    pages: [
      {
        name: "review",
        label: "Review",
        title: "Review desk",
        roles: ["reviewer", "knowledge_owner"],
        keys: KEYS,
        draw: () => <ReviewPage review={review} />,
      },
      { name: "recall", label: "Recall", roles: ["reviewer", "knowledge_owner"], draw: () => <RecallPage api={api} /> },
    ],
    forget: () => ReviewDrafts.clear(storage),
  };
};
