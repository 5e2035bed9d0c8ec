// Where the console lies, and the folders `assistant/options/<name>/view` of the options that bring something to it.
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, "../../..");

const options = path.join(root, "assistant/options");
export const views = readdirSync(options)
  .sort()
  .map((name) => path.join(options, name, "view"))
  .filter((folder) => existsSync(path.join(folder, "option.tsx")));

/** Pages of their own, beside the console: `view/pages/<name>.tsx` becomes `dist/<name>.js` and `.css`. */
export const pages = readdirSync(options)
  .sort()
  .map((name) => path.join(options, name, "view/pages"))
  .filter((folder) => existsSync(folder))
  .flatMap((folder) => readdirSync(folder).filter((name) => name.endsWith(".tsx")).map((name) => path.join(folder, name)));

/** Those of them that draw the page in another way at an address of their own. */
export const shells = views.filter((folder) => existsSync(path.join(folder, "shell.tsx")));
