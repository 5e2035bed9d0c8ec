// Bundles *.test.ts and *.test.tsx of the console and of the options' views, and runs them with Node's own test
// runner (any Node from 20 on).
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { build } from "esbuild";
import { here, root, views } from "./views.mjs";

const found = [here, ...views].map(async (folder) => {
  const names = await readdir(path.join(folder, "tests"));
  return names.filter((name) => /\.test\.tsx?$/.test(name)).map((name) => path.join(folder, "tests", name));
});
const tests = (await Promise.all(found)).flat();
const outdir = await mkdtemp(path.join(tmpdir(), "console-tests-"));
try {
  await build({
    entryPoints: tests,
    outbase: root,
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    tsconfig: path.join(here, "tsconfig.json"),
    format: "esm",
    platform: "node",
    logLevel: "warning",
  });
  const files = tests.map((name) => path.join(outdir, path.relative(root, name).replace(/\.tsx?$/, ".mjs")));
  process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true });
}
