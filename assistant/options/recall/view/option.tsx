/** What recall brings to the console: its page. */
import type { Option } from "@console/options.ts";
import { RecallPage } from "./page.tsx";
import "./recall.css";

export const OPTION: Option = ({ api }) => ({
  page: {
    name: "recall",
    label: "Recall",
    roles: ["reviewer", "knowledge_owner"],
    draw: () => <RecallPage api={api} />,
  },
});
