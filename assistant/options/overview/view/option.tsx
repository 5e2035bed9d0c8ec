/** What the manager's numbers bring to the console: their page. */
import type { Option } from "@console/options.ts";
import "uplot/dist/uPlot.min.css";
import "./overview.css";
import { OverviewPage } from "./page.tsx";

export const OPTION: Option = ({ api }) => ({
  pages: [{ name: "overview", label: "Overview", roles: ["manager", "auditor"], draw: () => <OverviewPage api={api} /> }],
});
