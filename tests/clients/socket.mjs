// What every WebSocket library must get right with this server, whatever its interface looks like.

import assert from 'node:assert/strict';
import { run } from './report.mjs';

/** Messages that wait for whoever takes them, and how the connection ended. */
export class Inbox {
  #messages = [];
  #wake = () => {};

  constructor() {
    this.closed = new Promise((resolve) => (this.close = resolve));
  }

  push(message) {
    this.#messages.push(message);
    this.#wake();
  }

  async next() {
    while (this.#messages.length === 0) await new Promise((resolve) => (this.#wake = resolve));
    return this.#messages.shift();
  }
}

export async function publish(server, channel, body, headers = {}) {
  const url = new URL(`/channels/${encodeURIComponent(channel)}`, server);
  const answer = await fetch(url, { method: 'POST', body, headers });
  assert.equal(answer.status, 200);
  return answer.json();
}

/**
 * Runs the tests all libraries share. `open(url)` gives an open socket: `send(data)`, `next()` for strings and
 * Buffers, `close(code, reason)`, `closed` for `{ code }`, and `ping()`, which waits for the pong, if there is such a thing.
 * `openCompressed(url)` gives one that has offered permessage-deflate. `more` are tests of its own.
 */
export async function runMatrix(name, server, open, openCompressed, more = {}) {
  const ws = (path) => new URL(path, server.href.replace('http', 'ws')).href;
  const bytes = (length) => Buffer.from(Array.from({ length }, (_, i) => i % 251));

  async function roundTrips(socket) {
    for (const length of [0, 1, 125, 126, 65_535, 65_536]) {
      socket.send('é'.repeat(length / 2));
      assert.equal(await socket.next(), 'é'.repeat(length / 2));
      socket.send(bytes(length));
      assert.deepEqual(await socket.next(), bytes(length));
    }
    socket.close(1000, 'done');
    assert.equal((await socket.closed).code, 1000);
  }

  async function publications(socket, channel) {
    for (const body of ['{"hello":"world"}', 'grüße 🦀', 'x'.repeat(1_000_000)]) {
      await publish(server, channel, body);
      assert.equal(await socket.next(), body);
    }
    const octets = { 'Content-Type': 'application/octet-stream' };
    await publish(server, channel, bytes(1_000_000), octets);
    assert.deepEqual(await socket.next(), bytes(1_000_000));
    socket.close(1000, '');
    await socket.closed;
  }

  await run(name, {
    'publications arrive as text and as binary, large ones too': async () =>
      publications(await open(ws(`/channels/${name}`)), name),

    'echo returns messages of every length class': async () => roundTrips(await open(ws('/echo'))),

    'with compression offered, publications arrive': async () =>
      publications(await openCompressed(ws(`/channels/${name}-offer`)), `${name}-offer`),

    'with compression offered, echo returns messages': async () =>
      roundTrips(await openCompressed(ws('/echo'))),

    async 'a close of the client is answered with its code'() {
      const socket = await open(ws(`/channels/${name}`));
      socket.close(4321, 'bye');
      assert.equal((await socket.closed).code, 4321);
    },

    async 'a close of the server arrives with its code and reason'() {
      const socket = await open(ws(`/channels/${name}-listen-only`));
      socket.send('let me');
      const { code, reason } = await socket.closed;
      assert.equal(code, 1008);
      assert.notEqual(reason, '');
    },

    ...more,
  });
}
