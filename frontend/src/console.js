// The console: history with the arrow keys, and each answer below the one before. The server does the rest; without this
// script the form loads the page with one answer.
import "./search.js";
import { words } from "./words.js";

const MOST_LINES = 200;
const MOST_ANSWERS = 100;

const form = document.querySelector("[data-console]");
const input = form.querySelector("input[name=line]");
const transcript = document.getElementById("transcript");
let place = 0;
let draft = "";

// What was asked may be patient data: it stays in this tab and ends with it.
function lines() {
  try {
    return JSON.parse(sessionStorage.getItem("console") ?? "[]");
  } catch {
    return [];
  }
}

function remember(line) {
  const known = lines().filter((one) => one !== line);
  try {
    sessionStorage.setItem("console", JSON.stringify([...known, line].slice(-MOST_LINES)));
  } catch {
    // Without storage there is no history.
  }
  place = 0;
}

function recall(step) {
  const known = lines();
  const next = Math.min(known.length, Math.max(0, place + step));
  if (next === place) return;
  if (place === 0) draft = input.value;
  place = next;
  input.value = place === 0 ? draft : known[known.length - place];
  input.setSelectionRange(input.value.length, input.value.length);
}

function follow(answer) {
  for (const name of ["q", "level", "columns"]) form.elements[name].value = answer.dataset[name];
  document.getElementById("console-level").textContent = answer.dataset.level;
}

async function run(line) {
  const parameters = new URLSearchParams(new FormData(form));
  parameters.set("line", line);
  // What is shared, or shown again on the way back, has the last answer.
  window.history.replaceState(null, "", `/console?${parameters}`);
  const answer = await fetch(`/console/answer?${parameters}`, { headers: { "HX-Request": "true" } });
  if (answer.headers.get("HX-Refresh")) {
    window.location.reload();
    return;
  }
  if (!answer.ok) throw new Error(answer.statusText);
  const template = document.createElement("template");
  template.innerHTML = await answer.text();
  const article = template.content.querySelector("article");
  transcript.append(article);
  follow(article);
  article.scrollIntoView({ block: "start" });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const line = input.value.trim();
  if (!line || form.ariaBusy === "true") return;
  remember(line);
  input.value = "";
  if (line === "clear") {
    transcript.replaceChildren();
    window.history.replaceState(null, "", "/console");
    return;
  }
  form.ariaBusy = "true";
  try {
    await run(line);
    while (transcript.children.length > MOST_ANSWERS) transcript.firstElementChild.remove();
  } catch {
    const note = document.createElement("article");
    note.className = "console-answer text-danger";
    note.textContent = words("The server did not answer; try again.");
    transcript.append(note);
  } finally {
    form.ariaBusy = "false";
    input.focus({ preventScroll: true });
  }
});

input.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  event.preventDefault();
  recall(event.key === "ArrowUp" ? 1 : -1);
});

transcript.addEventListener("click", (event) => {
  const button = event.target.closest("[data-line]");
  if (!button) return;
  input.value = button.dataset.line;
  form.requestSubmit();
});
