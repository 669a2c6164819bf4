// The console page in headless Chromium, served by the mock server: every transport side by side, and what is missing.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { MockServer } from './mock-server.mjs';

const screenshots = fileURLToPath(new URL('../../../target/screenshots/', import.meta.url));
const LANES = ['WebSocket', 'longwire.v1', 'Event stream', 'NDJSON stream', 'Long poll', 'Short poll'];
const desktop = { viewport: { width: 1280, height: 900 } };
const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
let browser;

before(async () => {
  await mkdir(screenshots, { recursive: true });
  const args = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  // Chromium refuses its sandbox to root, which CI machines often are.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: process.getuid() === 0 ? [...args, '--no-sandbox'] : args });
});
after(() => browser?.close());

/** The page of a mock server; it must not complain but of what `expected` says. */
async function withPage(options, use, { expected = /(?!)/, prepare = () => {} } = {}) {
  const server = new MockServer({ heartbeatMs: 5000, pollIntervalS: 1 });
  const base = await server.listen();
  prepare(server);
  const context = await browser.newContext(options), page = await context.newPage(), complaints = [];
  page.setDefaultTimeout(15_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  try {
    await page.goto(base);
    await use(page, server);
    assert.deepEqual(complaints.filter((text) => !expected.test(text)), []);
  } finally {
    await context.close();
    await server.close();
  }
}

const lane = (page, name) => page.locator('#lanes tr', { has: page.locator('th', { hasText: new RegExp(`^${name}`) }) });
const laneState = (page, name, state) => lane(page, name).locator(`.state[data-state="${state}"]`).waitFor();

async function connectAll(page) {
  await page.click('#connect-all');
  for (const name of LANES) await laneState(page, name, 'open');
}

async function publish(page, text) {
  await page.fill('#payload', text);
  await page.click('#publish');
  await page.locator('#messages li[data-message]').filter({ hasText: text.slice(0, 20) }).first().waitFor();
}

test('console: a publication is one row, heard over every transport', async () => {
  await withPage(desktop, async (page) => {
    await connectAll(page);
    for (const text of ['{"hello": "world"}', 'just text', '"quoted"']) {
      await publish(page, text);
      await page.waitForFunction(() => document.querySelector('#messages li[data-message] .heard').children.length === 6);
    }
    assert.equal(await page.locator('#messages li[data-message]').count(), 3);
    for (const name of LANES) assert.equal(await lane(page, name).locator('td').first().textContent(), '3');
    assert.equal(await lane(page, 'Long poll').locator('td').nth(1).textContent(), '3');
  });
});

test('console: a transport that was cut goes on from where it was', async () => {
  await withPage(desktop, async (page, server) => {
    await connectAll(page);
    for (const name of LANES) await lane(page, name).locator('button').click();
    for (let i = 0; i < 3; i++) server.publish('demo', `"missed ${i}"`);
    for (const name of LANES.slice(1)) await lane(page, name).locator('button').click();
    await page.waitForFunction(() => [...document.querySelectorAll('#messages li[data-message] .heard')].filter((heard) => heard.children.length === 5).length === 3);
    server.loseHistory('demo');
    server.cut();
    await page.locator('#messages li[data-event]').filter({ hasText: 'that are gone' }).first().waitFor();
  }, { expected: /ERR_CONNECTION_RESET/ });
});

test('console: what a server does not have is said', async () => {
  const prepare = (server) => {
    server.faults.unsupported = new Set(['sse', 'stream', 'longpoll', 'shortpoll']);
    server.faults.noDialect = true;
    server.faults.noApi = true;
  };
  await withPage(desktop, async (page) => {
    await page.click('#connect-all');
    await laneState(page, 'WebSocket', 'open');
    for (const name of LANES.slice(1)) await laneState(page, name, 'absent');
    assert.match(await lane(page, 'Event stream').textContent(), /Not enabled on this server/);
    await page.click('[data-look=channels]');
    await page.locator('#look-state').filter({ hasText: 'Not enabled on this server' }).waitFor();
    assert.equal(await page.getAttribute('#state', 'data-state'), 'open');
    await page.screenshot({ path: `${screenshots}console-absent.png`, fullPage: true });
  }, { prepare, expected: /404|426|WebSocket connection/ });
});

test('console: it looks into channels, with the key', async () => {
  await withPage(desktop, async (page, server) => {
    server.publish('other/one', '<b>bold</b>');
    await page.click('[data-look=channels]');
    await page.locator('#look-state').filter({ hasText: 'API key' }).waitFor();
    await page.fill('#api-key', 'secret');
    await page.click('[data-look=channels]');
    await page.locator('#look-result button', { hasText: 'other/one' }).click();
    assert.equal(await page.inputValue('#channel'), 'other/one');
    await page.click('[data-look=history]');
    await page.locator('#look-result td', { hasText: '<b>bold</b>' }).waitFor();
    await page.click('[data-look=presence]');
    await page.locator('#look-state').filter({ hasText: 'Not available' }).waitFor();
    await page.click('[data-look=info]');
    await page.locator('#look-result td', { hasText: 'alpha_8000' }).waitFor();
  }, { expected: /401/ });
});

test('console: the keyboard is enough', async () => {
  await withPage(desktop, async (page) => {
    await page.focus('#channel');
    await page.keyboard.press('Enter');
    await laneState(page, 'WebSocket', 'open');
    const reached = new Set();
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.dataset.look));
    }
    for (const target of ['connect', 'connect-all', 'payload', 'api-key', 'publish', 'messages', 'Connect Long poll', 'history']) assert.ok(reached.has(target), `${target} is not reached`);
    await page.focus('#payload');
    await page.keyboard.press('Control+Enter');
    await page.locator('#messages li[data-message]').first().waitFor();
  });
});

for (const [name, options] of Object.entries({ desktop, phone })) {
  for (const colorScheme of ['light', 'dark']) {
    test(`console: on a ${name}, ${colorScheme}, nothing is cut off or scrolls sideways`, async () => {
      await withPage({ ...options, colorScheme }, async (page) => {
        await connectAll(page);
        await publish(page, '{"hello":"world"}');
        await publish(page, `{"order":[1,2,3],"note":"${'a longer one with words enough to wrap '.repeat(3)}","word":"${'x'.repeat(80)}"}`);
        await page.fill('#api-key', 'secret');
        await page.click('[data-look=history]');
        await page.waitForTimeout(4500); // a few scrapes, so that the screenshot has charts to show
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
        const overlaps = await page.evaluate(() => [...document.querySelectorAll('#lanes tr, #messages li')].flatMap((row) => {
          const boxes = [...row.children].map((child) => child.getBoundingClientRect()).filter(({ width, height }) => width && height);
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
        }).length);
        assert.equal(overlaps, 0, 'cells overlap');
        const cut = await page.evaluate(() => [...document.querySelectorAll('#lanes th, #lanes .state, #messages time, button')].filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent));
        assert.deepEqual(cut, []);
        await page.screenshot({ path: `${screenshots}console-${name}-${colorScheme}.png`, fullPage: true });
      });
    });
  }
}

test('console: the client works in a worker, and as a module', async () => {
  const listen = (base) => `new Longwire(${base}).subscribe('demo', { onmessage: ({ data }) => postMessage(data), onconnected: () => postMessage('open') });`;
  const prepare = (server) => {
    server.scripts['/worker.js'] = `importScripts('/longwire.js'); ${listen("new URL('/', location)")}`;
    server.scripts['/worker.mjs'] = `import { Longwire } from './longwire.mjs'; ${listen("new URL('/', location)")}`;
  };
  await withPage(desktop, async (page, server) => {
    await page.evaluate(() => {
      window.heard = [];
      window.workers = [new Worker('/worker.js'), new Worker('/worker.mjs', { type: 'module' })];
      for (const worker of window.workers) worker.onmessage = ({ data }) => window.heard.push(data);
    });
    await page.waitForFunction(() => window.heard.length === 2);
    server.publish('demo', '{"n":1}');
    await page.waitForFunction(() => window.heard.filter(({ n }) => n === 1).length === 2);
  }, { prepare });
});
