/** What tests use of Node; the page itself knows no Node. */
declare module "node:test" {
  interface Timers {
    enable(of: { apis: readonly string[] }): void;
    tick(milliseconds: number): void;
  }
  export function test(name: string, body: (context: { mock: { timers: Timers } }) => void | Promise<void>): void;
}
declare function setImmediate(callback: () => void): void;
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
