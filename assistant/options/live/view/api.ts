import type { Api } from "@console/api.ts";
import type { Element } from "@console/wire.ts";

/** Ask the system of a failed element once more. Throws ApiError. */
export async function refill(api: Api, answerId: string, elementId: string, context: string | null): Promise<Element> {
  const path = `/v1/answers/${encodeURIComponent(answerId)}/elements/${encodeURIComponent(elementId)}`;
  return await api.write(path, context === null ? {} : { context });
}
