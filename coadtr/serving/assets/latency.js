// How late the answers are, how many come, and what was left out.

import { $, make, milliseconds, quantile, span } from "./words.js";

const KEPT = 100;
const RENDER_MS = 500;

export class Figures {
  constructor() {
    this.place = $("figures");
    this.chart = $("delays");
    this.canvas = this.chart.querySelector("canvas");
  }

  // sound: whether no pictures are seen, but sound is heard.
  open(sound = false) {
    this.left = sound ? "features left out" : "pictures dropped";
    Object.assign(this, { delays: [], came: [], told: {}, rendered: -RENDER_MS });
    this.place.replaceChildren();
    this.chart.hidden = true;
  }

  // An answer came; milliseconds: after its picture was taken, NaN if that is not known.
  answer(delay) {
    this.came.push(performance.now());
    if (this.came.length > KEPT) this.came.shift();
    this.delay(delay);
  }

  delay(delay) {
    if (!Number.isFinite(delay)) return;
    this.delays.push(delay);
    if (this.delays.length > KEPT) this.delays.shift();
  }

  // What else is known: {lag: seconds, features: ms, step: ms, dropped, sent}.
  tell(told) {
    for (const [name, value] of Object.entries(told)) if (Number.isFinite(value)) this.told[name] = value;
  }

  render(now) {
    if (now - this.rendered < RENDER_MS) return;
    this.rendered = now;
    const { lag, features, step, dropped } = this.told;
    const rows = [
      ["median latency", this.delays.length ? milliseconds(quantile(this.delays, 0.5)) : null, "median"],
      ["95 % are below", this.delays.length ? milliseconds(quantile(this.delays, 0.95)) : null, "p95"],
      ["behind the source now", lag === undefined ? null : lag < 10 ? milliseconds(1000 * lag) : span(lag), "lag"],
      ["to make features", features === undefined ? null : milliseconds(features), "features"],
      ["to step", step === undefined ? null : milliseconds(step), "step"],
      [this.left, dropped === undefined ? null : String(dropped), "dropped"],
      ["answers a second", this.#rate(now), "rate"],
    ];
    const shown = rows.filter(([, value]) => value !== null);
    while (this.place.childElementCount > shown.length) this.place.lastElementChild.remove();
    shown.forEach(([name, value, key], index) => {
      const row = this.place.children[index] ?? this.#row();
      row.dataset.figure = key;
      row.firstChild.textContent = name;
      row.lastChild.textContent = value;
    });
    this.#draw();
  }

  #row() {
    const row = make("div", undefined, this.place);
    make("dt", "", row);
    make("dd", "", row);
    return row;
  }

  #rate(now) {
    const recent = this.came.filter((moment) => now - moment < 5000);
    if (recent.length < 2) return null;
    return (((recent.length - 1) * 1000) / (recent.at(-1) - recent[0])).toFixed(1);
  }

  #draw() {
    this.chart.hidden = this.delays.length < 2;
    if (this.chart.hidden) return;
    const ratio = devicePixelRatio;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.fillStyle = getComputedStyle(this.canvas).color;
    const most = 1.2 * Math.max(...this.delays);
    const step = width / KEPT;
    this.delays.forEach((delay, index) => {
      const tall = Math.max(1, (height * delay) / most);
      pen.fillRect(width - (this.delays.length - index) * step, height - tall, Math.max(1, step - 1), tall);
    });
  }
}
