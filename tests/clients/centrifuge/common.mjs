// What the tests of the Centrifuge protocol share: tokens, the server API, a connection that can be cut.

import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import WebSocket from 'ws';

export const server = new URL(process.argv[2]);
export const API_KEY = 'test-api-key';
const HMAC_SECRET = 'secret';

const base64url = (text) => Buffer.from(text).toString('base64url');

/** A JWT signed with HMAC, of a connection or, with a `channel`, of a subscription. */
export function token(claims, { secret = HMAC_SECRET, bits = 256, alg = `HS${bits}` } = {}) {
  const signed = [{ alg, typ: 'JWT' }, claims].map((part) => base64url(JSON.stringify(part))).join('.');
  return `${signed}.${createHmac(`sha${bits}`, secret).update(signed).digest('base64url')}`;
}

/** Unix time in seconds, `after_s` from now. */
export const unixTime = (after_s = 0) => Math.floor(Date.now() / 1000) + after_s;

/** A channel no other test has. */
export const channel = (namespace = '') => `${namespace && `${namespace}:`}${randomUUID()}`;

export const url = (path, base = server) => new URL(path, base);
export const wsUrl = (path, base = server) => new URL(path, base.href.replace('http', 'ws')).href;

/** Calls the server API; gives the whole answer, error or result. */
export async function call(method, params = {}, headers = { 'X-API-Key': API_KEY }) {
  const answer = await fetch(url(`/api/${method}`), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof params === 'string' ? params : JSON.stringify(params),
  });
  assert.equal(answer.status, 200, `/api/${method}: ${answer.status}`);
  return answer.json();
}

/** Calls the server API and expects a result. */
export async function api(method, params) {
  const answer = await call(method, params);
  assert.equal(answer.error, undefined, `/api/${method}: ${JSON.stringify(answer.error)}`);
  return answer.result;
}

export const publish = (name, data, more = {}) => api('publish', { channel: name, data, ...more });

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Polls until the condition holds. The test's own deadline ends the wait. */
export async function until(condition) {
  for (;;) {
    const value = await condition();
    if (value) return value;
    await sleep(10);
  }
}

/** What comes one after the other and waits to be taken. */
export class Queue {
  items = [];
  #wake = () => {};

  push(item) {
    this.items.push(item);
    this.#wake();
  }

  async next() {
    while (this.items.length === 0) await new Promise((resolve) => (this.#wake = resolve));
    return this.items.shift();
  }
}

/** A TCP proxy before the server whose connections a test cuts. */
export class Cuttable {
  #sockets = new Set();
  #listener = net.createServer((client) => this.#connect(client));
  /** Whether a new connection is ended at once. */
  isDown = false;

  static async start() {
    const proxy = new Cuttable();
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    proxy.base = new URL(`http://127.0.0.1:${proxy.#listener.address().port}`);
    return proxy;
  }

  #connect(client) {
    if (this.isDown) return client.destroy();
    const upstream = net.connect(Number(server.port), server.hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  /** Ends every connection there is, as a network does that goes away. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop() {
    this.isDown = true;
    this.cut();
    this.#listener.close();
  }
}

/** A WebSocket that speaks the JSON protocol by hand: every object of every frame, in order. */
export class Wire {
  #id = 0;
  #replies = new Queue();
  #closed;
  /** What came instead of a reply, until a test asks for it: pushes and, as `{}`, pings. */
  #pushes = new Queue();

  static async open(query = '', options = {}) {
    const wire = new Wire();
    wire.socket = new WebSocket(wsUrl(`/connection/websocket${query}`), options);
    wire.socket.on('message', (data) => {
      for (const line of data.toString().trimEnd().split('\n')) {
        (JSON.parse(line).id ? wire.#replies : wire.#pushes).push(line);
      }
    });
    wire.socket.on('error', () => {});
    wire.#closed = new Promise((resolve) => wire.socket.once('close', (...close) => resolve(close)));
    await once(wire.socket, 'open');
    return wire;
  }

  /** Opens and connects; the reply to `connect` is kept as `connected`. */
  static async connect(request = {}, query = '') {
    const wire = await Wire.open(query);
    const { connect } = await wire.command({ connect: request });
    assert.ok(connect, 'connect was refused');
    wire.connected = connect;
    return wire;
  }

  /** Sends as one frame: text as it is, objects one per line. */
  send(...lines) {
    this.socket.send(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  }

  /** The next reply as text. */
  replyText() {
    return this.#orClosed(this.#replies.next());
  }

  async reply() {
    return JSON.parse(await this.replyText());
  }

  /** The next push or ping as text. */
  pushText() {
    return this.#orClosed(this.#pushes.next());
  }

  /** The next push that is not a ping. */
  async push() {
    for (;;) {
      const { push } = JSON.parse(await this.pushText());
      if (push) return push;
    }
  }

  /** How many pushes wait. */
  get waiting() {
    return this.#pushes.items.length;
  }

  /** Sends a command and gives the reply to it without its id. */
  async command(command) {
    const sent = ++this.#id;
    this.send({ id: sent, ...command });
    const { id, ...reply } = await this.reply();
    assert.equal(id, sent, 'the id of the reply');
    return reply;
  }

  async subscribe(name, options = {}) {
    const reply = await this.command({ subscribe: { channel: name, ...options } });
    assert.equal(reply.error, undefined, `subscribe: ${JSON.stringify(reply.error)}`);
    return reply.subscribe;
  }

  /** The code of the error a command is answered with. */
  async refusal(command) {
    const { error, ...result } = await this.command(command);
    assert.ok(error, `no error but ${JSON.stringify(result)}`);
    return error.code;
  }

  /** Code and reason the server closes with. */
  async closed() {
    const [code, reason] = await this.#closed;
    return { code, reason: reason.toString() };
  }

  async #orClosed(promise) {
    const closed = this.#closed.then(([code, reason]) => {
      throw new Error(`closed with ${code} ${reason}`);
    });
    return Promise.race([promise, closed]);
  }

  close() {
    this.socket.close();
  }
}

export const BAD_REQUEST = { code: 3501, reason: 'bad request' };
export const INVALID_TOKEN = { code: 3500, reason: 'invalid token' };

export const CONNECT = { id: 1, connect: {} };

/** What a fresh connection is closed with after these lines, sent as one frame. */
export async function closedAfter(...lines) {
  const wire = await Wire.open();
  wire.send(...lines);
  return wire.closed();
}

/** The first publication of a stream may say its epoch, so that a client learns it. */
export function expectPublication(pub, expected, epoch) {
  const { epoch: said, ...rest } = pub;
  assert.deepEqual(rest, expected);
  if (said !== undefined) assert.deepEqual([pub.offset, said], [1, epoch]);
}
