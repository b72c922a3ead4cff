// The viewer of an image page. What there is to show is asked for, and shown as the server draws it, while the library, which is large, is still on its way.
import { fetchFrames, showPicture } from "./viewer-early.js";
import { words } from "./words.js";

const root = document.querySelector("[data-viewer]");

// As the page announces it in its head, so that it has already been asked for.
async function ask(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(words("The server did not say what there is to show."));
  return answer.json();
}

async function start() {
  const library = import("./viewer-page.js");
  // Its failure is told below, when what there is to show has come too.
  library.catch(() => {});
  const told = await ask(root.dataset.viewer);
  let early = new Map();
  if (told.displays.length) {
    showPicture(root, told);
    early = fetchFrames(told);
  }
  const { open } = await library;
  await open(root, told, early);
}

if (root) {
  root.dataset.state = "loading";
  start().catch((error) => {
    root.hidden = true;
    root.dataset.state = "failed";
    const box = document.querySelector("[data-viewer-picture]");
    const picture = root.querySelector("img.viewer-first");
    if (picture) {
      picture.removeAttribute("class");
      picture.removeAttribute("style");
      box.querySelector("[data-picture]").prepend(picture);
    }
    if (box) box.hidden = false;
    const note = document.createElement("p");
    note.className = "card-body m-0 text-secondary";
    note.setAttribute("role", "alert");
    note.textContent = words("The viewer could not start (%(error)s); this is the picture that the server draws.", { error: error.message });
    root.after(note);
  });
}
