// The viewer of an image page. What there is to show is asked for, and shown as the server draws it, while the library, which is large, is still on its way.
import { fetchFrames, showPicture } from "./viewer-early.js";
import { words } from "./words.js";

// How long the library waits for the server's picture.
const PICTURE_MS = 400;
const root = document.querySelector("[data-viewer]");

// As the page announces it in its head, so that it has already been asked for.
async function ask(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(words("The server did not say what there is to show."));
  return answer.json();
}

async function start() {
  const told = await ask(root.dataset.viewer);
  let early = new Map();
  if (told.displays.length) {
    early = fetchFrames(told);
    // While the library starts nothing can be painted for up to a second. The page has already asked for it, so that waiting costs nothing else.
    await Promise.race([showPicture(root, told), new Promise((resolve) => setTimeout(resolve, PICTURE_MS))]);
  }
  const { open } = await import("./viewer-page.js");
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
