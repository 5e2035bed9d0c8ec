// Bundles tests/*.test.ts and *.test.tsx, and runs them with Node's own test runner (any Node from 20 on).
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const tests = (await readdir(path.join(here, "tests"))).filter((name) => /\.test\.tsx?$/.test(name));
const outdir = await mkdtemp(path.join(tmpdir(), "console-tests-"));
try {
  await build({
    entryPoints: tests.map((name) => path.join(here, "tests", name)),
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    logLevel: "warning",
  });
  const files = tests.map((name) => path.join(outdir, name.replace(/\.tsx?$/, ".mjs")));
  process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true });
}
