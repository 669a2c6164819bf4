// The npm package `faye-websocket` against a running server with `echo = true`: node faye.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import faye from 'faye-websocket';
import deflate from 'permessage-deflate';
import { Inbox, runMatrix } from './socket.mjs';

const server = new URL(process.argv[2]);

async function open(url, options = {}) {
  const client = new faye.Client(url, [], options);
  const inbox = new Inbox();
  client.on('message', ({ data }) => inbox.push(data));
  client.on('close', ({ code, reason }) => inbox.close({ code, reason }));
  await new Promise((resolve, reject) => {
    client.on('open', resolve);
    client.on('error', reject);
  });
  return {
    send: (data) => client.send(data),
    next: () => inbox.next(),
    ping: (payload) => new Promise((resolve) => client.ping(payload, resolve)),
    close: (code, reason) => client.close(code, reason),
    closed: inbox.closed,
  };
}

await runMatrix('faye-websocket', server, open, (url) => open(url, { extensions: [deflate] }), {
  async 'a ping gets its pong'() {
    const socket = await open(new URL('/echo', server.href.replace('http', 'ws')).href);
    await socket.ping('payload');
    socket.send('still here');
    assert.equal(await socket.next(), 'still here');
    socket.close(1000, '');
    await socket.closed;
  },
});
