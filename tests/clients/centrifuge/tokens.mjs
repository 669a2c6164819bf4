// Tokens, and what the server API does to a connection, over a bare WebSocket:
// node tokens.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { run } from '../report.mjs';
import { api, channel, closedAfter, INVALID_TOKEN, publish, token, unixTime, Wire } from './common.mjs';

await run('centrifuge tokens', {
  // ---- tokens

  async 'tokens are signed with HMAC of three lengths and may hold many claims'() {
    for (const bits of [256, 384, 512]) {
      const claims = { sub: '42', aud: ['x'], iss: 'y', jti: 'z', iat: unixTime(), meta: { a: 1 } };
      (await Wire.connect({ token: token(claims, { bits }) })).close();
    }
    for (const claims of [{}, { sub: null }]) (await Wire.connect({ token: token(claims) })).close();
    const b64info = Buffer.from('{"a":1}').toString('base64');
    const wire = await Wire.connect({ token: token({ sub: '42', b64info }) });
    const name = channel('bare');
    await wire.subscribe(name);
    await wire.command({ publish: { channel: name, data: 1 } });
    assert.deepEqual((await wire.push()).pub.info.conn_info, { a: 1 });
    wire.close();
  },

  async 'a token with a channel of no namespace is refused with 102'() {
    const wire = await Wire.open();
    assert.equal(await wire.refusal({ connect: { token: token({ sub: '42', channels: ['nope:x'] }) } }), 102);
    wire.close();
  },

  async 'a token that is no good is closed with 3500'() {
    for (const bad of [
      token({ sub: '42' }, { secret: 'other' }),
      token({ sub: '42' }, { alg: 'HS512', bits: 256 }),
      token({ sub: '42', channel: 'x' }),
      token({ sub: 42 }),
      token({ sub: '42', exp: 'x' }),
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
    assert.equal(await refusal(token(good, { secret: 'other' })), 103);
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
});
process.exit();
