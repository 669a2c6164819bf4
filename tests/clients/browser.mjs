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
