// Recovery, deltas and filters over a bare WebSocket: node recovery.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { run } from '../report.mjs';
import { channel, expectPublication, publish, Wire } from './common.mjs';

await run('centrifuge recovery', {
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

  async 'deltas where none are allowed are not promised'() {
    const wire = await Wire.connect();
    assert.equal((await wire.subscribe(channel('tagged'), { delta: 'fossil' })).delta, undefined);
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
});
process.exit();
