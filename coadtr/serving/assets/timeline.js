// The last half minute: it moves on as time does, shows the classes that matter, and is read by pointer and keys.

import { dashBeside, palette, swatch } from "./colours.js";
import { Drawing, SECONDS } from "./drawing.js";
import { $, breakable, make, moment, percent } from "./words.js";

const SHOWN = 5; // classes at most
const MATTERS = 0.2; // score that a class has to reach
const STAYS = 0.1; // by so much more another one has to score than one that is shown
const EASE = 0.6; // seconds in which the right edge takes on that answers come sooner or later
const FRAME_MS = 30; // between two drawings: it moves by less than a pixel
const STEPS = { ArrowLeft: 1, ArrowRight: -1, PageUp: 5, PageDown: -5 }; // seconds back
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Timeline {
  constructor() {
    const canvas = $("timeline");
    Object.assign(this, { canvas, legend: $("legend"), drawing: new Drawing(canvas), colours: palette() });
    new ResizeObserver(() => this.paint()).observe(canvas);
    canvas.addEventListener("pointermove", ({ offsetX }) => this.#read(this.drawing.ago(offsetX)));
    canvas.addEventListener("pointerleave", () => this.#read(null));
    canvas.addEventListener("blur", () => this.#read(null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // Begin with the past of a stream; model: what the server tells of it.
  open(past, model) {
    Object.assign(this, { past, model, head: null, received: 0, drawn: 0, ago: null });
    Object.assign(this, { shown: [], peaks: [], dashes: new Map(), outputs: new Map() });
    this.drawing.rows = model.head === "sigmoid" ? 3 : 2; // where several actions go on at once
    this.legend.replaceChildren();
    this.paint();
  }

  recolour() {
    this.colours = palette();
    this.paint();
  }

  // An answer came.
  update() {
    this.received = performance.now();
    this.#choose();
    this.#name();
    this.paint();
  }

  paint() {
    this.request ??= requestAnimationFrame((now) => {
      this.request = null;
      if (!this.past || !this.canvas.clientWidth) return;
      if (now - this.drawn < FRAME_MS) return void this.paint();
      if (this.past.last) this.#roll(now);
      this.drawn = now;
      const { past, model, head, shown, peaks, dashes, ago } = this;
      const cursor = ago === null ? null : head - ago;
      this.drawing.draw({ past, model, head, shown, peaks, dashes, cursor }, this.colours);
    });
  }

  // Move the right edge on, as evenly as time goes, though answers come in steps.
  #roll(now) {
    const silent = (now - this.received) / 1000;
    const passed = Math.min(0.25, (now - this.drawn) / 1000);
    const rolling = !still.matches && silent < Math.max(1.5, 2 / this.model.rate_hz);
    const goal = this.past.last.time + (rolling ? silent : 0);
    if (this.head === null || still.matches || Math.abs(this.head - goal) > 3) this.head = goal;
    else {
      if (rolling) this.head += passed;
      this.head += (goal - this.head) * (1 - Math.exp(-passed / EASE));
    }
    if (rolling || Math.abs(this.head - goal) > 0.01) this.paint();
  }

  // Show the classes that reach the highest scores.
  #choose() {
    const { answers, last } = this.past;
    const { background, ignored } = this.model;
    const visible = answers.filter(({ time }) => time >= last.time - SECONDS);
    const peaks = last.scores.map((_, place) => visible.reduce((most, { scores }) => Math.max(most, scores[place]), 0));
    const weight = (place) => peaks[place] + (this.shown.includes(place) ? STAYS : 0);
    const actions = [...peaks.keys()].filter((place) => place !== background && place !== ignored);
    const found = actions.filter((place) => peaks[place] >= MATTERS).sort((one, other) => weight(other) - weight(one));
    const chosen = new Set(found.slice(0, SHOWN));
    const kept = this.shown.filter((place) => chosen.delete(place)); // where they are
    this.peaks = peaks;
    this.#show([...kept, ...chosen]);
  }

  #show(places) {
    const { background, classes } = this.model;
    if (places.join() === this.shown.join() && this.outputs.size) return;
    this.shown = places;
    this.dashes = new Map([...this.dashes].filter(([place]) => places.includes(place)));
    for (const place of places) if (!this.dashes.has(place)) this.dashes.set(place, dashBeside(place, this.dashes));
    this.outputs.clear();
    this.legend.replaceChildren();
    for (const place of background === null ? places : [...places, background]) {
      const item = make("li", undefined, this.legend);
      const quiet = place === background;
      item.append(quiet ? make("span", undefined, undefined, "quiet") : swatch(place, this.dashes.get(place)));
      breakable(make("span", undefined, item, "name"), quiet ? "no action" : classes[place]);
      this.outputs.set(place, make("output", "", item));
    }
  }

  // Put scores into the legend: the newest, or those under the pointer.
  #name() {
    const answer = this.ago === null ? this.past.last : this.past.at(this.head - this.ago);
    for (const [place, output] of this.outputs) output.textContent = answer ? percent(answer.scores[place]) : "";
    $("reading").textContent = this.ago === null || !answer ? "" : `at ${moment(answer.time)}`;
    return answer;
  }

  #read(ago) {
    this.ago = ago;
    if (!this.past?.last || this.head === null) return null;
    this.paint();
    return this.#name();
  }

  #key(event) {
    const step = STEPS[event.key];
    if (event.key === "Escape") this.#read(null);
    else if (step) {
      const ago = Math.min(SECONDS, (this.ago ?? 0) + step);
      const answer = this.#read(ago <= 0 ? null : ago);
      if (answer) $("told").textContent = this.#words(answer);
    } else return;
    event.preventDefault();
  }

  #words({ time, scores }) {
    const best = this.shown.filter((place) => scores[place] >= 0.05);
    best.sort((one, other) => scores[other] - scores[one]);
    const words = best.slice(0, 3).map((place) => `${this.model.classes[place]} ${percent(scores[place])}`);
    return `${moment(time)}: ${words.join(", ") || "no action"}`;
  }
}
