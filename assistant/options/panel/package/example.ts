/** The script of example.html: `?assistant=https://assistant.example` says where the service is. */
import { Panel, openBeside } from "./index.ts";

const at = (id: string) => document.getElementById(id) as HTMLTextAreaElement;
const address = new URLSearchParams(location.search).get("assistant") ?? location.origin;
const panel = new Panel(at("assistant"), address, {
  insert: (text) => void (at("composer").value = text),
  note: (text) => void (at("note").value = text),
  source: openBeside,
  // your server calls POST /v1/panel/codes here; this page has none, so the agent signs in by the pop-up
  code: async () => (await fetch("assistant-code").catch(() => null).then((response) => (response?.ok ? response.text() : null))),
});
panel.hand({ ticket: "4711", turns: [{ who: "customer", text: at("message").textContent }] });
