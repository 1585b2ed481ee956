/* ---- The timeline ---- */
// The number keeps runs apart where there is no room for the name.
const named = (run) => (index.runs.length > 1 ? `${run + 1}: ${index.runs[run].name}` : index.runs[run].name);
const stage = $("stage");
const state = { video: null, data: [], low: 0, high: 1, cursor: null, classes: new Set(), runs: new Set(index.runs.map((_, i) => i)) };
let views = []; // the bands, then the scores of each run
let bands = [];
const gutter = () => (narrow() ? 58 : 104);
const seconds = (frames) => (state.video.rate ? frames / state.video.rate : frames);
const clock = (s, digits) => {
  const whole = Math.floor(s / 60);
  const part = (s - 60 * whole).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${whole}:${part}`;
};
const when = (frame) => {
  if (!state.video.rate) return `frame ${Math.round(frame)}`;
  const span = (state.high - state.low) / state.video.rate;
  return clock(frame / state.video.rate, span < 60 ? 2 : 0);
};
const percent = (value) => (value === null ? "unknown" : `${(100 * value).toFixed(1)} %`);

function specOf(kind) {
  const spec = structuredClone(index.timeline[kind]);
  const parts = spec.layer ?? [spec];
  // Fixed margins, so that time lies at the same place in all of them.
  const margin = { left: gutter(), right: 24, top: 6, bottom: kind === "scores" ? 42 : 2 };
  Object.assign(spec, { width: Math.max(120, stage.clientWidth - gutter() - 24), autosize: "none", padding: margin });
  if (spec.layer) spec.layer[1].mark.color = index.paper[mode];
  for (const part of parts) {
    if (part.encoding.y.axis) part.encoding.y.axis.labelLimit = gutter() - 10;
    const x = part.encoding.x;
    if (kind === "scores" && x.axis) {
      x.axis.title = state.video.rate ? "time (min:s)" : "frame";
      x.axis.tickCount = narrow() ? 4 : 10;
      if (state.video.rate)
        x.axis.labelExpr = "floor(datum.value / 60) + ':' + format(datum.value % 60, high - low < 10 ? '05.2f' : '02d')";
    }
  }
  return spec;
}
let building = 0;
async function build() {
  const turn = ++building;
  for (const { result } of views) result.finalize();
  views = [];
  $("lanes").replaceChildren();
  const shown = state.data.filter(({ entry }) => state.runs.has(entry.run));
  const places = [{ kind: "bands", place: $("bands") }];
  for (const { entry, data } of shown) {
    const lane = make("div", undefined, $("lanes"));
    lane.className = "lane";
    make("h3", `Scores of ${named(entry.run)} (accuracy of this video ${percent(entry.accuracy)})`, lane);
    const place = make("div", undefined, lane);
    place.className = "plot";
    places.push({ kind: "scores", place, entry, data });
  }
  const made = [];
  for (const item of places) {
    try {
      made.push({ ...item, result: await embed(item.place, specOf(item.kind), "canvas") });
    } catch (error) {
      failed(item.place)(error);
    }
    if (turn !== building) {
      for (const { result } of made) result.finalize();
      return;
    }
  }
  views = made;
  for (const { place } of views) place.setAttribute("aria-hidden", "true"); // said by the status and the table
  bands = collectBands(shown);
  paint();
}
function collectBands(shown) {
  if (!shown.length) return [];
  const first = shown[0].data;
  const found = truthBands(first);
  for (const { entry, data } of shown) {
    const row = shown.length > 1 ? named(entry.run) : "answer";
    found.push(...segments(data.T, (t) => data.answer[t], row));
  }
  found.push(...segments(first.T, (t) => (first.scored[t] ? null : index.classes.length), NOT_SCORED));
  return found;
}

const width = () => (views.length ? Math.max(1, views[0].result.view.width()) : 1);
let painting = false;
function paint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    for (const view of views) paintView(view);
    placeCursor();
    const free = state.video.frames - (state.high - state.low);
    $("position").disabled = free <= 0.5;
    $("position").value = free > 0.5 ? Math.round((1000 * state.low) / free) : 0;
    $("position").setAttribute("aria-valuetext", `${when(state.low)} to ${when(state.high)}`);
    stage.dataset.low = state.low;
    stage.dataset.high = state.high;
  });
}
function paintView({ kind, result, data }) {
  const rows = kind === "bands" ? visibleBands() : envelope(data);
  const view = result.view;
  view.signal("low", seconds(state.low)).signal("high", seconds(state.high)).data(kind, rows).runAsync();
  if (kind === "scores") stage.dataset.points = rows.length;
}
/* Bands thinner than half a pixel are widened to it, and what follows begins after them: no time is left blank. */
function visibleBands() {
  const pixel = (state.high - state.low) / width();
  const found = [];
  let last = null;
  for (const band of bands) {
    const from = last && last.row === band.row ? Math.max(band.from, last.until) : band.from;
    if (from >= band.to) continue; // hidden by the one before
    const inside = band.to > state.low && band.from < state.high;
    const until = Math.max(band.to, from + pixel / 2);
    if (inside || !found.some((other) => other.row === band.row)) {
      const scored = band.klass < index.classes.length;
      const quiet = band.klass === index.background;
      const name = scored ? index.classes[band.klass] : "";
      const start = Math.max(from, state.low);
      const room = (Math.min(band.to, state.high) - start) / pixel - 8;
      found.push({
        row: band.row, start: seconds(from), end: seconds(until), from: seconds(start), class: name || null,
        label: inside && !quiet ? fit(name, room) : "", strength: inside ? (quiet ? 0.16 : scored ? 0.95 : 0.5) : 0,
      });
    }
    last = { row: band.row, until };
  }
  return found;
}
const fit = (name, room) => {
  const letters = Math.floor(room / 6.4);
  if (letters >= name.length) return name;
  return letters >= 4 ? `${name.slice(0, letters - 1)}…` : "";
};
/* Lowest and highest score of each pixel column, in their order in time; every frame where there is room. */
function envelope(data) {
  const low = Math.max(0, Math.floor(state.low) - 1);
  const high = Math.min(data.T, Math.ceil(state.high) + 1);
  const step = Math.max(1, Math.floor((state.high - state.low) / width()));
  const rows = [];
  for (const k of state.classes) {
    const c = data.place.get(k);
    if (c === undefined) continue;
    const base = c * data.T;
    const push = (t) => rows.push({ start: seconds(t + 0.5), score: data.levels[base + t] / index.levels, class: index.classes[k] });
    for (let t = low - (low % step); t < high; t += step) {
      let least = t;
      let most = t;
      for (let i = t + 1; i < Math.min(t + step, data.T); i++) {
        if (data.levels[base + i] < data.levels[base + least]) least = i;
        if (data.levels[base + i] > data.levels[base + most]) most = i;
      }
      push(Math.min(least, most));
      if (least !== most) push(Math.max(least, most));
    }
  }
  return rows;
}
