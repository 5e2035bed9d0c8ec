import { render } from "preact";
import "./styles/index.css";
import type { Option } from "./options.ts";
import { App } from "./views/app.tsx";

export function start(options: readonly Option[]): void {
  const place = document.getElementById("app");
  if (place !== null) render(<App options={options} />, place);
}
