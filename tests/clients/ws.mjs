// The npm package `ws` against a running server with `echo = true`: node ws.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { run } from './report.mjs';

const server = new URL(process.argv[2]);

/** An open WebSocket whose messages wait in a queue until `next` takes them. */
async function open(path, options = {}) {
  const socket = new WebSocket(new URL(path, server.href.replace('http', 'ws')), options);
  const queue = [];
  let wake = () => {};
  socket.on('message', (data, isBinary) => {
    queue.push(isBinary ? data : data.toString());
    wake();
  });
  socket.next = async () => {
    while (queue.length === 0) await new Promise((resolve) => (wake = resolve));
    return queue.shift();
  };
  await once(socket, 'open');
  return socket;
}

async function publish(channel, body, headers = {}) {
  const url = new URL(`/channels/${encodeURIComponent(channel)}`, server);
  const answer = await fetch(url, { method: 'POST', body, headers });
  assert.equal(answer.status, 200);
  return answer.json();
}

async function closed(socket) {
  const [code, reason] = await once(socket, 'close');
  return { code, reason: reason.toString() };
}

/** The status of the answer that refuses an upgrade. */
async function refusal(path, options) {
  const socket = new WebSocket(new URL(path, server.href.replace('http', 'ws')), options);
  socket.on('error', () => {});
  const [, answer] = await once(socket, 'unexpected-response');
  socket.terminate();
  return answer.statusCode;
}

await run('ws', {
  async 'JSON and text arrive as text, verbatim'() {
    const socket = await open('/channels/ws-text');
    for (const body of ['{"hello":"world"}', '{ "a" :\n 1 }', 'plain', 'grüße 🦀']) {
      await publish('ws-text', body);
      assert.equal(await socket.next(), body);
    }
    socket.close();
  },

  async 'bytes arrive as binary, verbatim'() {
    const socket = await open('/channels/ws-binary');
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 256));
    await publish('ws-binary', bytes, { 'Content-Type': 'application/octet-stream' });
    assert.deepEqual(await socket.next(), bytes);
    socket.close();
  },

  async 'offsets count up in one epoch'() {
    const first = await publish('ws-offsets', 'a');
    const second = await publish('ws-offsets', 'b');
    assert.equal(second.offset, first.offset + 1);
    assert.equal(second.epoch, first.epoch);
  },

  async 'fifty subscribers get 200 messages in order'() {
    const sockets = await Promise.all(Array.from({ length: 50 }, () => open('/channels/ws-many')));
    for (let i = 0; i < 200; i++) await publish('ws-many', `message ${i}`);
    for (const socket of sockets) {
      for (let i = 0; i < 200; i++) assert.equal(await socket.next(), `message ${i}`);
      socket.close();
    }
  },

  async 'chat is heard by all, the sender included'() {
    const [alice, bob] = await Promise.all([open('/chat'), open('/channels/chat')]);
    alice.send('hello from alice');
    assert.equal(await alice.next(), 'hello from alice');
    assert.equal(await bob.next(), 'hello from alice');
    alice.close();
    bob.close();
  },

  async 'a client that may not publish is closed with 1008 and a reason'() {
    const socket = await open('/channels/ws-listen-only');
    socket.send('let me');
    const { code, reason } = await closed(socket);
    assert.equal(code, 1008);
    assert.notEqual(reason, '');
  },

  async 'echo returns messages of every length class'() {
    const socket = await open('/echo');
    for (const length of [0, 125, 126, 127, 65_535, 65_536]) {
      socket.send('x'.repeat(length));
      assert.equal(await socket.next(), 'x'.repeat(length));
      socket.send(Buffer.alloc(length, 7));
      assert.deepEqual(await socket.next(), Buffer.alloc(length, 7));
    }
    socket.close();
  },

  async 'a fragmented message is echoed whole'() {
    const socket = await open('/echo');
    socket.send('Hel', { fin: false });
    socket.ping('between');
    socket.send('lo', { fin: true });
    assert.equal(await socket.next(), 'Hello');
    socket.close();
  },

  async 'a ping gets its pong'() {
    const socket = await open('/channels/ws-ping');
    socket.ping('payload');
    const [data] = await once(socket, 'pong');
    assert.equal(data.toString(), 'payload');
    socket.close();
  },

  async 'a message too big is closed with 1009'() {
    const socket = await open('/echo');
    socket.on('error', () => {});
    socket.send(Buffer.alloc(65_537));
    assert.equal((await closed(socket)).code, 1009);
  },

  async 'a close is answered'() {
    const socket = await open('/echo');
    socket.close(4321, 'bye');
    const { code } = await closed(socket);
    assert.ok([4321, 1000].includes(code), `${code}`);
  },

  async 'an offer of compression is accepted if configured, and does no harm'() {
    for (const perMessageDeflate of [true, false, { threshold: 0 }]) {
      const socket = await open('/echo', { perMessageDeflate });
      const isAccepted = Boolean(perMessageDeflate) && process.env.COMPRESSION === '1';
      assert.equal(socket.extensions !== '', isAccepted);
      for (const length of [0, 1, 5000, 65_536]) {
        socket.send('x'.repeat(length));
        assert.equal(await socket.next(), 'x'.repeat(length));
      }
      socket.close();
    }
  },

  async 'an unknown path is 404, another origin 403'() {
    assert.equal(await refusal('/nope'), 404);
    assert.equal(await refusal('/channels/x', { origin: 'http://evil.example' }), 403);
  },
});
