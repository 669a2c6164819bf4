/**
 * Longwire's client, for browsers, workers and Node 20.
 *
 *     const longwire = new Longwire('https://push.example.com/', { getToken });
 *     const subscription = longwire.subscribe('demo', { onmessage: ({ data }) => show(data), ongap: reload });
 *     await longwire.publish('demo', { hello: 'world' });
 *     subscription.close();
 *
 * A script defines the global `Longwire`; a module says `import { Longwire } from '/longwire.mjs'`.
 * A subscription keeps one connection, over the first of its transports that gets through, and when it ends makes
 * another from the same position: nothing is lost or comes twice, or `ongap` says so.
 */
(() => {
'use strict';

/** @typedef {'websocket' | 'sse' | 'stream' | 'longpoll' | 'shortpoll'} Transport */
/** @typedef {{ epoch: string, offset: number }} Position Of the newest publication seen. */
/** @typedef {{ channel: string, data: any, kind: 'json' | 'text' | 'binary' } & Position} Message Binary: a Uint8Array. */
/**
 * @typedef {object} Ending Why a connection ended or never began.
 * @property {string} reason
 * @property {number} [code] Of a WebSocket Close.
 * @property {number} [status] Of an HTTP answer.
 * @property {number} [retryAfterMs]
 * @property {boolean} [reconnect] What the server says.
 *
 * @typedef {object} Handlers
 * @property {(message: Message) => void} [onmessage]
 * @property {(event: { transport: Transport, position?: Position }) => void} [onconnected] Also to a better transport.
 * @property {(event: Ending & { retryInMs?: number }) => void} [ondisconnected] For good, without `retryInMs`.
 * @property {(event: { since: Position, position: Position, missed?: number }) => void} [ongap] Before what follows it.
 * @property {(error: Error & Ending) => void} [onerror] It never began, or is over for good.
 */

const DEFAULTS = {
  /** Best first. */
  transports: /** @type {Transport[]} */ (['websocket', 'sse', 'longpoll', 'shortpoll']),
  /** Until subscribed. */
  openTimeoutMs: 8000,
  /** The server is not silent for longer. */
  heartbeatMs: 30000,
  /** For a sign of life. */
  probeTimeoutMs: 5000,
  /** The first wait is shorter, and the cap holds for all but what the server asks. */
  backoffBaseMs: 1000,
  backoffCapMs: 30000,
  /** Being open this long ends the backoff. */
  stableMs: 30000,
  /** Until a better transport is tried, about; then ever less often. */
  trialMs: 10000,
  /** How long a poll may be held, and how long to rest between polls that are not, unless the server says. */
  waitS: 25,
  pollS: 5,
  /** In characters. */
  messageLimit: 4 << 20,
};
/**
 * @typedef {Partial<typeof DEFAULTS> & {
 *   token?: string, getToken?: () => string | undefined | Promise<string | undefined>, WebSocket?: any, scope?: any,
 * }} Options `getToken` is asked before each connection; `scope` stands for the global object.
 */
const HOUR_MS = 3600000, POLL_MARGIN_MS = 10000, PUBLISH_TIMEOUT_MS = 15000;
/** Cut so soon, so often in a row: something on the way does it. */
const CUT_MS = 10000, CUTS_MAX = 3;
/** What would only come again. */
const FINAL = [1002, 1003, 1007, 1008, 1009, 1010, 400, 403, 404, 409, 410, 414];
/** The server does not do this transport here. */
const UNSUPPORTED = [405, 406, 426, 501];
/** All were sent away at once. */
const SPREAD_MS = /** @type {Record<number, number>} */ ({ 1001: 5000, 1012: 5000, 1013: 15000 });

/** @param {Ending} ending */
const failure = (ending) => Object.assign(new Error(ending.reason), ending);

/** @param {Response} response */
async function refusal(response) {
  const reason = (await response.text()).trim().slice(0, 200) || `answered ${response.status}`;
  const after = response.headers.get('Retry-After') ?? '';
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  return failure({ reason, status: response.status, retryAfterMs: ms || undefined });
}

/** @param {string | null} [text] `epoch:offset` @returns {Position | undefined} */
function parsePosition(text) {
  const [, epoch, offset] = /^(.+):(\d+)$/.exec(text ?? '') ?? [];
  return epoch ? { epoch, offset: Number(offset) } : undefined;
}

/** The server's own rule. @param {string} text */
function guessKind(text) {
  try {
    return { kind: 'json', data: JSON.parse(text) };
  } catch {
    return { kind: 'text', data: text };
  }
}

/** A connection or attempt. Once let go of, nothing it says counts. */
class Link {
  abort = new AbortController();
  /** @type {string | undefined} */ token;
  /** @type {any} At first for the opening, then for silence. */ timer;
  /** @type {number | undefined} */ openedAt;
  isProbed = false;
  /** It did what its transport is for. */
  isProven = false;
  retryMs = 0;
  /** @type {Partial<Ending>} */ farewell = {};
  /** @type {(() => void) | undefined} */ ping;
  /** Ends a pause between polls. @type {(() => void) | undefined} */ wake;

  /** @param {Subscription} subscription @param {number} rung */
  constructor(subscription, rung) {
    this.subscription = subscription;
    this.client = subscription.client;
    this.rung = rung;
    // But not of a trial.
    this.session = subscription.transport ? undefined : subscription.session;
    this.kind = this.client.options.transports[rung];
    this.silenceMs = this.client.options.heartbeatMs * 1.5;
    this.hear();
  }

  hear() {
    this.heardAt = this.client.now();
    this.isProbed = false;
  }

  /** @param {Record<string, any>} [query] */
  url(query) {
    return this.client.url(this.subscription.channel, { session: this.session, since: this.subscription.position, ...query });
  }

  /** @param {string} accept @param {Record<string, any>} [query] */
  async get(accept, query) {
    /** @type {Response} */
    const response = await this.client.scope.fetch(this.url(query), {
      headers: { Accept: accept, ...(this.token && { Authorization: `Bearer ${this.token}` }) },
      // After a 304 the answer comes from the cache.
      cache: query?.wait === 0 ? 'no-cache' : 'no-store',
      signal: this.abort.signal,
    });
    if (response.status >= 400) throw await refusal(response);
    const type = response.headers.get('Content-Type');
    if (response.status === 200 && !type?.includes(accept)) throw failure({ reason: `answered with ${type}` });
    return response;
  }

  /** @param {string} accept @param {(line: string) => void} take */
  async lines(accept, take) {
    const { body } = await this.get(accept);
    if (!body) throw failure({ reason: 'no streams here' });
    const reader = body.getReader(), decoder = new TextDecoder();
    for (let rest = '';;) {
      const { done, value } = await reader.read();
      if (done) return { reason: 'the stream ended' };
      this.hear();
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      this.checkLength(rest.length);
      for (const line of lines) take(line.replace(/\r$/, ''));
    }
  }

  /** @param {number} length */
  checkLength(length) {
    if (length > this.client.options.messageLimit) throw failure({ reason: 'message too long' });
  }

  /** The first does not wait: does polling work? @param {number} holdS @returns {Promise<Ending>} */
  async poll(holdS) {
    for (let wait = 0;; wait = holdS) {
      const { client, subscription } = this, askedAt = client.now();
      this.silenceMs = wait * 1000 + POLL_MARGIN_MS;
      this.hear();
      const response = await this.get('application/json', { wait });
      const body = response.status === 200 ? await response.json() : parsePosition(response.headers.get('Longwire-Position'));
      this.hear();
      const count = subscription._polled(this, body ?? {});
      this.isProven ||= wait > 0;
      const retryS = Number(response.headers.get('Retry-After'));
      if (retryS) return { code: 1001, reason: 'closed', retryAfterMs: retryS * 1000 };
      // No poll without end.
      if (holdS && (!wait || count || client.now() - askedAt > 1000)) continue;
      const pauseS = Number(response.headers.get('Poll-Interval')) || client.options.pollS;
      await this.pause(Math.min(pauseS * 1000 * (client.isHidden ? 4 : 1), HOUR_MS));
    }
  }

  /** @param {number} ms @returns {Promise<void>} */
  pause(ms) {
    this.silenceMs = ms + POLL_MARGIN_MS;
    return new Promise((resolve) => {
      const timer = this.client.scope.setTimeout(resolve, ms);
      this.wake = () => { this.client.scope.clearTimeout(timer); resolve(); };
      if (this.abort.signal.aborted) this.wake();
    });
  }

  drop() {
    this.client.scope.clearTimeout(this.timer);
    this.wake?.();
    this.abort.abort();
  }
}

/** Each returns when its connection has ended. @type {Record<Transport, (link: Link) => Promise<Ending>>} */
const TRANSPORTS = {
  websocket: (link) => new Promise((resolve, reject) => {
    const socket = new link.client.WebSocket(link.url({ token: link.token }).replace(/^http/, 'ws'), 'longwire.v1');
    link.ping = () => socket.send('{}');
    link.abort.signal.addEventListener('abort', () => socket.close());
    socket.onmessage = (/** @type {MessageEvent} */ { data }) => {
      try { link.subscription._frame(link, data); } catch (error) { reject(error); }
    };
    socket.onerror = () => {};
    socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => resolve({ code, reason: reason || `closed, ${code}` });
  }),

  sse(link) {
    const { subscription } = link;
    let event = '', length = 0, lines = /** @type {string[]} */ ([]), id = /** @type {Position | undefined} */ (undefined);
    function dispatch() {
      const text = lines.join('\n');
      if (event === 'longwire.taken_over') subscription._frame(link, text);
      else if (event === 'longwire.gap') subscription._subscribed(link, { ...id, ...JSON.parse(text), recovered: false });
      else if (!link.openedAt) subscription._subscribed(link, { ...id, ...(id && lines.length && { offset: id.offset - 1 }), recovered: true });
      const kind = event === 'longwire.binary' && 'binary';
      if (id && lines.length && (kind || !event)) subscription._publication(link, { ...(kind ? { kind, data: text } : guessKind(text)), ...id });
      [event, length, lines] = ['', 0, []];
    }
    return link.lines('text/event-stream', (line) => {
      if (!line) return dispatch();
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === 'data') lines.push(value);
      if (field === 'event') event = value;
      if (field === 'id') id = parsePosition(value);
      if (field === 'retry') link.retryMs = Number(value) || 0;
      link.checkLength(length += line.length);
    });
  },

  stream: (link) => link.lines('application/x-ndjson', (line) => line && link.subscription._frame(link, line)),
  longpoll: (link) => link.poll(link.client.options.waitS),
  shortpoll: (link) => link.poll(0),
};

class Subscription {
  /** @type {'connecting' | 'open' | 'waiting' | 'closed'} */
  state = 'connecting';
  /** Store it to go on from there. @type {Position | undefined} */
  position;
  /** @type {Link | undefined} */ #link;
  /** A better one, tried meanwhile. @type {Link | undefined} */ #trial;
  /** @type {any} */ #trialTimer;
  #trials = 0;
  #attempt = 0;
  #cuts = 0;
  /** The next transport to try, and the last that worked. */
  #rung = 0;
  #settled = 0;
  /** @type {any} */ #timer;
  #dueAt = 0;
  #notBefore = 0;
  session = globalThis.crypto?.randomUUID?.();

  /** @param {Longwire} client @param {string} channel @param {Handlers & { since?: string | Position }} options */
  constructor(client, channel, { since, ...handlers }) {
    this.client = client;
    this.channel = channel;
    this.handlers = handlers;
    this.position = typeof since === 'string' ? parsePosition(since) : since;
    this.#rung = this.#settled = client.remembered();
    this.#connect();
  }

  /** The transport in use, while open. */
  get transport() {
    return this.state === 'open' ? this.#link?.kind : undefined;
  }

  /** Ends the subscription; no handler is called any more. */
  close() {
    this.state = 'closed';
    this.#link?.drop();
    this.#trial?.drop();
    this.#link = this.#trial = undefined;
    this.client.scope.clearTimeout(this.#timer);
    this.client.scope.clearTimeout(this.#trialTimer);
    this.client._forget(this);
  }

  #connect() {
    this.state = 'connecting';
    this.#link = new Link(this, this.#rung);
    this.#start(this.#link);
  }

  /** @param {Link} link */
  async #start(link) {
    const { scope, options } = this.client;
    link.timer = scope.setTimeout(() => this.#end(link, { reason: 'not open in time' }), options.openTimeoutMs);
    try {
      link.token = await this.client.token();
      link.abort.signal.throwIfAborted();
      this.#end(link, await TRANSPORTS[link.kind](link));
    } catch (/** @type {any} */ error) {
      this.#end(link, { ...error, reason: error.message });
    }
  }

  /** A frame of `longwire.v1` or a line of NDJSON; `{}` is a heartbeat. @param {Link} link @param {string} text */
  _frame(link, text) {
    link.hear();
    const { subscribed, disconnect, ...publication } = JSON.parse(text);
    if (subscribed) this._subscribed(link, subscribed);
    if (disconnect) {
      const { code, reason, reconnect, retry_after_ms: retryAfterMs } = disconnect;
      link.farewell = { code, reason, reconnect, retryAfterMs };
    }
    if (publication.offset) this._publication(link, { ...publication, epoch: this.position?.epoch });
  }

  /** @param {Link} link @param {Partial<Position> & { recovered?: boolean, heartbeat_ms?: number }} subscribed */
  _subscribed(link, { epoch, offset = 0, recovered, heartbeat_ms }) {
    if (link !== this.#link && link !== this.#trial) return;
    const since = this.position, isSame = !epoch || epoch === since?.epoch;
    const isGap = since && !(isSame && (recovered || offset <= since.offset));
    if (link === this.#trial) {
      // The present one may still bring what this cannot.
      if (isGap) return this.#end(link, { reason: 'cannot resume' });
      this.#link?.drop();
      this.#link = link;
      this.#trial = undefined;
    }
    if (heartbeat_ms) link.silenceMs = heartbeat_ms * 1.5;
    if (epoch && (!since || isGap)) this.position = { epoch, offset };
    if (!link.openedAt) this.#opened(link);
    if (isGap && link === this.#link) this.#gap(since, isSame);
  }

  /** @param {Link} link @param {{ offset: number, epoch?: string, kind: string, data: any }} publication */
  _publication(link, { offset, epoch = '', kind, data }) {
    if (link !== this.#link) return;
    const since = this.position, isSame = epoch === since?.epoch;
    if (since && isSame && offset <= since.offset) return;
    if (since && !(isSame && offset === since.offset + 1)) {
      this.position = { epoch, offset: offset - 1 };
      this.#gap(since, isSame);
      if (link !== this.#link) return;
    }
    this.position = { epoch, offset };
    if (kind === 'binary') data = Uint8Array.from(atob(data), (byte) => byte.charCodeAt(0));
    this.#emit('onmessage', { channel: this.channel, data, kind, epoch, offset });
  }

  /** Returns how many publications a poll brings. @param {Link} link @param {any} body */
  _polled(link, { epoch, offset, recovered = true, publications = [] }) {
    const since = this.position;
    // Else it has the latest, from before.
    const news = since ? publications : [];
    if (!recovered || !since) this._subscribed(link, { epoch, offset: news.length ? news[0].offset - 1 : offset, recovered: false });
    else if (!link.openedAt || (epoch && epoch !== since.epoch)) this._subscribed(link, { epoch, offset, recovered });
    for (const publication of news) this._publication(link, { ...publication, epoch });
    return news.length;
  }

  /** @param {Position} since @param {boolean} isSame whether the epoch is */
  #gap(since, isSame) {
    const position = this.position ?? since;
    this.#emit('ongap', { since, position, missed: isSame ? position.offset - since.offset : undefined });
  }

  /** @param {keyof Handlers} name @param {any} detail */
  #emit(name, detail) {
    try {
      this.handlers[name]?.(detail);
    } catch (error) {
      // Reported as uncaught; the connection goes on.
      this.client.scope.setTimeout(() => { throw error; });
    }
  }

  /** @param {Link} link */
  #opened(link) {
    this.state = 'open';
    link.openedAt = this.client.now();
    this.#rung = this.#settled = link.rung;
    this.client.remember(link.kind);
    this.#watch(link);
    this.#planTrial();
    this.#emit('onconnected', { transport: link.kind, position: this.position });
  }

  /** @param {Link} link */
  #watch(link) {
    const { scope } = this.client, left = (link.heardAt ?? 0) + link.silenceMs - this.client.now();
    scope.clearTimeout(link.timer);
    if (left <= 0) return this.#probe(link);
    link.timer = scope.setTimeout(() => this.#watch(link), left);
  }

  /** Asks, if it can, and gives up unless anything is heard. @param {Link} link */
  #probe(link) {
    const { scope, options } = this.client;
    if (link.isProbed) return;
    link.isProbed = true;
    try { link.ping?.(); } catch { /* then nothing will be heard */ }
    scope.clearTimeout(link.timer);
    link.timer = scope.setTimeout(() => {
      if (link.isProbed) this.#end(link, { reason: 'silent' });
      else this.#watch(link);
    }, options.probeTimeoutMs);
  }

  /** @param {Link} link @param {Ending} ending */
  #end(link, ending) {
    if (link === this.#trial) {
      link.drop();
      this.#trial = undefined;
    }
    if (link !== this.#link) return;
    this.#release(link);
    ending = { ...ending, ...link.farewell };
    this.#chooseRung(link, ending);
    const retryInMs = this.#isFinal(ending) ? undefined : this.#backoff(link, ending);
    if (retryInMs === undefined) this.close();
    else this.#schedule(retryInMs);
    const { state } = this;
    if (!link.openedAt || state === 'closed') this.#emit('onerror', failure(ending));
    if (this.state === state) this.#emit('ondisconnected', { ...ending, retryInMs });
  }

  /** @param {Link} link */
  #release(link) {
    link.drop();
    this.#link = undefined;
    this.client.scope.clearTimeout(this.#trialTimer);
  }

  /** @param {Ending} ending */
  #isFinal({ code = 0, status = 0, reconnect }) {
    if (reconnect !== undefined) return !reconnect;
    return FINAL.includes(code) || FINAL.includes(status) || (status === 401 && !this.client.options.getToken);
  }

  /** Where nothing answers the next has its turn. @param {Link} link @param {Ending} ending */
  #chooseRung({ rung, kind, openedAt, isProven }, { code = 1006, status }) {
    const next = (rung + 1) % this.client.options.transports.length;
    const isLost = code === 1006 && status === undefined;
    if (!openedAt) {
      this.#rung = isLost || UNSUPPORTED.includes(status ?? 0) ? next : this.#settled;
      return;
    }
    const isCut = isLost && (kind === 'longpoll' ? !isProven : this.client.now() - openedAt < CUT_MS);
    this.#cuts = isCut ? this.#cuts + 1 : 0;
    if (this.#cuts < CUTS_MAX || !next) return;
    this.#cuts = 0;
    this.#rung = this.#settled = next;
  }

  /** Full jitter over a window that doubles, after what the server asks. @param {Link} link @param {Ending} ending */
  #backoff({ openedAt, retryMs }, { code = 0, retryAfterMs = 0 }) {
    const { client } = this, { backoffBaseMs, backoffCapMs, stableMs } = client.options, now = client.now();
    if (openedAt && now - openedAt >= stableMs) this.#attempt = 0;
    const window = Math.min(backoffCapMs, backoffBaseMs * 2 ** this.#attempt) * (client.isHidden ? 2 : 1);
    this.#attempt = Math.min(this.#attempt + 1, 30);
    const asked = Math.min(Math.max(retryAfterMs, retryMs, 0), HOUR_MS);
    this.#notBefore = now + asked;
    return asked + client.random() * Math.max(window, SPREAD_MS[code] ?? 0) + (client.isOffline ? backoffCapMs : 0);
  }

  /** @param {number} delay */
  #schedule(delay) {
    const { scope } = this.client;
    this.state = 'waiting';
    this.#dueAt = this.client.now() + delay;
    scope.clearTimeout(this.#timer);
    this.#timer = scope.setTimeout(() => this.#connect(), delay);
  }

  /** Does a better transport work by now? */
  #planTrial() {
    const { client } = this;
    client.scope.clearTimeout(this.#trialTimer);
    if (!this.#settled) return;
    const delay = Math.min(client.options.trialMs * 6 ** this.#trials, HOUR_MS) * (0.5 + client.random());
    this.#trialTimer = client.scope.setTimeout(() => this.#try(), delay);
  }

  #try() {
    if (!this.client.isHidden && !this.client.isOffline && !this.#trial) {
      this.#trial = new Link(this, this.#trials % this.#settled);
      this.#trials = Math.min(this.#trials + 1, 12);
      this.#start(this.#trial);
    }
    this.#planTrial();
  }

  /** Of the network, or of being looked at. @param {'online' | 'offline' | 'visible'} hint */
  _hint(hint) {
    const { client } = this, { backoffBaseMs, backoffCapMs, heartbeatMs } = client.options, now = client.now(), link = this.#link;
    const jitter = client.random() * backoffBaseMs, isOffline = hint === 'offline';
    if (hint === 'online') this.#trials = 0;
    if (this.state === 'waiting') {
      const delay = isOffline ? backoffCapMs + jitter : Math.max(0, this.#notBefore - now) + jitter;
      if ((now + delay > this.#dueAt) === isOffline) this.#schedule(delay);
    }
    if (!this.transport || !link || isOffline) return;
    if (link.ping) return this.#probe(link);
    if (link.kind === 'shortpoll') return link.wake?.();
    // The others cannot ask.
    if (hint === 'visible' && link.kind !== 'longpoll') return now - (link.heardAt ?? 0) > heartbeatMs ? this.#probe(link) : undefined;
    this.#release(link);
    this.#schedule(jitter);
    this.#emit('ondisconnected', { reason: 'the network may have changed', retryInMs: jitter });
  }
}

class Longwire {
  /** @type {Set<Subscription>} */ #subscriptions = new Set();

  /** @param {string | URL} [base] Ends in a slash. @param {Options} [options] */
  constructor(base = './', options = {}) {
    this.options = { ...DEFAULTS, ...options };
    this.scope = options.scope ?? globalThis;
    this.WebSocket = options.WebSocket ?? this.scope.WebSocket;
    if (!this.WebSocket) this.options.transports = this.options.transports.filter((kind) => kind !== 'websocket');
    this.base = new URL(base, this.scope.location?.href);
    this.key = `longwire ${this.base.href} ${this.options.transports}`;
  }

  /** Listens from now on, or from a position. @param {string} channel @param {Handlers & { since?: string | Position }} [options] */
  subscribe(channel, options = {}) {
    this.url(channel);
    if (!this.#subscriptions.size) this.#listen('addEventListener');
    const subscription = new Subscription(this, channel, options);
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /**
   * Publishes a string as it is, bytes as binary, all else as JSON. Rejects with the answer's `status`; without one
   * nobody knows whether it was published.
   * @param {string} channel @param {any} data @param {{ headers?: Record<string, string> }} [options]
   */
  async publish(channel, data, { headers } = {}) {
    const isBytes = data instanceof ArrayBuffer || ArrayBuffer.isView(data), token = await this.token();
    const response = await this.scope.fetch(this.url(channel), {
      method: 'POST',
      body: isBytes || typeof data === 'string' ? data : JSON.stringify(data),
      headers: {
        'Content-Type': isBytes ? 'application/octet-stream' : 'text/plain',
        ...(token && { Authorization: `Bearer ${token}` }), ...headers,
      },
      signal: AbortSignal.timeout(PUBLISH_TIMEOUT_MS),
    });
    if (!response.ok) throw await refusal(response);
    return /** @type {Promise<Position>} */ (response.json());
  }

  /** Closes all subscriptions. */
  close() {
    for (const subscription of this.#subscriptions) subscription.close();
  }

  now() {
    return this.scope.performance.now();
  }

  random() {
    return (this.scope.Math ?? Math).random();
  }

  get isHidden() {
    return this.scope.document?.visibilityState === 'hidden';
  }

  get isOffline() {
    return this.scope.navigator?.onLine === false;
  }

  async token() {
    try {
      return await (this.options.getToken?.() ?? this.options.token);
    } catch (/** @type {any} */ error) {
      throw failure({ reason: `no token: ${error?.message}`, status: 0 });
    }
  }

  /** @param {string} channel @param {Record<string, any>} [query] */
  url(channel, query = {}) {
    if (!channel || channel === '.' || channel === '..') throw new TypeError('a URL cannot carry this channel name');
    const url = new URL(`channels/${encodeURIComponent(channel)}`, this.base);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, value.epoch ? `${value.epoch}:${value.offset}` : value);
    }
    return url.href;
  }

  /** Storage may be forbidden. */
  remembered() {
    try {
      const { kind, until } = JSON.parse(this.scope.localStorage.getItem(this.key));
      return until > Date.now() ? Math.max(0, this.options.transports.indexOf(kind)) : 0;
    } catch {
      return 0;
    }
  }

  /** @param {Transport} kind */
  remember(kind) {
    try {
      this.scope.localStorage.setItem(this.key, JSON.stringify({ kind, until: Date.now() + 24 * HOUR_MS }));
    } catch {}
  }

  /** @param {Subscription} subscription */
  _forget(subscription) {
    if (this.#subscriptions.delete(subscription) && !this.#subscriptions.size) this.#listen('removeEventListener');
  }

  /** @param {'addEventListener' | 'removeEventListener'} change */
  #listen(change) {
    const { scope } = this;
    for (const name of ['online', 'offline', 'pageshow']) scope[change]?.(name, this.#noticed);
    for (const name of ['visibilitychange', 'resume']) scope.document?.[change](name, this.#noticed);
    scope.navigator?.connection?.[change]?.('change', this.#noticed);
  }

  #noticed = (/** @type {Event} */ { type }) => {
    const isNetwork = type === 'online' || type === 'offline';
    if (this.isHidden && !isNetwork) return;
    for (const subscription of this.#subscriptions) subscription._hint(isNetwork ? type : 'visible');
  };
}

Object.assign(globalThis, { Longwire });
if (typeof module === 'object') module.exports = Longwire;
})();
