// Tokens that expire and rights that are not given, against a server that is not insecure:
// node expiry.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { Centrifuge, UnauthorizedError } from 'centrifuge';
import WebSocket from 'ws';
import { run } from '../report.mjs';
import { api, channel, publish, token, unixTime, until, Wire, wsUrl } from './common.mjs';

const EXPIRED = { code: 3005, reason: 'connection expired' };

async function closedAfter(claims, refresh) {
  const wire = await Wire.connect({ token: token(claims) });
  wire.send({ id: 9, refresh });
  return wire.closed();
}

// What takes the delay of the server beside everything else.
const slow = {
  connection: Wire.connect({ token: token({ sub: '42', exp: unixTime(2) }) }).then((wire) => wire.closed()),
  subscription: expiredSubscription(),
};
for (const promise of Object.values(slow)) promise.catch(() => {});

async function expiredSubscription() {
  const wire = await Wire.connect({ token: token({ sub: '42' }) });
  const name = `$${channel()}`;
  const claims = { sub: '42', channel: name };
  await wire.subscribe(name, { token: token({ ...claims, exp: unixTime(2) }) });
  const push = await wire.push();
  assert.deepEqual(push, { channel: name, unsubscribe: { code: 2501, reason: 'subscription expired' } });
  await wire.subscribe(name, { token: token({ ...claims, exp: unixTime(60) }) });
  wire.close();
}

function client(options) {
  const endpoint = wsUrl('/connection/websocket');
  const made = new Centrifuge(endpoint, { websocket: WebSocket, minReconnectDelay: 10, ...options });
  made.on('error', () => {});
  made.connect();
  return made;
}

await run('centrifuge expiry', {
  async 'a connect says when its token expires, and a refresh until when it is good now'() {
    const claims = { sub: '42', exp: unixTime(3600) };
    const wire = await Wire.connect({ token: token(claims) });
    const { expires, ttl } = wire.connected;
    assert.equal(expires, true);
    assert.ok(ttl > 3590 && ttl <= 3600, `${ttl}`);
    const { refresh } = await wire.command({ refresh: { token: token({ ...claims, exp: unixTime(7200) }) } });
    assert.equal(refresh.expires, true);
    assert.ok(refresh.ttl > 7190 && refresh.ttl <= 7200, `${refresh.ttl}`);
    assert.deepEqual((await wire.command({ refresh: { token: token({ sub: '42' }) } })).refresh, {});
    wire.close();
  },

  async 'expire_at goes before exp, and 0 is never'() {
    for (const [expire_at, expected] of [
      [unixTime(100), true],
      [0, undefined],
    ]) {
      const wire = await Wire.connect({ token: token({ sub: '42', exp: unixTime(3600), expire_at }) });
      assert.equal(wire.connected.expires, expected);
      if (expected) assert.ok(wire.connected.ttl <= 100);
      wire.close();
    }
  },

  async 'a token not good yet is refused'() {
    const wire = await Wire.open();
    wire.send({ id: 1, connect: { token: token({ sub: '42', nbf: unixTime(1000) }) } });
    // As if it had expired, so that a client asks for another one.
    assert.equal((await wire.reply()).error.code, 109);
    wire.close();
  },

  async 'a refresh must be of the same user and good'() {
    const claims = { sub: '42', exp: unixTime(60) };
    assert.equal((await closedAfter(claims, { token: '' })).code, 3501);
    assert.equal((await closedAfter(claims, { token: 'nope' })).code, 3500);
    assert.equal((await closedAfter(claims, { token: token({ ...claims, sub: '43' }) })).code, 3500);
    assert.deepEqual(await closedAfter(claims, { token: token({ ...claims, exp: unixTime(-60) }) }), EXPIRED);
  },

  async 'the API prolongs a connection and expires it'() {
    const user = channel();
    const wire = await Wire.connect({ token: token({ sub: user, exp: unixTime(60) }) });
    await api('refresh', { user, expire_at: unixTime(600) });
    const { refresh } = await wire.push();
    assert.equal(refresh.expires, true);
    assert.ok(refresh.ttl > 590 && refresh.ttl <= 600);
    await api('refresh', { user, expired: true });
    assert.deepEqual(await wire.closed(), EXPIRED);
  },

  async 'the client asks for a token before the old one is gone'() {
    let [asked, connects] = [0, 0];
    const one = client({
      async getToken() {
        asked += 1;
        return token({ sub: '42', exp: unixTime(2) });
      },
    });
    one.on('connected', () => connects++);
    await until(() => asked >= 4);
    assert.equal(connects, 1);
    assert.equal(one.state, 'connected');
    one.disconnect();
  },

  async 'who gets no new token is gone'() {
    let asked = 0;
    const one = client({
      async getToken() {
        asked += 1;
        if (asked > 1) throw new UnauthorizedError('no more');
        return token({ sub: '42', exp: unixTime(2) });
      },
    });
    const { code } = await new Promise((resolve) => one.on('disconnected', resolve));
    assert.equal(code, 1);
  },

  async 'what a namespace allows nobody is refused with 103'() {
    const wire = await Wire.connect({ token: token({ sub: '42' }) });
    const name = channel('closed');
    const of = { channel: name };
    assert.equal(await wire.refusal({ subscribe: of }), 103);
    assert.equal(await wire.refusal({ publish: { ...of, data: 1 } }), 103);
    // A token opens it all the same, to listen.
    const subToken = token({ sub: '42', channel: name });
    await wire.subscribe(name, { token: subToken });
    assert.equal(await wire.refusal({ publish: { ...of, data: 1 } }), 103);
    await publish(name, 'x');
    assert.equal((await wire.push()).pub.data, 'x');
    wire.close();
  },

  async 'a subscription not refreshed is ended with 2501 and may come again'() {
    await slow.subscription;
  },

  async 'a connection not refreshed is closed with 3005'() {
    assert.deepEqual(await slow.connection, EXPIRED);
  },
});
process.exit();
