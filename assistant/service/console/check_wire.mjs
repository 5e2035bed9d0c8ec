// Compares each wire.ts, which says what the console reads and sends, with the service's own docs/openapi.json: the
// schemas become types, and the compiler says where the one cannot be taken for the other.
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { here, root, views } from "./views.mjs";

const document = process.argv[2] ?? path.join(root, "docs/openapi.json");

/** The wire.ts of the console and of options; the wire.json beside each names its types that are schemas. */
const wires = [];
for (const folder of [path.join(here, "src"), ...views]) {
  const list = await readFile(path.join(folder, "wire.json"), "utf8").catch(() => null);
  if (list !== null) wires.push({ file: path.join(folder, "wire.ts"), ...JSON.parse(list) });
}

const api = JSON.parse(await readFile(document, "utf8"));
const { schemas } = api.components;
const stream = api.paths["/v1/answers"].post.responses["200"].content["text/event-stream"];
const folder = await mkdtemp(path.join(tmpdir(), "console-wire-"));
try {
  await writeFile(path.join(folder, "received.ts"), moduleOf({ isSent: false }) + eventsOf(stream["x-events"]));
  await writeFile(path.join(folder, "sent.ts"), moduleOf({ isSent: true }));
  await writeFile(path.join(folder, "compared.ts"), comparison());
  await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify(configuration()));
  const tsc = path.join(root, "node_modules/typescript/bin/tsc");
  process.exitCode = spawnSync(process.execPath, [tsc, "--project", folder], { stdio: "inherit" }).status ?? 1;
} finally {
  await rm(folder, { recursive: true });
}

/** Every schema as a type. The service writes every field; who sends may leave out those that are not required. */
function moduleOf({ isSent }) {
  const types = Object.entries(schemas).map(([name, schema]) => `export type ${name} = ${typeOf(schema, isSent)};`);
  return `${types.join("\n")}\n`;
}

function typeOf(schema, isSent) {
  const inner = (part) => typeOf(part, isSent);
  if ("$ref" in schema) return schema.$ref.split("/").at(-1);
  if ("anyOf" in schema) return schema.anyOf.map(inner).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if ("enum" in schema) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  switch (schema.type) {
    case "integer":
    case "number":
      return "number";
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "array":
      if ("prefixItems" in schema) return `readonly [${schema.prefixItems.map(inner).join(", ")}]`;
      return `readonly (${inner(schema.items ?? {})})[]`;
    case "object":
      return objectOf(schema, isSent);
    case undefined:
      return "unknown";
    default:
      throw new Error(`check_wire.mjs knows no schema of type ${schema.type}`);
  }
}

function objectOf({ properties, required = [], additionalProperties, propertyNames }, isSent) {
  if (properties === undefined) {
    const isNamed = propertyNames !== undefined && ("enum" in propertyNames || "$ref" in propertyNames);
    const key = isNamed ? typeOf(propertyNames, isSent) : "string"; // a pattern says nothing to a compiler
    const value = typeof additionalProperties === "object" ? typeOf(additionalProperties, isSent) : "unknown";
    return `Partial<Record<${key}, ${value}>>`;
  }
  const fields = Object.entries(properties).map(([name, schema]) => {
    const isThere = !isSent || required.includes(name);
    return `readonly ${JSON.stringify(name)}${isThere ? "" : "?"}: ${typeOf(schema, isSent)}`;
  });
  return `{ ${fields.join("; ")} }`;
}

function eventsOf(events) {
  const kinds = Object.entries(events).map(([name, schema]) => `{ event: "${name}"; data: ${typeOf(schema, false)} }`);
  return `export type AnswerEvent = ${kinds.join(" | ")};\n`;
}

/** Each line compiles only if the one type can be taken for the other. */
function comparison() {
  return [
    'import type * as received from "./received.ts";',
    'import type * as sent from "./sent.ts";',
    ...wires.map(({ file }, at) => `import type * as wire${at} from ${JSON.stringify(file)};`),
    // events that the console does not know are left out, those that it knows must exist
    'type Event = wire0.AnswerEvent["event"];',
    'export const events = (name: Event): received.AnswerEvent["event"] => name;',
    "export const event = (it: Extract<received.AnswerEvent, { event: Event }>): wire0.AnswerEvent => it;",
    ...wires.flatMap(({ received, sent }, at) => [
      ...received.map((name) => `export const read${name} = (it: received.${name}): wire${at}.${name} => it;`),
      // what is sent may hold nothing that the schema does not know
      ...sent.map((name) => `export const write${name} = (it: wire${at}.${name}): sent.${name} => it;`),
      ...sent.map((name) => `export const keys${name} = (it: keyof wire${at}.${name}): keyof sent.${name} => it;`),
    ]),
    "",
  ].join("\n");
}

function configuration() {
  const strictness = { strict: true, noEmit: true, exactOptionalPropertyTypes: true };
  const modules = { target: "ES2023", lib: ["ES2023"], types: [], module: "ESNext", moduleResolution: "bundler" };
  const paths = { "@console/*": [path.join(here, "src/*")] };
  const imports = { allowImportingTsExtensions: true, verbatimModuleSyntax: true, paths };
  return { compilerOptions: { ...strictness, ...modules, ...imports }, files: ["compared.ts"] };
}
