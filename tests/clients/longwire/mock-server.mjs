// A stand-in for the server: the plain dialect over every transport, with history, and faults on demand.
// node mock-server.mjs [PORT] serves the console page too, with made-up metrics.

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const console_folder = new URL('../../../src/console/', import.meta.url);
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

class Channel {
  epoch = randomBytes(8).toString('hex');
  offset = 0;
  history = [];
  listeners = new Set();
}

export class MockServer {
  #channels = new Map();
  #sockets = new Set();
  #websockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (!this.faults.noDialect && offered.has('longwire.v1') ? 'longwire.v1' : false) });
  faults = {
    /** Transports that something on the way cuts, and those that this server does not know. */
    blocked: new Set(), unsupported: new Set(),
    /** WebSockets have no subprotocol; there is no server API. */
    noDialect: false, noApi: false,
    /** An answer to everything. */
    refusal: null,
    /** No heartbeats; event streams without a byte. */
    mute: false, holdBody: false,
  };
  counts = { requests: 0, connections: 0, websocket: 0, sse: 0, stream: 0, poll: 0, cuts: 0, publications: 0 };
  requests = [];
  /** Path -> text of further scripts. */
  scripts = { '/longwire.mjs': "import './longwire.js';\nexport const { Longwire } = globalThis;\n" };

  constructor({ historySize = 1000, heartbeatMs = 30000, token = '', retryMs = 0, pollIntervalS = 0 } = {}) {
    Object.assign(this, { historySize, heartbeatMs, token, retryMs, pollIntervalS });
    this.http = http.createServer((request, response) => this.#answer(request, response).catch((error) => response.destroy(error)));
    this.http.on('connection', (socket) => {
      this.counts.connections += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.heartbeat = setInterval(() => this.#beat(), heartbeatMs);
  }

  listen(port = 0) {
    return new Promise((resolve) => {
      this.http.listen(port, '127.0.0.1', () => resolve((this.url = `http://127.0.0.1:${this.http.address().port}/`)));
    });
  }

  close() {
    clearInterval(this.heartbeat);
    this.cut();
    return new Promise((resolve) => this.http.close(resolve));
  }

  channel(name) {
    if (!this.#channels.has(name)) this.#channels.set(name, new Channel());
    return this.#channels.get(name);
  }

  publish(name, body, kind) {
    const channel = this.channel(name), publication = { offset: ++channel.offset, ...encode(body, kind) };
    this.counts.publications += 1;
    channel.history.push(publication);
    if (channel.history.length > this.historySize) channel.history.shift();
    for (const listener of [...channel.listeners]) listener.publication(publication);
    return { offset: publication.offset, epoch: channel.epoch };
  }

  /** Ends every connection, or those that `chosen` picks, without a word. */
  cut(chosen = () => true) {
    for (const socket of [...this.#sockets]) {
      if (!chosen(socket)) continue;
      this.counts.cuts += 1;
      socket.resetAndDestroy();
    }
  }

  /** As a restart does: another epoch, and everything forgotten. */
  loseHistory(name) {
    const channel = this.channel(name);
    Object.assign(channel, { epoch: randomBytes(8).toString('hex'), offset: 0, history: [] });
  }

  disconnect(name, disconnect) {
    for (const listener of [...this.channel(name).listeners]) listener.disconnect(disconnect);
  }

  #beat() {
    if (this.faults.mute) return;
    for (const channel of this.#channels.values()) for (const listener of channel.listeners) listener.heartbeat();
  }

  /** What a subscriber gets first: where it stands, and what it missed if that is still there. */
  #resume(channel, since) {
    const [, epoch, offset] = /^(.+):(\d+)$/.exec(since ?? '') ?? [];
    const missed = channel.history.filter((publication) => publication.offset > Number(offset));
    const recovered = epoch === channel.epoch && Number(offset) <= channel.offset && missed.length === channel.offset - Number(offset);
    return { subscribed: { epoch: channel.epoch, offset: channel.offset, recovered }, missed: recovered ? missed : [], since: recovered ? Number(offset) : channel.offset };
  }

  #refuse({ headers, url }) {
    const { refusal } = this.faults;
    if (refusal) return refusal;
    const given = headers.authorization?.replace(/^Bearer /, '') ?? new URL(url, 'http://x').searchParams.get('token') ?? '';
    return this.token && given !== this.token ? { status: 401 } : null;
  }

  #upgrade(request, socket, head) {
    this.counts.requests += 1;
    this.requests.push(`websocket ${request.url}`);
    const url = new URL(request.url, this.url), refusal = this.#refuse(request);
    const blocked = this.faults.blocked.has('websocket') ? { status: 400 } : this.faults.unsupported.has('websocket') ? { status: 404 } : refusal;
    if (this.faults.blocked.has('websocket-hang')) return;
    if (blocked) return socket.end(`HTTP/1.1 ${blocked.status} No\r\nRetry-After: ${blocked.retryAfterS ?? 1}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    this.#websockets.handleUpgrade(request, socket, head, (websocket) => this.#websocket(websocket, url));
  }

  #websocket(websocket, url) {
    this.counts.websocket += 1;
    const channel = this.channel(channelName(url)), framed = websocket.protocol === 'longwire.v1';
    const send = (frame) => websocket.send(JSON.stringify(frame));
    const { subscribed, missed } = this.#resume(channel, url.searchParams.get('since'));
    if (framed) {
      send({ subscribed: { ...subscribed, heartbeat_ms: this.heartbeatMs } });
      missed.forEach(send);
    }
    const listener = {
      publication: (publication) => (framed ? send(publication) : websocket.send(decode(publication))),
      heartbeat: () => framed && send({}),
      disconnect(disconnect) {
        if (framed && disconnect.reconnect !== undefined) send({ disconnect });
        websocket.close(disconnect.code, disconnect.reason);
      },
    };
    channel.listeners.add(listener);
    websocket.on('message', (text) => {
      if (String(text) !== '{}') return websocket.close(1008, 'clients may not publish here');
      if (!this.faults.mute) send({});
    });
    websocket.on('error', () => {});
    websocket.on('close', () => channel.listeners.delete(listener));
  }

  async #answer(request, response) {
    this.counts.requests += 1;
    const url = new URL(request.url, this.url);
    response.setHeader('Access-Control-Allow-Origin', '*');
    if (!url.pathname.startsWith('/channels/')) return this.#page(request, url, response);
    this.requests.push(`${request.method} ${request.headers.accept} ${request.url}`);
    const refusal = this.#refuse(request);
    if (refusal) return end(response, refusal.status, 'refused', { 'Retry-After': refusal.retryAfterS ?? 1 });
    if (request.method === 'POST') return this.#post(request, url, response);
    const transport = url.searchParams.has('wait') ? 'poll' : { 'text/event-stream': 'sse', 'application/x-ndjson': 'stream' }[request.headers.accept];
    const name = transport === 'poll' ? (url.searchParams.get('wait') === '0' ? 'shortpoll' : 'longpoll') : transport;
    if (!transport || this.faults.unsupported.has(name)) return end(response, 426, 'this is a WebSocket: send an upgrade request');
    if (this.faults.blocked.has(name)) return request.socket.resetAndDestroy();
    this.counts[transport] += 1;
    return this[`_${transport}`](request, url, response);
  }

  async #post(request, url, response) {
    const body = await bodyOf(request);
    const kind = request.headers['content-type'] === 'application/octet-stream' ? 'binary' : undefined;
    return json(response, this.publish(channelName(url), kind ? body : body.toString(), kind));
  }

  _sse(request, url, response) {
    const channel = this.channel(channelName(url));
    const { subscribed, missed, since } = this.#resume(channel, url.searchParams.get('since') ?? request.headers['last-event-id']);
    const asked = url.searchParams.has('since') || 'last-event-id' in request.headers;
    const write = (text) => this.faults.holdBody || response.write(text);
    const event = (publication) => {
      const name = publication.kind === 'binary' ? 'event: longwire.binary\n' : '';
      const text = publication.kind === 'binary' ? publication.data : decode(publication);
      return `${name}id: ${channel.epoch}:${publication.offset}\n${text.split('\n').map((line) => `data: ${line}\n`).join('')}\n`;
    };
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.flushHeaders();
    const gap = asked && !subscribed.recovered;
    write(`${this.retryMs ? `retry: ${this.retryMs}\n` : ''}id: ${channel.epoch}:${since}\n${gap ? `event: longwire.gap\ndata: ${JSON.stringify({ epoch: channel.epoch, offset: channel.offset })}\n` : ''}\n`);
    missed.forEach((publication) => write(event(publication)));
    this.#stream(channel, response, { publication: (publication) => write(event(publication)), heartbeat: () => write(':\n\n') });
  }

  _stream(request, url, response) {
    const channel = this.channel(channelName(url));
    const { subscribed, missed } = this.#resume(channel, url.searchParams.get('since'));
    const send = (line) => response.write(`${JSON.stringify(line)}\n`);
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
    send({ subscribed: { ...subscribed, heartbeat_ms: this.heartbeatMs } });
    missed.forEach(send);
    this.#stream(channel, response, { publication: send, heartbeat: () => send({}) }, (disconnect) => send({ disconnect }));
  }

  #stream(channel, response, listener, farewell = () => {}) {
    listener.disconnect = (disconnect) => {
      channel.listeners.delete(listener);
      farewell(disconnect);
      response.end();
    };
    channel.listeners.add(listener);
    response.on('close', () => channel.listeners.delete(listener));
  }

  async _poll(request, url, response) {
    const channel = this.channel(channelName(url)), since = url.searchParams.get('since');
    const waitMs = Number(url.searchParams.get('wait')) * 1000;
    let { subscribed, missed } = this.#resume(channel, since);
    if (waitMs && !missed.length && (subscribed.recovered || !since)) {
      const from = `${channel.epoch}:${channel.offset}`;
      await this.#next(channel, response, waitMs);
      ({ subscribed, missed } = this.#resume(channel, since ?? from));
    }
    const headers = {
      'Longwire-Position': `${channel.epoch}:${channel.offset}`, 'Cache-Control': 'no-cache', ETag: `"${channel.epoch}-${channel.offset}"`,
      ...(this.pollIntervalS && { 'Poll-Interval': this.pollIntervalS }),
    };
    if (!since && !waitMs) {
      if (!channel.history.length) return end(response, 204, undefined, headers);
      missed = channel.history.slice(-1);
    }
    if (request.headers['if-none-match'] === headers.ETag) return end(response, 304, undefined, headers);
    return json(response, { ...subscribed, publications: missed }, headers);
  }

  #next(channel, response, waitMs) {
    return new Promise((resolve) => {
      const listener = { publication: done, heartbeat() {}, disconnect: done };
      const timer = setTimeout(done, waitMs);
      function done() {
        clearTimeout(timer);
        channel.listeners.delete(listener);
        resolve();
      }
      channel.listeners.add(listener);
      response.on('close', done);
    });
  }

  async #page(request, url, response) {
    const types = { '/': ['index.html', 'text/html; charset=utf-8'], '/longwire.js': ['longwire.js', 'text/javascript; charset=utf-8'] };
    const file = types[url.pathname], script = this.scripts[url.pathname];
    if (script) return end(response, 200, script, { 'Content-Type': 'text/javascript' });
    if (file) return end(response, 200, await readFile(new URL(file[0], console_folder)), { 'Content-Type': file[1], 'Content-Security-Policy': POLICY });
    if (url.pathname === '/metrics') return end(response, 200, this.metrics());
    if (url.pathname.startsWith('/api/') && !this.faults.noApi) return this.#api(request, url, response);
    return end(response, 404, 'no such path');
  }

  /** As the server API answers: a result, or an error in a 200. */
  async #api(request, url, response) {
    if (request.headers['x-api-key'] !== 'secret') return end(response, 401, 'API key not accepted');
    const { channel: name } = JSON.parse(await bodyOf(request) || '{}');
    const channel = this.channel(name ?? ''), uptime = Math.round(process.uptime());
    const methods = {
      channels: () => ({ channels: Object.fromEntries([...this.#channels].filter(([name]) => name).map(([name, { listeners }]) => [name, { num_clients: listeners.size }])) }),
      history: () => ({ publications: channel.history.slice(-20).reverse(), offset: channel.offset, epoch: channel.epoch }),
      info: () => ({ nodes: [{ uid: '6f2c', name: 'alpha_8000', version: '0.1.0', num_clients: this.#sockets.size, num_channels: this.#channels.size, uptime }] }),
    };
    const method = methods[url.pathname.slice('/api/'.length)];
    if (url.pathname === '/api/presence') return json(response, { error: { code: 108, message: 'not available' } });
    return method ? json(response, { result: method() }) : end(response, 404, 'no such path');
  }

  metrics() {
    const { counts } = this, listeners = [...this.#channels.values()].reduce((sum, channel) => sum + channel.listeners.size, 0);
    const seconds = process.uptime();
    const turns = [['0.0001', 0.9], ['0.001', 0.99], ['0.01', 1], ['+Inf', 1]].map(([le, part]) => `longwire_loop_turn_seconds_bucket{shard="0",le="${le}"} ${Math.round(seconds * 4000 * part)}`);
    return [
      'longwire_info{version="0.1.0"} 1',
      ...[0, 1].map((shard) => `longwire_connections{shard="${shard}"} ${Math.ceil(this.#sockets.size * (shard ? 0.4 : 0.6)) + 480 + Math.round(20 * Math.sin(seconds / 7 + shard))}`),
      `longwire_channels{shard="0"} ${this.#channels.size}`,
      `longwire_subscriptions{shard="0"} ${listeners}`,
      `longwire_accepts_total{shard="0"} ${counts.connections}`,
      `longwire_publications_total{shard="0"} ${counts.publications}`,
      `longwire_deliveries_total{shard="0"} ${counts.publications * 480 + Math.round(seconds * 900)}`,
      `longwire_sends_total{shard="0"} ${counts.publications * 300 + Math.round(seconds * 600)}`,
      `longwire_sent_bytes_total{shard="0"} ${Math.round(seconds * 52000)}`,
      `longwire_received_bytes_total{shard="0"} ${Math.round(seconds * 4100)}`,
      'longwire_outbox_bytes{shard="0"} 8192',
      'longwire_refused_total{shard="0",reason="connection_limit"} 0',
      'longwire_publications_refused_total{shard="0",reason="shard_busy"} 0',
      `longwire_closes_total{shard="0",reason="client"} ${Math.round(seconds / 2)}`,
      `longwire_closes_total{shard="0",reason="slow_consumer"} ${Math.round(seconds / 20)}`,
      ...turns,
      'process_resident_memory_bytes 23068672',
      `process_cpu_seconds_total ${(seconds * 0.07).toFixed(2)}`,
      `process_start_time_seconds ${Math.round(Date.now() / 1000 - seconds)}`,
      '',
    ].join('\n');
  }
}

const channelName = (url) => decodeURIComponent(url.pathname.slice('/channels/'.length));
/** What was published, byte for byte; JSON leaves it out. */
const VERBATIM = Symbol('verbatim');
const decode = (publication) => publication[VERBATIM];

function encode(body, kind) {
  if (kind === 'binary') return { kind, data: Buffer.from(body).toString('base64'), [VERBATIM]: body };
  try {
    return { kind: 'json', data: JSON.parse(body), [VERBATIM]: body };
  } catch {
    return { kind: 'text', data: body, [VERBATIM]: body };
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function end(response, status, body, headers = {}) {
  response.writeHead(status, headers);
  response.end(body);
}

const json = (response, value, headers = {}) => end(response, 200, JSON.stringify(value), { 'Content-Type': 'application/json', ...headers });

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = new MockServer({ heartbeatMs: 5000 });
  console.log(await server.listen(Number(process.argv[2] ?? 8008)));
}
