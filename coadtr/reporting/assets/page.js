/* ---- Choosing ---- */
function swatch(k) {
  const space = "http://www.w3.org/2000/svg";
  const image = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "line");
  for (const [name, value] of Object.entries({ width: 26, height: 8, "aria-hidden": "true" })) image.setAttribute(name, value);
  const spaces = dash(k)[1] ? dash(k).join(" ") : "none";
  for (const [name, value] of Object.entries({ x1: 0, x2: 26, y1: 4, y2: 4, stroke: hue(k), "stroke-width": 3.5, "stroke-dasharray": spaces }))
    line.setAttribute(name, value);
  image.append(line);
  return image;
}
function boxes(place, names, { on, mark, changed }) {
  place.replaceChildren();
  names.forEach(({ value, name, note }) => {
    const label = make("label", undefined, place);
    const box = make("input", undefined, label);
    box.type = "checkbox";
    box.value = value;
    box.checked = on(value);
    box.addEventListener("change", () => changed(value, box.checked));
    if (mark) label.append(swatch(value));
    make("span", name, label);
    if (note) make("em", note, label);
  });
}
function legend() {
  const first = state.data[0]?.data;
  const counts = index.classes.map(() => 0);
  if (first) for (const all of first.truth) for (const k of all) counts[k]++;
  const items = index.classes.map((name, value) => ({
    value, name, note: counts[value] ? `${((100 * counts[value]) / first.T).toFixed(0)} %` : "",
  }));
  items.sort((a, b) => counts[b.value] - counts[a.value] || a.value - b.value);
  boxes($("legend").querySelector(".boxes"), items, {
    on: (k) => state.classes.has(k), mark: true,
    changed: (k, checked) => pick((set) => (checked ? set.add(k) : set.delete(k))),
  });
}
function pick(change) {
  change(state.classes);
  for (const box of $("legend").querySelectorAll("input")) box.checked = state.classes.has(Number(box.value));
  if (state.video) paint();
  say();
}
/* The classes that the frames in view show or are taken for, longest first; background last. */
function inView() {
  const counts = new Map();
  for (const { data } of state.data)
    for (let t = Math.floor(state.low); t < Math.min(state.high, data.T); t++) for (const k of data.truth[t]) counts.set(k, (counts.get(k) ?? 0) + 1);
  const order = [...counts].sort((a, b) => b[1] - a[1]).map(([k]) => k);
  const actions = order.filter((k) => k !== index.background);
  return [...actions, ...order.filter((k) => k === index.background)];
}
function chooseClasses() {
  const all = [...$("classes").querySelectorAll("input")];
  chosen = all.every((box) => box.checked) ? null : all.filter((box) => box.checked).map((box) => index.classes[Number(box.value)]);
  for (const result of drawn.values()) if (result !== "drawing") choose(result);
}
function setAll(group, value) {
  if (group === "legend") {
    pick((set) => {
      set.clear();
      if (value === true) index.classes.forEach((_, k) => set.add(k));
      if (value === "some") inView().forEach((k) => set.add(k));
    });
  } else {
    for (const box of $(group).querySelectorAll("input")) box.checked = value;
    chooseClasses();
  }
}
for (const [name, value] of [["all", true], ["none", false], ["some", "some"]])
  for (const button of document.querySelectorAll(`[data-${name}]`)) button.addEventListener("click", () => setAll(button.dataset[name], value));

/* ---- Videos ---- */
async function open(place) {
  const video = index.videos[place];
  $("video").value = String(place);
  stage.setAttribute("aria-busy", "true");
  let data;
  try {
    data = await Promise.all(video.runs.map(async (entry) => ({ entry, data: await unpack(video, entry) })));
  } catch (error) {
    $("status").textContent = "The scores of this video could not be read.";
    console.error(error);
    return;
  }
  if ($("video").value !== String(place)) return; // another was picked meanwhile
  Object.assign(state, { video, data, low: 0, high: video.frames, cursor: null });
  state.classes = new Set(index.classes.length <= 8 ? index.classes.keys() : inView());
  legend();
  await build();
  stage.removeAttribute("aria-busy");
  stage.dataset.video = video.name;
  say();
}
function listVideos() {
  const picker = $("video");
  const group = (label, places) => {
    if (!places.length) return;
    const parent = make("optgroup", undefined, picker);
    parent.label = label;
    for (const place of places) {
      const video = index.videos[place];
      make("option", `${video.name} (${percent(video.accuracy)}, ${video.frames} frames)`, parent).value = String(place);
    }
  };
  const all = index.videos.map((_, place) => place);
  const known = all.filter((place) => index.videos[place].accuracy !== null);
  group("Worst first", all); // those of unknown accuracy last
  group("Best", known.slice(-5).reverse());
  picker.addEventListener("change", () => open(Number(picker.value)));
  const beside = (by) => {
    const at = Number(picker.value) + by;
    if (at >= 0 && at < all.length) open(at);
  };
  $("previous").addEventListener("click", () => beside(-1));
  $("next").addEventListener("click", () => beside(1));
}

/* ---- Light and dark, width ---- */
function setMode(next) {
  mode = next;
  document.documentElement.dataset.theme = mode;
  $("theme").setAttribute("aria-pressed", String(mode === "dark"));
  for (const key of document.querySelectorAll(".key")) key.style.background = hue(Number(key.dataset.run));
  boxes($("classes").querySelector(".boxes"), index.classes.map((name, value) => ({ value, name })), {
    on: (k) => chosen === null || chosen.includes(index.classes[k]), mark: true, changed: chooseClasses,
  });
}
function redraw() {
  legend();
  if (state.video) build();
  for (const [place, result] of drawn) if (result !== "drawing") draw(place);
}
$("theme").addEventListener("click", () => {
  setMode(mode === "dark" ? "light" : "dark");
  redraw();
});
dark.addEventListener("change", () => {
  setMode(dark.matches ? "dark" : "light");
  redraw();
});
let size = window.innerWidth;
let waiting = 0;
window.addEventListener("resize", () => {
  if (window.innerWidth === size) return; // a phone's address bar comes and goes
  size = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 200);
});

setMode(mode);
listVideos();
boxes($("runs-shown").querySelector(".boxes"), index.runs.map((run, value) => ({ value, name: named(value) })), {
  on: () => true,
  changed: (run, checked) => {
    if (checked) state.runs.add(run);
    else state.runs.delete(run);
    if (state.video) build();
    say();
  },
});
for (const place of document.querySelectorAll(".chart")) near.observe(place);
const ready = index.videos.length ? open(Number($("video").options[0].value)) : Promise.resolve();
ready.then(() => {
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
});
