/** The review desk's routes. Every call has a limit and fails with ApiError. */
import type { Api } from "@console/api.ts";
import type {
  CaseApproval,
  CaseFilters,
  CaseReopening,
  CaseResolution,
  DeskCase,
  DeskCasePage,
  DeskGaps,
  DeskItemHistory,
  DeskItems,
  ItemKind,
  Restoring,
  StateChange,
} from "./wire.ts";

export class DeskApi {
  readonly service: Api;

  constructor(service: Api) {
    this.service = service;
  }

  async cases(filters: CaseFilters, after: string | null): Promise<DeskCasePage> {
    return await this.service.page("/v1/desk/cases", filters, after);
  }

  async case(caseId: string): Promise<DeskCase> {
    return await this.service.read(`/v1/desk/cases/${encodeURIComponent(caseId)}`);
  }

  async resolve(caseId: string, request: CaseResolution): Promise<DeskCase> {
    return await this.service.write(`/v1/desk/cases/${encodeURIComponent(caseId)}/resolution`, request);
  }

  /** The second person's word on a proposed resolution. */
  async approve(caseId: string, request: CaseApproval): Promise<DeskCase> {
    return await this.service.write(`/v1/desk/cases/${encodeURIComponent(caseId)}/approval`, request);
  }

  async reopen(caseId: string, request: CaseReopening): Promise<DeskCase> {
    return await this.service.write(`/v1/desk/cases/${encodeURIComponent(caseId)}/reopen`, request);
  }

  async gaps(): Promise<DeskGaps> {
    return await this.service.read("/v1/desk/gaps");
  }

  async items(kind: ItemKind): Promise<DeskItems> {
    return await this.service.read(`/v1/desk/items?${new URLSearchParams({ kind })}`);
  }

  async item(kind: ItemKind, itemId: string): Promise<DeskItemHistory> {
    return await this.service.read(itemPath(kind, itemId));
  }

  async setItemState(kind: ItemKind, itemId: string, request: StateChange): Promise<DeskItemHistory> {
    return await this.service.write(`${itemPath(kind, itemId)}/state`, request);
  }

  async restoreItem(kind: ItemKind, itemId: string, request: Restoring): Promise<DeskItemHistory> {
    return await this.service.write(`${itemPath(kind, itemId)}/restore`, request);
  }

  /** All desk items with their revisions, a line of JSON each. */
  async exported(): Promise<Blob> {
    return await this.service.file("/v1/desk/export");
  }
}

function itemPath(kind: ItemKind, itemId: string): string {
  return `/v1/desk/items/${encodeURIComponent(kind)}/${encodeURIComponent(itemId)}`;
}
