// The client against a server whose connections are cut at random moments: nothing is lost, nothing comes twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import Longwire from '../../../src/console/longwire.js';
import { MockServer } from './mock-server.mjs';

const HASTY = { WebSocket, backoffBaseMs: 6, backoffCapMs: 20, pollS: 0.005, waitS: 1, openTimeoutMs: 2000, trialMs: 15 };
const LADDER = ['websocket', 'sse', 'longpoll', 'shortpoll'];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition, what, ms = 15_000) {
  for (const end = Date.now() + ms; !condition();) {
    if (Date.now() > end) throw new Error(`not ${what} after ${ms} ms`);
    await sleep(2);
  }
}

/** Runs `use` with a server and a subscription to it; the test ends with both. */
async function withServer(options, use, serverOptions = {}) {
  const server = new MockServer(serverOptions);
  const base = await server.listen();
  const messages = [], gaps = [], connected = [], disconnected = [];
  const client = new Longwire(base, { ...HASTY, ...options });
  const subscription = client.subscribe('demo', {
    onmessage: (message) => messages.push(message),
    ongap: (gap) => gaps.push(gap),
    onconnected: ({ transport }) => connected.push(transport),
    ondisconnected: (ending) => disconnected.push(ending),
  });
  try {
    await use({ server, client, subscription, messages, gaps, connected, disconnected });
  } finally {
    client.close();
    await server.close();
  }
}

/** Publishes while connections are cut, until there were `cuts` of them; publications and cuts come at random moments. */
async function publishUnderCuts(server, cuts, disturb = () => {}) {
  for (let published = 0; server.counts.cuts < cuts; published++) {
    const burst = Math.floor(Math.random() * 4);
    for (let i = 0; i < burst; i++) server.publish('demo', JSON.stringify({ n: server.channel('demo').offset + 1, filler: 'ü'.repeat(Math.random() * 2000) }));
    await sleep(Math.random() * 4);
    disturb(published);
    if (Math.random() < 0.6) server.cut();
  }
}

function checkAll(server, { messages, gaps }) {
  const { offset } = server.channel('demo');
  assert.deepEqual(gaps, []);
  assert.deepEqual(messages.map(({ data }) => data.n), Array.from({ length: offset }, (_, i) => i + 1));
}

for (const transport of [...LADDER, 'stream']) {
  test(`${transport}: 300 cuts at random, no loss, no duplicate`, async () => {
    await withServer({ transports: [transport] }, async (seen) => {
      await until(() => seen.subscription.state === 'open', 'open');
      await publishUnderCuts(seen.server, 300);
      await until(() => seen.messages.length >= seen.server.channel('demo').offset, 'caught up');
      checkAll(seen.server, seen);
      assert.ok(seen.connected.length > 20, `${seen.connected.length} connections`);
    }, { historySize: 1e6 });
  });
}

test('all transports in turn, as they are blocked and let through: no loss, no duplicate', async () => {
  await withServer({ transports: LADDER }, async (seen) => {
    const { faults } = seen.server;
    await until(() => seen.subscription.state === 'open', 'open');
    await publishUnderCuts(seen.server, 400, (published) => {
      if (published % 25) return;
      faults.blocked = new Set(LADDER.filter(() => Math.random() < 0.5));
      if (faults.blocked.size === LADDER.length) faults.blocked.clear();
    });
    faults.blocked.clear();
    await until(() => seen.messages.length >= seen.server.channel('demo').offset, 'caught up');
    checkAll(seen.server, seen);
    assert.ok(new Set(seen.connected).size >= 3, `only ${[...new Set(seen.connected)]}`);
  }, { historySize: 1e6 });
});

for (const transport of [...LADDER, 'stream']) {
  test(`${transport}: a server that lost its history, or has too little, says so`, async () => {
    await withServer({ transports: [transport] }, async ({ server, subscription, messages, gaps }) => {
      await until(() => subscription.state === 'open', 'open');
      server.publish('demo', '1');
      await until(() => messages.length === 1, 'heard');
      server.loseHistory('demo');
      server.cut();
      await until(() => gaps.length === 1, 'told of the new epoch');
      assert.notEqual(gaps[0].position.epoch, gaps[0].since.epoch);
      await until(() => subscription.state === 'open', 'open again');
      server.publish('demo', '"after"');
      await until(() => messages.length === 2, 'heard again');
      assert.equal(messages[1].data, 'after');
      for (let i = 0; i < 9; i++) {
        server.cut();
        server.publish('demo', `${i}`);
      }
      await until(() => gaps.length >= 2, 'told of what is gone');
      await until(() => subscription.position.offset === server.channel('demo').offset, 'at the top');
      assert.equal(gaps[1].position.epoch, gaps[1].since.epoch);
      const heard = messages.filter(({ epoch }) => epoch === server.channel('demo').epoch).length;
      assert.equal(heard + gaps.slice(1).reduce((sum, { missed }) => sum + missed, 0), server.channel('demo').offset);
    }, { historySize: 3 });
  });
}

test('every kind arrives as what it was, over every transport', async () => {
  for (const transport of [...LADDER, 'stream']) {
    await withServer({ transports: [transport] }, async ({ client, subscription, messages }) => {
      await until(() => subscription.state === 'open', 'open');
      const sent = [{ a: [1, 'ü'] }, 'two\nlines\u2028', '', 'null', new Uint8Array([0, 10, 13, 255])];
      for (const data of sent) await client.publish('demo', data);
      await until(() => messages.length === sent.length, `all heard over ${transport}`);
      assert.deepEqual(messages.map(({ data }) => data), [sent[0], sent[1], '', null, sent[4]]);
      assert.deepEqual(messages.map(({ kind }) => kind), ['json', 'text', 'text', 'json', 'binary']);
    });
  }
});

test('where WebSocket does not get through, it goes on over the next, and takes it back when it does', async () => {
  for (const fault of ['websocket', 'websocket-hang']) {
    await withServer({ openTimeoutMs: 150, trialMs: 100 }, async ({ server, subscription, messages, connected }) => {
      server.faults.blocked.add(fault);
      await until(() => connected.length, 'open');
      assert.deepEqual(connected, ['sse']);
      server.publish('demo', '1');
      server.faults.blocked.clear();
      await until(() => subscription.transport === 'websocket', 'better');
      server.publish('demo', '2');
      await until(() => messages.length === 2, 'heard');
    });
  }
});

test('a proxy that holds back the stream, and one that knows no WebSocket: long polls', async () => {
  await withServer({ openTimeoutMs: 100 }, async ({ server, subscription, connected }) => {
    server.faults.holdBody = true;
    server.faults.blocked.add('websocket');
    await until(() => subscription.state === 'open', 'open');
    assert.deepEqual(connected, ['longpoll']);
  });
});

test('a refusal is waited for as long as the server says', async () => {
  await withServer({ transports: ['longpoll'] }, async ({ server, subscription, disconnected }) => {
    server.faults.refusal = { status: 503, retryAfterS: 1 };
    await until(() => disconnected.length, 'refused');
    assert.equal(disconnected[0].status, 503);
    assert.ok(disconnected[0].retryInMs >= 1000);
    server.faults.refusal = null;
    await until(() => subscription.state === 'open', 'open');
    assert.equal(disconnected.length, 1);
  });
});

test('a drain sends away over every transport, and the client comes back', async () => {
  for (const transport of LADDER) {
    await withServer({ transports: [transport] }, async ({ server, subscription, connected, messages }) => {
      await until(() => subscription.state === 'open', 'open');
      server.disconnect('demo', { code: 1001, reason: 'draining', reconnect: true, retry_after_ms: 5 });
      server.publish('demo', '1');
      await until(() => messages.length === 1, `heard over ${transport}`);
      assert.ok(connected.length >= 1);
    });
  }
});

test('a connection on which nothing is heard any more is given up', async () => {
  await withServer({ transports: ['websocket'], probeTimeoutMs: 60 }, async ({ server, connected, disconnected }) => {
    await until(() => connected.length, 'open');
    await sleep(300);
    assert.equal(disconnected.length, 0);
    server.faults.mute = true;
    await until(() => disconnected.length, 'given up');
    assert.equal(disconnected[0].reason, 'silent');
    server.faults.mute = false;
    await until(() => connected.length === 2, 'open again');
  }, { heartbeatMs: 50 });
});

test('with a token that the server takes, every transport gets in', async () => {
  for (const transport of [...LADDER, 'stream']) {
    await withServer({ transports: [transport], getToken: async () => 'sesame' }, async ({ subscription }) => {
      await until(() => subscription.state === 'open', `open over ${transport}`);
    }, { token: 'sesame' });
  }
});

test('long polls go over one kept connection', async () => {
  await withServer({ transports: ['longpoll'] }, async ({ server, subscription, messages }) => {
    await until(() => subscription.state === 'open', 'open');
    for (let i = 1; i <= 100; i++) {
      server.publish('demo', `${i}`);
      await until(() => messages.length === i, 'heard');
    }
    assert.ok(server.counts.poll >= 100);
    assert.ok(server.counts.connections <= 2, `${server.counts.connections} connections`);
  });
});
