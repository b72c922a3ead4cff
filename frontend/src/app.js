import htmx from "htmx.org";

import { watchRows } from "./rows.js";
import { plural } from "./words.js";

// A fragment that could not be fetched leaves the page as it is; the next one comes by itself.
htmx.config.noSwap.push("4xx", "5xx");
// What a person unfolded stays unfolded.
htmx.config.morphIgnore.push("open");

const two = (number) => String(number).padStart(2, "0");

// How dates and times are written: as chosen on the page "Appearance".
function written(moment, form, clockOnly) {
  if (form === "utc") return clockOnly ? `${moment.toISOString().slice(11, 16)} UTC` : `${moment.toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const [year, month, day] = [moment.getFullYear(), two(moment.getMonth() + 1), two(moment.getDate())];
  const [hour, minute] = [moment.getHours(), two(moment.getMinutes())];
  const clock = form === "us" ? `${hour % 12 || 12}:${minute} ${hour < 12 ? "AM" : "PM"}` : `${two(hour)}:${minute}`;
  if (clockOnly) return clock;
  const date = { eu: `${day}.${month}.${year}`, us: `${month}/${day}/${year}` }[form] ?? `${year}-${month}-${day}`;
  return `${date} ${clock}`;
}

function showLocalTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.textContent = written(moment, document.documentElement.dataset.dates, "clock" in time.dataset);
    time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
  }
}

// The cookie of the page "Appearance": theme, density, dates and language.
function toggleTheme() {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.bsTheme = dataset.bsTheme === "dark" ? "light" : "dark";
  const secure = window.location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `dicomweb_look=${[dataset.theme, dataset.density, dataset.dates, dataset.language].join(".")}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
}

// Shows the rows that contain the words; a sequence is shown, and unfolded, when something in it does.
function filterRows(body, wanted) {
  let shown = 0;
  for (const row of body.rows) {
    let found = 0;
    const nested = row.querySelectorAll(":scope > td > details > table > tbody[data-rows]");
    for (const inner of nested) {
      const within = filterRows(inner, wanted);
      inner.parentElement.hidden = within === 0;
      found += within;
    }
    const cells = [...row.cells].map((cell) => (cell.querySelector(":scope > details > table") ? "" : cell.textContent));
    const itself = cells.join(" ").toLowerCase().includes(wanted);
    if (itself && nested.length && wanted) {
      for (const inner of nested) {
        inner.parentElement.hidden = false;
        filterRows(inner, "");
      }
    }
    row.hidden = !(itself || found);
    const details = row.querySelector(":scope > td > details");
    if (details && nested.length) details.open = Boolean(wanted) && found > 0;
    if (!row.hidden) shown += 1;
  }
  return shown;
}

function watchFilter(input) {
  const tables = input.dataset.filter.split(" ").map((id) => document.getElementById(id)).filter(Boolean);
  if (!tables.length) return;
  input.closest("[data-filter-form]")?.removeAttribute("hidden");
  const count = document.getElementById("filter-count");
  const empty = document.querySelector("[data-filter-empty]");
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const table of tables) for (const body of table.tBodies) shown += filterRows(body, wanted);
      if (empty) empty.hidden = shown > 0;
      count.textContent = wanted ? plural("%(n)s field contains this", "%(n)s fields contain this", shown) : "";
    }, 80);
  });
}

function watchPicture(figure) {
  const image = figure.querySelector("img");
  const failed = async () => {
    const note = figure.querySelector("[data-picture-error]");
    image.hidden = true;
    note.hidden = false;
    try {
      const answer = await fetch(image.src);
      if (!answer.ok && answer.headers.get("Content-Type")?.startsWith("text/plain")) {
        note.querySelector("span").textContent = await answer.text();
      }
    } catch {
      // The note says enough.
    }
  };
  image.addEventListener("error", failed);
  if (image.complete && image.naturalWidth === 0) failed();
}

// What is no image has no small picture. The event does not bubble, and rows come and go.
function hideMissingThumbnails() {
  document.addEventListener("error", ({ target }) => {
    if (target instanceof HTMLImageElement && "thumbnail" in target.dataset) target.hidden = true;
  }, { capture: true });
  for (const image of document.querySelectorAll("img[data-thumbnail]")) image.hidden = image.complete && image.naturalWidth === 0 && image.currentSrc !== "";
}

function start() {
  hideMissingThumbnails();
  showLocalTimes(document);
  const toggle = document.querySelector("[data-theme-toggle]");
  if (toggle) {
    toggle.hidden = false;
    toggle.addEventListener("click", toggleTheme);
  }
  document.querySelectorAll("input[data-filter]").forEach(watchFilter);
  document.querySelectorAll("[data-picture]").forEach(watchPicture);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const input = document.querySelector("input[data-filter]");
    if (input) {
      event.preventDefault();
      input.focus();
    }
  });
  document.addEventListener("htmx:after:swap", () => showLocalTimes(document));
  watchRows();
}

start();
