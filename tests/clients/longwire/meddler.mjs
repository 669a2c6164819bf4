// A proxy as they are met: some do not let WebSockets through, each in its way, some hold answers back, some fall silent.

import http from 'node:http';
import net from 'node:net';

const target = ({ url, method, headers }, upstream) => ({ host: upstream.hostname, port: upstream.port, path: url, method, headers });

export class Meddler {
  /** What becomes of an Upgrade: it passes, it is answered 403, it is never answered, or it goes on without the header. */
  upgrades = 'pass';
  /** Whether event streams are held back until they end. */
  holdsStreams = false;
  upgradeCount = 0;
  #sockets = new Set();
  #answers = new Map();
  #isSilent = false;

  static async start(base) {
    const meddler = new Meddler();
    meddler.upstream = new URL(base);
    meddler.server = http.createServer((request, response) => meddler.#forward(request, response));
    meddler.server.on('upgrade', (request, socket, head) => meddler.#upgrade(request, socket, head));
    meddler.server.on('connection', (socket) => meddler.#keep(socket));
    await new Promise((resolve) => meddler.server.listen(0, '127.0.0.1', resolve));
    meddler.base = `http://127.0.0.1:${meddler.server.address().port}`;
    return meddler;
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket));
    if (this.#isSilent) socket.pause();
  }

  #forward(request, response) {
    const isStream = request.headers.accept?.includes('event-stream');
    const onward = http.request(target(request, this.upstream), (answer) => {
      if (isStream && this.holdsStreams) return answer.resume();
      response.writeHead(answer.statusCode, answer.headers);
      answer.on('error', () => response.destroy()).pipe(response);
      if (this.#isSilent) answer.unpipe(response);
      this.#answers.set(answer, response);
      answer.on('close', () => this.#answers.delete(answer));
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  }

  #upgrade(request, socket, head) {
    this.upgradeCount += 1;
    if (this.upgrades === 'hang') return;
    if (this.upgrades === '403') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    const isStripped = this.upgrades === 'strip';
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      const [name, value] = request.rawHeaders.slice(i, i + 2);
      if (!isStripped || !/^(upgrade|connection)$/i.test(name)) lines.push(`${name}: ${value}`);
    }
    const onward = net.connect(Number(this.upstream.port), this.upstream.hostname);
    onward.write(`${lines.join('\r\n')}\r\n\r\n`);
    onward.write(head);
    this.#keep(onward);
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    onward.pipe(socket).pipe(onward);
  }

  /** From now on nothing is passed on, and no connection ends. */
  fallSilent() {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.pause();
    for (const [answer, response] of this.#answers) answer.unpipe(response);
  }

  /** New connections pass; the old ones stay as they are. */
  wakeUp() {
    this.#isSilent = false;
  }

  stop() {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
