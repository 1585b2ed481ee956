// The page: what was asked for is opened, and what goes wrong is said.

import { keepToken, opened, streamAddress, token } from "./access.js";
import { Chooser } from "./chooser.js";
import { Player } from "./player.js";
import { openFile, openWebcam } from "./sources.js";
import { View } from "./view.js";
import { Watcher } from "./watch.js";
import { $ } from "./words.js";

const UNAUTHORISED = 4401;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/; // as the server has it
const view = new View();
let source = null; // a watcher or a player

function leave() {
  source?.close();
  source = null;
  view.close();
  chooser.close();
  complain(null);
  $("token-form").hidden = true;
  for (const id of ["state", "leave"]) $(id).hidden = true;
}

/* ---- What goes wrong ---- */
function complain(words, again) {
  $("notice").hidden = words === null;
  $("notice-words").textContent = words ?? "";
  $("again").hidden = !again;
  $("again").onclick = again ?? null;
}

// The server does not take this connection, and another try would not help. again(): what the user may do.
function refused({ code, reason }, again) {
  if (code === UNAUTHORISED) return askToken(again);
  view.say("error", "Stopped");
  return complain(`The server closed the connection: ${reason || `code ${code}`}.`, again);
}

function askToken(next) {
  leave();
  $("token-form").hidden = false;
  $("token-words").textContent = token() ? "The server does not take that token." : "This server asks for a token.";
  keepToken(null);
  $("token").value = "";
  $("token").focus();
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    keepToken($("token").value.trim());
    next();
  };
}

/* ---- What is shown ---- */
function show(title, own) {
  leave();
  document.title = `${title} · coadtr`;
  for (const id of ["state", "leave"]) $(id).hidden = false;
  $("controls").hidden = true;
  $("origin").textContent = "";
  $("share").hidden = true;
  view.open(title, own);
}

function choose() {
  leave();
  document.title = "coadtr";
  chooser.open();
}

function watch(name) {
  if (!NAME.test(name)) {
    choose();
    complain(`${name} cannot name a stream: use 1 to 64 letters, digits, _ . -`);
    return;
  }
  show(name, false);
  source = new Watcher(name, {
    hello: (told) => view.hello(told),
    answer: (told) => view.answer(told),
    picture: (_, bytes) => view.picture(bytes),
    live: (told) => view.live(told),
    end: (told) => view.end(told),
    lost: () => view.lost(),
    over: (closing) => refused(closing, () => watch(name)),
  });
}

async function play(open, { title, file, again }) {
  complain(null);
  const name = `${file ? "file" : "webcam"}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  let opening;
  try {
    opening = await open($("video"));
  } catch (error) {
    complain(error.message);
    return;
  }
  show(title, true);
  history.pushState(null, "", location.pathname);
  $("shared").href = streamAddress(name);
  $("shared").textContent = name;
  $("share").hidden = false;
  source = new Player(view, name, opening, { file, over: (closing) => refused(closing, again) });
}

const chooser = new Chooser({
  watch: (name) => {
    history.pushState(null, "", streamAddress(name));
    watch(name);
  },
  webcam: startWebcam,
  file: startFile,
  refused: () => askToken(choose),
});

function startWebcam() {
  return play(openWebcam, { title: "Webcam", file: false, again: startWebcam });
}

function startFile(file) {
  return play((video) => openFile(video, file), { title: file.name, file: true, again: () => startFile(file) });
}

function route() {
  const name = opened();
  if (name) watch(name);
  else choose();
}

/* ---- Light and dark ---- */
const dark = matchMedia("(prefers-color-scheme: dark)");

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", String(theme === "dark"));
  view.recolour();
}

$("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
setTheme(dark.matches ? "dark" : "light");

$("leave").addEventListener("click", () => {
  history.pushState(null, "", location.pathname);
  choose();
});
addEventListener("popstate", route);
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", ({ persisted }) => persisted && route()); // back to a page that was left and kept
route();
