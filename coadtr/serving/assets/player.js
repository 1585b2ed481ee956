// Play a video of this machine, and have the server answer its pictures.

import { PictureSender } from "./pictures.js";
import { sample } from "./sources.js";
import { $, moment } from "./words.js";

export class Player {
  // view: shows it. name: of the stream on the server. source: what `openWebcam` or `openFile` returns.
  // file: whether it can stop, and go elsewhere. over({code, reason}): the server takes no more.
  constructor(view, name, source, { file, over }) {
    Object.assign(this, { view, name, source, file, over, video: $("video"), wanted: true, finished: false });
    $("controls").hidden = !file;
    this.video.ontimeupdate = () => this.#place();
    this.video.onended = () => this.#finish();
    $("play").onclick = () => (this.finished ? this.#go(0) : this.#want(!this.wanted));
    $("seek").oninput = ({ target }) => ($("position").textContent = moment(Number(target.value), 0));
    $("seek").onchange = ({ target }) => this.#go(Number(target.value));
    this.#place();
    this.#connect();
  }

  close() {
    this.stopSampling?.();
    this.sender.close();
    this.video.ontimeupdate = this.video.onended = null;
    this.source.stop();
  }

  #connect() {
    const { view, video } = this;
    this.sender = new PictureSender(this.name, {
      hello: (told) => {
        view.hello(told);
        this.stopSampling?.();
        this.stopSampling = sample(video, told.pictures.per_second, this.source.time, (time) => this.#take(time));
        if (this.finished) this.sender.end();
        else if (this.wanted) this.#play();
      },
      answer: (told, delay) => view.answer(told, delay),
      seen: ({ ms }) => view.live({ feature_ms: ms }),
      end: (told) => view.end(told),
      lost: () => {
        view.lost();
        if (this.file) video.pause(); // it waits, so that nothing of it is missed
      },
      over: this.over,
    });
    this.#want(this.wanted);
  }

  #take(time) {
    this.sender.offer(this.video, time);
    this.view.live({ dropped: this.sender.dropped });
  }

  #play() {
    this.video.play().catch(() => {}); // stopped again before it had begun
  }

  #want(wanted) {
    this.wanted = wanted;
    if (!wanted) this.video.pause();
    else if (this.sender.ready) this.#play();
    this.view.pause(!wanted);
    $("play").textContent = wanted ? "Pause" : "Play";
  }

  // Go to another place of a file. What the model remembers is of the old one, so the stream begins anew.
  #go(time) {
    this.sender.close();
    this.stopSampling?.();
    this.video.currentTime = time;
    this.finished = false;
    this.view.restart();
    this.#connect();
    this.#want(true);
  }

  #finish() {
    this.finished = true;
    this.sender.end();
    $("play").textContent = "Play again";
  }

  #place() {
    const { duration, currentTime } = this.video;
    const known = Number.isFinite(duration);
    $("seek").disabled = !known;
    if (known) $("seek").max = Math.floor(10 * duration) / 10;
    $("seek").value = currentTime;
    $("seek").setAttribute("aria-valuetext", moment(currentTime, 0));
    $("position").textContent = known ? `${moment(currentTime, 0)} / ${moment(duration, 0)}` : moment(currentTime, 0);
  }
}
