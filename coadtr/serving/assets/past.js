// What a stream was told of: its last answers, and its actions.
//
// A connection that was lost brings answers again, and a stream may begin anew. So what comes with a time that was
// there already takes the place of everything from that time on.

const KEPT_SECONDS = 90;
const KEPT_ACTIONS = 200;

export class Past {
  // rate: frames a second; where answers lie further apart than they do at that rate, something is missing.
  constructor(rate) {
    this.answers = []; // {frame, time, scores, gap: whether something is missing before it}
    this.actions = []; // {name, start, end, open, told, endTold, until}; start or end is null where it was not told
    this.longest = Math.max(1, 4 / rate);
  }

  get last() {
    return this.answers.at(-1) ?? null;
  }

  take({ frame, time, scores, events }) {
    const before = this.last;
    if (before && time <= before.time) this.#rewind(time);
    else if (before && frame !== before.frame + 1) this.#miss();
    const last = this.last;
    const gap = last !== null && (frame !== last.frame + 1 || time - last.time > this.longest);
    this.answers.push({ frame, time, scores, gap });
    for (const event of events) this.#tell(event, time);
    const oldest = this.answers.findIndex((answer) => answer.time >= time - KEPT_SECONDS);
    if (oldest > 0) this.answers.splice(0, oldest);
    if (this.actions.length > KEPT_ACTIONS) this.actions.splice(0, this.actions.length - KEPT_ACTIONS);
  }

  // The stream has ended, and these events with it.
  finish(events) {
    for (const event of events) this.#tell(event, Infinity);
  }

  // The last answer not after a time.
  at(time) {
    let found = null;
    for (const answer of this.answers) {
      if (answer.time > time + 1e-6) break;
      found = answer;
    }
    return found;
  }

  #tell({ kind, class: name, time }, told) {
    if (kind === "start") {
      this.actions.push({ name, start: time, end: null, told, endTold: null, open: true });
      return;
    }
    const action = this.actions.findLast((one) => one.open && one.name === name);
    if (action) Object.assign(action, { end: time, endTold: told, open: false });
    else this.actions.push({ name, start: null, end: time, told, endTold: told, open: false });
  }

  // Answers are missing. What was going on may be over; an end that comes yet says that it was not.
  #miss() {
    for (const action of this.actions) if (action.open) Object.assign(action, { open: false, until: this.last.time });
  }

  #rewind(time) {
    this.answers = this.answers.filter((answer) => answer.time < time);
    this.actions = this.actions.filter((action) => action.told < time);
    const reopened = this.actions.filter(({ endTold }) => endTold !== null && endTold >= time);
    for (const action of reopened) Object.assign(action, { end: null, endTold: null, open: true });
  }
}
