import assert from "node:assert/strict";
import { test } from "node:test";
import { CareContexts, contextOf } from "../src/care_context.ts";

function token(claims: object): string {
  const payload = btoa(JSON.stringify(claims)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `e30.${payload}.signature`;
}

class Past {
  readonly state = null;
  address = "";

  replaceState(_state: unknown, _title: string, address: string): void {
    this.address = address;
  }
}

function take(contexts: CareContexts, hash: string): Past {
  const past = new Past();
  contexts.take({ hash, pathname: "/", search: "?x=1" } as Location, past as unknown as History);
  return past;
}

test("the token in the address is taken out of it and sent with the next question", () => {
  const contexts = new CareContexts();
  const signed = token({ customer: "C-1042", exp: 1_790_000_000 });
  assert.equal(take(contexts, `#context=${signed}`).address, "/?x=1");
  assert.equal(contexts.token(), signed);
  assert.equal(contexts.current.value?.customer, "C-1042");
  assert.equal(contexts.current.value?.expiresAt, 1_790_000_000_000);
});

test("another fragment is no context, and leaves the one before", () => {
  const contexts = new CareContexts();
  take(contexts, `#context=${token({ customer: "C-1" })}`);
  for (const hash of ["#/review", "#context=", "#context=<script>", `#context=${"a".repeat(8193)}`]) {
    assert.equal(take(contexts, hash).address, "");
  }
  assert.equal(contexts.current.value?.customer, "C-1");
});

test("a token that cannot be read is sent as it is: the service says what is wrong with it", () => {
  assert.deepEqual(contextOf("x.%%%.y"), { token: "x.%%%.y", customer: null, expiresAt: null, isUsed: false });
  assert.deepEqual(contextOf(token({ customer: 7, exp: "soon" })), {
    token: token({ customer: 7, exp: "soon" }),
    customer: null,
    expiresAt: null,
    isUsed: false,
  });
});

test("a forgotten context is not sent any more", () => {
  const contexts = new CareContexts();
  take(contexts, `#context=${token({ customer: "C-1" })}`);
  contexts.forget();
  assert.equal(contexts.token(), null);
});
