// Headless Chromium on the page of a running server: node browser.mjs http://127.0.0.1:8000 [SCREENSHOT_DIR]
// The page's ids that this relies on: #channel #connect #state[data-state] #messages li[data-message] #payload #publish #publish-result

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { run } from './report.mjs';

const server = process.argv[2];
const screenshots = process.argv[3] ?? 'target/screenshots';
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

await mkdir(screenshots, { recursive: true });
const browser = await chromium.launch({
  executablePath,
  // Chromium refuses its sandbox to root, which CI machines often are.
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

/** The page at `/` in a window of its own; it must not complain, nor talk to any other server. */
async function withPage(options, use) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    const own = ['data:', 'blob:'].includes(url.protocol) || url.host === new URL(server).host;
    if (!own) complaints.push(`request to ${url.host}`);
  });
  try {
    await page.goto(server, { waitUntil: 'load' });
    await use(page);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
  }
}

/** Subscribes to `channel`, also if the page has connected to another by itself. */
async function connect(page, channel) {
  await page.waitForSelector('#state:not([data-state="connecting"])', { state: 'attached' });
  const open = (await page.getAttribute('#state', 'data-state')) === 'open';
  if (open && (await page.inputValue('#channel')) === channel) return;
  if (open) {
    await page.click('#connect');
    await page.waitForSelector('#state:not([data-state="open"])', { state: 'attached' });
  }
  await page.fill('#channel', channel);
  await page.click('#connect');
  await page.waitForSelector('#state[data-state="open"]', { state: 'attached' });
}

function shown(page, text) {
  return page.locator('#messages li[data-message]').filter({ hasText: text });
}

async function publishFromOutside(channel, body) {
  const answer = await fetch(`${server}/channels/${channel}`, { method: 'POST', body });
  assert.equal(answer.status, 200);
}

async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}

/** One press of Tab: what has the focus now, where, and how it shows. */
async function tab(page) {
  await page.keyboard.press('Tab');
  return page.evaluate(() => {
    const one = document.activeElement, { left, right, top, bottom } = one.getBoundingClientRect(), style = getComputedStyle(one);
    const luminance = (color) => {
      const [r, g, b] = color.match(/[\d.]+/g).map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let around = one.parentElement;
    while (around?.parentElement && getComputedStyle(around).backgroundColor === 'rgba(0, 0, 0, 0)') around = around.parentElement;
    const [dark, light] = [style.outlineColor, getComputedStyle(around ?? one).backgroundColor].map(luminance).sort((a, b) => a - b);
    return {
      name: one === document.body ? 'BODY' : one.getAttribute('href') ?? (one.id ? `#${one.id}` : one.getAttribute('aria-label') ?? one.textContent),
      left, right, top: top + scrollY, bottom: bottom + scrollY, outline: style.outlineStyle, contrast: (light + 0.05) / (dark + 0.05),
    };
  });
}

const LANES = ['WebSocket', 'longwire.v1', 'Event stream', 'NDJSON stream', 'Long poll', 'Short poll'].map((name) => `Connect ${name}`);
const desktop = { viewport: { width: 1280, height: 900 } };
const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

await run('browser', {
  async 'what the page publishes is shown'() {
    await withPage(desktop, async (page) => {
      await connect(page, 'browser-own');
      await page.fill('#payload', '{"from":"the page"}');
      await page.click('#publish');
      await shown(page, 'the page').first().waitFor();
      await page.locator('#publish-result').filter({ hasText: /\S/ }).waitFor();
    });
  },

  async 'what anyone else publishes is shown, in order'() {
    await withPage(desktop, async (page) => {
      await connect(page, 'browser-outside');
      for (let i = 0; i < 5; i++) await publishFromOutside('browser-outside', `{"message":"number-${i}"}`);
      for (let i = 0; i < 5; i++) await shown(page, `number-${i}`).first().waitFor();
      const texts = await page.locator('#messages li[data-message]').allTextContents();
      const order = texts.map((text) => text.match(/number-(\d)/)?.[1]).filter(Boolean).join('');
      assert.ok(['01234', '43210'].includes(order), order);
    });
  },

  async 'a message is shown as text, never as markup'() {
    await withPage(desktop, async (page) => {
      await connect(page, 'browser-markup');
      await publishFromOutside('browser-markup', '<img src=x onerror="document.title=1"><b>bold</b>');
      await shown(page, '<b>bold</b>').first().waitFor();
      assert.equal(await page.locator('#messages img, #messages li b').count(), 0);
    });
  },

  async 'the client is served, as a script and as a module'() {
    await withPage(desktop, async (page) => {
      const names = await page.evaluate(async () => {
        const { Longwire, default: byDefault } = await import('/longwire.mjs');
        return [window.Longwire, Longwire, byDefault].map(({ name }) => name);
      });
      assert.deepEqual(names, ['Longwire', 'Longwire', 'Longwire']);
    });
  },

  async 'it follows light and dark'() {
    const grounds = [];
    for (const colorScheme of ['light', 'dark']) {
      await withPage({ ...desktop, colorScheme }, async (page) => {
        await connect(page, 'browser-scheme');
        await publishFromOutside('browser-scheme', '{"hello":"world"}');
        await shown(page, 'hello').first().waitFor();
        await page.waitForTimeout(3000); // a few scrapes, so that the screenshot has charts to show
        grounds.push(await page.evaluate(() => {
          const grounds = [document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor);
          return grounds.find((color) => color !== 'rgba(0, 0, 0, 0)');
        }));
        await page.screenshot({ path: path.join(screenshots, `desktop-${colorScheme}.png`), fullPage: true });
      });
    }
    assert.notEqual(grounds[0], grounds[1]);
  },

  async 'the keyboard reaches everything once, in the order it is seen, and shows where it is'() {
    for (const colorScheme of ['light', 'dark']) {
      await withPage({ ...desktop, colorScheme }, async (page) => {
        const stops = [];
        for (let stop = await tab(page); stop.name !== 'BODY'; stop = await tab(page)) stops.push(stop);
        const names = stops.map(({ name }) => name);
        const expected = ['metrics', 'health', '#channel', '#connect', '#connect-all', ...LANES, '#payload', '#api-key', '#publish'];
        assert.deepEqual(names.slice(0, expected.length), expected);
        for (const { name, outline, contrast } of stops) {
          assert.equal(outline, 'solid', `${name} does not show that it has the focus`);
          // WCAG 2.2, 1.4.11: 3 to 1.
          assert.ok(contrast >= 3, `${name} shows it with a contrast of ${contrast}`);
        }
        assert.equal(await page.evaluate(() => [...document.querySelectorAll('a, button, input, textarea')].filter((one) => one.checkVisibility() && !one.disabled).length) <= names.length, true, `only ${names}`);
        for (const [i, { left, right, top, bottom, name }] of stops.entries()) {
          const next = stops[i + 1];
          const isInColumn = next && Math.min(right, next.right) > Math.max(left, next.left);
          if (isInColumn) assert.ok(next.top >= bottom - 1 || top === next.top, `${name} at ${top}, then ${next.name} at ${next.top}`);
        }
      });
    }
  },

  async 'on a phone nothing scrolls sideways'() {
    await withPage(phone, async (page) => {
      await connect(page, 'browser-phone');
      await publishFromOutside('browser-phone', `{"long":"${'word'.repeat(100)}"}`);
      await shown(page, 'wordword').first().waitFor();
      assert.ok((await overflow(page)) <= 0, `${await overflow(page)} px too wide`);
      await page.screenshot({ path: path.join(screenshots, 'phone.png'), fullPage: true });
    });
  },
});

await browser.close();
