// A WebSocket that is opened again whenever it breaks, for as long as another try may help.

const RETRIED = new Set([1001, 1005, 1006, 1011, 1012, 1013, 4408]); // codes after which another connection may do
const FIRST_WAIT = 250;
const LONGEST_WAIT = 4000;

export class Link {
  // address(again): where to connect; `again` once a connection was greeted.
  // on: hello(told), text(told), binary(buffer), lost(milliseconds until the next try), over({code, reason}).
  constructor(address, on) {
    Object.assign(this, { address, on, wait: FIRST_WAIT, greeted: false, closed: false });
    this.#connect();
  }

  get open() {
    return !this.closed && this.socket.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (this.open) this.socket.send(message);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close(1000);
  }

  #connect() {
    const socket = new WebSocket(this.address(this.greeted));
    this.socket = socket;
    this.error = null;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (this.closed) return;
      if (typeof data !== "string") this.on.binary?.(data);
      else this.#read(JSON.parse(data));
    };
    socket.onclose = (event) => this.#lost(event);
  }

  #read(told) {
    if (told.error !== undefined) this.error = told.error; // the close that follows has less room for it
    else if (told.hello !== undefined) {
      this.greeted = true;
      this.wait = FIRST_WAIT;
      this.on.hello(told);
    } else this.on.text(told);
  }

  #lost({ code, reason }) {
    if (this.closed) return;
    if (!RETRIED.has(code)) {
      this.closed = true;
      this.on.over({ code, reason: this.error ?? reason });
      return;
    }
    this.on.lost(this.wait);
    this.timer = setTimeout(() => this.#connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
  }
}
