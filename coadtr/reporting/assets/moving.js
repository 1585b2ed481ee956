/* ---- What the timeline says ---- */
let saying = 0;
function say() {
  clearTimeout(saying);
  saying = setTimeout(() => {
    const { video, low, high } = state;
    if (!video) return;
    const step = Math.max(1, Math.floor((high - low) / width()));
    const parts = [`${video.name}: ${when(low)} to ${when(high)} of ${when(video.frames)}`];
    const names = [...state.classes].map((k) => index.classes[k]);
    parts.push(`${names.length} of ${index.classes.length} classes drawn`);
    parts.push(step > 1 ? `lowest and highest of ${step} frames a pixel` : "every frame drawn");
    $("status").textContent = `${parts.join("; ")}.`;
  }, 250);
}
function reading(frame) {
  const shown = state.data.filter(({ entry }) => state.runs.has(entry.run));
  if (!shown.length) return null;
  const truth = shown[0].data.truth[frame].map((k) => index.classes[k]).join(", ") || "nothing";
  const time = state.video.rate ? `${clock(frame / state.video.rate, 2)}, ` : "";
  const runs = shown.map(({ entry, data }) => {
    const scores = [...state.classes]
      .filter((k) => data.place.has(k))
      .map((k) => ({ name: index.classes[k], k, score: data.levels[data.place.get(k) * data.T + frame] / index.levels }))
      .sort((a, b) => b.score - a.score)
      .slice(0, narrow() ? 3 : 4);
    return { name: named(entry.run), answer: index.classes[data.answer[frame]], scores };
  });
  const scored = shown[0].data.scored[frame] ? "" : " (not scored)";
  return { head: `${time}frame ${frame}${scored}`, truth, runs };
}
function showTip(frame, x, y) {
  const tip = $("tip");
  const found = reading(frame);
  if (!found) return;
  tip.replaceChildren();
  make("strong", found.head, tip);
  make("div", `shows: ${found.truth}`, tip);
  for (const run of found.runs) {
    make("div", found.runs.length > 1 ? `${run.name}: ${run.answer}` : `answer: ${run.answer}`, tip);
    const table = make("table", undefined, tip);
    for (const { name, k, score } of run.scores) {
      const row = make("tr", undefined, table);
      const cell = make("th", undefined, row);
      cell.scope = "row";
      cell.append(swatch(k), ` ${name}`);
      make("td", score.toFixed(4), row);
    }
  }
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, x + 16 + box.width > window.innerWidth ? x - 16 - box.width : x + 16)}px`;
  tip.style.top = `${Math.max(8, Math.min(y + 16, window.innerHeight - box.height - 8))}px`;
}
function placeCursor() {
  const line = $("cursor");
  line.hidden = state.cursor === null || !views.length || state.cursor < state.low || state.cursor > state.high;
  if (!line.hidden) line.style.left = `${left() + ((state.cursor + 0.5 - state.low) / (state.high - state.low)) * width()}px`;
}
const left = gutter;
const frameAt = (x) => state.low + ((x - stage.getBoundingClientRect().left - left()) / width()) * (state.high - state.low);

/* ---- Moving ---- */
function show(low, high) {
  const T = state.video.frames;
  const span = Math.min(T, Math.max(Math.min(8, T), high - low));
  state.low = Math.min(Math.max(0, low), T - span);
  state.high = state.low + span;
  paint();
  say();
}
function zoom(factor, about) {
  const middle = about ?? (state.low + state.high) / 2;
  show(middle - (middle - state.low) * factor, middle + (state.high - middle) * factor);
}
const move = (share) => show(state.low + share * (state.high - state.low), state.high + share * (state.high - state.low));
function read(step) {
  const middle = Math.floor((state.low + state.high) / 2);
  state.cursor = Math.min(state.video.frames - 1, Math.max(0, state.cursor === null ? middle : state.cursor + step));
  if (state.cursor < state.low || state.cursor >= state.high) {
    const half = (state.high - state.low) / 2;
    show(state.cursor - half, state.cursor + half);
  }
  clearTimeout(saying);
  placeCursor();
  const found = reading(state.cursor);
  if (!found) return;
  const words = found.runs.map((run) => {
    const scores = run.scores.map(({ name, score }) => `${name} ${score.toFixed(4)}`).join(", ");
    return `${run.name} answers ${run.answer}${scores ? `; ${scores}` : ""}`;
  });
  $("status").textContent = `${found.head}: shows ${found.truth}. ${words.join(". ")}.`;
}
const keys = {
  "+": () => zoom(0.5, state.cursor ?? undefined), "=": () => zoom(0.5, state.cursor ?? undefined), "-": () => zoom(2), _: () => zoom(2),
  ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), PageUp: () => move(-0.9), PageDown: () => move(0.9),
  Home: () => show(0, state.high - state.low), End: () => show(Infinity, Infinity), 0: () => show(0, state.video.frames),
  ",": () => read(-1), ".": () => read(1),
};
keys.End = () => show(state.video.frames - (state.high - state.low), state.video.frames);
stage.addEventListener("keydown", (event) => {
  if (!state.video || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
stage.addEventListener(
  "wheel",
  (event) => {
    if (!state.video || !(event.ctrlKey || event.metaKey || document.activeElement === stage)) return;
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const whole = state.high - state.low >= state.video.frames;
    if (!sideways && whole && event.deltaY > 0 && !event.ctrlKey) return; // nothing to zoom out of: let the page scroll
    event.preventDefault();
    if (sideways) move(event.deltaX / width());
    else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), frameAt(event.clientX));
  },
  { passive: false },
);
const fingers = new Map();
stage.addEventListener("pointerdown", (event) => {
  if (!state.video || event.button > 0) return;
  fingers.set(event.pointerId, event.clientX);
  stage.setPointerCapture(event.pointerId);
  if (event.pointerType === "mouse") stage.focus({ preventScroll: true });
});
stage.addEventListener("pointermove", (event) => {
  if (!state.video) return;
  const before = fingers.get(event.pointerId);
  if (before === undefined) {
    hover(event);
    return;
  }
  const scale = (state.high - state.low) / width();
  if (fingers.size === 1) {
    stage.classList.add("dragging");
    $("tip").hidden = true;
    const by = (before - event.clientX) * scale;
    show(state.low + by, state.high + by);
  } else {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    const factor = Math.abs(before - other) / Math.max(8, Math.abs(event.clientX - other));
    zoom(Math.min(2, Math.max(0.5, factor)), frameAt((other + event.clientX) / 2));
  }
  fingers.set(event.pointerId, event.clientX);
});
function hover(event) {
  const frame = Math.floor(frameAt(event.clientX));
  if (frame < state.low - 1 || frame >= state.high || frame < 0 || frame >= state.video.frames) {
    $("tip").hidden = true;
    return;
  }
  state.cursor = frame;
  placeCursor();
  showTip(frame, event.clientX, event.clientY);
}
const release = (event) => {
  const tapped = event.type === "pointerup" && !stage.classList.contains("dragging");
  fingers.delete(event.pointerId);
  stage.classList.remove("dragging");
  if (tapped && event.pointerType === "touch" && state.video) hover(event);
};
stage.addEventListener("pointerup", release);
stage.addEventListener("pointercancel", release);
stage.addEventListener("pointerleave", () => {
  $("tip").hidden = true;
  state.cursor = null;
  placeCursor();
});
document.addEventListener("scroll", () => ($("tip").hidden = true), { passive: true });
const onClick = (id, act) => $(id).addEventListener("click", () => state.video && act());
onClick("zoom-in", () => zoom(0.5));
onClick("zoom-out", () => zoom(2));
onClick("left", () => move(-0.5));
onClick("right", () => move(0.5));
onClick("whole", () => show(0, state.video.frames));
$("position").addEventListener("input", (event) => {
  if (!state.video) return;
  const span = state.high - state.low;
  const low = (Number(event.target.value) / 1000) * (state.video.frames - span);
  show(low, low + span);
});
