// The Centrifuge protocol over streams of HTTP, by hand: node streams.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { run } from '../report.mjs';
import { api, channel, publish, Queue, token, unixTime, url, wsUrl } from './common.mjs';

const CONNECT = '{"id":1,"connect":{}}';
/** And `no-transform`, from those who say that too. */
const NEVER_CACHED = 'private, no-cache, no-store, must-revalidate, max-age=0';

const post = (path, body, headers = {}) => fetch(url(path), { method: 'POST', body, headers });
const sse = (path, connect, options = {}) => fetch(url(`${path}?cf_connect=${encodeURIComponent(connect)}`), options);

/** Reads an answer as it comes, in pieces that end with `separator`. */
class Stream {
  constructor(answer, separator) {
    this.answer = answer;
    this.separator = separator;
    this.reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    this.text = '';
  }

  /** The next piece without its separator; `undefined` at the end. */
  async piece() {
    for (;;) {
      const end = this.text.indexOf(this.separator);
      if (end >= 0) {
        const piece = this.text.slice(0, end);
        this.text = this.text.slice(end + this.separator.length);
        return piece;
      }
      const { value, done } = await this.reader.read();
      if (done) {
        assert.equal(this.text, '', 'a piece without its end');
        return undefined;
      }
      this.text += value;
    }
  }

  /** The next object that is not a ping. */
  async next() {
    for (;;) {
      const piece = await this.piece();
      if (piece === undefined) return undefined;
      // Events may have an id, or nothing else.
      const text = this.separator === '\n' ? piece : /^data: (.*)$/m.exec(piece)?.[1];
      if (text && text !== '{}') return JSON.parse(text);
    }
  }

  cancel() {
    return this.reader.cancel();
  }
}

const carriers = {
  http_stream: async (connect) => new Stream(await post('/connection/http_stream', connect), '\n'),
  sse: async (connect) => new Stream(await sse('/connection/sse', connect), '\n\n'),
};

const unidirectional = {
  uni_http_stream: async (connect) => new Stream(await post('/connection/uni_http_stream', connect), '\n'),
  uni_sse: async (connect) => new Stream(await sse('/connection/uni_sse', connect), '\n\n'),
  async uni_websocket(connect) {
    const socket = new WebSocket(wsUrl('/connection/uni_websocket'));
    const queue = new Queue();
    socket.on('message', (data) => {
      for (const line of data.toString().trim().split('\n')) queue.push(JSON.parse(line));
    });
    socket.on('close', (code, reason) => queue.push({ disconnect: { code, reason: reason.toString() } }));
    await once(socket, 'open');
    socket.send(connect);
    return { next: () => queue.next(), cancel: () => socket.close() };
  },
};

async function emulate({ session, node }, ...commands) {
  const data = commands.map((command) => JSON.stringify(command)).join('\n');
  return (await post('/emulation', JSON.stringify({ session, node, data }))).status;
}

function withTests(transport, open) {
  return {
    async [`${transport}: a session is opened by a stream and fed by posts`]() {
      const stream = await open(CONNECT);
      const { id, connect } = await stream.next();
      assert.equal(id, 1);
      for (const field of ['client', 'session', 'node']) assert.ok(connect[field], field);
      assert.equal(connect.ping, 25);
      assert.equal(connect.pong, true);
      const name = channel('recovery');
      const commands = [{ id: 2, subscribe: { channel: name } }, { id: 3, rpc: { method: 'm' } }];
      assert.equal(await emulate(connect, ...commands), 204);
      assert.equal((await stream.next()).subscribe.recoverable, true);
      assert.deepEqual(await stream.next(), { id: 3, error: { code: 108, message: 'not available' } });
      await publish(name, 1);
      await publish(name, 2);
      assert.equal((await stream.next()).push.pub.data, 1);
      assert.deepEqual(await stream.next(), { push: { channel: name, pub: { data: 2, offset: 2 } } });
      await stream.cancel();
    },

    async [`${transport}: subscriptions go along with the connect`]() {
      const name = channel('bare');
      const stream = await open(`${CONNECT}\n{"id":2,"subscribe":{"channel":"${name}"}}`);
      assert.ok((await stream.next()).connect);
      assert.deepEqual(await stream.next(), { id: 2, subscribe: {} });
      await stream.cancel();
    },

    async [`${transport}: a disconnect is pushed and ends the stream`]() {
      const user = channel();
      const stream = await open(JSON.stringify({ id: 1, connect: { token: token({ sub: user }) } }));
      await stream.next();
      await api('disconnect', { user });
      const disconnect = { code: 3503, reason: 'force disconnect' };
      assert.deepEqual(await stream.next(), { push: { disconnect } });
      assert.equal(await stream.next(), undefined);
    },

    async [`${transport}: a refused connect is told`]() {
      const connect = (claims, options) => JSON.stringify({ id: 1, connect: { token: token(claims, options) } });
      const expired = await open(connect({ sub: '42', exp: unixTime(-10) }));
      assert.deepEqual(await expired.next(), { id: 1, error: { code: 109, message: 'token expired' } });
      const invalid = await open(connect({ sub: '42' }, { secret: 'other' }));
      const disconnect = { code: 3500, reason: 'invalid token' };
      assert.deepEqual(await invalid.next(), { push: { disconnect } });
      assert.equal(await invalid.next(), undefined);
    },

    async [`${transport}: a bad command ends the stream with 3501`]() {
      const stream = await open(CONNECT);
      const { connect } = await stream.next();
      await emulate(connect, { id: 2, nope: {} });
      const disconnect = { code: 3501, reason: 'bad request' };
      assert.deepEqual(await stream.next(), { push: { disconnect } });
      assert.equal(await stream.next(), undefined);
    },

    async [`${transport}: a client that goes away leaves`]() {
      const name = channel();
      const stream = await open(`${CONNECT}\n{"id":2,"subscribe":{"channel":"${name}"}}`);
      await stream.next();
      await stream.next();
      assert.equal((await api('presence_stats', { channel: name })).num_clients, 1);
      await stream.cancel();
      while ((await api('presence_stats', { channel: name })).num_clients > 0);
    },
  };
}

function withUniTests(transport, open) {
  return {
    async [`${transport}: the connect names the channels, the pushes come bare`]() {
      const name = channel('recovery');
      const { epoch } = await publish(name, 1);
      const stream = await open(JSON.stringify({ subs: { [name]: {} } }));
      const { connect } = await stream.next();
      assert.deepEqual(connect.subs, { [name]: { recoverable: true, epoch, offset: 1, positioned: true } });
      assert.ok(connect.client && connect.session);
      assert.equal(connect.pong, undefined);
      await publish(name, 2);
      assert.deepEqual(await stream.next(), { channel: name, pub: { data: 2, offset: 2 } });
      await stream.cancel();
    },

    async [`${transport}: what was missed comes with the connect`]() {
      const name = channel('recovery');
      const { epoch } = await publish(name, 1);
      await publish(name, 2);
      const stream = await open(JSON.stringify({ subs: { [name]: { recover: true, offset: 1, epoch } } }));
      const { recovered, publications } = (await stream.next()).connect.subs[name];
      assert.equal(recovered, true);
      assert.deepEqual(publications, [{ data: 2, offset: 2 }]);
      await stream.cancel();
    },

    async [`${transport}: the API disconnects it`]() {
      const user = channel();
      const stream = await open(JSON.stringify({ token: token({ sub: user }) }));
      assert.ok((await stream.next()).connect);
      await api('disconnect', { user });
      assert.deepEqual(await stream.next(), { disconnect: { code: 3503, reason: 'force disconnect' } });
    },

    async [`${transport}: what is wrong with a token becomes a disconnect`]() {
      for (const [bad, code] of [
        [token({ sub: '42', exp: unixTime(-10) }), 3005],
        [token({ sub: '42' }, { secret: 'other' }), 3500],
      ]) {
        const stream = await open(JSON.stringify({ token: bad }));
        assert.equal((await stream.next()).disconnect.code, code);
      }
    },
  };
}

await run('centrifuge streams', {
  async 'headers keep proxies from caching and buffering'() {
    for (const answer of [
      await post('/connection/http_stream', CONNECT),
      await post('/connection/uni_http_stream', '{}'),
      await sse('/connection/sse', CONNECT),
      await sse('/connection/uni_sse', '{}'),
    ]) {
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('cache-control').replace(', no-transform', ''), NEVER_CACHED, answer.url);
      assert.equal(answer.headers.get('x-accel-buffering'), 'no');
      const isSse = answer.url.includes('sse');
      assert.equal(isSse, answer.headers.get('content-type')?.replace(' ', '').toLowerCase() === 'text/event-stream;charset=utf-8');
      await answer.body.cancel();
    }
  },

  async 'an event stream may be opened by a post too'() {
    const stream = new Stream(await post('/connection/sse', CONNECT), '\n\n');
    assert.ok((await stream.next()).connect.session);
    await stream.cancel();
  },

  async 'Protobuf over http_stream'() {
    const connect = Buffer.from([4, 0x08, 1, 0x22, 0]);
    const answer = await post('/connection/http_stream', connect, { 'Content-Type': 'application/octet-stream' });
    const { value } = await answer.body.getReader().read();
    assert.deepEqual([...value.subarray(value[0] < 128 ? 1 : 2)].slice(0, 2), [0x08, 1], 'id 1');
  },

  async 'other methods, empty and oversized requests are refused'() {
    assert.equal((await fetch(url('/connection/http_stream'))).status, 405);
    assert.equal((await fetch(url('/emulation'))).status, 405);
    assert.equal((await fetch(url('/connection/sse'))).status, 400);
    const big = ' '.repeat(65_537);
    for (const path of ['/connection/http_stream', '/emulation']) assert.equal((await post(path, big)).status, 413, path);
    assert.equal((await post('/emulation', 'nope')).status, 400);
    assert.equal(await emulate({ session: 'nope', node: 'nope' }, {}), 404);
  },

  async 'a preflight is answered'() {
    for (const path of ['/emulation', '/connection/http_stream']) {
      const headers = { Origin: 'http://app.example', 'Access-Control-Request-Method': 'POST' };
      const answer = await fetch(url(path), { method: 'OPTIONS', headers });
      assert.equal(answer.status, 204);
      assert.equal(answer.headers.get('access-control-allow-origin'), 'http://app.example');
      assert.match(answer.headers.get('access-control-allow-methods'), /POST/);
      assert.ok(Number(answer.headers.get('access-control-max-age')) >= 300);
    }
  },

  ...withTests('http_stream', carriers.http_stream),
  ...withTests('sse', carriers.sse),
  ...withUniTests('uni_http_stream', unidirectional.uni_http_stream),
  ...withUniTests('uni_sse', unidirectional.uni_sse),
  ...withUniTests('uni_websocket', unidirectional.uni_websocket),
});
process.exit();
