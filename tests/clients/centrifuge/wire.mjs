// The Centrifuge protocol over a bare WebSocket, for what its clients hide: node wire.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { run } from '../report.mjs';
import {
  api,
  BAD_REQUEST,
  call,
  channel,
  closedAfter,
  CONNECT,
  expectPublication,
  publish,
  sleep,
  token,
  unixTime,
  Wire,
  wsUrl,
} from './common.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

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

  async 'a line that is no command is closed with 3501'() {
    for (const line of [
      '[]',
      'null',
      '"x"',
      '{"rpc":{}}',
      '{"id":-1,"rpc":{}}',
      '{"id":1.5,"rpc":{}}',
      '{"id":4294967296,"rpc":{}}',
      '{"id":2,"rpc":null}',
      '{"id":2,"rpc":{"method":1}}',
    ]) {
      const wire = await Wire.connect();
      wire.send(line);
      assert.deepEqual(await wire.closed(), BAD_REQUEST, line);
    }
  },

  async 'ids go up to the largest of 32 bits, and spaces around a command do no harm'() {
    const wire = await Wire.connect();
    wire.send(' {"id":4294967295,"rpc":{}} ');
    assert.equal(await wire.replyText(), '{"id":4294967295,"error":{"code":108,"message":"not available"}}');
    wire.close();
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

  async 'many commands go in one frame, and each gets its reply'() {
    const wire = await Wire.open();
    const name = channel('bare');
    wire.send(CONNECT, { subscribe: { channel: name, flag: 1 }, id: 2 }, { id: 3, unsubscribe: { channel: name } }, '');
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push((await wire.reply()).id);
    // Replies may come in another order than commands, but for that to the first.
    assert.equal(ids[0], 1);
    assert.deepEqual(ids.sort(), [1, 2, 3]);
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

  async 'who comes and goes in one message comes and goes, in that order'() {
    const name = channel();
    const methods = ['subscribe', 'unsubscribe', 'subscribe', 'unsubscribe', 'subscribe'];
    const wire = await Wire.connect();
    wire.send(...methods.map((method, id) => ({ id: 10 + id, [method]: { channel: name } })));
    for (const [id, method] of methods.entries()) {
      const reply = JSON.parse(await wire.replyText());
      assert.equal(reply.id, 10 + id);
      assert.ok(reply[method], JSON.stringify(reply));
    }
    wire.close();
  },

  async 'who asks in vain for what it missed is told so'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    wire.send({ id: 7, subscribe: { channel: name, recover: true, offset: 9 } });
    assert.equal(await wire.replyText(), '{"id":7,"subscribe":{"was_recovering":true}}');
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

  async 'a publication of nothing is refused, one of null is not'() {
    const wire = await Wire.connect();
    const name = channel('bare');
    assert.equal(await wire.refusal({ publish: { channel: name } }), 107);
    assert.deepEqual(await wire.command({ publish: { channel: name, data: null } }), { publish: {} });
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
    const backwards = { channel: name, limit: 1, since: { offset: 0, epoch }, reverse: true };
    assert.equal(await wire.refusal({ history: backwards }), 107);
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

  // ---- slow readers

  async 'who does not read is cut off, and others hear everything'() {
    const name = channel();
    const [slow, quick] = [await Wire.connect(), await Wire.connect()];
    await slow.subscribe(name);
    await quick.subscribe(name);
    slow.socket.pause();
    let sent = 0;
    const presence = async () => (await api('presence_stats', { channel: name })).num_clients;
    while ((await presence()) > 1) {
      for (let i = 0; i < 20; i++) await publish(name, 'x'.repeat(60_000));
      sent += 20;
    }
    for (let offset = 1; offset <= sent; offset++) assert.equal((await quick.push()).pub.offset, offset);
    slow.socket.resume();
    // The Close, if it was sent, may stand behind what was never read.
    assert.ok([1006, 3008, 3009].includes((await slow.closed()).code));
    quick.close();
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
process.exit();
