// One line per test: `ok NAME` or `FAILED NAME: reason`. The exit code says whether all passed.

const TIMEOUT_MS = 60_000;

/** Runs the tests one after the other, each with a deadline. */
export async function run(prefix, tests) {
  for (const [name, test] of Object.entries(tests)) {
    let timer;
    const deadline = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
    });
    try {
      await Promise.race([test(), deadline]);
      console.log(`ok ${prefix}: ${name}`);
    } catch (error) {
      console.log(`FAILED ${prefix}: ${name}: ${String(error.message).replaceAll('\n', ' | ')}`);
      process.exitCode = 1;
    }
    clearTimeout(timer);
  }
}
