// Files that a person chose or dropped, with the paths that folders give them.

// Chromium gives the entries of a folder a hundred at a time.
async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}

async function* walk(entry, above) {
  const path = above + entry.name;
  if (entry.isFile) {
    try {
      yield { path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) };
    } catch {
      yield { path, file: null };
    }
  } else if (entry.isDirectory) {
    for (const inner of await entriesOf(entry)) yield* walk(inner, `${path}/`);
  }
}

// Gives {path, file}; file is null when it cannot be read. What was dropped can be asked for only before the first pause.
export function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = items.map((item) => item.getAsFile());
  return (async function* () {
    for (const [index, entry] of entries.entries()) {
      if (entry) yield* walk(entry, "");
      else if (files[index]) yield { path: files[index].name, file: files[index] };
    }
  })();
}

export function* picked(input) {
  for (const file of input.files) yield { path: file.webkitRelativePath || file.name, file };
}

function mixed(text, seed) {
  let one = 0xdeadbeef ^ seed;
  let two = 0x41c6ce57 ^ seed;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    one = Math.imul(one ^ code, 2654435761);
    two = Math.imul(two ^ code, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
  two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return (two >>> 0).toString(16).padStart(8, "0") + (one >>> 0).toString(16).padStart(8, "0");
}

// What a file is called towards the server: the same when the same file is chosen again in another tab or on another day.
export function keyOf(path, file) {
  const text = `${path}\0${file.size}\0${file.lastModified}`;
  return mixed(text, 1) + mixed(text, 2);
}
