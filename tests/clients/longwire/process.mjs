// The server as a process that a test stops, kills and starts again on the same port.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.LONGWIRE_BIN ?? fileURLToPath(new URL('../../../target/release/longwire', import.meta.url));
/** Without anything that the server takes for a setting. */
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGWIRE_')));
const STARTS_MAX = 40;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Polls until the condition holds. */
export async function until(condition, what, timeoutMs = 20_000) {
  for (const end = Date.now() + timeoutMs; !(await condition());) {
    if (Date.now() > end) throw new Error(`not ${what} after ${timeoutMs} ms`);
    await sleep(20);
  }
}

export class Server {
  /** @param {string[]} settings Each `key=value`. */
  static async start(settings = []) {
    const server = new Server();
    server.folder = await mkdtemp(path.join(tmpdir(), 'longwire-process-'));
    server.settings = [`state_dir=${server.folder}`, 'drain.window_ms=500', 'websocket.close_timeout_ms=1000', ...settings];
    await server.begin();
    return server;
  }

  /** Starts it, on the port it had. The kernel may still hold that of a killed one. */
  async begin() {
    for (let i = 0; i < STARTS_MAX; i++) {
      if (await this.#try()) return;
      await sleep(50);
    }
    throw new Error(`the server does not serve: ${this.log}`);
  }

  async #try() {
    const settings = this.settings.flatMap((setting) => ['--set', setting]);
    this.process = spawn(BINARY, ['--listen', `127.0.0.1:${this.port ?? 0}`, ...settings], { stdio: ['ignore', 'pipe', 'pipe'], env: ENVIRONMENT });
    this.log = '';
    this.process.stderr.on('data', (data) => (this.log = (this.log + data).slice(-500)));
    for await (const line of createInterface(this.process.stdout)) {
      const address = /^listening on (.*)$/.exec(line)?.[1];
      if (!address) continue;
      this.base = `http://${address}`;
      this.port = Number(new URL(this.base).port);
      this.process.stdout.resume();
      return true;
    }
    return false;
  }

  async end(signal) {
    const exited = once(this.process, 'exit');
    this.process.kill(signal);
    const [code] = await exited;
    if (signal === 'SIGTERM') assert.equal(code, 0, 'its exit code');
  }

  async stop() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.end('SIGKILL');
    await rm(this.folder, { recursive: true });
  }

  /** Publishes as JSON. Gives the offset, or nothing if it was not acknowledged. */
  async publish(channel, data) {
    try {
      const answer = await fetch(`${this.base}/channels/${channel}`, { method: 'POST', body: JSON.stringify(data) });
      return answer.ok ? (await answer.json()).offset : undefined;
    } catch {
      return undefined;
    }
  }
}
