/** The two functions of Node's test runner that are used here; the page itself knows no Node. */
declare module "node:test" {
  export function test(name: string, body: () => void | Promise<void>): void;
}
declare module "node:assert/strict" {
  const assert: {
    equal(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown): void;
    match(actual: string, expected: RegExp, message?: string): void;
    doesNotMatch(actual: string, expected: RegExp, message?: string): void;
    throws(body: () => unknown, expected: unknown): void;
    rejects(promise: Promise<unknown>, expected: (error: unknown) => boolean): Promise<void>;
  };
  export default assert;
}
