// Uses tools by the TypeScript SDK and prints JSON: node ask.mjs [[TOOL, ARGUMENTS], …]
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const headers = { Authorization: `Bearer ${process.env.ASSISTANT_TOKEN}` };
const url = new URL(`${process.env.ASSISTANT_URL}/v1/mcp`);
const client = new Client({ name: "tests", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
const { tools } = await client.listTools();
const texts = [];
for (const [name, given] of JSON.parse(process.argv[2])) {
  const result = await client.callTool({ name, arguments: given });
  texts.push(result.content.map((part) => part.text).join(""));
}
await client.close();
console.log(JSON.stringify({ tools: tools.map(({ name }) => name), texts }));
