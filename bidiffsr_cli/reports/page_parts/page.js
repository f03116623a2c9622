"use strict";
// The slider, the choice of views and the magnifier of each picture. Without it all views stand side by side.
document.documentElement.classList.add("js");
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".picture").forEach(start));

const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function start(picture) {
  const find = (selector) => picture.querySelector(selector);
  const stage = find(".stage"), divider = find(".divider"), frame = find(".frame"), place = find(".magnifier .place");
  const views = [...stage.querySelectorAll(".view")];
  const images = views.map((view) => view.querySelector("img"));
  const labels = views.map((view) => view.querySelector("figcaption").textContent);
  const loupes = [...picture.querySelectorAll("canvas")];
  const [left, right] = picture.querySelectorAll("select");
  const { width, height, size } = Object.fromEntries(Object.entries(stage.dataset).map(([k, v]) => [k, Number(v)]));
  let at = 50, dragging = false; // per cent of the width that show the left view

  // Which views lie left and right of the divider.
  function choose() {
    views.forEach((view, index) => {
      view.classList.toggle("left", index === left.selectedIndex);
      view.classList.toggle("right", index === right.selectedIndex);
    });
    slide(at);
  }

  function slide(percent) {
    at = clamp(percent, 0, 100);
    stage.style.setProperty("--at", `${at}%`);
    divider.setAttribute("aria-valuenow", Math.round(at));
    const told = `${Math.round(at)} % ${labels[left.selectedIndex]}, the rest ${labels[right.selectedIndex]}`;
    divider.setAttribute("aria-valuetext", told);
  }

  // Show the square around a pixel of the picture in all magnifiers.
  function magnify(x, y) {
    const from = [clamp(Math.round(x - size / 2), 0, width - size), clamp(Math.round(y - size / 2), 0, height - size)];
    frame.style.left = `${(100 * from[0]) / width}%`;
    frame.style.top = `${(100 * from[1]) / height}%`;
    place.textContent = `x ${from[0]}, y ${from[1]}`;
    loupes.forEach((loupe, index) => {
      loupe.getContext("2d").drawImage(images[index], ...from, size, size, 0, 0, size, size);
    });
  }

  function follow(event) {
    const box = stage.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (dragging) slide(100 * x);
    magnify(x * width, y * height);
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault(); // no dragging of images, no selection of text
    stage.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    dragging = true;
    follow(event);
  });
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("lostpointercapture", () => { dragging = false; });
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    slide(at + KEYS[event.key]);
  });
  left.addEventListener("change", choose);
  right.addEventListener("change", choose);
  for (const button of picture.querySelectorAll("button[data-x]")) {
    button.addEventListener("click", () => magnify(Number(button.dataset.x), Number(button.dataset.y)));
  }

  stage.style.setProperty("--ratio", width / height);
  frame.style.width = `${(100 * size) / width}%`;
  frame.style.height = `${(100 * size) / height}%`;
  choose();
  const first = find("button[data-x]");
  const begin = () => magnify(first ? Number(first.dataset.x) : width / 2, first ? Number(first.dataset.y) : height / 2);
  if (document.readyState === "complete") begin();
  else window.addEventListener("load", begin); // pictures are there only then
}
