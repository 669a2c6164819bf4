// The Centrifuge protocol over a bare WebSocket, for what its clients hide: node wire.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { run } from '../report.mjs';
import { api, call, channel, publish, sleep, token, unixTime, Wire, wsUrl } from './common.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const BAD_REQUEST = { code: 3501, reason: 'bad request' };
const INVALID_TOKEN = { code: 3500, reason: 'invalid token' };

/** What a fresh connection is closed with after these lines, sent as one frame. */
async function closedAfter(...lines) {
  const wire = await Wire.open();
  wire.send(...lines);
  return wire.closed();
}

const CONNECT = { id: 1, connect: {} };

// What takes long runs beside everything else.
const slow = {
  stale: closedWhenStale(),
  pings: pingsAndPongs(),
  noPong: closedWithoutPong(),
  twoPongs: closedAfterTwoPongs(),
  framePings: framePings(),
  binaryPing: binaryPing(),
};
for (const promise of Object.values(slow)) promise.catch(() => {});

async function closedWhenStale() {
  const wire = await Wire.open();
  return wire.closed();
}

async function pingsAndPongs() {
  const wire = await Wire.connect();
  assert.equal(await wire.pushText(), '{}');
  wire.send('{}');
  assert.deepEqual(await wire.command({ rpc: { method: 'm' } }), { error: { code: 108, message: 'not available' } });
  wire.close();
}

async function closedWithoutPong() {
  return (await Wire.connect()).closed();
}

async function closedAfterTwoPongs() {
  const wire = await Wire.connect();
  await wire.pushText();
  wire.send('{}', '{}');
  return wire.closed();
}

async function framePings() {
  const wire = await Wire.open('?cf_ws_frame_ping_pong=true');
  const pinged = once(wire.socket, 'ping');
  const { connect } = await wire.command({ connect: {} });
  assert.deepEqual([connect.ping, connect.pong], [undefined, undefined]);
  await pinged;
  wire.close();
}

/** The first publication of a stream may say its epoch, so that a client learns it. */
function expectPublication(pub, expected, epoch) {
  const { epoch: said, ...rest } = pub;
  assert.deepEqual(rest, expected);
  if (said !== undefined) assert.deepEqual([pub.offset, said], [1, epoch]);
}

/** A connect command of the Protobuf protocol and nothing more: id 1, connect {}. */
const BINARY_CONNECT = Buffer.from([4, 0x08, 1, 0x22, 0]);

async function binaryPing() {
  const socket = new WebSocket(wsUrl('/connection/websocket?cf_protocol=protobuf'));
  await once(socket, 'open');
  socket.send(BINARY_CONNECT);
  const [reply] = await once(socket, 'message');
  assert.equal(reply[0], reply.length - 1, 'one reply, its length before it');
  const [ping, isBinary] = await once(socket, 'message');
  assert.ok(isBinary);
  assert.deepEqual(ping, Buffer.from([0]));
  socket.send(Buffer.from([0]));
  socket.close();
}

await run('centrifuge wire', {
  // ---- commands, replies, pongs

  async 'the first command must be connect'() {
    assert.deepEqual(await closedAfter({ id: 1, subscribe: { channel: 'x' } }), BAD_REQUEST);
    assert.deepEqual(await closedAfter('{}'), BAD_REQUEST);
    assert.deepEqual(await closedAfter({ send: { data: {} } }), BAD_REQUEST);
  },

  async 'a second connect is closed with 3501'() {
    assert.deepEqual(await closedAfter(CONNECT, { id: 2, connect: {} }), BAD_REQUEST);
  },

  async 'a pong without a ping is closed with 3501'() {
    assert.deepEqual(await closedAfter(CONNECT, '{}'), BAD_REQUEST);
  },

  async 'an empty message and one that is no JSON are closed with 3501'() {
    for (const text of ['', '[', 'hello', '{"id":1,"connect":{}', '{"id":"x","connect":{}}']) {
      assert.deepEqual(await closedAfter(text), BAD_REQUEST, text);
    }
  },

  async 'a command without a method known is closed with 3501'() {
    for (const command of [{ id: 2 }, { id: 2, ping: {} }, { id: 2, nope: {} }]) {
      assert.deepEqual(await closedAfter(CONNECT, command), BAD_REQUEST, JSON.stringify(command));
    }
  },

  async 'a send, which nobody handles, is closed with 3508'() {
    const expected = { code: 3508, reason: 'not available' };
    assert.deepEqual(await closedAfter(CONNECT, { send: { data: {} } }), expected);
  },

  async 'an empty channel is closed with 3501'() {
    for (const method of ['subscribe', 'unsubscribe', 'publish', 'presence', 'presence_stats', 'history', 'sub_refresh']) {
      const command = { id: 2, [method]: { channel: '', data: {} } };
      assert.deepEqual(await closedAfter(CONNECT, command), BAD_REQUEST, method);
    }
  },

  async 'a message too big is closed with 1009'() {
    assert.equal((await closedAfter(' '.repeat(65_537))).code, 1009);
  },

  async 'a connection whose connect was refused is good for nothing and ended'() {
    const wire = await Wire.open();
    const expired = token({ sub: '42', exp: unixTime(-100) });
    assert.equal(await wire.refusal({ connect: { token: expired } }), 109);
    wire.send({ id: 2, subscribe: { channel: 'x' } });
    // Centrifugo reads no more and ends TCP without a Close some seconds later.
    assert.ok([1006, 3501, 3502].includes((await wire.closed()).code));
  },

  async 'many commands go in one frame, and their replies come in its order'() {
    const wire = await Wire.open();
    const name = channel('bare');
    wire.send(CONNECT, { subscribe: { channel: name, flag: 1 }, id: 2 }, { id: 3, unsubscribe: { channel: name } }, '');
    for (const id of [1, 2, 3]) assert.equal((await wire.reply()).id, id);
    wire.close();
  },

  async 'unknown fields are passed over'() {
    const wire = await Wire.open();
    wire.send('{"id":1,"new":{"a":[1]},"connect":{"new":[{}],"name":"js","version":"1","data":null}}');
    assert.ok((await wire.reply()).connect);
    wire.close();
  },

  // ---- shapes

  async 'a connect reply says who one is and how the server pings'() {
    const wire = await Wire.connect();
    const { client, version, ...more } = wire.connected;
    assert.match(client, UUID);
    assert.equal(typeof version, 'string');
    assert.deepEqual(more, { ping: 25, pong: true });
    wire.close();
  },

  async 'empty results are empty objects'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    for (const [method, request] of [
      ['subscribe', { channel: name }],
      ['publish', { channel: name, data: {} }],
      ['unsubscribe', { channel: name }],
      ['unsubscribe', { channel: name }],
    ]) {
      wire.send({ id: 7, [method]: request });
      assert.equal(await wire.replyText(), `{"id":7,"${method}":{}}`);
    }
    wire.close();
  },

  async 'errors have a code and a message, and say so if they are temporary'() {
    const wire = await Wire.connect();
    for (const [method, request, error] of [
      ['subscribe', { channel: 'nope:x' }, '{"code":102,"message":"unknown channel"}'],
      ['subscribe', { channel: `$${channel()}` }, '{"code":103,"message":"permission denied"}'],
      ['subscribe', { channel: 'x'.repeat(256) }, '{"code":107,"message":"bad request"}'],
      ['rpc', { method: 'm', data: {} }, '{"code":108,"message":"not available"}'],
      ['subscribe', { channel: channel(), token: token({ sub: '', channel: 'x', exp: 1 }) }, '{"code":109,"message":"token expired"}'],
    ]) {
      wire.send({ id: 9, [method]: request });
      assert.equal(await wire.replyText(), `{"id":9,"error":${error}}`);
    }
    wire.close();
  },

  async 'a positioned subscription says where it stands'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    const { epoch, ...more } = await wire.subscribe(name);
    assert.match(epoch, /^.+$/);
    assert.deepEqual(more, { recoverable: true, positioned: true });
    const { offset } = await publish(name, 1);
    assert.equal(offset, 1);
    const other = await Wire.connect();
    assert.deepEqual(await other.subscribe(name), { recoverable: true, epoch, offset: 1, positioned: true });
    for (const each of [wire, other]) each.close();
  },

  async 'a publication of the server carries data, offset and tags, and nothing of nobody'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    const { epoch } = await wire.subscribe(name);
    await publish(name, { x: 1 });
    await publish(name, 'text', { tags: { k: 'v' } });
    const { pub, ...more } = await wire.push();
    assert.deepEqual(more, { channel: name });
    expectPublication(pub, { data: { x: 1 }, offset: 1 }, epoch);
    assert.deepEqual(await wire.push(), { channel: name, pub: { data: 'text', offset: 2, tags: { k: 'v' } } });
    wire.close();
  },

  async 'a publication without a history has no offset'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    await wire.subscribe(name);
    assert.deepEqual(await publish(name, [1]), {});
    assert.equal(await wire.pushText(), `{"push":{"channel":"${name}","pub":{"data":[1]}}}`);
    wire.close();
  },

  async 'a publication of a client carries who it was, and comes back to it too'() {
    const wire = await Wire.connect({ token: token({ sub: '42', info: { name: 'Ada' } }) });
    const name = channel('recovery');
    const { epoch } = await wire.subscribe(name);
    assert.deepEqual(await wire.command({ publish: { channel: name, data: { x: 1 } } }), { publish: {} });
    const info = { user: '42', client: wire.connected.client, conn_info: { name: 'Ada' } };
    expectPublication((await wire.push()).pub, { data: { x: 1 }, info, offset: 1 }, epoch);
    wire.close();
  },

  async 'line feeds within data do not cut the frame'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    await wire.subscribe(name);
    await call('publish', `{"channel":"${name}","data":{\n"a": [1,\r\n 2]\n}}`);
    assert.deepEqual((await wire.push()).pub, { data: { a: [1, 2] } });
    wire.close();
  },

  // ---- presence, joins, history

  async 'presence names the clients, and zeros are written'() {
    const wire = await Wire.connect({ token: token({ sub: '42', info: { a: 1 } }) });
    const name = channel();
    wire.send({ id: 7, presence_stats: { channel: name } });
    assert.equal(await wire.replyText(), '{"id":7,"presence_stats":{"num_clients":0,"num_users":0}}');
    wire.send({ id: 7, presence: { channel: name } });
    assert.equal(await wire.replyText(), '{"id":7,"presence":{"presence":{}}}');
    const anonymous = await Wire.connect();
    await anonymous.subscribe(name);
    await wire.subscribe(name);
    const { client } = wire.connected;
    const other = anonymous.connected.client;
    assert.deepEqual((await wire.command({ presence: { channel: name } })).presence.presence, {
      [client]: { user: '42', client, conn_info: { a: 1 } },
      [other]: { user: '', client: other },
    });
    const stats = await wire.command({ presence_stats: { channel: name } });
    assert.deepEqual(stats.presence_stats, { num_clients: 2, num_users: 2 });
    anonymous.close();
    for (;;) {
      const { presence_stats } = await wire.command({ presence_stats: { channel: name } });
      if (presence_stats.num_clients === 1) break;
      await sleep(10);
    }
    wire.close();
  },

  async 'joins and leaves come to whom asks for them, one’s own join after the reply'() {
    const name = channel();
    const alice = await Wire.connect({ token: token({ sub: 'alice' }) });
    const deaf = await Wire.connect();
    await alice.subscribe(name, { join_leave: true });
    const join = { info: { user: 'alice', client: alice.connected.client } };
    assert.deepEqual(await alice.push(), { channel: name, join });
    await deaf.subscribe(name);
    const info = { user: '', client: deaf.connected.client };
    assert.deepEqual(await alice.push(), { channel: name, join: { info } });
    await deaf.command({ unsubscribe: { channel: name } });
    assert.deepEqual(await alice.push(), { channel: name, leave: { info } });
    await deaf.subscribe(name);
    assert.ok((await alice.push()).join);
    deaf.close();
    assert.deepEqual(await alice.push(), { channel: name, leave: { info } });
    assert.equal(deaf.waiting, 0);
    alice.close();
  },

  async 'history has a limit, a position and two directions'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    const history = async (request) => (await wire.command({ history: { channel: name, ...request } })).history;
    const empty = await history({ limit: 10 });
    assert.deepEqual(empty, { publications: [], epoch: empty.epoch, offset: 0 });
    const { epoch } = empty;
    for (let i = 1; i <= 5; i++) await publish(name, i);
    const offsets = async (request) => {
      const { publications, ...position } = await history(request);
      assert.deepEqual(position, { epoch, offset: 5 });
      for (const { data, offset } of publications) assert.equal(data, offset);
      return publications.map(({ offset }) => offset);
    };
    assert.deepEqual(await offsets({}), []);
    assert.deepEqual(await offsets({ limit: 0 }), []);
    assert.deepEqual(await offsets({ limit: -1 }), [1, 2, 3, 4, 5]);
    assert.deepEqual(await offsets({ limit: 2 }), [1, 2]);
    assert.deepEqual(await offsets({ limit: 2, reverse: true }), [5, 4]);
    assert.deepEqual(await offsets({ limit: -1, since: { offset: 3, epoch } }), [4, 5]);
    assert.deepEqual(await offsets({ limit: 1, since: { offset: 3, epoch } }), [4]);
    assert.deepEqual(await offsets({ limit: -1, since: { offset: 5, epoch } }), []);
    assert.deepEqual(await offsets({ limit: -1, since: { offset: 3, epoch }, reverse: true }), [2, 1]);
    assert.deepEqual(await offsets({ limit: 10, since: { offset: 1, epoch: '' } }), [2, 3, 4, 5]);
    const wrong = { channel: name, limit: 1, since: { offset: 1, epoch: 'nope' } };
    assert.equal(await wire.refusal({ history: wrong }), 112);
    wire.close();
  },

  async 'what a namespace does not keep is not available'() {
    const wire = await Wire.connect();
    for (const method of ['presence', 'presence_stats', 'history']) {
      assert.equal(await wire.refusal({ [method]: { channel: channel('bare') } }), 108, method);
      assert.equal(await wire.refusal({ [method]: { channel: 'nope:x' } }), 102, method);
    }
    assert.equal(await wire.refusal({ publish: { channel: 'nope:x', data: {} } }), 102);
    wire.close();
  },

  // ---- subscriptions refused

  async 'a second subscription and one too many are refused'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    await wire.subscribe(name);
    assert.equal(await wire.refusal({ subscribe: { channel: name } }), 105);
    for (let i = 1; i < 128; i++) await wire.subscribe(`${name}-${i}`);
    assert.equal(await wire.refusal({ subscribe: { channel: channel('bare') } }), 106);
    await wire.command({ unsubscribe: { channel: name } });
    await wire.subscribe(name);
    wire.close();
  },

  async 'names that are too long or not ASCII are refused'() {
    const wire = await Wire.connect();
    await wire.subscribe('x'.repeat(255));
    assert.equal(await wire.refusal({ subscribe: { channel: 'x'.repeat(256) } }), 107);
    assert.equal(await wire.refusal({ subscribe: { channel: 'grüße' } }), 107);
    wire.close();
  },

  async 'an unknown kind of delta is closed with 3501'() {
    assert.deepEqual(await closedAfter(CONNECT, { id: 2, subscribe: { channel: 'x', delta: 'nope' } }), BAD_REQUEST);
  },

  // ---- recovery

  async 'recovery gives what was missed, and the position asked from'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    let epoch;
    for (let i = 1; i <= 5; i++) ({ epoch } = await publish(name, i));
    assert.deepEqual(await wire.subscribe(name, { recover: true, offset: 2, epoch }), {
      recoverable: true,
      epoch,
      publications: [3, 4, 5].map((i) => ({ data: i, offset: i })),
      recovered: true,
      offset: 2,
      positioned: true,
      was_recovering: true,
    });
    await publish(name, 6);
    assert.deepEqual((await wire.push()).pub, { data: 6, offset: 6 });
    wire.close();
  },

  async 'recovery from the top finds nothing missed'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    const { epoch } = await publish(name, 1);
    const expected = { recoverable: true, epoch, recovered: true, offset: 1, positioned: true, was_recovering: true };
    assert.deepEqual(await wire.subscribe(name, { recover: true, offset: 1, epoch }), expected);
    wire.close();
  },

  async 'recovery without an epoch trusts the offset'() {
    const wire = await Wire.connect();
    const name = channel('recovery');
    const { epoch } = await publish(name, 1);
    const { publications, ...more } = await wire.subscribe(name, { recover: true, offset: 0, epoch: '' });
    assert.equal(publications.length, 1);
    expectPublication(publications[0], { data: 1, offset: 1 }, epoch);
    assert.deepEqual(more, { recoverable: true, epoch, recovered: true, positioned: true, was_recovering: true });
    wire.close();
  },

  async 'what cannot be recovered is said, and the top is given'() {
    const small = channel('smallhistory');
    const { epoch } = await publish(small, 1);
    for (let i = 2; i <= 4; i++) await publish(small, i);
    const expected = { recoverable: true, epoch, offset: 4, positioned: true, was_recovering: true };
    for (const request of [
      { offset: 1, epoch },
      { offset: 3, epoch: 'nope' },
      { offset: 9, epoch },
    ]) {
      const wire = await Wire.connect();
      assert.deepEqual(await wire.subscribe(small, { recover: true, ...request }), expected);
      await wire.command({ unsubscribe: { channel: small } });
      const strict = { channel: small, recover: true, flag: 2, ...request };
      assert.equal(await wire.refusal({ subscribe: strict }), 112);
      wire.close();
    }
    const wire = await Wire.connect();
    const { recovered, publications } = await wire.subscribe(small, { recover: true, offset: 2, epoch });
    assert.deepEqual([recovered, publications.length], [true, 2]);
    wire.close();
  },

  async 'a cache gives the newest alone'() {
    const wire = await Wire.connect();
    const name = channel('cache');
    const subscribe = async (request) => {
      const result = await wire.subscribe(name, request);
      await wire.command({ unsubscribe: { channel: name } });
      return result;
    };
    const latest = { recover: true, offset: 0, epoch: '' };
    const empty = await subscribe(latest);
    const { epoch } = empty;
    assert.deepEqual(empty, { recoverable: true, epoch, positioned: true, was_recovering: true });
    assert.deepEqual(await subscribe({ ...latest, epoch }), empty);
    for (let i = 1; i <= 3; i++) await publish(name, i);
    const expected = { recoverable: true, epoch, positioned: true, recovered: true, was_recovering: true };
    const newest = { ...expected, publications: [{ data: 3, offset: 3 }] };
    assert.deepEqual(await subscribe(latest), newest);
    assert.deepEqual(await subscribe({ recover: true, offset: 1, epoch }), { ...newest, offset: 1 });
    assert.deepEqual(await subscribe({ recover: true, offset: 3, epoch }), { ...expected, offset: 3 });
    assert.deepEqual(await subscribe({}), { recoverable: true, epoch, positioned: true, offset: 3 });
    wire.close();
  },

  async 'no publication is lost or doubled between the reply and the pushes'() {
    const name = channel('recovery');
    const { epoch } = await publish(name, 0);
    let last = 1;
    let isDone = false;
    const publishing = (async () => {
      while (!isDone) ({ offset: last } = await publish(name, 0));
    })();
    for (let round = 0; round < 20; round++) {
      const wire = await Wire.connect();
      const since = Math.max(1, last - 20);
      const result = await wire.subscribe(name, { recover: true, offset: since, epoch });
      assert.equal(result.recovered, true);
      let at = since;
      for (const { offset } of result.publications ?? []) assert.equal(offset, ++at);
      for (let i = 0; i < 10; i++) assert.equal((await wire.push()).pub.offset, ++at);
      wire.close();
    }
    isDone = true;
    await publishing;
  },

  // ---- deltas and filters

  async 'deltas are strings, the first of them whole'() {
    const wire = await Wire.connect();
    const name = channel('delta');
    const { delta, epoch } = await wire.subscribe(name, { delta: 'fossil' });
    assert.equal(delta, true);
    const quote = (bid) => ({ symbol: 'EURUSD', bid, ask: 1.10241, note: 'the same words in every one of them' });
    await publish(name, quote(1.10234));
    await publish(name, quote(1.10235));
    const first = (await wire.push()).pub;
    expectPublication(first, { data: JSON.stringify(quote(1.10234)), offset: 1 }, epoch);
    const { data, ...more } = (await wire.push()).pub;
    assert.deepEqual(more, { offset: 2, delta: true });
    assert.match(data, /^[0-9A-Za-z_~]+\n.*;$/s);
    assert.ok(data.length < first.data.length);
    await publish(name, 7);
    assert.deepEqual((await wire.push()).pub, { data: '7', offset: 3 });
    wire.close();
  },

  async 'who does not ask for deltas gets none'() {
    const wire = await Wire.connect();
    const name = channel('delta');
    const { delta, epoch } = await wire.subscribe(name);
    assert.equal(delta, undefined);
    const data = { a: 'the same words in every one of them' };
    for (const offset of [1, 2]) {
      await publish(name, data);
      expectPublication((await wire.push()).pub, { data, offset }, epoch);
    }
    wire.close();
  },

  async 'recovered publications are a chain of deltas'() {
    const wire = await Wire.connect();
    const name = channel('delta');
    const { epoch } = await publish(name, 0);
    const body = (i) => ({ i, text: 'the same words in every one of them, long enough for a delta' });
    for (let i = 2; i <= 4; i++) await publish(name, body(i));
    const { publications } = await wire.subscribe(name, { delta: 'fossil', recover: true, offset: 1, epoch });
    assert.deepEqual(publications[0], { data: JSON.stringify(body(2)), offset: 2 });
    for (const { data, delta } of publications.slice(1)) assert.ok(delta && typeof data === 'string');
    await publish(name, body(5));
    assert.equal((await wire.push()).pub.delta, true);
    wire.close();
  },

  async 'a filter by tags lets through what it matches'() {
    const name = channel('tagged');
    const filters = [
      [{ key: 'k', cmp: 'eq', val: 'a' }, [1]],
      [{ key: 'k', cmp: 'neq', val: 'a' }, [2, 3, 4]],
      [{ key: 'k', cmp: 'in', vals: ['a', 'b'] }, [1, 2]],
      [{ key: 'n', cmp: 'gte', val: '10' }, [2, 3]],
      [{ key: 'k', cmp: 'ex' }, [1, 2]],
      [{ op: 'not', nodes: [{ key: 'k', cmp: 'ex' }] }, [3, 4]],
      [{ op: 'and', nodes: [{ key: 'k', cmp: 'sw', val: 'b' }, { key: 'n', cmp: 'lt', val: '11' }] }, [2]],
      [{ op: 'or', nodes: [{ key: 'k', cmp: 'eq', val: 'a' }, { key: 'n', cmp: 'eq', val: '20' }] }, [1, 3]],
    ];
    const wires = [];
    for (const [tf] of filters) {
      const wire = await Wire.connect();
      await wire.subscribe(name, { tf });
      wires.push(wire);
    }
    for (const [data, tags] of [
      [1, { k: 'a', n: '2' }],
      [2, { k: 'b', n: '10' }],
      [3, { n: '20' }],
      [4, undefined],
    ]) {
      await publish(name, data, { tags });
    }
    for (const [i, [tf, expected]] of filters.entries()) {
      for (const data of expected) assert.equal((await wires[i].push()).pub.data, data, JSON.stringify(tf));
      await wires[i].command({ unsubscribe: { channel: name } });
      assert.equal(wires[i].waiting, 0, JSON.stringify(tf));
      wires[i].close();
    }
  },

  async 'a filter that is none, and one where none is allowed, are refused'() {
    const wire = await Wire.connect();
    for (const tf of [{ key: 'k', cmp: 'nope', val: 'a' }, { op: 'xor', nodes: [] }, { op: 'not', nodes: [] }]) {
      assert.equal(await wire.refusal({ subscribe: { channel: channel('tagged'), tf } }), 107, JSON.stringify(tf));
    }
    const tf = { key: 'k', cmp: 'eq', val: 'a' };
    assert.equal(await wire.refusal({ subscribe: { channel: channel('recovery'), tf } }), 107);
    wire.close();
  },

  // ---- tokens

  async 'a token that is no good is closed with 3500'() {
    for (const bad of [
      token({ sub: '42' }, 'other'),
      token({ sub: '42', channel: 'x' }),
      'nope',
      'a.b.c',
      `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"42"}').toString('base64url')}.`,
    ]) {
      assert.deepEqual(await closedAfter({ id: 1, connect: { token: bad } }), INVALID_TOKEN, bad);
    }
  },

  async 'channels in a token are subscribed to at once'() {
    const [plain, rich] = [channel('bare'), channel('recovery')];
    const { epoch } = await publish(rich, 1);
    const channels = await Wire.connect({ token: token({ sub: '42', channels: [plain, rich] }) });
    const positioned = { recoverable: true, epoch, offset: 1, positioned: true };
    assert.deepEqual(channels.connected.subs, { [plain]: {}, [rich]: positioned });
    await publish(plain, 1);
    assert.deepEqual(await channels.push(), { channel: plain, pub: { data: 1 } });
    const subs = { [rich]: { data: { hi: 1 }, info: { role: 'x' } } };
    const wire = await Wire.connect({ token: token({ sub: '42', subs }) });
    assert.deepEqual(wire.connected.subs, { [rich]: { ...positioned, data: { hi: 1 } } });
    const { presence } = await wire.command({ presence: { channel: rich } });
    assert.deepEqual(presence.presence[wire.connected.client].chan_info, { role: 'x' });
    for (const each of [channels, wire]) each.close();
  },

  async 'server-side subscriptions recover from what connect names'() {
    const name = channel('recovery');
    const { epoch } = await publish(name, 1);
    for (let i = 2; i <= 3; i++) await publish(name, i);
    const subs = { [name]: { recover: true, offset: 1, epoch } };
    const wire = await Wire.connect({ token: token({ sub: '42', channels: [name] }), subs });
    assert.deepEqual(wire.connected.subs[name], {
      recoverable: true,
      epoch,
      publications: [2, 3].map((i) => ({ data: i, offset: i })),
      recovered: true,
      offset: 1,
      positioned: true,
      was_recovering: true,
    });
    wire.close();
  },

  async 'a token of a subscription opens a private channel and no other'() {
    const name = `$${channel()}`;
    const subscribe = (claims, of = '42') => [
      { id: 1, connect: { token: token({ sub: of }) } },
      { id: 2, subscribe: { channel: name, token: token(claims) } },
    ];
    const wire = await Wire.connect({ token: token({ sub: '42' }) });
    const good = { sub: '42', channel: name, exp: unixTime(60), info: { a: 1 } };
    const { expires, ttl } = await wire.subscribe(name, { token: token(good) });
    assert.equal(expires, true);
    assert.ok(ttl > 50 && ttl <= 60);
    const { presence } = await wire.command({ presence: { channel: name } });
    assert.deepEqual(presence.presence[wire.connected.client].chan_info, { a: 1 });
    const fresh = token({ ...good, exp: unixTime(120) });
    const { sub_refresh } = await wire.command({ sub_refresh: { channel: name, token: fresh } });
    assert.equal(sub_refresh.expires, true);
    assert.ok(sub_refresh.ttl > 110);
    assert.equal(await wire.refusal({ sub_refresh: { channel: name } }), 107);
    assert.equal(await wire.refusal({ sub_refresh: { channel: channel(), token: fresh } }), 103);
    wire.send({ id: 9, sub_refresh: { channel: name, token: 'nope' } });
    assert.deepEqual(await wire.closed(), INVALID_TOKEN);
    assert.deepEqual(await closedAfter(...subscribe({ sub: '43', channel: name })), INVALID_TOKEN);
    assert.deepEqual(await closedAfter(...subscribe({ sub: '42', channel: channel() })), INVALID_TOKEN);
    const other = await Wire.connect({ token: token({ sub: '42' }) });
    const refusal = (text) => other.refusal({ subscribe: { channel: name, token: text } });
    assert.equal(await refusal(token({ ...good, exp: unixTime(-1) })), 109);
    assert.equal(await refusal(token(good, 'other')), 103);
    assert.equal(await refusal(token({ sub: '42' })), 103);
    other.close();
  },

  // ---- what the server API does to a connection

  async 'the API subscribes, publishes and unsubscribes'() {
    const user = channel();
    const name = channel('recovery');
    const wire = await Wire.connect({ token: token({ sub: user }) });
    const { epoch } = await publish(name, 1);
    assert.deepEqual(await api('subscribe', { user, channel: name, data: { a: 1 } }), {});
    const subscribe = { recoverable: true, epoch, offset: 1, positioned: true, data: { a: 1 } };
    assert.deepEqual(await wire.push(), { channel: name, subscribe });
    await publish(name, 2);
    assert.deepEqual(await wire.push(), { channel: name, pub: { data: 2, offset: 2 } });
    assert.deepEqual(await api('unsubscribe', { user, channel: name }), {});
    const push = `{"channel":"${name}","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}`;
    assert.equal(await wire.pushText(), `{"push":${push}}`);
    wire.close();
  },

  async 'the API disconnects with a code and a reason'() {
    for (const [disconnect, expected] of [
      [undefined, { code: 3503, reason: 'force disconnect' }],
      [{ code: 4001, reason: 'come back' }, { code: 4001, reason: 'come back' }],
      [{ code: 4501, reason: 'stay away' }, { code: 4501, reason: 'stay away' }],
    ]) {
      const user = channel();
      const wire = await Wire.connect({ token: token({ sub: user }) });
      const spared = await Wire.connect({ token: token({ sub: user }) });
      await api('disconnect', { user, disconnect, whitelist: [spared.connected.client] });
      assert.deepEqual(await wire.closed(), expected);
      assert.equal(await spared.refusal({ rpc: { method: 'm' } }), 108);
      spared.close();
    }
  },

  // ---- Protobuf

  async 'Protobuf is chosen by subprotocol or query'() {
    for (const [query, protocols] of [
      ['', ['centrifuge-protobuf']],
      ['?format=protobuf', []],
      ['?cf_protocol=protobuf', []],
    ]) {
      const socket = new WebSocket(wsUrl(`/connection/websocket${query}`), protocols);
      await once(socket, 'open');
      assert.equal(socket.protocol, protocols[0] ?? '');
      socket.send(BINARY_CONNECT);
      const [data, isBinary] = await once(socket, 'message');
      assert.ok(isBinary);
      assert.deepEqual([...data.subarray(1, 3)], [0x08, 1], 'id 1');
      socket.close();
    }
  },

  async 'bytes that are no Protobuf, and a pong without a ping, are closed with 3501'() {
    for (const bytes of [[0xff, 0xff], [5, 1], [2, 0xff, 0xff], [0]]) {
      const socket = new WebSocket(wsUrl('/connection/websocket'), ['centrifuge-protobuf']);
      await once(socket, 'open');
      socket.send(Buffer.from(bytes));
      const [code] = await once(socket, 'close');
      assert.equal(code, 3501, `${bytes}`);
    }
  },

  // ---- time

  async 'a connection that never says connect is closed with 3502'() {
    assert.deepEqual(await slow.stale, { code: 3502, reason: 'stale' });
  },

  async 'the server pings, and a pong is welcome'() {
    await slow.pings;
  },

  async 'the server pings in Protobuf with one byte'() {
    await slow.binaryPing;
  },

  async 'two pongs for a ping are closed with 3501'() {
    assert.deepEqual(await slow.twoPongs, BAD_REQUEST);
  },

  async 'the server pings by frames if asked to'() {
    await slow.framePings;
  },

  async 'without a pong it closes with 3012'() {
    assert.deepEqual(await slow.noPong, { code: 3012, reason: 'no pong' });
  },
});
