// A reporter for node's test runner: one line per test, `ok NAME` or `FAILED NAME: reason`.

export default async function* lines(events) {
  for await (const { type, data } of events) {
    // A file that fails by itself, such as one that does not parse, is a test of its own to the runner.
    if (data?.details?.type === 'suite') continue;
    const name = `longwire.js: ${data?.name}`;
    if (type === 'test:pass') yield `ok ${name}\n`;
    if (type === 'test:fail') {
      const { error } = data.details, cause = error.cause ?? error;
      yield `FAILED ${name}: ${String(cause.stack ?? cause).replaceAll('\n', ' | ')}\n`;
    }
  }
}
