import type { Config } from "../config.ts";
import type { Session } from "../oidc.ts";
import type { Page } from "../options.ts";
import { BrandMark, Icon } from "./icons.tsx";

interface HeadProps {
  readonly config: Config;
  readonly session: Session;
  readonly pages: readonly Page[];
  readonly page: Page | null;
  readonly onShortcuts: () => void;
  readonly onSignOut: () => void;
}

export function Head({ config, session, pages, page, onShortcuts, onSignOut }: HeadProps) {
  return (
    <header class="head">
      <h1 class="brand">
        <BrandMark />
        {config.service} <span class="brand-tenant">{session.tenant}</span>
      </h1>
      <nav aria-label="Pages">
        <ul class="tabs">
          {pages.map(({ name, label }) => (
            <li key={name}>
              <a href={`#/${name}`} aria-current={name === page?.name ? "page" : undefined}>
                {label}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="head-end">
        <span class="agent">
          <span class="visually-hidden">Signed in as </span>
          {session.agent}
        </span>
        <button type="button" class="button quiet" onClick={onShortcuts}>
          <Icon name="keyboard" /> Keyboard
        </button>
        <button type="button" class="button quiet" onClick={onSignOut}>
          Sign out
        </button>
      </div>
    </header>
  );
}
