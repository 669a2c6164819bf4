// The simplest page that uses a WebSocket, as it is, in headless Chromium: three_buttons.html from a file, from a web
// server on this machine and from the server's own origin. LONGWIRE_BIN=target/release/longwire node three_buttons.mjs

import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { Server, sleep, until } from './longwire/process.mjs';
import { run } from './report.mjs';

const PAGE = fileURLToPath(new URL('three_buttons.html', import.meta.url));
const JQUERY = fileURLToPath(new URL('node_modules/jquery/dist/jquery.js', import.meta.url));
/** What the page says, whichever server and port a test has. */
const ADDRESS = '127.0.0.1:8000';

const folder = await mkdtemp(path.join(tmpdir(), 'longwire-page-'));
await copyFile(PAGE, path.join(folder, 'index.html'));
await copyFile(JQUERY, path.join(folder, 'jquery.js'));
const web = http.createServer(async ({ url }, response) => {
  const name = url === '/jquery.js' ? 'jquery.js' : 'index.html';
  response.setHeader('Content-Type', name.endsWith('.js') ? 'text/javascript' : 'text/html');
  response.end(await readFile(path.join(folder, name)));
});
// In front of the server, for the page that comes from the server's own origin.
let port;
web.on('upgrade', ({ url, rawHeaders }, socket) => {
  const onward = net.connect(port, '127.0.0.1');
  const lines = rawHeaders.flatMap((name, i) => (i % 2 ? [] : [`${name}: ${rawHeaders[i + 1]}\r\n`]));
  onward.write(`GET ${url} HTTP/1.1\r\n${lines.join('')}\r\n`);
  for (const [from, to] of [[socket, onward], [onward, socket]]) from.on('error', () => {}).on('close', () => to.destroy()).pipe(to);
});
await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
const elsewhere = `http://127.0.0.1:${web.address().port}`;

/** The page at `url`, and what it alerts, with a server that has these settings in place of the one at port 8000. */
async function withPage(url, settings, use) {
  const server = await Server.start(settings);
  port = server.port;
  const rules = `--host-resolver-rules=MAP ${ADDRESS} 127.0.0.1:${url.includes(ADDRESS) ? web.address().port : port}`;
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Chromium refuses its sandbox to root, which CI machines often are.
    args: process.getuid() === 0 ? [rules, '--no-sandbox'] : [rules],
  });
  try {
    const page = await browser.newPage(), alerts = [];
    page.on('dialog', async (dialog) => {
      alerts.push(dialog.message());
      await dialog.accept();
    });
    await page.goto(url);
    await use(page, alerts, server);
  } finally {
    await browser.close();
    await server.stop();
  }
}

const alerted = (alerts, expected) => until(() => alerts.length >= expected.length, `alerted ${expected}: ${alerts}`).then(() => assert.deepEqual(alerts, expected));

async function clickEachButton(page, alerts, server) {
  await page.click('#connect');
  await alerted(alerts, ['open']);
  await page.click('#send');
  await alerted(alerts, ['open', 'send from client']);
  const answer = await fetch(`${server.base}/channels/chat`, { method: 'POST', body: 'from the server' });
  assert.equal(answer.status, 200);
  await alerted(alerts, ['open', 'send from client', 'from the server']);
  await page.click('#close');
  await alerted(alerts, ['open', 'send from client', 'from the server', 'close']);
}

await run('three buttons', {
  async 'from the origin of the server, which has no settings'() {
    await withPage(`http://${ADDRESS}/`, [], clickEachButton);
  },

  async 'from a web server on this machine, whose origin is allowed'() {
    await withPage(elsewhere, [`origins=${elsewhere}`], clickEachButton);
  },

  async 'from a file, with origins = null'() {
    await withPage(pathToFileURL(path.join(folder, 'index.html')).href, ['origins=null'], clickEachButton);
  },

  async 'a page of an origin that is not allowed is told of the close, and the log says why'() {
    await withPage(elsewhere, [], async (page, alerts, server) => {
      await page.click('#connect');
      await alerted(alerts, ['close']);
      await until(() => server.log.includes(elsewhere), 'logged');
      assert.match(server.log, /page refused: if it may connect, add it to origins/);
      await sleep(100);
      assert.deepEqual(alerts, ['close']);
    });
  },
});
web.close();
await rm(folder, { recursive: true });
