// What pages do in the browser besides asking for parts of themselves, which htmx does.
"use strict";

const offline = document.getElementById("offline");
let silentSince = null;

// A part that is asked for again and again is not asked for while nobody looks.
const repeated = (part) => (part.getAttribute("hx-trigger") || "").includes("every");
document.addEventListener("htmx:beforeRequest", (event) => {
  if (repeated(event.detail.elt) && document.hidden) event.preventDefault();
});

// When it is replaced, its reader keeps what they had: the focus, what they opened, and how far they
// moved a wide table. What stands at the same place is taken for the same.
let kept = null;
const held = (part) => ({
  focusable: [...part.querySelectorAll("a, summary, [tabindex]")],
  openable: [...part.querySelectorAll("details")],
  movable: [...part.querySelectorAll(".scroll")],
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { focusable, openable, movable } = held(event.detail.target);
  kept = {
    focused: focusable.indexOf(document.activeElement),
    open: openable.map((each) => each.open),
    moved: movable.map((each) => each.scrollLeft),
  };
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (!repeated(event.detail.target)) return;
  const { focusable, openable, movable } = held(event.detail.target);
  openable.forEach((each, place) => { each.open = kept.open[place] ?? each.open; });
  movable.forEach((each, place) => { each.scrollLeft = kept.moved[place] ?? 0; });
  focusable[kept.focused]?.focus({ preventScroll: true });
});

// No answer at all: say so, and for how long, instead of showing old numbers as if they were new.
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, () => {
    silentSince ??= new Date();
    const since = silentSince.toLocaleTimeString();
    offline.textContent = `The proxy does not answer since ${since}. What you see is from before; this page keeps trying.`;
    offline.hidden = false;
  });
}
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.xhr.status > 0) {
    silentSince = null;
    offline.hidden = true;
  }
});

// Where the sections are a row that is too long, the one that is open is in sight.
document.querySelector(".sections [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  localStorage.setItem("theme", next);
});

// A slider or a box shows its value beside it: <output for="its id">.
document.addEventListener("input", (event) => {
  const shown = event.target.id && document.querySelector(`output[for="${event.target.id}"]`);
  if (shown) shown.value = event.target.value;
});
