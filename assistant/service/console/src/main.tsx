import { render } from "preact";
import "./styles/index.css";
import { App } from "./views/app.tsx";

const place = document.getElementById("app");
if (place !== null) render(<App />, place);
