// What there is to see: streams of the server, a webcam, a video file.

import { ask, streamAddress, TokenError } from "./access.js";
import { $, make, moment } from "./words.js";

const LOOK_MS = 2000;

export class Chooser {
  // on: watch(name), webcam(), file(file), refused(): the server asks for a token.
  constructor(on) {
    Object.assign(this, { on, turn: 0 });
    $("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      on.watch($("name").value);
    });
    $("webcam").addEventListener("click", () => on.webcam());
    $("file").addEventListener("change", ({ target }) => this.#file(target.files));
    const card = $("file-card");
    for (const kind of ["dragover", "dragleave", "drop"])
      card.addEventListener(kind, (event) => {
        event.preventDefault();
        card.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && !$("file").disabled) this.#file(event.dataTransfer.files);
      });
  }

  open() {
    $("sources").hidden = false;
    this.#look(++this.turn);
  }

  close() {
    this.turn += 1; // what is under way is too late
    clearTimeout(this.timer);
    $("sources").hidden = true;
  }

  async #look(turn) {
    try {
      const model = await ask("v1/model");
      const streams = await ask("v1/streams");
      if (turn !== this.turn) return;
      $("unreachable").hidden = true;
      this.#describe(model);
      this.#list(streams);
    } catch (error) {
      if (turn !== this.turn) return;
      if (error instanceof TokenError) return void this.on.refused();
      $("unreachable").hidden = false;
    }
    this.timer = setTimeout(() => this.#look(turn), LOOK_MS);
  }

  #describe({ pictures, classes, rate_hz: rate, source }) {
    const name = source?.checkpoint ? `${source.checkpoint}: ` : "";
    $("model").textContent = `${name}${classes.length} classes, ${rate} answers a second`;
    $("webcam").disabled = $("file").disabled = !pictures;
    $("no-eyes").hidden = Boolean(pictures);
    $("sources").classList.toggle("eyeless", !pictures);
  }

  #list(streams) {
    const text = JSON.stringify(streams);
    if (text === this.listed) return;
    this.listed = text;
    const focused = document.activeElement?.dataset?.stream;
    $("streams").replaceChildren();
    for (const { name, frames, time, connected, live } of streams) {
      const link = make("a", undefined, make("li", undefined, $("streams")));
      link.href = streamAddress(name);
      link.dataset.stream = name;
      make("span", undefined, link, connected || live ? "dot on" : "dot");
      make("strong", name, link);
      const words = live ? "with pictures" : connected ? "without pictures" : "nobody feeds it";
      const place = time === null || time === undefined ? `${frames} frames` : moment(time, 0);
      make("span", `${words} · ${place}`, link, "note");
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        this.on.watch(name);
      });
      if (name === focused) link.focus();
    }
    $("no-streams").hidden = streams.length > 0;
  }

  #file(files) {
    if (files.length) this.on.file(files[0]);
    $("file").value = "";
  }
}
