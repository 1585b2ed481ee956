// The picture, with what is going on over it.

import { hue } from "./colours.js";
import { $, breakable, moment, percent } from "./words.js";

const SHOWS = 0.5; // score from which on a class is there, where a frame may show several

// What a frame shows: {place, name, score}. The place is that of the highest score, and -1 where that is no action.
export function current({ scores }, { classes, background, ignored, head }) {
  const order = [...scores.keys()].filter((place) => place !== ignored);
  order.sort((one, other) => scores[other] - scores[one]);
  const [place] = order;
  const none = (score) => ({ place: -1, name: "no action", score });
  if (place === background) return none(scores[place]);
  const several = head === "sigmoid";
  if (several && background === null && scores[place] < SHOWS) return none(1 - scores[place]);
  const beside = several ? order.slice(1).filter((other) => other !== background && scores[other] >= SHOWS) : [];
  return { place, name: [place, ...beside].map((one) => classes[one]).join(" + "), score: scores[place] };
}

// Whether all that a model takes is made of sound.
export function hears({ streams, extractors }) {
  return streams.length > 0 && streams.every(({ name }) => extractors?.[name]?.front_end !== undefined);
}

export class Stage {
  constructor() {
    this.place = $("stage");
    this.canvas = $("picture");
    this.turn = 0; // of streams: a picture of the one before is not drawn
    this.waiting = null; // bytes that came while others were decoded; only the newest
  }

  // own: whether the page plays the video itself.
  open(own) {
    this.turn += 1;
    $("video").hidden = !own;
    $("blank").hidden = own;
    this.canvas.hidden = true;
    this.place.classList.toggle("blind", !own);
    this.place.classList.remove("sound");
    $("caption").hidden = true;
    $("blank").textContent = "No picture yet";
    this.clock(null);
  }

  // A model of sound alone has no picture that one could wait for, or miss.
  hello(model) {
    const sound = hears(model);
    this.place.classList.toggle("sound", sound);
    if (sound) $("blank").hidden = true;
  }

  clock(time) {
    $("clock").textContent = time === null ? "" : moment(time);
  }

  caption({ place, name, score }) {
    const caption = $("caption");
    caption.hidden = false;
    $("blank").textContent = "This stream brings no pictures";
    caption.dataset.action = place < 0 ? "no" : "yes";
    caption.style.setProperty("--hue", hue(place));
    if ($("action").textContent !== name) breakable($("action"), name);
    $("score").textContent = percent(score);
    $("meter").style.transform = `scaleX(${Math.min(1, score).toFixed(3)})`;
  }

  async picture(bytes) {
    const busy = this.waiting !== null;
    this.waiting = bytes;
    if (busy) return;
    while (this.waiting?.length) {
      const newest = this.waiting;
      this.waiting = new Uint8Array();
      await this.#draw(newest);
    }
    this.waiting = null;
  }

  async #draw(bytes) {
    const { turn } = this;
    let bitmap;
    try {
      bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    } catch {
      return; // the next one may do
    }
    if (turn !== this.turn) return;
    this.place.classList.remove("blind", "sound");
    $("blank").hidden = true;
    this.canvas.hidden = false;
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height)
      Object.assign(this.canvas, { width: bitmap.width, height: bitmap.height });
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
}
