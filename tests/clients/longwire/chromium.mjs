// The browser client in headless Chromium, served by a real server that is stopped, killed and reached through proxies:
// LONGWIRE_BIN=target/release/longwire node chromium.mjs

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { run } from '../report.mjs';
import { Meddler } from './meddler.mjs';
import { Server, sleep, until } from './process.mjs';

const LADDER = ['websocket', 'sse', 'longpoll', 'shortpoll'];
/** In place of seconds, so that the tests take some. */
const HASTY = { backoffBaseMs: 100, backoffCapMs: 400, probeTimeoutMs: 1000, openTimeoutMs: 2000, pollS: 0.1, waitS: 5 };
const HISTORY = ['channel.without_namespace.history_size=10000', 'channel.without_namespace.history_ttl=300s', 'channel.without_namespace.force_recovery=true', 'client.insecure=true', 'client.recovery_max_publication_limit=2000', 'admission.connections_per_address=1000'];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // Chromium refuses its sandbox to root, which CI machines often are.
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

/** A tab that listens with the client its server serves, and keeps all it is told. */
class Tab {
  static async open(context, base, options = {}) {
    const tab = new Tab();
    tab.page = await context.newPage();
    tab.page.setDefaultTimeout(20_000);
    tab.errors = [];
    tab.page.on('pageerror', (error) => tab.errors.push(error.message));
    await tab.load(base, options);
    return tab;
  }

  /** Any page of the server's will do: this one loads nothing by itself. */
  async load(base, options) {
    await this.page.goto(`${base}/health`);
    await this.page.addScriptTag({ url: '/longwire.js' });
    await this.page.evaluate((given) => {
      window.told = { messages: [], gaps: [], transports: [], ends: [], errors: [] };
      const client = new window.Longwire('/', given);
      window.subscription = client.subscribe('demo', {
        onmessage: ({ data, offset }) => window.told.messages.push([data.n, offset]),
        ongap: (gap) => window.told.gaps.push(gap),
        onconnected: ({ transport }) => window.told.transports.push(transport),
        ondisconnected: (ending) => window.told.ends.push(ending),
        onerror: ({ message }) => window.told.errors.push(message),
      });
    }, { ...HASTY, ...options });
    await this.isOpen();
  }

  told() {
    return this.page.evaluate(() => window.told);
  }

  async isOpen(transport) {
    await until(() => this.page.evaluate((wanted) => wanted ? window.subscription.transport === wanted : window.subscription.state === 'open', transport), `open ${transport ?? ''}`);
  }

  async has(n) {
    await until(() => this.page.evaluate((n) => window.told.messages.some(([heard]) => heard === n), n), `told of ${n}`);
  }
}

/** Opens a server and a browser of its own; both end with the test. */
async function withServer(use, settings = []) {
  const server = await Server.start([...HISTORY, ...settings]), context = await browser.newContext();
  try {
    return await use(server, context);
  } finally {
    await context.close();
    await server.stop();
  }
}

/** The numbers were heard in order and once each, all that were acknowledged, and nobody said that one is missing. */
function assertWhole({ messages, gaps }, acknowledged) {
  assert.deepEqual(gaps, []);
  const numbers = messages.map(([n]) => n), offsets = messages.map(([, offset]) => offset);
  assert.deepEqual(offsets, offsets.map((_, i) => offsets[0] + i), 'offsets');
  assert.equal(new Set(numbers).size, numbers.length, 'one comes twice');
  assert.deepEqual(acknowledged.filter((n) => !numbers.includes(n)), [], 'acknowledged and not heard');
}

/** Does its work at the first call; every call gives what came of it. */
function once(work) {
  let done;
  return () => (done ??= work());
}

/** A tab for each transport. */
async function eachTab(context, base) {
  const tabs = await Promise.all(LADDER.map((transport) => Tab.open(context, base, { transports: [transport] })));
  return Object.fromEntries(LADDER.map((transport, i) => [transport, tabs[i]]));
}

/** What every tab was told over a clean restart, with publications before, during and after. */
const cleanRestart = once(() => withServer(async (server, context) => {
  const tabs = await eachTab(context, server.base), acknowledged = [];
  let n = 0, refused = 0, isOver = false;
  async function publish() {
    n += 1;
    const offset = await server.publish('demo', { n });
    if (offset) acknowledged.push(n);
    else refused += 1;
  }
  for (let i = 0; i < 20; i++) await publish();
  const publisher = (async () => {
    for (; !isOver; await sleep(5)) await publish();
  })();
  await sleep(300);
  await server.end('SIGTERM');
  const during = acknowledged.length;
  await server.begin();
  await Promise.all(Object.values(tabs).map((tab) => tab.isOpen()));
  isOver = true;
  await publisher;
  assert.ok(during > 20 && refused > 0 && acknowledged.length > during, `${during} before and while it stopped, ${refused} refused, ${acknowledged.length} in all`);
  for (let i = 0; i < 20; i++) await publish();
  return heardBy(tabs, acknowledged);
}));

/** Waits until every tab has the last one. */
async function heardBy(tabs, acknowledged) {
  const heard = Object.entries(tabs).map(async ([transport, tab]) => {
    await tab.has(acknowledged.at(-1));
    return [transport, { ...(await tab.told()), complaints: tab.errors }];
  });
  return { acknowledged, told: Object.fromEntries(await Promise.all(heard)) };
}

const killed = once(() => withServer(async (server, context) => {
  const tabs = await eachTab(context, server.base);
  for (let n = 1; n <= 20; n++) await server.publish('demo', { n });
  await Promise.all(Object.values(tabs).map((tab) => tab.has(20)));
  await server.end('SIGKILL');
  await server.begin();
  // Each is back, and then one more is published.
  await Promise.all(Object.values(tabs).map((tab) => until(async () => (await tab.told()).gaps.length > 0, 'told of the gap')));
  await server.publish('demo', { n: 21 });
  return heardBy(tabs, [21]);
}));

const eachTransport = (name, test) => Object.fromEntries(LADDER.map((transport) => [`${transport}: ${name}`, () => test(transport)]));

/** Behind a proxy that does not pass WebSockets. */
const blocked = (how) => withServer(async (server, context) => {
  const proxy = await Meddler.start(server.base);
  try {
    proxy.upgrades = how;
    const tab = await Tab.open(context, proxy.base);
    await tab.isOpen('sse');
    assert.ok(proxy.upgradeCount >= 1, 'WebSocket is tried first');
    await server.publish('demo', { n: 1 });
    await tab.has(1);
    // It remembers what worked, for the next page too.
    const tried = proxy.upgradeCount;
    await tab.load(proxy.base, { trialMs: 3_600_000 });
    await tab.isOpen('sse');
    await server.publish('demo', { n: 2 });
    await tab.has(2);
    assert.equal(proxy.upgradeCount, tried, 'WebSocket is tried again at once');
    // Once WebSockets get through, they are found by a trial, without loss.
    proxy.upgrades = 'pass';
    await tab.load(proxy.base, { trialMs: 300 });
    await server.publish('demo', { n: 3 });
    await tab.isOpen('websocket');
    await server.publish('demo', { n: 4 });
    await tab.has(4);
    assertWhole(await tab.told(), [3, 4]);
    assert.deepEqual(tab.errors, []);
  } finally {
    proxy.stop();
  }
});

/** The network goes, silently and with everything in flight, and comes back. */
const offline = (transport) => withServer(async (server, context) => {
  const proxy = await Meddler.start(server.base);
  try {
    const tab = await Tab.open(context, proxy.base, { transports: [transport], probeTimeoutMs: 500 });
    await server.publish('demo', { n: 1 });
    await tab.has(1);
    proxy.fallSilent();
    await context.setOffline(true);
    await until(() => tab.page.evaluate(() => !navigator.onLine), 'offline');
    for (let n = 2; n <= 11; n++) await server.publish('demo', { n });
    await sleep(300);
    assert.equal((await tab.told()).messages.length, 1, 'nothing gets through');
    proxy.wakeUp();
    await context.setOffline(false);
    for (let n = 12; n <= 20; n++) await server.publish('demo', { n });
    await tab.has(20);
    const told = await tab.told();
    assertWhole(told, Array.from({ length: 20 }, (_, i) => i + 1));
    assert.ok(told.transports.length > 1, 'it made another connection');
    // Only a WebSocket can be asked whether anybody is there.
    if (transport === 'websocket') assert.deepEqual(told.ends.map(({ reason }) => reason), ['silent']);
  } finally {
    proxy.stop();
  }
});

/** Tells a page whether it is looked at; a headless one always thinks so. */
function look(page, state) {
  return page.evaluate((state) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: state });
    document.dispatchEvent(new Event('visibilitychange'));
  }, state);
}

await run('longwire.js in Chromium', {
  ...eachTransport('a clean restart loses nothing and repeats nothing', async (transport) => {
    const { acknowledged, told } = await cleanRestart();
    assertWhole(told[transport], acknowledged);
    assert.deepEqual(told[transport].complaints, []);
    assert.ok(told[transport].transports.length > 1, 'it came back');
  }),

  ...eachTransport('a server that was killed is a gap, and the page is told', async (transport) => {
    const { told } = await killed(), { messages, gaps } = told[transport];
    assert.equal(gaps.length, 1);
    assert.notEqual(gaps[0].since.epoch, gaps[0].position.epoch);
    assert.equal(gaps[0].since.offset, 20);
    assert.deepEqual(messages.map(([n]) => n), Array.from({ length: 21 }, (_, i) => i + 1));
  }),

  ...Object.fromEntries(['403', 'hang', 'strip'].map((how) => [`WebSockets that a proxy does not pass (${how}): it falls back, remembers, and comes back up`, () => blocked(how)])),

  async 'event streams that a proxy holds back: it falls back to polls'() {
    await withServer(async (server, context) => {
      const proxy = await Meddler.start(server.base);
      try {
        Object.assign(proxy, { upgrades: '403', holdsStreams: true });
        const tab = await Tab.open(context, proxy.base);
        await tab.isOpen('longpoll');
        for (let n = 1; n <= 5; n++) await server.publish('demo', { n });
        await tab.has(5);
        assertWhole(await tab.told(), [1, 2, 3, 4, 5]);
      } finally {
        proxy.stop();
      }
    });
  },

  ...eachTransport('offline and online again, nothing is lost', offline),

  async 'back online it asks the connection, and keeps one that answers'() {
    await withServer(async (server, context) => {
      const proxy = await Meddler.start(server.base);
      try {
        const tab = await Tab.open(context, proxy.base);
        await context.setOffline(true);
        await until(() => tab.page.evaluate(() => !navigator.onLine), 'offline');
        await context.setOffline(false);
        await sleep(HASTY.probeTimeoutMs + 500);
        await server.publish('demo', { n: 1 });
        await tab.has(1);
        const { transports, ends } = await tab.told();
        assert.deepEqual([transports, ends, proxy.upgradeCount], [['websocket'], [], 1]);
      } finally {
        proxy.stop();
      }
    });
  },

  async 'two tabs on one channel, one of them stopped in the background for a while'() {
    await withServer(async (server, context) => {
      const tabs = [await Tab.open(context, server.base), await Tab.open(context, server.base)];
      const debug = await context.newCDPSession(tabs[1].page);
      await look(tabs[1].page, 'hidden');
      // Headless pages are never frozen; a debugger stops their scripts all the same.
      await debug.send('Debugger.enable');
      await debug.send('Debugger.pause');
      for (let n = 1; n <= 50; n++) await server.publish('demo', { n });
      await tabs[0].has(50);
      await debug.send('Debugger.resume');
      await debug.send('Debugger.disable');
      await look(tabs[1].page, 'visible');
      await tabs[1].has(50);
      for (const tab of tabs) assertWhole(await tab.told(), Array.from({ length: 50 }, (_, i) => i + 1));
    });
  },
});
await browser.close();
