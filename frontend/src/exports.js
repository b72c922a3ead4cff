// Shows how far a download is and stops it. The file itself is an ordinary download: the browser writes it to its disk, and
// without this script everything but the numbers is the same.

import { size } from "./numbers.js";
import { words, written } from "./words.js";

const PAUSE_MS = 400;
// Counting comes before the first byte, and may take a while.
const MOST_MISSES = 50;

function nameOfDownload() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

class Line {
  constructor(place, title, name) {
    this.title = title;
    this.name = name;
    this.element = document.createElement("div");
    this.element.className = "export-line";
    this.bar = document.createElement("progress");
    this.bar.className = "progress";
    this.bar.ariaLabel = words("Export %(title)s", { title });
    this.numbers = document.createElement("span");
    this.numbers.textContent = words("%(title)s: counting…", { title });
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "btn btn-sm";
    this.button.textContent = words("Cancel");
    this.button.ariaLabel = words("Cancel the export %(title)s", { title });
    this.button.addEventListener("click", () => this.stop());
    this.element.append(this.bar, this.numbers, this.button);
    // Only the beginning and the end are read out.
    this.spoken = document.createElement("span");
    this.spoken.className = "visually-hidden";
    this.spoken.role = "status";
    place.append(this.element, this.spoken);
    this.spoken.textContent = words("The export %(title)s has begun.", { title });
  }

  async stop() {
    // A button that is switched off would lose the focus.
    if (this.button.ariaDisabled === "true") return;
    this.button.ariaDisabled = "true";
    const token = document.querySelector("meta[name=csrf-token]").content;
    const body = new URLSearchParams({ csrf_token: token, name: this.name });
    try {
      await fetch("/search/stop", { method: "POST", body });
    } catch {
      this.button.ariaDisabled = "false";
    }
  }

  show(found) {
    if (found.total === null) return;
    this.bar.max = Math.max(1, found.total);
    this.bar.value = found.done;
    this.numbers.textContent = words("%(title)s: %(done)s of %(all)s, %(size)s", { title: this.title, done: written(found.done), all: found.all, size: size(found.octets) });
  }

  end(text) {
    const focused = document.activeElement === this.button;
    this.bar.remove();
    this.button.remove();
    this.numbers.textContent = text;
    this.spoken.textContent = text;
    if (focused) {
      this.numbers.tabIndex = -1;
      this.numbers.focus();
    }
  }

  // Gives true while there is more to come.
  follow(found) {
    if (found.state === "running") {
      this.show(found);
      return true;
    }
    if (found.state === "done") {
      this.end(words("%(title)s: done, %(all)s, %(size)s. The browser has put the file with its downloads.", { title: this.title, all: found.all, size: size(found.octets) }));
    } else if (found.state === "stopped") {
      this.end(words("%(title)s: cancelled; there is no complete file.", { title: this.title }));
    } else {
      this.end(words("%(title)s: something went wrong on the way; the file is not complete.", { title: this.title }));
    }
    return false;
  }
}

async function follow(line) {
  for (let misses = 0; misses < MOST_MISSES; ) {
    await pause();
    try {
      const answer = await fetch(`/search/progress?name=${line.name}`, { headers: { "X-Requested-With": "XMLHttpRequest" } });
      if (answer.ok) {
        misses = 0;
        if (!line.follow(await answer.json())) return;
        continue;
      }
    } catch {
      // The server may be there again the next time.
    }
    misses += 1;
  }
  line.end(words("%(title)s: the server does not tell how far it is; look into the downloads of the browser.", { title: line.title }));
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-export]");
  if (!link) return;
  const name = nameOfDownload();
  const address = new URL(link.href);
  address.searchParams.set("name", name);
  link.href = address.href;
  follow(new Line(link.closest("form, section, article").querySelector("[data-exports]"), link.dataset.export, name));
});
