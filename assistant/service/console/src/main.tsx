import { render } from "preact";
import "./styles/index.css";
import type { Option, Shell } from "./options.ts";
import { App } from "./views/app.tsx";

export function start(options: readonly Option[], shells: readonly Shell[]): void {
  const place = document.getElementById("app");
  const shell = shells.find(({ path }) => path === location.pathname);
  if (place !== null) render(shell?.draw(options) ?? <App options={options} />, place);
}
