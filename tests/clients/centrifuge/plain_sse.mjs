// The npm packages `eventsource` and `event-source-polyfill` on the plain dialect; the latter resumes by the query's
// `lastEventId`, as it may not send the header to another origin:
// node plain_sse.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import eventSourcePolyfill from 'event-source-polyfill';
import { EventSource } from 'eventsource';
import { run } from '../report.mjs';
import { channel, Cuttable, Queue, server, url } from './common.mjs';

const { EventSourcePolyfill } = eventSourcePolyfill;
// It logs every connection that is cut.
console.error = () => {};

/** Publishes as `curl -d` would; gives offset and epoch. */
async function publish(name, body) {
  const answer = await fetch(url(`/channels/${name}`), {
    method: 'POST',
    headers: { 'X-API-Key': 'test-api-key' },
    body,
  });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** What an event of this publication has for an id. */
const idOf = ({ offset, epoch }) => `${epoch}:${offset}`;

function tests(name, Source) {
  /** An open event stream whose messages wait in a queue. */
  async function open(channelName, base = server) {
    const source = new Source(url(`/channels/${channelName}`, base).href);
    source.queue = new Queue();
    source.onmessage = ({ data, lastEventId }) => source.queue.push({ data, id: lastEventId });
    await new Promise((resolve) => (source.onopen = resolve));
    return source;
  }

  const all = {
    async 'messages come with their id, verbatim'() {
      const one = channel();
      const source = await open(one);
      for (const body of ['{"hello":"world"}', 'two\nlines', 'grüße 🦀', ' a leading space', 'x'.repeat(60_000)]) {
        const id = idOf(await publish(one, body));
        assert.deepEqual(await source.queue.next(), { data: body, id });
      }
      source.close();
    },

    async 'it comes back after a cut and misses nothing'() {
      const proxy = await Cuttable.start();
      const one = channel();
      const source = await open(one, proxy.base);
      for (let i = 0; i < 3; i++) {
        await publish(one, `before ${i}`);
        assert.equal((await source.queue.next()).data, `before ${i}`);
        proxy.cut();
        for (let j = 0; j < 5; j++) await publish(one, `missed ${i} ${j}`);
        for (let j = 0; j < 5; j++) assert.equal((await source.queue.next()).data, `missed ${i} ${j}`);
      }
      assert.equal(source.queue.items.length, 0);
      source.close();
      proxy.stop();
    },
  };
  return Object.fromEntries(Object.entries(all).map(([test, body]) => [`${name}: ${test}`, body]));
}

/** The lines of an event stream read by hand until `count` messages were in it. */
async function read(name, count, lastEventId) {
  const headers = { Accept: 'text/event-stream', ...(lastEventId && { 'Last-Event-ID': lastEventId }) };
  const answer = await fetch(url(`/channels/${name}`), { headers });
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type'), /^text\/event-stream/);
  assert.match(answer.headers.get('cache-control'), /no-(cache|store)/);
  let text = '';
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const data = () => text.match(/^data: ?.*$/gm) ?? [];
  while (data().length < count) text += (await reader.read()).value;
  await reader.cancel();
  return data().map((line) => line.replace(/^data: ?/, ''));
}

await run('plain SSE', {
  async 'Last-Event-ID names where to go on'() {
    const one = channel();
    const ids = [];
    for (let i = 1; i <= 5; i++) ids.push(idOf(await publish(one, `${i}`)));
    assert.deepEqual(await read(one, 2, ids[2]), ['4', '5']);
    assert.deepEqual(await read(one, 4, ids[0]), ['2', '3', '4', '5']);
  },

  ...tests('eventsource', EventSource),
  ...tests('event-source-polyfill', EventSourcePolyfill),
});
process.exit();
