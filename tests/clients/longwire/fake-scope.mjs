// What a window has, with a clock that a test moves: timers, WebSockets and requests that do what the test says.

/** What is asked for, and by which session: that is another each time. */
function apart(text) {
  const url = new URL(text), session = url.searchParams.get('session') ?? undefined;
  url.searchParams.delete('session');
  return { url: url.href, session };
}

export class FakeScope extends EventTarget {
  #now = 1000;
  #timers = new Map();
  #nextTimer = 1;
  sockets = [];
  requests = [];
  stored = new Map();
  performance = { now: () => this.#now };
  navigator = { onLine: true };
  location = { href: 'http://fake.test/app/' };
  document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  /** Numbers that `Math.random` gives, then a half. */
  randoms = [];
  Math = { random: () => this.randoms.shift() ?? 0.5 };
  localStorage = {
    getItem: (key) => this.stored.get(key) ?? null,
    setItem: (key, value) => this.stored.set(key, value),
  };

  constructor() {
    super();
    const scope = this;
    this.WebSocket = class FakeWebSocket {
      constructor(url, protocol) {
        Object.assign(this, { ...apart(url), protocol, sent: [], isClosed: false });
        scope.sockets.push(this);
      }
      send(text) { this.sent.push(text); }
      close() { this.isClosed = true; }
      say(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }
      end(code = 1006, reason = '') { this.onclose?.({ code, reason }); }
    };
  }

  setTimeout(callback, ms = 0) {
    this.#timers.set(this.#nextTimer, { callback, at: this.#now + ms });
    return this.#nextTimer++;
  }

  clearTimeout(timer) {
    this.#timers.delete(timer);
  }

  get timers() {
    return this.#timers.size;
  }

  fetch(url, options) {
    return new Promise((resolve, reject) => {
      this.requests.push({ ...apart(url), ...options, resolve, reject, answer: (status, body = '', headers = {}) => resolve(new Response([204, 304].includes(status) ? null : body, { status, headers })) });
      options.signal?.addEventListener('abort', () => reject(options.signal.reason));
    });
  }

  /** Lets promises come to rest. */
  async settle() {
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Moves the clock, timer by timer. */
  async advance(ms) {
    await this.settle();
    for (const end = this.#now + ms;;) {
      const [timer, { callback, at } = {}] = [...this.#timers].sort((a, b) => a[1].at - b[1].at)[0] ?? [];
      if (!timer || at > end) {
        this.#now = end;
        return this.settle();
      }
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, at);
      callback();
      await this.settle();
    }
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get request() {
    return this.requests.at(-1);
  }
}
