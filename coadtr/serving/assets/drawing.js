// The timeline as it is drawn: a grid, scores as lines, actions as bars below them.

import { moment } from "./words.js";

export const SECONDS = 30; // from the left edge to the right one
export const EDGE = { left: 40, right: 10, top: 12, bottom: 22 };
const ROW = 26;
const FAINT = 0.05; // a class whose scores stay below is not drawn

export class Drawing {
  constructor(canvas) {
    Object.assign(this, { canvas, pen: canvas.getContext("2d") });
    this.rows = 2; // of bars
  }

  // scene: {past, model, head: time of the right edge, null if there is none yet, shown: the classes that matter,
  //   peaks: highest score of each class, dashes: by class, cursor: a time or null}.
  draw(scene, colours) {
    Object.assign(this, { ...scene, colours });
    const { canvas, pen } = this;
    const size = [canvas.clientWidth, canvas.clientHeight];
    const [wide, tall] = size.map((length) => Math.round(length * devicePixelRatio));
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    [this.width, this.height] = size;
    this.low = this.height - EDGE.bottom - this.rows * ROW - 10; // where scores are 0
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = `12px ${colours.font}`;
    this.#scale();
    if (this.head === null) return;
    this.#times();
    pen.save();
    pen.beginPath();
    pen.rect(EDGE.left, 0, this.width - EDGE.left - EDGE.right + 1, this.height);
    pen.clip();
    this.#lines();
    this.#bars();
    pen.restore();
    if (this.cursor !== null) this.#upright(this.#x(this.cursor), { colour: colours.ink, dash: [4, 3] });
  }

  // Seconds before the right edge.
  ago(x) {
    const width = this.canvas.clientWidth - EDGE.left - EDGE.right;
    return Math.min(SECONDS, Math.max(0, (SECONDS * (EDGE.left + width - x)) / width));
  }

  #x(time) {
    return this.width - EDGE.right + ((time - this.head) * (this.width - EDGE.left - EDGE.right)) / SECONDS;
  }

  #y(score) {
    return this.low - (this.low - EDGE.top) * Math.min(1, score);
  }

  #upright(x, { colour, dash = [] }) {
    const { pen } = this;
    Object.assign(pen, { strokeStyle: colour, lineWidth: 1 });
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(Math.round(x) + 0.5, EDGE.top);
    pen.lineTo(Math.round(x) + 0.5, this.height - EDGE.bottom + 4);
    pen.stroke();
    pen.setLineDash([]);
  }

  #scale() {
    const { pen, colours } = this;
    Object.assign(pen, { lineWidth: 1, strokeStyle: colours.line, fillStyle: colours.faint });
    Object.assign(pen, { textBaseline: "middle", textAlign: "right" });
    for (const score of [0, 0.5, 1]) {
      const y = Math.round(this.#y(score)) + 0.5;
      pen.beginPath();
      pen.moveTo(EDGE.left, y);
      pen.lineTo(this.width - EDGE.right, y);
      pen.stroke();
      pen.fillText(String(score), EDGE.left - 8, y);
    }
  }

  #times() {
    const { pen, colours } = this;
    const every = this.width < 560 ? 10 : 5;
    Object.assign(pen, { fillStyle: colours.faint, textBaseline: "alphabetic", textAlign: "center" });
    for (let time = Math.max(0, Math.ceil((this.head - SECONDS) / every) * every); time <= this.head; time += every) {
      const x = this.#x(time);
      this.#upright(x, { colour: colours.line });
      if (x > EDGE.left + 14 && x < this.width - 26) pen.fillText(moment(time, 0), x, this.height - 5);
    }
  }

  #lines() {
    const { past, colours, shown, dashes, peaks } = this;
    const { background, ignored } = this.model;
    const first = Math.max(1, past.answers.findIndex(({ time }) => time >= this.head - SECONDS)) - 1;
    const answers = past.answers.slice(first);
    const draw = (place, colour, width, style) => this.#line(answers, place, { colour, width, ...style });
    const named = new Set([background, ignored, ...shown]);
    peaks.forEach((peak, place) => {
      if (peak >= FAINT && !named.has(place)) draw(place, colours.line, 1);
    });
    if (background !== null) draw(background, colours.faint, 1.25, { dash: [1, 4] });
    for (const place of shown) draw(place, colours.of(place), 2.25, { dash: dashes.get(place), filled: true });
  }

  // A line stops where something is missing, and goes on behind it.
  #line(answers, place, { colour, width, dash = [], filled = false }) {
    const { pen } = this;
    Object.assign(pen, { strokeStyle: colour, fillStyle: colour, lineWidth: width, lineJoin: "round" });
    pen.setLineDash(dash);
    for (let from = 0, to = 1; from < answers.length; from = to, to = from + 1) {
      while (to < answers.length && !answers[to].gap) to += 1;
      const path = new Path2D();
      for (const { time, scores } of answers.slice(from, to)) path.lineTo(this.#x(time), this.#y(scores[place]));
      pen.stroke(path);
      if (!filled) continue;
      path.lineTo(this.#x(answers[to - 1].time), this.low);
      path.lineTo(this.#x(answers[from].time), this.low);
      pen.globalAlpha = 0.09;
      pen.fill(path);
      pen.globalAlpha = 1;
    }
    pen.setLineDash([]);
  }

  #bars() {
    const { pen, colours, past, head } = this;
    const free = new Array(this.rows).fill(-Infinity); // where each row is
    Object.assign(pen, { textBaseline: "middle", textAlign: "left" });
    for (const action of past.actions) {
      const start = action.start ?? head - SECONDS;
      const end = action.end ?? (action.open ? past.last.time : action.until);
      if (end < head - SECONDS) continue;
      const from = Math.max(this.#x(start), EDGE.left - 6);
      const to = Math.max(this.#x(end), this.#x(start) + 3);
      const name = this.#shortened(action.name);
      const wide = pen.measureText(name).width;
      // The name stands in its bar, or behind it, or before it where the edge is too near.
      const inside = wide + 14 < to - from;
      const before = !inside && to + wide + 8 > this.#x(head);
      const begin = before ? from - wide - 5 : from;
      let row = free.findIndex((place) => place <= begin);
      const named = inside || row >= 0; // a name that has no room is in the list alone
      if (row < 0) row = free.indexOf(Math.min(...free));
      free[row] = inside || before || !named ? to : to + wide + 12;
      const top = this.low + 10 + row * ROW;
      pen.fillStyle = colours.of(this.model.classes.indexOf(action.name));
      pen.beginPath();
      pen.roundRect(from, top + 2, to - from, ROW - 6, 4);
      pen.fill();
      if (!named) continue;
      pen.fillStyle = inside ? colours.paper : colours.ink;
      pen.fillText(name, inside ? Math.max(from, EDGE.left) + 7 : before ? begin : to + 5, top + ROW / 2);
    }
  }

  #shortened(name) {
    const most = (this.width - EDGE.left - EDGE.right) / 2;
    let letters = name.length;
    while (letters > 1 && this.pen.measureText(name.slice(0, letters)).width > most) letters -= 1;
    return letters < name.length ? `${name.slice(0, letters - 1)}…` : name;
  }
}
