// Lists: choosing rows, and walking through them with the keyboard. Without this script the boxes, buttons and links do the same.

import { plural } from "./words.js";

const typed = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

function boxesOf(form) {
  return [...form.elements].filter((element) => element.name === "batch");
}

// Says how many rows are ticked, and offers what can be done with them.
function showChosen() {
  const form = document.querySelector("[data-choose-bar]");
  if (!form) return;
  const boxes = boxesOf(form);
  const ticked = boxes.filter((box) => box.checked).length;
  const found = form.querySelector("[data-choose-found]");
  const all = document.querySelector("[data-choose-all]");
  const everything = Boolean(found?.checked) && ticked > 0;
  if (found && !ticked) found.checked = false;
  form.hidden = ticked === 0;
  const text = everything ? "" : plural("%(n)s batch ticked", "%(n)s batches ticked", ticked);
  const count = form.querySelector("[data-chosen-count]");
  if (count.textContent !== text) count.textContent = text;
  if (all) {
    all.hidden = boxes.length === 0;
    all.checked = ticked > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  }
}

function linksOfRows() {
  return [...document.querySelectorAll("table[data-row-keys] [data-row-link]")].filter((link) => link.getClientRects().length);
}

function walk(step) {
  const links = linksOfRows();
  if (!links.length) return false;
  const row = document.activeElement.closest("table[data-row-keys] tbody tr");
  const at = row ? links.findIndex((link) => row.contains(link)) : -1;
  const to = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step));
  links[to].focus();
  return true;
}

function tick() {
  const box = document.activeElement.closest("table[data-row-keys] tbody tr")?.querySelector("input[type=checkbox]");
  box?.click();
  return Boolean(box);
}

export function watchRows() {
  // An address says what was chosen, and nothing of what was not.
  document.addEventListener("formdata", (event) => {
    if (!event.target.matches("form.filters")) return;
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-choose-all]");
    if (all) for (const box of boxesOf(document.querySelector("[data-choose-bar]"))) box.checked = all.checked;
    if (all || event.target.name === "batch" || event.target.matches("[data-choose-found]")) showChosen();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typed(event.target)) return;
    const inRow = event.target.closest("table[data-row-keys] tbody tr");
    let done = false;
    if (event.key === "j" || (inRow && event.key === "ArrowDown")) done = walk(1);
    else if (event.key === "k" || (inRow && event.key === "ArrowUp")) done = walk(-1);
    else if (event.key === "x") done = tick();
    else if (event.key === "/") {
      const input = document.querySelector("input[data-slash]");
      input?.focus();
      done = Boolean(input);
    }
    if (done) event.preventDefault();
  });
  showChosen();
  // The browser may have kept the ticks of a page that it shows again, and a refresh may have taken ticked rows away.
  window.addEventListener("pageshow", showChosen);
  document.addEventListener("htmx:after:swap", showChosen);
}
