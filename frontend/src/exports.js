// Shows how far a download is and stops it. The file itself is an ordinary download: the browser writes it to its disk, and
// without this script everything but the numbers is the same.

import { counted, size } from "./numbers.js";

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
    this.bar.ariaLabel = `Export ${title}`;
    this.numbers = document.createElement("span");
    this.numbers.textContent = `${title}: counting…`;
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "btn btn-sm";
    this.button.textContent = "Cancel";
    this.button.ariaLabel = `Cancel the export ${title}`;
    this.button.addEventListener("click", () => this.stop());
    this.element.append(this.bar, this.numbers, this.button);
    // Only the beginning and the end are read out.
    this.spoken = document.createElement("span");
    this.spoken.className = "visually-hidden";
    this.spoken.role = "status";
    place.append(this.element, this.spoken);
    this.spoken.textContent = `The export ${title} has begun.`;
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
    this.numbers.textContent = `${this.title}: ${counted.format(found.done)} of ${counted.format(found.total)} ${found.words}, ${size(found.octets)}`;
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
      this.end(`${this.title}: done, ${counted.format(found.total)} ${found.words}, ${size(found.octets)}. The browser has put the file with its downloads.`);
    } else if (found.state === "stopped") {
      this.end(`${this.title}: cancelled; there is no complete file.`);
    } else {
      this.end(`${this.title}: something went wrong on the way; the file is not complete.`);
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
  line.end(`${line.title}: the server does not tell how far it is; look into the downloads of the browser.`);
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
