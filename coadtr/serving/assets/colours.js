// Colours of the classes, by their place: a class looks the same whenever it is shown, and as in `coadtr report`.
//
// There are sixteen hues (style.css). Where two classes that are shown have the same, or relatives, the second is
// dashed: colour never speaks alone.

const HUES = 16;
const FAMILIES = [0, 1, 2, 3, 1, 5, 6, 2]; // ochre is near orange, grey near green; the next eight are like these
const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];

const family = (place) => FAMILIES[place % FAMILIES.length];

// Dashes of a class beside others that are shown: by place, those that they have.
export function dashBeside(place, others) {
  const taken = [...others].filter(([other]) => family(other) === family(place)).map(([, dashes]) => dashes);
  return DASHES.find((dashes) => !taken.includes(dashes)) ?? DASHES[0];
}

// For a style; it follows when the page turns dark.
export const hue = (place) => (place < 0 ? "var(--faint)" : `var(--hue-${place % HUES})`);

// For a canvas, which takes no variables.
export function palette() {
  const probe = document.createElement("span");
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const hues = Array.from({ length: HUES }, (_, place) => read(`hue-${place}`));
  const [ink, faint, line, paper] = ["ink", "faint", "line", "paper"].map(read);
  probe.remove();
  const { fontFamily: font } = getComputedStyle(document.body);
  return { ink, faint, line, paper, font, of: (place) => (place < 0 ? faint : hues[place % HUES]) };
}

// A short line as the timeline draws it.
export function swatch(place, dashes) {
  const space = "http://www.w3.org/2000/svg";
  const image = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "line");
  const set = (element, values) => {
    for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
  };
  set(image, { width: 22, height: 8, "aria-hidden": "true" });
  set(line, { x1: 1, x2: 21, y1: 4, y2: 4, "stroke-width": 3, "stroke-dasharray": dashes.join(" ") || "none" });
  line.style.stroke = hue(place);
  image.append(line);
  return image;
}
