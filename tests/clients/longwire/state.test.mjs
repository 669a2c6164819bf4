// The client's states, on a clock that the test moves and with connections that do what it says.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Longwire from '../../../src/console/longwire.js';
import { FakeScope } from './fake-scope.mjs';

/** A subscription whose events are noted in order. */
function subscribe(scope, options = {}, more = {}) {
  const events = [];
  const note = (name) => (event) => events.push({ name, ...event, message: event.message });
  const handlers = Object.fromEntries(['message', 'connected', 'disconnected', 'gap', 'error'].map((name) => [`on${name}`, note(name)]));
  const client = new Longwire('http://fake.test/', { scope, ...options });
  const subscription = client.subscribe('demo', { ...handlers, ...more });
  return { client, subscription, events, names: () => events.map(({ name }) => name), messages: () => events.filter(({ name }) => name === 'message') };
}

const subscribed = (offset, more = {}) => ({ subscribed: { epoch: 'e', offset, recovered: false, ...more } });
const publication = (offset, data = offset) => ({ offset, data, kind: 'json' });
const poll = (offset, publications = [], more = {}) => JSON.stringify({ epoch: 'e', offset, recovered: true, publications, ...more });
const JSON_TYPE = { 'Content-Type': 'application/json' };

async function open(scope, options, more) {
  const seen = subscribe(scope, options, more);
  await scope.settle();
  scope.socket.say(subscribed(0));
  await scope.settle();
  return seen;
}

test('a subscription opens, hears and resumes from its position', async () => {
  const scope = new FakeScope();
  const { subscription, events, messages } = await open(scope);
  assert.equal(scope.socket.url, 'ws://fake.test/channels/demo');
  assert.equal(scope.socket.protocol, 'longwire.v1');
  scope.socket.say(publication(1, { hello: 'world' }));
  scope.socket.say({ offset: 2, data: 'text', kind: 'text' });
  scope.socket.say({ offset: 3, data: 'AP8=', kind: 'binary' });
  assert.deepEqual(messages().map(({ data }) => data), [{ hello: 'world' }, 'text', new Uint8Array([0, 255])]);
  assert.deepEqual(subscription.position, { epoch: 'e', offset: 3 });
  scope.socket.end();
  await scope.advance(1000);
  assert.equal(scope.socket.url, 'ws://fake.test/channels/demo?since=e%3A3');
  scope.socket.say(subscribed(4, { recovered: true }));
  scope.socket.say(publication(3));
  scope.socket.say(publication(4));
  assert.deepEqual(messages().map(({ offset }) => offset), [1, 2, 3, 4]);
  assert.ok(!events.some(({ name }) => name === 'gap'));
});

test('a gap is told before what follows it', async () => {
  const scope = new FakeScope();
  const { events } = await open(scope);
  scope.socket.say(publication(1));
  scope.socket.end();
  await scope.advance(1000);
  scope.socket.say({ subscribed: { epoch: 'new', offset: 7, recovered: false } });
  scope.socket.say(publication(8));
  const gap = events.findIndex(({ name }) => name === 'gap');
  assert.deepEqual(events[gap].since, { epoch: 'e', offset: 1 });
  assert.deepEqual(events[gap].position, { epoch: 'new', offset: 7 });
  assert.equal(events[gap].missed, undefined);
  assert.equal(events[gap + 1].offset, 8);
  scope.socket.say(publication(12));
  assert.equal(events.at(-2).missed, 3);
  assert.equal(events.at(-1).offset, 12);
});

test('nothing missed is no gap, even if the server cannot recover', async () => {
  const scope = new FakeScope();
  const { names } = await open(scope);
  scope.socket.say(publication(1));
  scope.socket.end();
  await scope.advance(1000);
  scope.socket.say(subscribed(1));
  assert.ok(!names().includes('gap'));
});

test('what an old connection still says changes nothing', async () => {
  const scope = new FakeScope();
  const { subscription, events } = await open(scope);
  const old = scope.socket, { onmessage, onclose } = old;
  scope.socket.say(publication(1));
  await scope.advance(45_000); // silent, and so asked
  assert.deepEqual(old.sent, ['{}']);
  await scope.advance(5000);
  assert.ok(old.isClosed);
  assert.equal(events.at(-1).reason, 'silent');
  const count = events.length;
  onmessage({ data: JSON.stringify(publication(2)) });
  onclose({ code: 1008, reason: 'late' });
  await scope.settle();
  assert.equal(events.length, count);
  assert.equal(subscription.position.offset, 1);
  await scope.advance(1000);
  assert.notEqual(scope.socket, old);
  scope.socket.say(subscribed(1, { recovered: true }));
  onmessage({ data: JSON.stringify({ disconnect: { code: 1008, reason: 'late', reconnect: false } }) });
  onclose({ code: 1008, reason: 'late' });
  await scope.settle();
  assert.equal(subscription.state, 'open');
});

test('random events of old and new connections never lose, repeat or reorder', async () => {
  let state = 1;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let round = 0; round < 20; round++) {
    const scope = new FakeScope();
    const { subscription, messages, names } = await open(scope, { transports: ['websocket'] });
    const log = [];
    let live = 0;
    for (let step = 0; step < 60; step++) {
      const old = scope.sockets[random(scope.sockets.length)], present = scope.socket;
      if (old !== present) [() => old.say(publication(999)), () => old.end(1008), () => old.say(subscribed(500))][random(3)]();
      if (random(3)) log.push(log.length + 1);
      if (live === scope.sockets.indexOf(present)) {
        const position = subscription.position.offset;
        if (!present.isOver) for (const offset of log.slice(Math.max(0, position - random(2)), position + random(3))) present.say(publication(offset));
      } else if (!present.isOver) {
        present.say(subscribed(log.length, { recovered: true }));
        live = scope.sockets.indexOf(present);
      }
      if (!random(4)) { present.isOver = true; present.end(); }
      if (!random(2)) await scope.advance(random(40_000));
      if (scope.socket === present && present.isClosed) present.isOver = true;
    }
    const offsets = messages().map(({ offset }) => offset);
    assert.deepEqual(offsets, log.slice(0, offsets.length));
    assert.ok(offsets.length > 5 && !names().includes('gap'));
    subscription.close();
    assert.equal(scope.timers, 0);
  }
});

test('waits have full jitter below a doubling window with a cap', async () => {
  for (const fraction of [0, 0.25, 0.999]) {
    const scope = new FakeScope();
    scope.Math.random = () => fraction;
    const { events } = subscribe(scope, { transports: ['websocket'] });
    for (let attempt = 0; attempt < 9; attempt++) {
      await scope.settle();
      scope.socket.end();
      await scope.settle();
      const wait = events.at(-1).retryInMs, window = Math.min(30_000, 1000 * 2 ** attempt);
      assert.ok(Math.abs(wait - fraction * window) < 1e-6, `${wait} of ${window}`);
      await scope.advance(wait);
    }
    assert.equal(scope.sockets.length, 10);
  }
});

test('waits spread over the window', async () => {
  const scope = new FakeScope();
  scope.Math.random = Math.random;
  const waits = [];
  for (let i = 0; i < 400; i++) {
    const { events, subscription } = subscribe(scope, { transports: ['websocket'] });
    await scope.settle();
    scope.socket.end();
    await scope.settle();
    waits.push(events.at(-1).retryInMs);
    subscription.close();
  }
  assert.ok(waits.every((wait) => wait >= 0 && wait < 1000));
  for (let quarter = 0; quarter < 4; quarter++) {
    const inside = waits.filter((wait) => Math.floor(wait / 250) === quarter).length;
    assert.ok(inside > 50 && inside < 150, `${inside} of 400 in quarter ${quarter}`);
  }
});

test('only a stable connection ends the backoff', async () => {
  const scope = new FakeScope();
  const { events } = await open(scope, { transports: ['websocket'] });
  const waits = [];
  for (const lifeMs of [100, 100, 100, 40_000]) {
    await scope.advance(lifeMs);
    scope.socket.end();
    await scope.settle();
    waits.push(events.at(-1).retryInMs);
    await scope.advance(waits.at(-1));
    scope.socket.say(subscribed(0, { recovered: true }));
  }
  assert.deepEqual(waits, [500, 1000, 2000, 500]);
});

test('close codes: who comes back, and when', async () => {
  const rows = [[1000, 500], [1001, 2500], [1006, 500], [1012, 2500], [1013, 7500], [4004, 500], [4005, 500], [1002], [1007], [1008], [1009]];
  for (const [code, wait] of rows) {
    const scope = new FakeScope();
    const { events, subscription } = await open(scope);
    scope.socket.end(code, 'why');
    await scope.settle();
    assert.equal(events.at(-1).retryInMs, wait, `code ${code}`);
    assert.equal(events.at(-1).reason, 'why');
    assert.equal(subscription.state, wait === undefined ? 'closed' : 'waiting');
  }
});

test('what the server says before the close decides', async () => {
  const scope = new FakeScope();
  const { events } = await open(scope);
  scope.socket.say({ disconnect: { code: 1001, reason: 'draining', reconnect: true, retry_after_ms: 9000 } });
  scope.socket.end(1001);
  await scope.settle();
  assert.deepEqual([events.at(-1).retryInMs, events.at(-1).reason], [11_500, 'draining']);
  const other = await open(new FakeScope());
  other.client.scope.socket.say({ disconnect: { code: 4900, reason: 'expired', reconnect: false } });
  other.client.scope.socket.end(4900);
  await other.client.scope.settle();
  assert.equal(other.subscription.state, 'closed');
  assert.deepEqual(other.names().slice(-2), ['error', 'disconnected']);
});

test('Retry-After, in seconds and as a date, is waited for', async () => {
  for (const after of ['7', new Date(Date.now() + 8000).toUTCString()]) {
    const scope = new FakeScope();
    const { events } = subscribe(scope, { transports: ['sse'] });
    await scope.settle();
    scope.request.answer(503, 'busy', { 'Retry-After': after });
    await scope.settle();
    const { retryInMs, status, reason } = events.at(-1);
    assert.ok(retryInMs > 6000 && retryInMs <= 8500, `${retryInMs}`);
    assert.deepEqual([status, reason], [503, 'busy']);
    // The network being there again does not make the server less busy.
    scope.dispatchEvent(new Event('online'));
    await scope.advance(5000);
    assert.equal(scope.requests.length, 1);
    await scope.advance(4000);
    assert.equal(scope.requests.length, 2);
  }
});

test('refusals: some are for good, others are not', async () => {
  const rows = [[400, 'closed'], [401, 'closed'], [403, 'closed'], [404, 'closed'], [429, 'waiting'], [500, 'waiting'], [503, 'waiting'], [426, 'waiting']];
  for (const [status, state] of rows) {
    const scope = new FakeScope();
    const { subscription } = subscribe(scope, { transports: ['sse', 'longpoll'] });
    await scope.settle();
    scope.request.answer(status);
    await scope.settle();
    assert.equal(subscription.state, state, `status ${status}`);
  }
});

test('a token is asked for anew for every connection', async () => {
  const scope = new FakeScope();
  let count = 0;
  const getToken = async () => { if (++count === 2) throw new Error('no'); return `t${count}`; };
  const { subscription, events } = subscribe(scope, { transports: ['sse', 'longpoll'], getToken });
  await scope.settle();
  assert.equal(scope.request.headers.Authorization, 'Bearer t1');
  scope.request.answer(401);
  await scope.advance(1000);
  assert.equal(events.at(-1).reason, 'no token: no');
  await scope.advance(1500);
  assert.equal(scope.request.headers.Authorization, 'Bearer t3');
  assert.equal(scope.request.headers.Accept, 'text/event-stream');
  subscription.close();
});

test('the ladder: the first transport that opens stays, and is remembered', async () => {
  const scope = new FakeScope();
  const { subscription } = subscribe(scope);
  await scope.settle();
  scope.socket.end(); // the handshake came to nothing
  await scope.advance(500);
  assert.equal(scope.request.headers.Accept, 'text/event-stream');
  await scope.advance(8000); // not a byte
  await scope.advance(1000);
  assert.equal(scope.request.url, 'http://fake.test/channels/demo?wait=0');
  scope.request.answer(200, poll(5), JSON_TYPE);
  await scope.settle();
  assert.equal(subscription.transport, 'longpoll');
  assert.equal(scope.request.url, 'http://fake.test/channels/demo?since=e%3A5&wait=25');
  subscription.close();
  const again = subscribe(scope);
  await scope.settle();
  assert.equal(again.subscription.state, 'connecting');
  assert.match(scope.request.url, /wait=0$/);
  again.subscription.close();
  const key = [...scope.stored.keys()][0];
  scope.stored.set(key, JSON.stringify({ kind: 'longpoll', until: Date.now() - 1 }));
  const { length } = scope.sockets;
  subscribe(scope);
  await scope.settle();
  assert.equal(scope.sockets.length, length + 1);
});

test('storage that is forbidden is no reason to fail', async () => {
  const scope = new FakeScope();
  Object.defineProperty(scope, 'localStorage', { get() { throw new Error('SecurityError'); } });
  const { subscription } = await open(scope);
  assert.equal(subscription.state, 'open');
});

test('an outage alone does not make the transport worse', async () => {
  const scope = new FakeScope();
  const { subscription } = subscribe(scope);
  for (let i = 0; i < 12; i++) {
    await scope.settle();
    if (scope.requests.length && scope.request.open === undefined) { scope.request.open = false; scope.request.reject(new TypeError('fetch failed')); }
    scope.socket.end();
    await scope.advance(16_000);
  }
  // Whatever the next attempt is made with, it opens; a better transport then takes over within seconds.
  scope.request.answer(200, poll(0), JSON_TYPE);
  if (subscription.state !== 'open') scope.socket.say(subscribed(0));
  await scope.advance(10_000);
  scope.socket.say(subscribed(0, { recovered: true }));
  await scope.settle();
  assert.equal(subscription.transport, 'websocket');
});

test('a transport that is cut within seconds again and again gives way', async () => {
  const scope = new FakeScope();
  const { events } = await open(scope);
  for (let i = 0; i < 3; i++) {
    assert.equal(scope.requests.length, 0);
    await scope.advance(2000);
    scope.socket.end();
    await scope.advance(events.at(-1).retryInMs ?? 8000);
    if (i < 2) scope.socket.say(subscribed(0, { recovered: true }));
  }
  assert.equal(scope.request.headers.Accept, 'text/event-stream');
});

test('a better transport takes over without a break, and only if it can resume', async () => {
  const scope = new FakeScope();
  const { subscription, names, messages } = subscribe(scope, { transports: ['websocket', 'longpoll'] });
  await scope.settle();
  scope.socket.end();
  await scope.advance(500);
  scope.request.answer(200, poll(0), JSON_TYPE);
  await scope.advance(10_000);
  assert.equal(scope.sockets.length, 2);
  scope.socket.say(subscribed(3)); // cannot recover what came meanwhile
  await scope.settle();
  assert.equal(subscription.transport, 'longpoll');
  scope.request.answer(200, poll(3, [1, 2, 3].map((offset) => publication(offset))), JSON_TYPE);
  for (let i = 0; i < 3; i++) {
    await scope.advance(20_000);
    if (i < 2) scope.request.answer(200, poll(3), JSON_TYPE);
  }
  assert.equal(scope.sockets.length, 3);
  assert.match(scope.socket.url, /since=e%3A3$/);
  scope.socket.say(subscribed(4, { recovered: true }));
  scope.request.answer(200, poll(4, [publication(4)]), JSON_TYPE);
  scope.socket.say(publication(4));
  await scope.settle();
  assert.equal(subscription.transport, 'websocket');
  assert.deepEqual(messages().map(({ offset }) => offset), [1, 2, 3, 4]);
  assert.deepEqual(names().filter((name) => name !== 'message'), ['error', 'disconnected', 'connected', 'connected']);
});

test('silence is asked about, and an answer keeps the connection', async () => {
  const scope = new FakeScope();
  const { subscription } = await open(scope);
  for (let i = 0; i < 5; i++) {
    await scope.advance(i ? 40_000 : 45_000);
    assert.equal(scope.socket.sent.length, i + 1);
    scope.socket.say({});
    await scope.advance(5000);
  }
  assert.equal(subscription.state, 'open');
  assert.equal(scope.sockets.length, 1);
});

test('back online: an open connection is asked first, a wait is shortened', async () => {
  const scope = new FakeScope();
  const { subscription, events } = await open(scope);
  for (let i = 0; i < 3; i++) scope.dispatchEvent(new Event('online'));
  assert.equal(scope.socket.sent.length, 1);
  scope.socket.say({});
  await scope.advance(6000);
  assert.equal(subscription.state, 'open');
  scope.dispatchEvent(new Event('online'));
  await scope.advance(5000); // no answer
  assert.equal(events.at(-1).reason, 'silent');
  for (let i = 0; i < 6; i++) {
    await scope.advance(events.at(-1).retryInMs);
    if (scope.requests.length) scope.request.reject(new TypeError('fetch failed'));
    scope.socket.end();
    await scope.settle();
  }
  assert.ok(events.at(-1).retryInMs > 10_000);
  const tries = () => scope.sockets.length + scope.requests.length, before = tries();
  await scope.advance(100);
  scope.dispatchEvent(new Event('online'));
  await scope.advance(1000);
  assert.equal(tries(), before + 1);
});

test('offline attempts are rare, and an open connection stays', async () => {
  const scope = new FakeScope();
  const { subscription, events } = await open(scope);
  scope.navigator.onLine = false;
  scope.dispatchEvent(new Event('offline'));
  await scope.advance(20_000);
  assert.equal(subscription.state, 'open');
  scope.socket.end();
  await scope.settle();
  assert.ok(events.at(-1).retryInMs >= 30_000);
});

test('a page that is looked at again asks', async () => {
  const scope = new FakeScope();
  await open(scope);
  scope.document.visibilityState = 'hidden';
  scope.document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(scope.socket.sent.length, 0);
  scope.document.visibilityState = 'visible';
  scope.document.dispatchEvent(new Event('visibilitychange'));
  assert.equal(scope.socket.sent.length, 1);
});

test('long polls follow each other, never faster than the server holds them', async () => {
  const scope = new FakeScope();
  const { messages, subscription } = subscribe(scope, { transports: ['longpoll'] });
  await scope.settle();
  scope.request.answer(200, poll(0, [publication(9)], { offset: 9, recovered: false }), JSON_TYPE);
  await scope.settle();
  assert.equal(messages().length, 0); // the latest, from before the subscription
  scope.request.answer(200, poll(10, [publication(10)]), JSON_TYPE);
  await scope.settle();
  assert.equal(messages().length, 1);
  assert.equal(scope.requests.length, 3);
  scope.request.answer(200, poll(10), JSON_TYPE); // at once and empty
  await scope.advance(4000);
  assert.equal(scope.requests.length, 3);
  await scope.advance(1000);
  assert.equal(scope.requests.length, 4);
  await scope.advance(25_000 + 10_000 + 5000); // held too long
  assert.equal(subscription.state, 'waiting');
});

test('a poll whose answer sends it away comes back when it is told to, over the same transport', async () => {
  const scope = new FakeScope();
  const { subscription, messages, events } = subscribe(scope, { transports: ['longpoll', 'shortpoll'] });
  await scope.settle();
  scope.request.answer(204, '', { 'Longwire-Position': 'e:4' });
  await scope.settle();
  scope.request.answer(200, poll(5, [publication(5)]), { ...JSON_TYPE, 'Retry-After': '3' });
  await scope.settle();
  assert.equal(messages().length, 1);
  assert.equal(subscription.state, 'waiting');
  assert.equal(events.at(-1).code, 1001);
  await scope.advance(2999);
  assert.equal(scope.requests.length, 2);
  await scope.advance(5001);
  assert.equal(scope.requests.length, 3);
  assert.match(scope.request.url, /since=e%3A5&wait=0$/);
});

test('short polls keep the interval the server asks for, longer in the background', async () => {
  const scope = new FakeScope();
  const { subscription, messages } = subscribe(scope, { transports: ['shortpoll'] });
  await scope.settle();
  scope.request.answer(204, '', { 'Longwire-Position': 'e:4', 'Poll-Interval': '3' });
  await scope.settle();
  assert.deepEqual(subscription.position, { epoch: 'e', offset: 4 });
  await scope.advance(2999);
  assert.equal(scope.requests.length, 1);
  await scope.advance(1);
  assert.match(scope.request.url, /since=e%3A4&wait=0$/);
  scope.document.visibilityState = 'hidden';
  scope.request.answer(200, poll(5, [publication(5)]), { ...JSON_TYPE, 'Poll-Interval': '3' });
  await scope.advance(11_000);
  assert.equal(scope.requests.length, 2);
  await scope.advance(1000);
  assert.equal(scope.requests.length, 3);
  assert.equal(messages().length, 1);
  scope.request.answer(304);
  await scope.settle();
  scope.document.visibilityState = 'visible';
  scope.document.dispatchEvent(new Event('visibilitychange'));
  await scope.settle();
  assert.equal(scope.requests.length, 4);
});

test('an event stream: split anywhere, in all its forms', async () => {
  const scope = new FakeScope();
  const { messages, events, subscription } = subscribe(scope, { transports: ['sse'] });
  await scope.settle();
  let controller;
  const body = new ReadableStream({ start: (given) => { controller = given; } });
  scope.request.resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }));
  const text = ': hi\nretry: 4000\nid: e:0\n\nid: e:1\ndata: {"a":\ndata: 1}\n\nid: e:2\r\ndata: grüße 🦀\u2028 : x\r\n\r\n:\n\n'
    + 'id: e:3\nevent: longwire.binary\ndata: AP8=\n\nid: e:3\ndata: again\n\nevent: other\ndata: x\n\nid: e:4\ndata: \n\n'
    + 'id: f:9\nevent: longwire.gap\ndata: {"epoch":"f","offset":9}\n\nid: f:10\ndata: "x"\n\n';
  for (const byte of new TextEncoder().encode(text)) controller.enqueue(new Uint8Array([byte]));
  for (let i = 0; i < 200; i++) await scope.settle();
  assert.deepEqual(messages().map(({ data }) => data), [{ a: 1 }, 'grüße 🦀\u2028 : x', new Uint8Array([0, 255]), '', 'x']);
  assert.deepEqual(events.find(({ name }) => name === 'gap').position, { epoch: 'f', offset: 9 });
  assert.deepEqual(subscription.position, { epoch: 'f', offset: 10 });
  controller.close();
  await scope.settle();
  assert.equal(events.at(-1).retryInMs, 4500);
});

test('a line without end is given up', async () => {
  const scope = new FakeScope();
  const { events } = subscribe(scope, { transports: ['sse'], messageLimit: 100_000 });
  await scope.settle();
  const body = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(10_000).fill(97)) });
  scope.request.resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }));
  for (let i = 0; i < 20; i++) await scope.settle();
  assert.equal(events.at(-1).reason, 'message too long');
});

test('a portal that answers everything with a page is not the server', async () => {
  const scope = new FakeScope();
  const { events, subscription } = subscribe(scope, { transports: ['sse', 'longpoll'] });
  await scope.settle();
  scope.request.answer(200, '<html>', { 'Content-Type': 'text/html' });
  await scope.settle();
  assert.equal(events.at(-1).reason, 'answered with text/html');
  assert.equal(subscription.state, 'waiting');
});

test('after close no timer is left, and no handler is called', async () => {
  for (const stage of ['connecting', 'open', 'probing', 'waiting', 'polling']) {
    const scope = new FakeScope();
    const seen = subscribe(scope, stage === 'polling' ? { transports: ['websocket', 'shortpoll'] } : {});
    await scope.settle();
    if (stage === 'polling') {
      scope.socket.end();
      await scope.advance(500);
      scope.request.answer(204, '', { 'Longwire-Position': 'e:4' });
    } else if (stage !== 'connecting') scope.socket.say(subscribed(0));
    if (stage === 'probing') scope.dispatchEvent(new Event('online'));
    if (stage === 'waiting') scope.socket.end();
    await scope.settle();
    const { length } = seen.events;
    seen.client.close();
    assert.equal(scope.timers, 0, stage);
    scope.dispatchEvent(new Event('online'));
    scope.sockets.forEach((socket) => { socket.say(subscribed(1)); socket.end(); });
    await scope.advance(100_000);
    assert.equal(seen.events.length, length, stage);
    assert.equal(scope.timers, 0, stage);
  }
});

test('closing inside a handler is enough', async () => {
  const scope = new FakeScope();
  let count = 0;
  const { subscription } = await open(scope, {}, { onmessage: () => { count += 1; subscription.close(); } });
  scope.socket.say(publication(1));
  scope.socket.say(publication(2));
  assert.equal(count, 1);
});

test("a handler's mistake does not end the connection", async () => {
  const scope = new FakeScope();
  const { subscription } = await open(scope, {}, { onmessage: () => { throw new Error('mine'); } });
  scope.socket.say(publication(1));
  await assert.rejects(scope.advance(1), /mine/);
  assert.equal(subscription.state, 'open');
});

test('publish says what is known', async () => {
  const scope = new FakeScope();
  const client = new Longwire('http://fake.test/', { scope, token: 't' });
  const position = client.publish('a/b', { x: 1 });
  await scope.settle();
  assert.equal(scope.request.url, 'http://fake.test/channels/a%2Fb');
  assert.deepEqual([scope.request.method, scope.request.body, scope.request.headers.Authorization], ['POST', '{"x":1}', 'Bearer t']);
  scope.request.answer(200, '{"epoch":"e","offset":1}');
  assert.deepEqual(await position, { epoch: 'e', offset: 1 });
  const refused = client.publish('demo', new Uint8Array(3));
  await scope.settle();
  assert.equal(scope.request.headers['Content-Type'], 'application/octet-stream');
  scope.request.answer(503, 'behind', { 'Retry-After': '2' });
  await assert.rejects(refused, { message: 'behind', status: 503, retryAfterMs: 2000 });
  const lost = client.publish('demo', 'text');
  await scope.settle();
  assert.equal(scope.request.body, 'text');
  scope.request.reject(new TypeError('fetch failed'));
  await assert.rejects(lost, (error) => error.status === undefined);
  assert.equal(scope.timers, 0);
});

test('a busy server is no reason for another transport', async () => {
  const scope = new FakeScope();
  const { subscription, events } = subscribe(scope, { transports: ['sse', 'longpoll'] });
  for (let i = 1; i <= 4; i++) {
    await scope.settle();
    assert.equal(scope.requests.length, i);
    assert.equal(scope.request.headers.Accept, 'text/event-stream');
    scope.request.answer(503, '', { 'Retry-After': '1' });
    await scope.settle();
    await scope.advance(events.at(-1).retryInMs);
  }
  subscription.close();
});

test('long polls that are never held to the end give way to short ones', async () => {
  const scope = new FakeScope();
  const { events } = subscribe(scope, { transports: ['longpoll', 'shortpoll'] });
  for (let i = 0; i < 3; i++) {
    await scope.settle();
    scope.request.answer(200, poll(0), JSON_TYPE);
    await scope.advance(12_000);
    assert.match(scope.request.url, /wait=25/);
    scope.request.reject(new TypeError('fetch failed'));
    await scope.settle();
    await scope.advance(events.at(-1).retryInMs);
  }
  scope.request.answer(200, poll(0), JSON_TYPE);
  await scope.settle();
  assert.equal(events.at(-1).transport, 'shortpoll');
});

test('the server says how often its heart beats', async () => {
  const scope = new FakeScope();
  subscribe(scope);
  await scope.settle();
  scope.socket.say(subscribed(0, { heartbeat_ms: 10_000 }));
  await scope.advance(14_999);
  assert.equal(scope.socket.sent.length, 0);
  await scope.advance(1);
  assert.equal(scope.socket.sent.length, 1);
});

test('each connection of a subscription takes over from the one before, but for a trial', async () => {
  const scope = new FakeScope();
  await open(scope);
  const { session } = scope.socket;
  assert.match(session, /^[0-9a-f-]{36}$/);
  scope.socket.end();
  await scope.advance(1000);
  assert.equal(scope.socket.session, session);
  const other = subscribe(scope, { transports: ['websocket', 'longpoll'] });
  await scope.settle();
  assert.notEqual(scope.socket.session, session);
  scope.socket.end(); // the handshake came to nothing
  await scope.advance(500);
  assert.match(scope.request.session, /^[0-9a-f-]{36}$/);
  scope.request.answer(200, poll(0), JSON_TYPE);
  const { length } = scope.sockets;
  await scope.advance(10_000);
  assert.equal(scope.sockets.length, length + 1);
  assert.equal(scope.socket.session, undefined);
  other.subscription.close();
});

test('a connection that was taken over does not come back', async () => {
  const farewell = { code: 4006, reason: 'taken over by a newer connection', reconnect: false };
  const ways = {
    websocket: (scope) => { scope.socket.say({ disconnect: farewell }); scope.socket.end(4006); },
    sse: (scope) => scope.request.answer(200, `id: taken-over\nevent: longwire.taken_over\ndata: ${JSON.stringify({ disconnect: farewell })}\n\n`, { 'Content-Type': 'text/event-stream' }),
    longpoll: (scope) => scope.request.answer(409, 'taken over by a newer connection'),
  };
  for (const [way, end] of Object.entries(ways)) {
    const scope = new FakeScope();
    const { subscription, events } = subscribe(scope, { transports: [way] });
    await scope.settle();
    end(scope);
    await scope.settle();
    assert.equal(subscription.state, 'closed', way);
    assert.ok(events.some(({ name, retryInMs }) => name === 'disconnected' && retryInMs === undefined), way);
  }
});

test('another network is a new chance for the better transport', async () => {
  const scope = new FakeScope();
  subscribe(scope, { transports: ['websocket', 'sse'] });
  await scope.settle();
  scope.socket.end();
  await scope.advance(500);
  let controller;
  const streamed = () => new Response(new ReadableStream({ start: (given) => { controller = given; } }), { headers: { 'Content-Type': 'text/event-stream' } });
  scope.request.resolve(streamed());
  await scope.settle();
  const beat = () => controller.enqueue(new TextEncoder().encode(':\n\n'));
  for (let i = 0; i < 30; i++) { // trials after 10, 60 and 360 s
    beat();
    await scope.advance(20_000);
    scope.socket.end();
  }
  const before = scope.sockets.length;
  assert.equal(before, 4);
  scope.dispatchEvent(new Event('online'));
  await scope.advance(1000);
  scope.request.resolve(streamed());
  await scope.settle();
  beat();
  await scope.advance(11_000);
  assert.equal(scope.sockets.length, before + 1);
});

test('closing while the connection is told about is enough, too', async () => {
  const scope = new FakeScope();
  const seen = subscribe(scope, {}, { since: 'old:5' });
  await scope.settle();
  assert.match(scope.socket.url, /since=old%3A5$/);
  seen.subscription.handlers.onconnected = () => seen.subscription.close();
  scope.socket.say(subscribed(0));
  assert.deepEqual(seen.events, []);
});

test('events are listened to only while something is subscribed', () => {
  const scope = new FakeScope(), listened = new Set();
  for (const target of [scope, scope.document]) {
    target.addEventListener = (name) => listened.add(name);
    target.removeEventListener = (name) => listened.delete(name);
  }
  const client = new Longwire('http://fake.test/', { scope });
  const [one, two] = [client.subscribe('one'), client.subscribe('two')];
  assert.deepEqual([...listened].sort(), ['offline', 'online', 'pageshow', 'resume', 'visibilitychange']);
  one.close();
  assert.equal(listened.size, 5);
  two.close();
  assert.equal(listened.size, 0);
});
