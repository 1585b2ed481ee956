// Send the pictures of a video element to the server, which answers with scores.
//
// At most three pictures are on their way unseen; those that come meanwhile are dropped, and counted. So a slow server
// answers about the present, and not about what it had no time for.

import { socketAddress } from "./access.js";
import { Link } from "./link.js";

const MOST_UNSEEN = 3;
const QUALITY = 0.85;

export class PictureSender {
  // name: of the stream, which begins anew.
  // on: hello, answer(told, latency in milliseconds), seen(told), end(told), lost(milliseconds), over({code, reason}).
  constructor(name, on) {
    Object.assign(this, { on, sent: 0, dropped: 0, ended: false, canvas: document.createElement("canvas") });
    this.#forget();
    // The name is ours: what has it is a connection of before.
    const path = `v1/pictures/${encodeURIComponent(name)}`;
    const address = (again) => socketAddress(path, { takeover: "true", fresh: String(!again) });
    this.link = new Link(address, {
      hello: (told) => {
        this.ready = true;
        this.width = told.pictures.width;
        on.hello(told);
      },
      text: (told) => this.#read(told),
      lost: (wait) => {
        this.dropped += this.unseen.length;
        this.#forget();
        on.lost(wait);
      },
      over: (closing) => {
        if (!this.ended) on.over(closing);
      },
    });
  }

  // Take a picture now; time: of it, in seconds.
  offer(video, time) {
    if (!this.ready || this.ended || !video.videoWidth) return;
    if (this.unseen.length >= MOST_UNSEEN) {
      this.dropped += 1;
      return;
    }
    const picture = { at: performance.now() };
    this.unseen.push(picture);
    const link = this.link.socket;
    const data = this.#draw(video).catch(() => null); // there is no picture when memory is short, for instance
    this.queue = this.queue.then(async () => {
      const drawn = await data;
      if (drawn === null) {
        this.unseen = this.unseen.filter((one) => one !== picture);
        this.dropped += 1;
        return;
      }
      const bytes = new Uint8Array(drawn);
      const message = new Uint8Array(8 + bytes.length);
      new DataView(message.buffer).setFloat64(0, time, true);
      message.set(bytes, 8);
      if (this.link.socket !== link || !this.link.open) return;
      this.link.send(message);
      this.sent += 1;
    });
  }

  // Say that the video is over; the last answers still come.
  end() {
    this.queue = this.queue.then(() => this.link.send('{"end": true}'));
  }

  close() {
    this.link.send('{"end": true}'); // nobody will come back to this stream
    this.link.close();
  }

  async #draw(video) {
    const scale = Math.min(1, this.width / video.videoWidth);
    this.canvas.width = Math.round(scale * video.videoWidth);
    this.canvas.height = Math.round(scale * video.videoHeight);
    this.canvas.getContext("2d").drawImage(video, 0, 0, this.canvas.width, this.canvas.height);
    const blob = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
    return blob.arrayBuffer();
  }

  #forget() {
    this.ready = false;
    this.unseen = [];
    this.newest = null;
    this.queue = Promise.resolve();
  }

  #read(told) {
    if (told.seen !== undefined) {
      this.newest = this.unseen.shift() ?? this.newest;
      this.on.seen(told);
    } else if (told.end !== undefined) {
      this.ended = true;
      this.link.close();
      this.on.end(told);
    } else if (told.scores !== undefined) {
      const picture = this.newest ?? this.unseen[0]; // that brought this answer
      this.on.answer(told, picture ? performance.now() - picture.at : NaN);
    }
  }
}
