// The WebSocket of the npm package `undici`, the one of browsers' interface that Node.js has built in, against a running
// server with `echo = true` and short heartbeats: node undici.mjs http://127.0.0.1:8000
// It always offers permessage-deflate, and it cannot send pings.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'undici';
import { Inbox, publish, runMatrix } from './socket.mjs';

const server = new URL(process.argv[2]);
/** Longer than the server that tests/clients/run starts waits for a peer that does not answer its pings. */
const HEARTBEATS_MS = 9_000;

async function open(url) {
  const socket = new WebSocket(url);
  const inbox = new Inbox();
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) => inbox.push(typeof data === 'string' ? data : Buffer.from(data));
  socket.onclose = ({ code, reason }) => inbox.close({ code, reason });
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = ({ error }) => reject(error ?? new Error('not opened'));
  });
  assert.equal(socket.extensions !== '', process.env.COMPRESSION === '1');
  return {
    send: (data) => socket.send(data),
    next: () => inbox.next(),
    close: (code, reason) => socket.close(code, reason),
    closed: inbox.closed,
  };
}

await runMatrix('undici', server, open, open, {
  async 'pings of the server are answered'() {
    const socket = await open(new URL('/channels/undici-quiet', server.href.replace('http', 'ws')).href);
    await sleep(HEARTBEATS_MS);
    await publish(server, 'undici-quiet', 'still here');
    assert.equal(await socket.next(), 'still here');
    socket.close(1000, '');
    await socket.closed;
  },
});
