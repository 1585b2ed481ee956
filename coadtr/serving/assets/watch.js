// Watch a stream of the server, whoever feeds it.

import { socketAddress } from "./access.js";
import { Link } from "./link.js";

export class Watcher {
  // on: hello, answer(told), picture(time, bytes), live(told), end(told), lost(milliseconds), over({code, reason}).
  constructor(name, on) {
    const address = () => socketAddress(`v1/watch/${encodeURIComponent(name)}`, { pictures: "true" });
    this.ended = false;
    this.link = new Link(address, {
      hello: on.hello,
      text: (told) => {
        if (told.live !== undefined) on.live(told.live);
        else if (told.end !== undefined) this.#end(told, on);
        else if (told.scores !== undefined) on.answer(told);
      },
      binary: (data) => on.picture(new DataView(data).getFloat64(0, true), new Uint8Array(data, 8)),
      lost: on.lost,
      over: (closing) => {
        if (!this.ended) on.over(closing);
      },
    });
  }

  close() {
    this.link.close();
  }

  #end(told, on) {
    this.ended = true;
    this.link.close();
    on.end(told);
  }
}
