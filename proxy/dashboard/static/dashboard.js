// What pages do in the browser besides asking for parts of themselves, which htmx does.
"use strict";

const offline = document.getElementById("offline");
let silentSince = null;

// A part that is asked for again and again is not asked for while nobody looks.
document.addEventListener("htmx:beforeRequest", (event) => {
  const repeated = (event.detail.elt.getAttribute("hx-trigger") || "").includes("every");
  if (repeated && document.hidden) event.preventDefault();
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
