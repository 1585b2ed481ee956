// A client of one stream for web pages: push frames, get answers, whatever happens to the connection in between.
//
//   import { StreamClient } from "/client.js";
//   const client = new StreamClient(location.origin, "camera", { onAnswer: (answer) => console.log(answer.scores) });
//   client.push(new Float32Array(client.hello.channels));   // after onHello
//   client.end();
//
// The server counts the frames of a stream. After a lost connection the client says which answer it lacks, is sent the
// answers to the frames that had arrived, and sends the others again.

const PROTOCOL = 1;
const RETRIED = new Set([1001, 1005, 1006, 1011, 1012, 4408]); // codes after which another connection may do
const LONGEST_WAIT = 2000;

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

function encode(values, time) {
  const timed = time !== undefined;
  const view = new DataView(new ArrayBuffer(4 * values.length + (timed ? 8 : 0)));
  if (timed) view.setFloat64(0, time, true);
  if (LITTLE_ENDIAN) new Uint8Array(view.buffer).set(new Uint8Array(Float32Array.from(values).buffer), timed ? 8 : 0);
  else values.forEach((value, index) => view.setFloat32(4 * index + (timed ? 8 : 0), value, true));
  return view.buffer;
}

export class StreamClient {
  // url: of the server; stream: name of the stream.
  // options: token, timed (each frame brings its time in seconds), fresh (begin the stream anew), and the callbacks
  //   onHello(hello), onAnswer({frame, time, scores, events}), onEnd({end, events}),
  //   onLost(waitMilliseconds): the connection is gone and will be tried again,
  //   onError({code, reason}): it is gone for good; frames without an answer are dropped.
  constructor(url, stream, options = {}) {
    this.url = url.replace(/^http/, "ws").replace(/\/+$/, "");
    this.stream = stream;
    this.options = options;
    this.hello = null;
    this.next = null; // number of the first frame without an answer
    this.unanswered = []; // messages, in order
    this.sent = 0; // of them, on this connection
    this.wait = 50;
    this.ours = false;
    this.closed = false;
    this.#connect();
  }

  // Send a frame: an array of D numbers; its time in seconds on a timed stream.
  push(values, time) {
    if (this.closed) throw new Error("this client is closed: make another");
    if (this.hello && values.length !== this.hello.channels) {
      throw new RangeError(`a frame has ${values.length} values; give ${this.hello.channels}`);
    }
    if ((time !== undefined) !== Boolean(this.options.timed)) {
      throw new TypeError(this.options.timed ? "give the time of the frame" : "this stream takes no times");
    }
    this.unanswered.push(encode(values, time));
    this.#send();
  }

  // End the stream: the server forgets it. Frames that wait for their answers are answered first.
  end() {
    this.ending = true;
    this.#send();
  }

  // Close the connection; the server keeps the stream for a while.
  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close(1000);
  }

  #connect() {
    const query = new URLSearchParams({ timed: String(Boolean(this.options.timed)) });
    if (this.options.token) query.set("token", this.options.token);
    if (this.ours) query.set("takeover", "true");
    else if (this.options.fresh) query.set("fresh", "true");
    if (this.next !== null) query.set("next", String(this.next));
    const socket = new WebSocket(`${this.url}/v1/streams/${encodeURIComponent(this.stream)}?${query}`);
    this.socket = socket;
    this.ready = false;
    this.error = null;
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#lost(event);
  }

  #receive(told) {
    if (told.hello !== undefined) this.#greet(told);
    else if (told.error !== undefined) this.error = told; // the close that follows tells what to do
    else if (told.end !== undefined) {
      this.closed = true;
      this.options.onEnd?.(told);
    } else {
      this.unanswered.shift();
      this.sent -= 1;
      this.next = told.frame + 1;
      this.options.onAnswer?.(told);
      this.#send();
    }
  }

  #greet(hello) {
    if (hello.protocol !== PROTOCOL) return this.#fail(0, `the server speaks protocol ${hello.protocol}, this ${PROTOCOL}`);
    const taken = this.next === null ? 0 : hello.frames - this.next;
    if (taken < 0 || taken > this.unanswered.length || (taken > 0 && hello.kept_from > this.next)) {
      return this.#fail(0, `the server has ${hello.frames} frames of this stream, and answered ${this.next}`);
    }
    this.hello = hello;
    this.ours = this.ready = true;
    this.wait = 50;
    if (this.next === null) this.next = hello.frames;
    this.sent = taken; // those are answered again, the others are sent again
    this.options.onHello?.(hello);
    this.#send();
  }

  #send() {
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return;
    while (this.sent < Math.min(this.unanswered.length, this.hello.limits.waiting)) {
      this.socket.send(this.unanswered[this.sent]);
      this.sent += 1;
    }
    if (this.ending && this.unanswered.length === 0) {
      this.ending = false;
      this.socket.send('{"end": true}');
    }
  }

  #lost(event) {
    this.ready = false;
    if (this.closed) return;
    if (!RETRIED.has(event.code)) return this.#fail(event.code, this.error?.error ?? event.reason);
    this.options.onLost?.(this.wait);
    this.timer = setTimeout(() => this.#connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }

  #fail(code, reason) {
    this.unanswered = [];
    this.close();
    this.options.onError?.({ code, reason });
  }
}
