// The browser client against a running server, through a proxy that cuts connections: node server.mjs http://127.0.0.1:8000
// The server must keep a history of at least 100 publications for channels that begin with `longwire-js-`.

import assert from 'node:assert/strict';
import net from 'node:net';
import { WebSocket } from 'ws';
import Longwire from '../../../src/console/longwire.js';
import { run } from '../report.mjs';

const server = new URL(process.argv[2]);
const TRANSPORTS = ['websocket', 'sse', 'stream', 'longpoll', 'shortpoll'];
const HASTY = { WebSocket, backoffBaseMs: 6, backoffCapMs: 40, pollS: 0.01, waitS: 2 };
const CUTS = 100;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition, what) {
  for (const end = Date.now() + 15_000; !condition();) {
    if (Date.now() > end) throw new Error(`not ${what} after 15 s`);
    await sleep(2);
  }
}

/** Passes bytes both ways until told to cut. */
class CuttingProxy {
  #pairs = new Set();
  #frozen = [];
  cuts = 0;

  listen() {
    this.listener = net.createServer((client) => {
      const pair = [client, net.connect(Number(server.port), server.hostname)];
      const end = () => {
        pair.forEach((socket) => socket.destroy());
        this.#pairs.delete(pair);
      };
      this.#pairs.add(pair);
      pair.forEach((socket) => socket.on('error', end).on('close', end));
      pair[0].pipe(pair[1]).pipe(pair[0]);
    });
    return new Promise((resolve) => {
      this.listener.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${this.listener.address().port}/`));
    });
  }

  cut() {
    for (const pair of this.#pairs) {
      this.cuts += 1;
      pair.forEach((socket) => socket.resetAndDestroy());
    }
  }

  /** The server hears nothing more, not even an end; the client only that there is one. */
  freeze() {
    for (const pair of this.#pairs) {
      const [client, upstream] = pair;
      pair.forEach((socket) => socket.unpipe().removeAllListeners('close'));
      this.#pairs.delete(pair);
      this.#frozen.push(upstream);
      client.resetAndDestroy();
    }
  }

  close() {
    this.#frozen.forEach((socket) => socket.destroy());
    this.cut();
    this.listener.close();
  }
}

/** A subscription through the proxy; what is published goes to the server itself. */
async function withSubscription(transport, name, use) {
  const proxy = new CuttingProxy(), messages = [], gaps = [];
  const through = new Longwire(await proxy.listen(), { ...HASTY, transports: [transport] }), direct = new Longwire(server.href, { WebSocket });
  const channel = `longwire-js-${name}-${transport}-${Date.now()}`;
  const subscription = through.subscribe(channel, { onmessage: (message) => messages.push(message), ongap: (gap) => gaps.push(gap) });
  try {
    await until(() => subscription.state === 'open', 'open');
    await use({ proxy, messages, gaps, subscription, publish: (data) => direct.publish(channel, data) });
  } finally {
    through.close();
    proxy.close();
  }
}

/** How many connections have ended for a newer one. */
async function takenOver() {
  const text = await (await fetch(new URL('metrics', server))).text();
  const counts = text.matchAll(/^longwire_closes_total\{[^}]*reason="taken_over"[^}]*\} (\d+)/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

const eachTransport = (name, test) => Object.fromEntries(TRANSPORTS.map((transport) => [`${transport}: ${name}`, () => test(transport)]));

await run('longwire.js and the server', {
  ...eachTransport(`${CUTS} cuts at random, no loss, no duplicate`, (transport) => withSubscription(transport, 'cut', async ({ proxy, messages, gaps, publish }) => {
    let published = 0;
    while (proxy.cuts < CUTS) {
      for (let i = Math.floor(Math.random() * 4); i > 0; i--) await publish({ n: ++published, filler: 'ü'.repeat(Math.random() * 2000) });
      await sleep(Math.random() * 6);
      if (Math.random() < 0.6) proxy.cut();
    }
    await until(() => messages.length >= published, 'caught up');
    assert.deepEqual(gaps, []);
    assert.deepEqual(messages.map(({ data }) => data.n), Array.from({ length: published }, (_, i) => i + 1));
    assert.deepEqual(messages.map(({ offset }) => offset - messages[0].offset + 1), messages.map(({ data }) => data.n));
  })),

  ...eachTransport('every kind arrives as what it was', (transport) => withSubscription(transport, 'kind', async ({ messages, publish }) => {
    const sent = [{ a: [1, 'ü'] }, 'two\nlines\u2028', 'null', new Uint8Array([0, 10, 13, 255])];
    for (const data of sent) await publish(data);
    await until(() => messages.length === sent.length, 'heard');
    assert.deepEqual(messages.map(({ data }) => data), [sent[0], sent[1], null, sent[3]]);
    assert.deepEqual(messages.map(({ kind }) => kind), ['json', 'text', 'json', 'binary']);
  })),

  ...eachTransport('a position of another epoch is a gap', (transport) => withSubscription(transport, 'gap', async ({ publish, subscription, gaps, messages, proxy }) => {
    await publish('1');
    await until(() => messages.length === 1, 'heard');
    subscription.position = { epoch: '0000000000000000', offset: 7 };
    proxy.cut();
    await until(() => gaps.length === 1, 'told');
    await until(() => subscription.state === 'open', 'open again');
    const { offset } = await publish('2');
    await until(() => messages.length === 2, 'heard again');
    assert.equal(messages[1].offset, offset);
  })),

  ...Object.fromEntries(['websocket', 'sse', 'stream'].map((transport) => [
    `${transport}: what is left of a connection ends when the next begins`,
    () => withSubscription(transport, 'left', async ({ proxy, messages, gaps, publish }) => {
      const before = await takenOver();
      proxy.freeze();
      await publish('after');
      await until(() => messages.length === 1, 'heard');
      for (const end = Date.now() + 15_000; await takenOver() === before;) {
        assert.ok(Date.now() < end, 'the older connection is still there');
        await sleep(50);
      }
      assert.deepEqual(gaps, []);
    }),
  ])),

  async 'a connection is asked, and answers'() {
    await withSubscription('websocket', 'probe', async ({ subscription }) => {
      subscription._hint('online');
      await sleep(6000);
      assert.equal(subscription.state, 'open');
    });
  },
});
process.exit();
