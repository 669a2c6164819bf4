// The npm package `sockjs-client` by itself, over each transport: node sockjs.mjs http://127.0.0.1:8000

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import SockJS from 'sockjs-client';
import { run } from '../report.mjs';
import { channel, CONNECT, Cuttable, publish, Queue, server, until, url } from './common.mjs';

/** More than a response of a streaming transport may have. */
const LONG = 200_000;

/** A client that speaks the protocol by hand. */
class Peer {
  messages = new Queue();
  #id = 0;

  static async open(transport, base = server) {
    const peer = new Peer();
    peer.socket = new SockJS(url('/connection/sockjs', base).href, null, { transports: [transport] });
    peer.closed = new Promise((resolve) => (peer.socket.onclose = resolve));
    peer.socket.onmessage = ({ data }) => {
      for (const line of data.trim().split('\n')) if (line !== '{}') peer.messages.push(JSON.parse(line));
    };
    await new Promise((resolve, reject) => {
      peer.socket.onopen = resolve;
      peer.closed.then(({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`)));
    });
    assert.equal(peer.socket.transport, transport);
    peer.socket.send(JSON.stringify(CONNECT));
    assert.ok((await peer.messages.next()).connect.client);
    peer.#id = CONNECT.id;
    return peer;
  }

  async command(command) {
    const id = ++this.#id;
    this.socket.send(JSON.stringify({ id, ...command }));
    const reply = await this.messages.next();
    assert.equal(reply.id, id);
    return reply;
  }

  async push() {
    return (await this.messages.next()).push.pub;
  }
}

function tests(transport) {
  return {
    async [`${transport}: commands, and pushes in their order`]() {
      const peer = await Peer.open(transport);
      const name = channel('recovery');
      assert.ok((await peer.command({ subscribe: { channel: name } })).subscribe.epoch);
      for (let i = 1; i <= 20; i++) publish(name, `${i} 100 % \u2028 \u00e4`);
      const offsets = [];
      for (let i = 1; i <= 20; i++) {
        const { offset, data } = await peer.push();
        assert.ok(data.endsWith(' 100 % \u2028 \u00e4'));
        offsets.push(offset);
      }
      assert.deepEqual(offsets, Array.from({ length: 20 }, (_, i) => i + 1));
      peer.socket.close();
    },

    async [`${transport}: more than one response may have`]() {
      const peer = await Peer.open(transport);
      const name = channel('recovery');
      await peer.command({ subscribe: { channel: name } });
      for (let i = 1; i * 10_000 <= LONG; i++) {
        await publish(name, 'x'.repeat(10_000));
        assert.equal((await peer.push()).offset, i);
      }
      peer.socket.close();
    },

    async [`${transport}: cut, and from where it was`]() {
      const proxy = await Cuttable.start();
      const name = channel('recovery');
      const first = await Peer.open(transport, proxy.base);
      const { epoch } = (await first.command({ subscribe: { channel: name } })).subscribe;
      await publish(name, 1);
      assert.equal((await first.push()).offset, 1);
      proxy.stop();
      await publish(name, 2);
      const second = await Peer.open(transport);
      const since = { recover: true, epoch, offset: 1 };
      const { recovered, publications } = (await second.command({ subscribe: { channel: name, ...since } })).subscribe;
      assert.equal(recovered, true);
      assert.deepEqual(publications, [{ data: 2, offset: 2 }]);
      second.socket.close();
      first.socket.close();
    },

    async [`${transport}: the end has a code and a reason`]() {
      const peer = await Peer.open(transport);
      peer.socket.send('{"id":2,"nope":{}}');
      const { code, reason } = await peer.closed;
      assert.deepEqual([code, reason], [3501, 'bad request']);
    },
  };
}

/** A request of its own connection, which does not wait for the end of the answer. */
async function ask(session, transport) {
  const socket = net.connect(Number(server.port), server.hostname);
  await once(socket, 'connect');
  socket.text = '';
  socket.on('data', (data) => (socket.text += data));
  socket.write(`POST /connection/sockjs/000/${session}/${transport} HTTP/1.1\r\nHost: ${server.host}\r\nContent-Length: 0\r\n\r\n`);
  return socket;
}

await run('sockjs-client', {
  ...tests('websocket'),
  ...tests('xhr-streaming'),
  ...tests('eventsource'),
  ...tests('xhr-polling'),

  async 'who aborts a poll may poll again at once'() {
    for (const transport of ['xhr', 'xhr_streaming']) {
      const session = channel();
      const opening = await ask(session, 'xhr');
      await until(() => opening.text.endsWith('o\n'));
      opening.destroy();
      for (let i = 0; i < 5; i++) {
        const aborted = await ask(session, transport);
        if (transport === 'xhr_streaming') await until(() => aborted.text.includes('hhhh'));
        aborted.destroy();
        if (!aborted.closed) await once(aborted, 'close');
      }
      // The server hears of the last end at any time, but not after seconds.
      await until(async () => {
        const last = await ask(session, transport);
        await new Promise((resolve) => setTimeout(resolve, 100));
        last.destroy();
        return !last.text.includes('c[2010');
      });
    }
  },
});
