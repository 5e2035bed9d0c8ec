// Bundles the console into dist/: index.html, console.js, console.css, what a page loads when it is opened
// (`import()`), by its module's name, and the licences of what is inside.
// The same sources and locked packages give the same bytes: no hash, date or path goes into the output.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { here, pages, root, shells, views } from "./views.mjs";

const dist = path.join(here, "dist");

await mkdir(dist, { recursive: true });
const how = {
  absWorkingDir: root,
  outdir: dist,
  tsconfig: path.join(here, "tsconfig.json"),
  bundle: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  minify: true,
  sourcemap: false,
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
};
const stdin = { contents: entry(), resolveDir: root, sourcefile: "entry.js" };
const result = await build({ ...how, stdin, entryNames: "console", chunkNames: "[name]", splitting: true });
if (pages.length > 0) await build({ ...how, entryPoints: pages, entryNames: "[name]" });
await copyFile(path.join(here, "src/index.html"), path.join(dist, "index.html"));
await writeFile(path.join(dist, "licences.txt"), await licences(Object.keys(result.metafile.inputs)));

/** The program: the console with what each option brings. */
function entry() {
  const from = (file) => `from ${JSON.stringify(file)};`;
  const part = (folders, value, file) =>
    folders.map((folder, at) => `import { ${value} as ${value}${at} } ${from(path.join(folder, file))}`);
  const names = (folders, value) => `[${folders.map((_, at) => `${value}${at}`).join(", ")}]`;
  const imports = [...part(views, "OPTION", "option.tsx"), ...part(shells, "SHELL", "shell.tsx")];
  const main = path.join(here, "src/main.tsx");
  return [`import { start } ${from(main)}`, ...imports, `start(${names(views, "OPTION")}, ${names(shells, "SHELL")});`].join("\n");
}

/** The licence text of each package that the bundle holds, in order of name. */
async function licences(inputs) {
  const names = inputs
    .map((input) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1])
    .filter((name) => name !== undefined);
  const texts = [...new Set(names)].sort().map(async (name) => {
    const text = await readFile(path.join(root, "node_modules", name, "LICENSE"), "utf8");
    return `${name}\n\n${text.trim()}\n`;
  });
  return (await Promise.all(texts)).join("\n---\n\n");
}
