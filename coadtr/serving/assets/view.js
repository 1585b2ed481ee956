// All that is shown of one stream: its state, picture, timeline, actions and figures.

import { EventList } from "./events.js";
import { Figures } from "./latency.js";
import { Past } from "./past.js";
import { current, hears, Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { $, make } from "./words.js";

const PAUSE_MS = 250; // or half a frame: what comes sooner after what was before it had been kept
const SETTLE_MS = 2000; // after so long, answers that follow closely are those of a fast source
const QUIET_MS = 3000;

export class View {
  constructor() {
    this.parts = { stage: new Stage(), timeline: new Timeline(), events: new EventList(), figures: new Figures() };
    setInterval(() => this.#look(), 250);
  }

  // own: whether the page plays the video itself, and sends its pictures.
  open(title, own) {
    Object.assign(this, { title, own, model: null, past: null, received: null, paused: false });
    this.parts.stage.open(own);
    this.parts.figures.open();
    this.parts.events.open([]);
    this.say("connecting", "Connecting");
    $("view").hidden = $("named").hidden = false;
    $("title").textContent = title;
  }

  close() {
    this.model = null;
    $("view").hidden = $("named").hidden = true;
  }

  // The server greets, for the first time or after a connection was lost.
  hello(model) {
    const now = performance.now();
    Object.assign(this, { settling: !this.own, heard: now, greeted: now });
    const same = this.model !== null && meaning(this.model) === meaning(model);
    this.model = model;
    if (!same) this.#begin();
    this.parts.stage.hello(model);
    facts(model);
    this.say("waiting", `Waiting for the ${this.past.last ? "next" : "first"} answer`);
  }

  // Forget what was shown: the video went elsewhere.
  restart() {
    this.received = null;
    if (this.model) this.#begin();
    this.say("waiting", "Waiting for the first answer");
  }

  answer(told, delay = NaN) {
    const { stage, timeline, events, figures } = this.parts;
    const now = performance.now();
    this.past.take(told);
    timeline.update();
    events.show(this.past.actions);
    stage.caption(current(told, this.model));
    stage.clock(told.time);
    if (this.#kept(now)) return void this.say("waiting", "Waiting for the next answer");
    this.received = now;
    figures.answer(delay);
    this.say("live", "Live");
  }

  live({ lag, feature_ms: features, step_ms: step, dropped, source }) {
    const { figures } = this.parts;
    figures.tell({ lag, features, step, dropped });
    if (lag !== undefined) figures.delay(1000 * lag); // before the first answer there is none
    if (source) $("origin").textContent = source;
  }

  picture(bytes) {
    this.parts.stage.picture(bytes);
  }

  recolour() {
    this.parts.timeline.recolour();
  }

  end({ end, events }) {
    this.past?.finish(events);
    this.parts.events.show(this.past?.actions ?? []);
    this.parts.timeline.paint();
    this.say("ended", `Ended after ${end} ${end === 1 ? "answer" : "answers"}`);
  }

  pause(paused) {
    this.paused = paused;
    this.say(this.state, this.words);
  }

  lost() {
    this.say("lost", "Connection lost, trying again");
  }

  say(state, words) {
    Object.assign(this, { state, words });
    const paused = this.paused && !["ended", "error"].includes(state);
    $("state").dataset.state = $("view").dataset.state = paused ? "paused" : state;
    const next = paused ? "Paused" : words;
    if ($("state-words").textContent !== next) $("state-words").textContent = next;
  }

  // Whether an answer is one of those that the server had kept: they come all at once, what is new comes at its pace.
  #kept(now) {
    const paused = now - this.heard > Math.min(PAUSE_MS, 500 / this.model.rate_hz);
    if (paused || now - this.greeted > SETTLE_MS) this.settling = false;
    this.heard = now;
    return this.settling;
  }

  #begin() {
    const { timeline, events, figures } = this.parts;
    this.past = new Past(this.model.rate_hz);
    timeline.open(this.past, this.model);
    events.open(this.model.classes);
    figures.open(hears(this.model));
    $("caption").hidden = true;
  }

  #look() {
    if (this.model === null || $("view").hidden) return;
    const now = performance.now();
    const silent = now - (this.received ?? now);
    const longest = Math.max(QUIET_MS, 4000 / this.model.rate_hz);
    if (["live", "quiet"].includes(this.state) && silent > longest)
      this.say("quiet", `No answer for ${Math.floor(silent / 1000)} s`);
    this.parts.figures.render(now);
  }
}

// What answers are read by.
function meaning({ classes, background, ignored, rate_hz: rate }) {
  return JSON.stringify([classes, background, ignored, rate]);
}

// What made the features of a stream, by the record of them.
function maker(record) {
  return record?.front_end ?? record?.backbone ?? Object.values(record ?? {}).join(" ");
}

function facts({ classes, rate_hz: rate, streams, extractors, precision, head, source, server }) {
  const rows = {
    checkpoint: source?.checkpoint,
    classes: String(classes.length),
    "answers a second": String(rate),
    features: streams.map(({ name, channels }) => `${name} ${channels}`).join(", "),
    extractors: extractors && Object.values(extractors).map(maker).join(", "),
    head,
    precision,
    server,
  };
  $("facts").replaceChildren();
  for (const [name, value] of Object.entries(rows)) {
    if (typeof value !== "string" || !value) continue;
    make("dt", name, $("facts"));
    make("dd", value, $("facts"));
  }
}
