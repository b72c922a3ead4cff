// The viewer of an image page. What there is to show is asked for while the library, which is large, is still on its way.
const root = document.querySelector("[data-viewer]");

async function ask(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error("The server did not say what there is to show.");
  return answer.json();
}

async function start() {
  const asked = ask(root.dataset.viewer);
  // Its failure is told below, when the library has come too.
  asked.catch(() => {});
  const { open } = await import("./viewer-page.js");
  await open(root, await asked);
}

if (root) {
  root.dataset.state = "loading";
  start().catch((error) => {
    root.hidden = true;
    root.dataset.state = "failed";
    const note = document.createElement("p");
    note.className = "card-body m-0 text-secondary";
    note.setAttribute("role", "alert");
    note.textContent = `The viewer could not start (${error.message}); this is the picture that the server draws.`;
    root.after(note);
  });
}
