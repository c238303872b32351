"use strict";
// Tables that are wider than the page become cards, whose cells say what column they are of; no longer, when there is room.
(() => {
  const tables = [...document.querySelectorAll("article table")].filter((table) => table.tHead);
  for (const table of tables) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    // What is laid out as blocks stays a table for screen readers.
    table.setAttribute("role", "table");
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      [...row.cells].forEach((cell, i) => {
        cell.setAttribute("role", cell.tagName === "TH" ? "columnheader" : "cell");
        if (cell.tagName === "TD" && names[i]) cell.dataset.label = names[i];
      });
    }
  }
  const fit = () => {
    for (const table of tables) {
      table.classList.remove("cards");
      const room = table.parentElement.clientWidth;
      table.classList.toggle("cards", innerWidth < 1000 && table.scrollWidth > room + 1);
    }
  };
  fit();
  addEventListener("resize", fit);
  for (const fold of document.querySelectorAll("details")) fold.addEventListener("toggle", fit);
})();
