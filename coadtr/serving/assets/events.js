// The list of actions, newest first.

import { hue } from "./colours.js";
import { $, breakable, make, moment, span } from "./words.js";

const LISTED = 60;

function times({ start, end, open }) {
  if (open) return `since ${moment(start)}`;
  return `${start === null ? "?" : moment(start)} – ${end === null ? "?" : moment(end)}`;
}

export class EventList {
  constructor() {
    this.list = $("events");
    this.items = new Map(); // of actions
  }

  // classes: their names; a name's place gives the colour.
  open(classes) {
    this.classes = classes;
    this.items.clear();
    this.list.replaceChildren();
    $("told").textContent = "";
    $("no-events").hidden = false;
  }

  // Bring the list up to date with the actions of a past.
  show(actions) {
    for (const [action, item] of this.items) {
      if (actions.includes(action)) continue;
      item.remove();
      this.items.delete(action);
    }
    for (const action of actions.slice(-LISTED)) {
      if (!this.items.has(action)) this.items.set(action, this.#begin(action));
      this.#say(action, this.items.get(action));
    }
    while (this.list.childElementCount > LISTED) this.list.lastElementChild.remove();
    $("no-events").hidden = this.list.childElementCount > 0;
  }

  #begin(action) {
    const item = make("li");
    this.list.prepend(item);
    item.style.setProperty("--hue", hue(this.classes.indexOf(action.name)));
    breakable(make("strong", undefined, item), action.name);
    make("span", undefined, item, "times");
    make("span", undefined, item, "span");
    $("told").textContent = `${action.name} begins`; // to those who hear the page
    return item;
  }

  #say(action, item) {
    const words = times(action);
    const [, where, length] = item.children;
    if (where.textContent === words) return;
    where.textContent = words;
    item.classList.toggle("open", action.open);
    const whole = action.start !== null && action.end !== null;
    length.textContent = action.open ? "now" : whole ? span(action.end - action.start) : "";
  }
}
