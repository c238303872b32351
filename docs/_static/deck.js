"use strict";
// Arrow keys, space, Page Up and Down, Home and End; a swipe; the number of the slide is in the address.
(() => {
  const slides = [...document.querySelectorAll(".slide")];
  let now = 0;
  const show = (index) => {
    now = Math.min(Math.max(index, 0), slides.length - 1);
    slides.forEach((slide, i) => slide.classList.toggle("now", i === now));
    history.replaceState(null, "", `#${now + 1}`);
    scrollTo(0, 0);
  };
  const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1,
    Home: -slides.length, End: slides.length };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in steps)) return;
    event.preventDefault();
    show(now + steps[event.key]);
  });
  let touched = null;
  addEventListener("touchstart", (event) => {
    touched = event.target.closest("pre, table, .picture") ? null : event.changedTouches[0].clientX;
  }, { passive: true });
  addEventListener("touchend", (event) => {
    const moved = touched === null ? 0 : event.changedTouches[0].clientX - touched;
    if (Math.abs(moved) > 50) show(now + (moved < 0 ? 1 : -1));
    touched = null;
  }, { passive: true });
  addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1 || 0));
  document.documentElement.classList.add("running");
  show(Number(location.hash.slice(1)) - 1 || 0);
})();
