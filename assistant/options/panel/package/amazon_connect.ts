/**
 * The panel as a third-party app of the Amazon Connect agent workspace. The SDK tells an app which contact the agent
 * is in. It gives no transcript, and takes neither a text for the chat's composer nor a note: the agent pastes the
 * question and copies the reply, or the tenant's `replies` deliver it.
 */
import { AmazonConnectApp } from "@amazon-connect/app";
import { ContactClient } from "@amazon-connect/contact";
import { type Handlers, Panel, openBeside } from "./index.ts";

interface Options extends Pick<Handlers, "code" | "refused"> {
  /** Fetch, from your own server, what the care application signs for a contact. Null: no live data. */
  readonly context: (contactId: string) => Promise<string | null>;
}

/** Hold the panel in `place` of the app's page; call it once, when the page loads. */
export function openInAmazonConnect(place: HTMLElement, address: string, options: Options): Panel {
  const panel = new Panel(place, address, { ...options, source: openBeside });
  let current: string | null = null;
  const enter = async (contactId: string) => {
    current = contactId;
    panel.leave(); // the contact before must not stay in the panel while this one's context is fetched
    const context = await options.context(contactId).catch(() => null);
    if (current === contactId) panel.hand({ ticket: contactId, turns: [], ...(context === null ? {} : { context }) });
  };
  const leave = (contactId: string) => {
    if (current !== contactId) return;
    current = null;
    panel.leave();
  };
  const { provider } = AmazonConnectApp.init({
    onCreate: async ({ context: { scope, contactScope } }) => {
      const contact = scope?.type === "contact" ? scope : contactScope;
      if (contact !== undefined) return await enter(contact.contactId);
      const contacts = new ContactClient(provider); // an app that is not of one contact follows the agent's
      contacts.onConnected(({ contactId }) => enter(contactId));
      contacts.onCleared(async ({ contactId }) => leave(contactId));
    },
    onDestroy: async () => panel.close(),
  });
  return panel;
}
