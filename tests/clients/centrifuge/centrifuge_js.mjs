// The npm package `centrifuge` over one transport: node centrifuge_js.mjs http://127.0.0.1:8000 'websocket protobuf'

import assert from 'node:assert/strict';
import { Centrifuge as JsonClient } from 'centrifuge';
import { Centrifuge as ProtobufClient } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import SockJS from 'sockjs-client';
import WebSocket from 'ws';
import { run } from '../report.mjs';
import { api, channel, Cuttable, publish, Queue, server, sleep, token, unixTime, until, url, wsUrl } from './common.mjs';

const RECONNECT = { minReconnectDelay: 10, maxReconnectDelay: 100 };
const RESUBSCRIBE = { minResubscribeDelay: 10, maxResubscribeDelay: 100 };
/** Long enough for the first ping of the server, a pong and the time-out of one that does not come. */
const IDLE_MS = 36_000;
/** How long a connection or subscription may take to stand. */
const READY_MS = 10_000;
/** After what time a connection is cut again that did not see it: less than what the history of 100 holds. */
const CUT_AGAIN_MS = 300;

const json = { Client: JsonClient, encode: (value) => value, decode: (data) => data };
const protobuf = {
  Client: ProtobufClient,
  encode: (value) => new TextEncoder().encode(JSON.stringify(value)),
  decode: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
};

const http = (path) => (base) => url(path, base).href;
const carriers = {
  websocket: { codec: json, endpoint: (base) => wsUrl('/connection/websocket', base) },
  'websocket protobuf': { codec: protobuf, endpoint: (base) => wsUrl('/connection/websocket', base) },
  http_stream: { codec: json, endpoint: http('/connection/http_stream') },
  'http_stream protobuf': { codec: protobuf, endpoint: http('/connection/http_stream') },
  sse: { codec: json, endpoint: http('/connection/sse') },
  sockjs: { codec: json, endpoint: http('/connection/sockjs'), sockjs: 'xhr-polling' },
  // In Node the first does not see that a response is cut off, and neither gives up while nobody answers: both wait for
  // a ping then, and for what comes meanwhile the history is too short.
  'sockjs streaming': { codec: json, endpoint: http('/connection/sockjs'), sockjs: 'xhr-streaming', cuts: 0, outages: 1 },
  'sockjs eventsource': { codec: json, endpoint: http('/connection/sockjs'), sockjs: 'eventsource', outages: 1 },
};

/** The tests over one transport. */
function tests(name, { codec, endpoint, sockjs, cuts = 5, outages = 2 }) {
  const { Client, encode, decode } = codec;

  function client(options = {}, base = server) {
    const transport = name.split(' ')[0];
    const made = new Client([{ transport, endpoint: endpoint(base) }], {
      websocket: WebSocket,
      eventsource: EventSource,
      sockjs: SockJS,
      sockjsOptions: { transports: [sockjs] },
      emulationEndpoint: url('/emulation', base).href,
      ...RECONNECT,
      ...options,
    });
    made.on('error', () => {});
    return made;
  }

  async function connected(options, base) {
    const made = client(options, base);
    made.connect();
    await made.ready(READY_MS);
    return made;
  }

  /** The next event of a name. */
  const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

  /** A subscription that collects what comes. */
  function subscription(of, channelName, options = {}) {
    const made = of.newSubscription(channelName, { ...RESUBSCRIBE, ...options });
    made.queue = new Queue();
    made.on('publication', (publication) => made.queue.push({ ...publication, data: decode(publication.data) }));
    made.on('error', () => {});
    made.subscribe();
    return made;
  }

  async function subscribed(of, channelName, options) {
    const made = subscription(of, channelName, options);
    await made.ready(READY_MS);
    return made;
  }

  /** Publishes through the API until told to stop, and gives how many it were. */
  function publishing(channelName) {
    let isDone = false;
    const all = (async () => {
      let count = 0;
      while (!isDone) {
        await publish(channelName, ++count);
        await sleep(10);
      }
      return count;
    })();
    return () => {
      isDone = true;
      return all;
    };
  }

  const idle = (async () => {
    const one = client();
    let connects = 0;
    one.on('connected', () => connects++);
    one.connect();
    const from = Date.now();
    await one.ready(READY_MS);
    return async () => {
      await sleep(Math.max(0, from + IDLE_MS - Date.now()));
      assert.equal(connects, 1);
      assert.equal(one.state, 'connected');
      await assert.rejects(one.rpc('m', encode({})), { code: 108 });
      one.disconnect();
    };
  })();
  idle.catch(() => {});

  const all = {
    async 'connects with a token and without'() {
      for (const options of [{}, { token: token({ sub: '42' }) }, { getToken: async () => token({ sub: '42' }) }]) {
        const one = client({ name: 'test', version: '1.2', data: encode({ a: 1 }), ...options });
        const context = next(one, 'connected');
        one.connect();
        assert.match((await context).client, /^[0-9a-f-]{36}$/);
        const gone = next(one, 'disconnected');
        one.disconnect();
        assert.equal((await gone).code, 0);
      }
    },

    async 'a token that is no good is terminal, with 3500'() {
      const one = client({ token: 'nope' });
      const gone = next(one, 'disconnected');
      one.connect();
      const { code, reason } = await gone;
      assert.deepEqual({ code, reason }, { code: 3500, reason: 'invalid token' });
    },

    async 'an expired token is replaced by a new one'() {
      let asked = 0;
      const getToken = async () => {
        asked += 1;
        return token({ sub: '42' });
      };
      const one = await connected({ token: token({ sub: '42', exp: unixTime(-10) }), getToken });
      assert.equal(asked, 1);
      one.disconnect();
    },

    async 'publications of clients and of the API arrive, with info, tags and offsets'() {
      const ada = await connected({ token: token({ sub: 'ada', info: { name: 'Ada' } }) });
      const bob = await connected();
      const name = channel();
      const [hers, his] = [await subscribed(ada, name), await subscribed(bob, name)];
      await hers.publish(encode({ text: 'grüße 🦀\n' }));
      await publish(name, { n: 2 }, { tags: { k: 'v' } });
      await bob.publish(name, encode('x'.repeat(60_000)));
      for (const { queue } of [hers, his]) {
        const first = await queue.next();
        assert.deepEqual([first.data, first.offset], [{ text: 'grüße 🦀\n' }, 1]);
        assert.equal(first.info.user, 'ada');
        assert.deepEqual(decode(first.info.connInfo), { name: 'Ada' });
        const second = await queue.next();
        assert.deepEqual([second.data, second.offset, second.tags], [{ n: 2 }, 2, { k: 'v' }]);
        assert.equal(second.info, undefined);
        assert.equal((await queue.next()).data.length, 60_000);
      }
      for (const one of [ada, bob]) one.disconnect();
    },

    async 'presence and its counts'() {
      const one = await connected({ token: token({ sub: '42', info: { a: 1 } }) });
      const other = await connected();
      const name = channel();
      const sub = await subscribed(one, name);
      await subscribed(other, name);
      const { clients } = await sub.presence();
      const infos = Object.values(clients);
      assert.deepEqual(infos.map(({ user }) => user).sort(), ['', '42']);
      assert.deepEqual(decode(infos.find(({ user }) => user === '42').connInfo), { a: 1 });
      for (const [id, { client }] of Object.entries(clients)) assert.equal(id, client);
      assert.deepEqual(await one.presenceStats(name), { numClients: 2, numUsers: 2 });
      other.disconnect();
      await until(async () => (await sub.presenceStats()).numClients === 1);
      one.disconnect();
    },

    async 'joins and leaves'() {
      const one = await connected();
      const name = channel();
      const sub = subscription(one, name, { joinLeave: true });
      const events = new Queue();
      for (const kind of ['join', 'leave']) sub.on(kind, ({ info }) => events.push([kind, info.user]));
      await sub.ready(READY_MS);
      const other = await connected({ token: token({ sub: '42' }) });
      await subscribed(other, name);
      other.disconnect();
      assert.deepEqual(await events.next(), ['join', '']);
      assert.deepEqual(await events.next(), ['join', '42']);
      assert.deepEqual(await events.next(), ['leave', '42']);
      one.disconnect();
    },

    async 'history by limit, position and direction'() {
      const one = await connected();
      const name = channel();
      for (let i = 1; i <= 5; i++) await publish(name, i);
      const sub = await subscribed(one, name);
      const { offset, epoch, publications } = await sub.history();
      assert.deepEqual([offset, publications], [5, []]);
      for (const [options, expected] of [
        [{ limit: -1 }, [1, 2, 3, 4, 5]],
        [{ limit: 2 }, [1, 2]],
        [{ limit: 2, reverse: true }, [5, 4]],
        [{ limit: 10, since: { offset: 3, epoch } }, [4, 5]],
        [{ limit: 10, since: { offset: 3, epoch }, reverse: true }, [2, 1]],
      ]) {
        const found = await sub.history(options);
        assert.deepEqual(found.publications.map(({ data }) => decode(data)), expected, JSON.stringify(options));
      }
      const since = { offset: 1, epoch: 'nope' };
      await assert.rejects(sub.history({ limit: 1, since }), { code: 112 });
      one.disconnect();
    },

    async 'nothing is lost or doubled, however often the connection is cut'() {
      const proxy = await Cuttable.start();
      const one = await connected({}, proxy.base);
      const name = channel('recovery');
      const sub = await subscribed(one, name);
      const results = [];
      sub.on('subscribed', ({ wasRecovering, recovered }) => results.push(wasRecovering && recovered));
      const stop = publishing(name);
      for (let i = 0; i < cuts; i++) {
        const isBack = next(sub, 'subscribed').then(() => true);
        // A client that is between two polls sees nothing of a cut. One that comes back needs its time.
        do proxy.cut();
        while (!(await Promise.race([isBack, sleep(CUT_AGAIN_MS)])));
        await sleep(20);
      }
      const count = await stop();
      for (let i = 1; i <= count; i++) {
        const { data, offset } = await sub.queue.next();
        assert.deepEqual([data, offset], [i, i]);
      }
      assert.equal(sub.queue.items.length, 0);
      assert.ok(results.length >= cuts && results.every(Boolean), `${results}`);
      one.disconnect();
      proxy.stop();
    },

    async 'a hundred subscriptions recover at once'() {
      const proxy = await Cuttable.start();
      const one = await connected({}, proxy.base);
      const names = Array.from({ length: 100 }, () => channel('recovery'));
      const subs = names.map((name) => subscription(one, name));
      await Promise.all(subs.map((sub) => sub.ready(READY_MS)));
      proxy.isDown = true;
      proxy.cut();
      await until(() => one.state === 'connecting');
      await api('broadcast', { channels: names, data: 7 });
      proxy.isDown = false;
      for (const { queue } of subs) assert.equal((await queue.next()).data, 7);
      one.disconnect();
      proxy.stop();
    },

    async 'what the history no longer has is not recovered'() {
      const proxy = await Cuttable.start();
      const one = await connected({}, proxy.base);
      const name = channel('smallhistory');
      await publish(name, 0);
      const sub = await subscribed(one, name);
      for (const [count, recovered] of [
        [2, true],
        [3, false],
      ].slice(-outages)) {
        proxy.isDown = true;
        proxy.cut();
        await until(() => one.state === 'connecting');
        for (let i = 0; i < count; i++) await publish(name, i);
        const isBack = next(sub, 'subscribed');
        proxy.isDown = false;
        const context = await isBack;
        assert.deepEqual([context.wasRecovering, context.recovered], [true, recovered]);
        assert.equal(context.hasRecoveredPublications, recovered);
      }
      await publish(name, 'live');
      const seen = [];
      while (seen.at(-1) !== 'live') seen.push((await sub.queue.next()).data);
      assert.deepEqual(seen, [0, 1, 'live'].slice(outages > 1 ? 0 : -1));
      one.disconnect();
      proxy.stop();
    },

    async 'a subscription begins where it is told'() {
      const one = await connected();
      const name = channel('recovery');
      const { epoch } = await publish(name, 1);
      await publish(name, 2);
      const sub = subscription(one, name, { since: { offset: 1, epoch } });
      const { data, offset } = await sub.queue.next();
      assert.deepEqual([data, offset], [2, 2]);
      one.disconnect();
    },

    async 'a private channel asks for its token and refreshes it'() {
      const one = await connected({ token: token({ sub: '42' }) });
      const name = `$${channel()}`;
      let asked = 0;
      const getToken = async (context) => {
        asked += 1;
        return token({ sub: '42', channel: context.channel, exp: unixTime(2), info: { role: 'x' } });
      };
      const sub = await subscribed(one, name, { getToken });
      let isLost = false;
      sub.on('subscribing', () => (isLost = true));
      await until(() => asked >= 3);
      await publish(name, 1);
      assert.equal((await sub.queue.next()).data, 1);
      assert.equal(isLost, false);
      one.disconnect();
    },

    async 'server-side subscriptions come with the token'() {
      const name = channel('recovery');
      const proxy = await Cuttable.start();
      const one = client({ token: token({ sub: '42', channels: [name] }) }, proxy.base);
      const [queue, events] = [new Queue(), new Queue()];
      one.on('publication', ({ channel, data, offset }) => queue.push([channel, decode(data), offset]));
      one.on('subscribed', ({ channel, recovered }) => events.push([channel, recovered]));
      one.connect();
      assert.deepEqual(await events.next(), [name, false]);
      await publish(name, 'a');
      assert.deepEqual(await queue.next(), [name, 'a', 1]);
      proxy.isDown = true;
      proxy.cut();
      await until(() => one.state === 'connecting');
      await publish(name, 'b');
      proxy.isDown = false;
      assert.deepEqual(await events.next(), [name, true]);
      assert.deepEqual(await queue.next(), [name, 'b', 2]);
      one.disconnect();
      proxy.stop();
    },

    async 'the API subscribes and unsubscribes a user'() {
      const user = channel();
      const name = channel();
      const one = await connected({ token: token({ sub: user }) });
      const on = next(one, 'subscribed');
      await api('subscribe', { user, channel: name });
      assert.equal((await on).channel, name);
      const publication = next(one, 'publication');
      await publish(name, 1);
      assert.equal(decode((await publication).data), 1);
      const off = next(one, 'unsubscribed');
      await api('unsubscribe', { user, channel: name });
      assert.equal((await off).channel, name);
      one.disconnect();
    },

    async 'an unsubscribe of the server is terminal, with its code'() {
      const user = channel();
      const one = await connected({ token: token({ sub: user }) });
      const sub = await subscribed(one, channel());
      const off = next(sub, 'unsubscribed');
      await api('unsubscribe', { user, channel: sub.channel });
      const { code, reason } = await off;
      assert.deepEqual({ code, reason }, { code: 2000, reason: 'server unsubscribe' });
      one.disconnect();
    },

    async 'the code of a disconnect says whether to come back'() {
      for (const [disconnect, event, code] of [
        [undefined, 'disconnected', 3503],
        [{ code: 4500, reason: 'stay away' }, 'disconnected', 4500],
        [{ code: 3500, reason: 'invalid token' }, 'disconnected', 3500],
        [{ code: 4000, reason: 'come back' }, 'connecting', 4000],
        [{ code: 3011, reason: 'force reconnect' }, 'connecting', 3011],
      ]) {
        const user = channel();
        const one = await connected({ token: token({ sub: user }) });
        const changed = next(one, event);
        await api('disconnect', { user, disconnect });
        const context = await changed;
        assert.equal(context.code, code);
        if (disconnect) assert.equal(context.reason, disconnect.reason);
        if (event === 'connecting') await one.ready(READY_MS);
        one.disconnect();
      }
    },

    async 'errors have their codes'() {
      const one = await connected();
      for (const [name, code] of [
        ['nope:x', 102],
        [`$${channel()}`, 103],
        ['grüße', 107],
        ['x'.repeat(256), 107],
      ]) {
        const sub = subscription(one, name);
        assert.equal((await next(sub, 'unsubscribed')).code, code, name);
        one.removeSubscription(sub);
      }
      await assert.rejects(one.publish('nope:x', encode({})), { code: 102 });
      await assert.rejects(one.rpc('m', encode({})), { code: 108 });
      for (const method of ['history', 'presence', 'presenceStats']) {
        await assert.rejects(one[method](channel('bare')), { code: 108 }, method);
      }
      one.disconnect();
    },

    async 'many commands at once, batched and not'() {
      const one = await connected();
      const name = channel();
      const sub = await subscribed(one, name);
      const publishes = [];
      one.startBatching();
      for (let i = 0; i < 50; i++) publishes.push(sub.publish(encode(i)));
      one.stopBatching();
      for (let i = 50; i < 100; i++) publishes.push(sub.publish(encode(i)));
      await Promise.all(publishes);
      const seen = new Set();
      for (let i = 0; i < 100; i++) seen.add((await sub.queue.next()).data);
      assert.equal(seen.size, 100);
      one.disconnect();
    },

    async 'one unsubscribes and subscribes again'() {
      const one = await connected();
      const sub = await subscribed(one, channel('recovery'));
      for (let i = 0; i < 3; i++) {
        sub.unsubscribe();
        sub.subscribe();
        await sub.ready(READY_MS);
      }
      await publish(sub.channel, 'x');
      assert.equal((await sub.queue.next()).data, 'x');
      one.disconnect();
    },

    async 'deltas come to the same as what was published'() {
      const proxy = await Cuttable.start();
      const one = await connected({}, proxy.base);
      const name = channel('delta');
      const sub = await subscribed(one, name, { delta: 'fossil' });
      const body = (i) => ({ i, text: 'the same words in every one of them', more: 'ünïcode 🦀'.repeat(i % 5) });
      const bodies = Array.from({ length: 30 }, (_, i) => body(i));
      for (const each of bodies.slice(0, 10)) await publish(name, each);
      proxy.isDown = true;
      proxy.cut();
      await until(() => one.state === 'connecting');
      for (const each of bodies.slice(10, 20)) await publish(name, each);
      const isBack = next(sub, 'subscribed');
      proxy.isDown = false;
      await isBack;
      for (const each of bodies.slice(20)) await publish(name, each);
      for (const each of bodies) assert.deepEqual((await sub.queue.next()).data, each);
      one.disconnect();
      proxy.stop();
    },

    async 'a filter by tags'() {
      const one = await connected();
      const name = channel('tagged');
      const tagsFilter = { op: 'or', nodes: [{ key: 'k', cmp: 'in', vals: ['a', 'b'] }, { key: 'n', cmp: 'gt', val: '5' }] };
      const sub = await subscribed(one, name, { tagsFilter });
      for (const [data, tags] of [
        [1, { k: 'a' }],
        [2, { k: 'c', n: '5' }],
        [3, { n: '6' }],
        [4, undefined],
        [5, { k: 'b' }],
      ]) {
        await publish(name, data, { tags });
      }
      for (const expected of [1, 3, 5]) assert.equal((await sub.queue.next()).data, expected);
      one.disconnect();
    },

    async 'an idle connection answers the pings and stays'() {
      await (await idle)();
    },
  };
  return Object.fromEntries(Object.entries(all).map(([test, body]) => [`${name}: ${test}`, body]));
}

const [, , , transport] = process.argv;
await run('centrifuge.js', tests(transport, carriers[transport]));
process.exit();
