// Completion for inputs with data-complete: an ARIA combobox (https://www.w3.org/WAI/ARIA/apg/patterns/combobox/). The server
// knows the language, the dictionary and the values; without this script the box is an ordinary text field.

import "./exports.js";
import { plural, words } from "./words.js";

const WAIT_MS = 80;

// The server counts characters, JavaScript counts UTF-16 units.
const unitsOf = (text, characters) => [...text].slice(0, characters).join("").length;
const charactersOf = (text, units) => [...text.slice(0, units)].length;

class Completion {
  constructor(input, list, status) {
    this.input = input;
    this.list = list;
    this.status = status;
    this.found = null;
    this.text = "";
    this.active = -1;
    this.waiting = 0;
    this.asked = 0;
    input.addEventListener("input", () => {
      // Whoever types on has not taken what was chosen.
      this.choose(-1);
      this.askSoon();
    });
    input.addEventListener("click", () => this.askSoon());
    input.addEventListener("keydown", (event) => this.press(event));
    input.addEventListener("blur", () => this.close());
    list.addEventListener("mousedown", (event) => {
      // The focus stays in the box.
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.take(Number(option.dataset.index));
    });
  }

  get isOpen() {
    return !this.list.hidden;
  }

  wantsFields(text) {
    const kind = this.input.dataset.complete;
    return kind === "fields" || (kind === "console" && /^(facet|columns)\s/.test(text));
  }

  askSoon() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.ask(), WAIT_MS);
  }

  async ask() {
    const text = this.input.value;
    if (!text && this.input.dataset.history) return;
    const cursor = charactersOf(text, this.input.selectionStart ?? text.length);
    const asked = ++this.asked;
    const parameters = new URLSearchParams({ cursor: String(cursor) });
    if (text) parameters.set("text", text);
    if (this.wantsFields(text)) parameters.set("only", "fields");
    try {
      const answer = await fetch(`/api/complete?${parameters}`, { headers: { "X-Requested-With": "XMLHttpRequest" } });
      const found = answer.ok ? await answer.json() : null;
      // Closed meanwhile, asked again, or left.
      if (!found || asked !== this.asked || document.activeElement !== this.input) return;
      this.show(found, text);
    } catch {
      // Without the server there is nothing to offer; the box goes on as a text field.
      this.close();
    }
  }

  show(found, text) {
    // What the arrows have reached stays chosen, when an answer comes late and still offers it.
    const chosen = this.found?.options[this.active]?.text;
    this.found = found;
    this.text = text;
    this.active = -1;
    this.list.replaceChildren(
      ...found.options.map((option, index) => {
        const item = document.createElement("li");
        item.id = `${this.list.id}-${index}`;
        item.role = "option";
        item.dataset.index = String(index);
        item.ariaSelected = "false";
        const label = document.createElement("span");
        label.className = "completion-label";
        label.textContent = option.label;
        const help = document.createElement("span");
        help.className = "completion-help";
        help.textContent = option.help;
        item.append(label, help);
        return item;
      }),
    );
    this.list.hidden = found.options.length === 0;
    this.input.ariaExpanded = String(this.isOpen);
    this.status.textContent = this.isOpen ? plural("%(n)s suggestion; the arrow keys choose", "%(n)s suggestions; the arrow keys choose", found.options.length) : "";
    this.choose(found.options.findIndex((option) => option.text === chosen));
  }

  close() {
    clearTimeout(this.waiting);
    this.asked += 1;
    this.list.hidden = true;
    this.choose(-1);
    this.input.ariaExpanded = "false";
    this.status.textContent = "";
  }

  // The index of an option, or -1 for what was typed.
  choose(index) {
    const items = this.list.children;
    if (this.active >= 0) items[this.active].ariaSelected = "false";
    this.active = index;
    if (index < 0) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    items[index].ariaSelected = "true";
    items[index].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", items[index].id);
  }

  move(step) {
    // One place more than there are options: from the last one the arrow leads back to what was typed.
    const places = this.list.children.length + 1;
    this.choose(((this.active + 1 + step + places) % places) - 1);
  }

  with(index) {
    const text = this.input.value;
    const before = text.slice(0, unitsOf(text, this.found.start)) + this.found.options[index].text;
    return { before, whole: before + text.slice(unitsOf(text, this.found.end)) };
  }

  // Tab leaves the box when there is nothing to complete.
  adds(index) {
    return this.with(index).whole !== this.input.value;
  }

  take(index) {
    // These are suggestions for what was typed before.
    if (this.text !== this.input.value) {
      this.ask();
      return;
    }
    const { before, whole } = this.with(index);
    this.input.value = whole;
    this.input.setSelectionRange(before.length, before.length);
    this.close();
    this.input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (!this.isOpen) {
      if (event.key === "ArrowDown" && !this.input.dataset.history) {
        event.preventDefault();
        this.ask();
      }
      // What was asked for a moment ago must not open over the answer.
      if (event.key === "Enter" || event.key === "Escape" || event.key === "Tab") this.close();
      return;
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" && this.active >= 0) this.take(this.active);
    else if (event.key === "Tab" && !event.shiftKey && this.adds(Math.max(0, this.active))) this.take(Math.max(0, this.active));
    else if (event.key === "Escape") this.close();
    else {
      if (event.key === "Enter") this.close();
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}

function complete(input) {
  const list = document.createElement("ul");
  list.id = `${input.id}-completion`;
  list.className = "completion";
  list.role = "listbox";
  list.ariaLabel = words("Suggestions");
  list.hidden = true;
  const status = document.createElement("p");
  status.className = "visually-hidden";
  status.role = "status";
  input.after(list, status);
  input.role = "combobox";
  input.ariaExpanded = "false";
  input.ariaAutoComplete = "list";
  input.setAttribute("aria-controls", list.id);
  new Completion(input, list, status);
}

function completeAll() {
  document.querySelectorAll("input[data-complete]:not([role=combobox])").forEach(complete);
}

// Says how many rows are ticked, and offers what can be done with them.
function watchRows() {
  const bar = document.querySelector("[data-rows-bar]");
  if (!bar) return;
  const form = document.getElementById("rows-form");
  const boxes = [...document.querySelectorAll("input[name=row]")];
  const all = document.querySelector("[data-check-all]");
  const compare = bar.querySelector("[data-compare]");
  const count = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    bar.hidden = ticked === 0;
    bar.querySelector("[data-chosen-count]").textContent = plural("%(n)s row ticked", "%(n)s rows ticked", ticked);
    form.querySelector("[data-chosen]").textContent = ticked ? ` (${ticked})` : "";
    form.elements.on.value = ticked ? "rows" : "found";
    if (compare) compare.disabled = ticked !== 2;
    all.checked = ticked > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  };
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    count();
  });
  for (const box of boxes) box.addEventListener("change", count);
  // The browser may have kept the ticks of a page that it shows again.
  count();
  window.addEventListener("pageshow", count);
}

function start() {
  completeAll();
  document.addEventListener("htmx:after:swap", completeAll);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const input = document.querySelector("input[data-complete]");
    if (input) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });
  watchRows();
}

start();
