// Sends files one by one, a few at a time, by the tus protocol. A file that fits into one request is one request. What is sent is
// known to the server by a key that the browser computes from path, size and time, so that a page that is opened again, and given
// the same files, sends only what is missing.

import { Upload } from "tus-js-client";
import { dropped, keyOf, picked } from "./chosen.js";
import { size } from "./numbers.js";
import { plural, words, written } from "./words.js";

const AT_ONCE = 4;
const REDRAW_MS = 200;
const RATE_MS = 8000;
const LONGEST_PAUSE_MS = 10000;
// A file that fails so often while the server answers waits for a person.
const MOST_TRIES = 4;
const MOST_SHOWN = 500;
// Answers after which trying again makes sense; 0: there was none.
const PASSING = new Set([0, 408, 409, 423, 429, 460, 500, 502, 503, 504]);

const root = document.getElementById("upload");
const part = (name) => root.querySelector(`[data-${name}]`);
const show = (element, shown = true) => {
  element.hidden = !shown;
};

class Session {
  constructor(key) {
    this.token = document.querySelector("meta[name=csrf-token]").content;
    this.key = key;
  }

  get address() {
    return `/upload/${this.key}`;
  }

  get headers() {
    return { "X-CSRF-Token": this.token };
  }

  async ask(path, method = "GET", content = undefined) {
    const headers = { ...this.headers, Accept: "application/json", "Tus-Resumable": "1.0.0" };
    if (content !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: content === undefined ? undefined : JSON.stringify(content), cache: "no-store" });
    } catch {
      throw Object.assign(new Error(words("The server cannot be reached.")), { status: 0 });
    }
    const text = await answer.text();
    if (!answer.ok) throw Object.assign(new Error(sentence(answer.status, answer.headers.get("Content-Type"), text)), { status: answer.status });
    return text && answer.headers.get("Content-Type")?.startsWith("application/json") ? JSON.parse(text) : text;
  }

  // A new session of the browser has another token.
  async renew() {
    const answer = await fetch("/upload", { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    this.token = page.querySelector("meta[name=csrf-token]")?.content ?? this.token;
    return !answer.redirected;
  }
}

function sentence(status, kind, text) {
  if (kind?.startsWith("text/plain") && text.length < 300) return text;
  if (status === 401) return words("Your session has ended.");
  return status ? words("The server answered %(status)s.", { status }) : words("The server cannot be reached.");
}

class Sender {
  constructor() {
    this.session = new Session(root.dataset.key ?? null);
    this.items = new Map();
    this.waiting = [];
    this.active = new Set();
    // Those that are tried again in a moment.
    this.resting = new Set();
    this.failed = new Map();
    this.here = null;
    this.total = { files: 0, bytes: 0 };
    this.done = { files: 0, bytes: 0 };
    this.fresh = { files: 0, bytes: 0 };
    this.state = "choosing";
    this.lost = false;
    this.blocked = "";
    this.pause = 1000;
    this.samples = [];
    this.drawn = 0;
    this.spokenTenth = 0;
    this.limits = {
      files: Number(root.dataset.mostFiles),
      bytes: Number(root.dataset.mostBytes),
      file: Number(root.dataset.mostFile),
      room: Number(root.dataset.room),
    };
  }

  // --- What is chosen.

  async add(chosen) {
    if (this.session.key && this.here === null) {
      try {
        this.here = new Map((await this.session.ask(`${this.session.address}/files`)).map((file) => [file.key, file]));
      } catch (error) {
        this.notice(error.message);
        return;
      }
    }
    let count = 0;
    let again = 0;
    let found = 0;
    const refused = [];
    for await (const { path, file } of chosen) {
      count += 1;
      if (count % 200 === 0) {
        part("reading").textContent = plural("Reading: %(n)s file…", "Reading: %(n)s files…", count);
        await new Promise((resolve) => setTimeout(resolve));
      }
      const key = file && keyOf(path, file);
      if (this.items.has(key)) {
        again += 1;
        continue;
      }
      const known = this.here?.get(key);
      // What the server knows of it has counted already.
      const wrong = known ? "" : this.refusal(path, file);
      if (wrong) {
        refused.push(`${path}: ${wrong}`);
        continue;
      }
      const item = { key, path, file, size: file.size, sent: 0, state: "waiting", tries: 0, why: "", tus: null };
      this.items.set(key, item);
      this.total.files += 1;
      this.total.bytes += file.size;
      if (!known) {
        this.fresh.files += 1;
        this.fresh.bytes += file.size;
      }
      if (known) {
        item.address = `${this.session.address}/files/${known.id}`;
        this.progress(item, known.offset);
        if (known.offset === known.size) {
          found += 1;
          this.finish(item);
          continue;
        }
      }
      this.waiting.push(item);
    }
    const said = [];
    if (found) said.push(plural("%(n)s file is here already", "%(n)s files are here already", found));
    if (again) said.push(plural("%(n)s file had been chosen before", "%(n)s files had been chosen before", again));
    part("reading").textContent = said.length ? `${said.join("; ")}.` : count ? "" : words("Nothing was chosen: the folder is empty.");
    if (refused.length) this.notice(`${plural("%(n)s file cannot be uploaded.", "%(n)s files cannot be uploaded.", refused.length)} ${refused.slice(0, 3).join(" ")}${refused.length > 3 ? " …" : ""}`);
    else if (this.state === "choosing") this.notice("");
    if (this.state === "choosing") this.speak(plural("%(n)s file chosen, %(size)s.", "%(n)s files chosen, %(size)s.", this.total.files, { size: size(this.total.bytes) }));
    this.draw(true);
    if (this.state === "sending") this.pump();
  }

  refusal(path, file) {
    if (!file) return words("the browser cannot read it.");
    const most = path.toLowerCase().endsWith(".zip") ? this.limits.bytes : this.limits.file;
    if (file.size > most) return words("it has %(size)s, and at most %(most)s are taken.", { size: size(file.size), most: size(most) });
    if (this.fresh.files >= this.limits.files) return plural("an upload has at most %(n)s file.", "an upload has at most %(n)s files.", this.limits.files);
    if (this.fresh.bytes + file.size > this.limits.bytes) return words("an upload has at most %(size)s.", { size: size(this.limits.bytes) });
    if (this.fresh.bytes + file.size > this.limits.room) return words("only %(size)s fit on the disk.", { size: size(this.limits.room) });
    return "";
  }

  // --- Sending.

  async start() {
    if (!this.items.size) return;
    try {
      if (!this.session.key) {
        const asked = root.dataset.batch ? { batch: Number(root.dataset.batch) } : { name: document.getElementById("upload-name").value };
        const begun = await this.session.ask("/upload", "POST", asked);
        this.session.key = begun.key;
        this.here = new Map();
        // Loaded again, the page offers to go on.
        history.replaceState(null, "", begun.address);
      }
    } catch (error) {
      this.notice(error.message);
      return;
    }
    document.querySelector("[data-unfinished-notice]")?.setAttribute("hidden", "");
    const name = document.getElementById("upload-name");
    if (name) name.readOnly = true;
    this.state = "sending";
    this.notice("");
    this.samples = [];
    this.speak(plural("Uploading %(n)s file.", "Uploading %(n)s files.", this.total.files));
    this.draw(true);
    part("title").focus({ preventScroll: true });
    this.pump();
  }

  pump() {
    while (this.state === "sending" && !this.lost && this.active.size < AT_ONCE && this.waiting.length) this.send(this.waiting.shift());
    if (this.state === "sending" && !this.active.size && !this.waiting.length && !this.resting.size) this.ended();
    this.draw();
  }

  send(item) {
    item.state = "active";
    this.active.add(item);
    item.tus ??= new Upload(item.file, {
      endpoint: `${this.session.address}/files`,
      uploadUrl: item.address ?? null,
      chunkSize: Number(root.dataset.piece),
      uploadDataDuringCreation: true,
      storeFingerprintForResuming: false,
      retryDelays: null,
      metadata: { path: item.path, key: item.key },
      onBeforeRequest: (request) => request.setHeader("X-CSRF-Token", this.session.token),
      onProgress: (sent) => this.progress(item, sent),
      onSuccess: () => this.succeeded(item),
      onError: (error) => this.stumbled(item, error),
    });
    item.tus.start();
  }

  progress(item, sent) {
    this.done.bytes += sent - item.sent;
    item.sent = sent;
    this.draw();
  }

  finish(item) {
    item.state = "done";
    item.tus = null;
    // The browser may forget the file.
    item.file = null;
    this.progress(item, item.size);
    this.done.files += 1;
  }

  succeeded(item) {
    this.active.delete(item);
    this.finish(item);
    this.pause = 1000;
    this.pump();
  }

  stumbled(item, error) {
    this.active.delete(item);
    if (item.state !== "active") return;
    const answer = error.originalResponse;
    const status = answer?.getStatus() ?? 0;
    item.why = status ? sentence(status, answer.getHeader("Content-Type"), answer.getBody() ?? "") : words("The connection was lost.");
    item.state = "waiting";
    if (status === 401 || status === 403) this.block(words("Your session has ended. Enter the password in another tab, then press Resume."));
    else if (status === 400 && answer.getHeader("Content-Type")?.startsWith("text/html")) this.block(words("The page was open for too long. Press Resume to go on."));
    else if (status === 507) this.block(`${item.why} ${words("Press Resume when there is.")}`);
    else if ((status === 404 || status === 410) && !item.tus.url) this.block(words("This upload is no longer here: it was cancelled, or has become a batch."));
    else if (PASSING.has(status) || status === 404 || status === 410) {
      // What the server no longer has is sent from its beginning.
      if (status === 404 || status === 410) item.tus = item.address = null;
      if (!status) {
        this.waiting.unshift(item);
        this.lose();
        return;
      }
      item.tries += 1;
      if (item.tries < MOST_TRIES) {
        this.resting.add(item);
        setTimeout(() => {
          this.resting.delete(item);
          this.waiting.unshift(item);
          this.pump();
        }, 250 * 2 ** item.tries);
        this.draw();
        return;
      }
      this.fail(item);
      return;
    } else {
      this.fail(item);
      return;
    }
    this.waiting.unshift(item);
    this.draw(true);
  }

  fail(item) {
    item.state = "failed";
    item.tus = null;
    this.progress(item, 0);
    this.failed.set(item.key, item);
    this.speak(`${words("%(path)s could not be sent.", { path: item.path })} ${item.why}`);
    this.draw(true);
    this.pump();
  }

  // --- A lost connection: nothing is sent until the server answers again.

  lose() {
    if (this.lost) return;
    this.lost = true;
    this.notice(words("The connection is lost. The upload goes on by itself when it is back."));
    this.stop();
    this.look();
  }

  async look() {
    if (!this.lost || this.state !== "sending") return;
    try {
      if (!(await fetch("/health", { cache: "no-store" })).ok) throw new Error("not there");
    } catch {
      clearTimeout(this.looking);
      this.looking = setTimeout(() => this.look(), this.pause);
      this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 1.5);
      return;
    }
    this.lost = false;
    this.samples = [];
    this.notice("");
    this.speak(words("The connection is back. The upload goes on."));
    this.pump();
    this.draw(true);
  }

  // Stops what is under way; it goes on where it was.
  stop() {
    for (const item of this.active) {
      item.state = "waiting";
      item.tus?.abort();
      this.waiting.unshift(item);
    }
    this.active.clear();
  }

  block(reason) {
    this.blocked = reason;
    this.hold();
    this.notice(reason);
  }

  hold() {
    this.state = "paused";
    this.stop();
    this.speak(words("The upload is paused."));
    this.draw(true);
  }

  async resume() {
    if (this.blocked) {
      try {
        if (!(await this.session.renew())) {
          this.notice(this.blocked);
          return;
        }
      } catch {
        // Without a connection the next request says so.
      }
    }
    this.blocked = "";
    this.lost = false;
    this.state = "sending";
    this.samples = [];
    this.notice("");
    this.speak(words("The upload goes on."));
    this.draw(true);
    this.pump();
  }

  retry(items) {
    for (const item of items) {
      this.failed.delete(item.key);
      item.tries = 0;
      item.state = "waiting";
      this.waiting.push(item);
    }
    this.state = "sending";
    this.draw(true);
    part("title").focus({ preventScroll: true });
    this.pump();
  }

  // --- The end.

  ended() {
    if (this.failed.size) {
      this.state = "stuck";
      this.speak(plural("%(n)s file could not be sent. Try again, or import without it.", "%(n)s files could not be sent. Try again, or import without them.", this.failed.size));
      this.draw(true);
    } else {
      this.import();
    }
  }

  async import(content = {}) {
    this.state = "importing";
    this.draw(true);
    try {
      const made = await this.session.ask(`${this.session.address}/import`, "POST", content);
      this.state = "over";
      location.assign(made.address);
    } catch (error) {
      this.state = "stuck";
      if (error.status === 422) this.notice(error.message, words("Import into a new batch"), () => this.import({ name: words("Upload %(moment)s", { moment: new Date().toISOString().slice(0, 16).replace("T", " ") }) }));
      else this.notice(error.message, words("Try again"), () => this.resume());
      this.draw(true);
    }
  }

  async cancel() {
    if (this.state === "choosing") {
      this.reset();
      return;
    }
    const dialog = part("dialog");
    dialog.returnValue = "keep";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "cancel") return;
    this.state = "over";
    this.stop();
    try {
      await this.session.ask(this.session.address, "DELETE");
      location.assign("/upload?done=discarded");
    } catch (error) {
      this.state = "paused";
      this.notice(error.message);
      this.draw(true);
    }
  }

  reset() {
    this.items.clear();
    this.waiting = [];
    this.total = { files: 0, bytes: 0 };
    this.done = { files: 0, bytes: 0 };
    this.fresh = { files: 0, bytes: 0 };
    part("reading").textContent = "";
    this.notice("");
    this.speak(words("Nothing is chosen."));
    this.draw(true);
    root.querySelector("[data-pick]").focus();
  }

  // --- What is seen and heard.

  notice(text, button, action) {
    const place = part("notice");
    place.replaceChildren(text);
    if (button) {
      const press = Object.assign(document.createElement("button"), { type: "button", className: "btn btn-sm ms-2", textContent: button });
      press.addEventListener("click", action);
      place.append(press);
    }
    show(place, Boolean(text));
    if (text) show(part("sending"));
  }

  speak(text) {
    part("spoken").textContent = text;
  }

  // Not more often than the eye follows, except where something changed that can be pressed.
  draw(now = false) {
    const moment = performance.now();
    if (!now && moment - this.drawn < REDRAW_MS) {
      this.later ??= setTimeout(() => {
        this.later = null;
        this.draw(true);
      }, REDRAW_MS);
      return;
    }
    this.drawn = moment;
    this.drawButtons();
    this.drawNumbers(moment);
    this.drawFiles();
  }

  drawButtons() {
    const choosing = this.state === "choosing";
    root.classList.toggle("upload-busy", !choosing);
    show(part("sending"), this.items.size > 0 || !part("notice").hidden);
    show(part("start"), choosing && this.items.size > 0);
    show(part("pause"), this.state === "sending" || this.state === "paused");
    part("pause").textContent = this.state === "paused" ? words("Resume") : words("Pause");
    show(part("cancel"), !["importing", "over"].includes(this.state) && this.items.size > 0);
    part("cancel").textContent = choosing ? words("Clear") : words("Cancel…");
    show(part("total"), !choosing);
    const { files } = this.total;
    part("title").textContent = {
      choosing: files ? plural("%(n)s file chosen, %(size)s", "%(n)s files chosen, %(size)s", files, { size: size(this.total.bytes) }) : words("Nothing is chosen"),
      sending: this.lost ? words("Waiting for the connection") : words("Uploading"),
      paused: words("Paused"),
      stuck: this.failed.size ? plural("All but %(n)s file are here", "All but %(n)s files are here", this.failed.size) : words("The upload has stopped"),
      importing: words("All files are here; the batch is being made…"),
      over: words("Done"),
    }[this.state];
    show(part("failures"), this.failed.size > 0);
    show(part("leave-out"), this.state === "stuck" && this.done.files > 0);
  }

  drawNumbers(moment) {
    const { done, total } = this;
    const share = total.bytes ? done.bytes / total.bytes : total.files ? done.files / total.files : 0;
    const bar = part("bar");
    bar.max = 100;
    bar.value = Math.min(100, 100 * share);
    this.samples.push([moment, done.bytes]);
    while (this.samples.length > 2 && moment - this.samples[0][0] > RATE_MS) this.samples.shift();
    const [[first, before]] = this.samples;
    const rate = this.state === "sending" && !this.lost && moment - first > 500 ? Math.max(0, (1000 * (done.bytes - before)) / (moment - first)) : 0;
    const number = (name, text) => {
      root.querySelector(`[data-number=${name}]`).textContent = text;
    };
    number("files", words("%(done)s of %(all)s", { done: written(done.files), all: written(total.files) }));
    number("bytes", words("%(done)s of %(all)s", { done: size(done.bytes), all: size(total.bytes) }));
    number("rate", rate ? `${size(rate)}/s` : "–");
    number("left", rate ? duration((total.bytes - done.bytes) / rate) : "–");
    number("failed", this.failed.size ? written(this.failed.size) : words("none"));
    const tenth = Math.floor(10 * share);
    if (this.state === "sending" && tenth > this.spokenTenth && tenth < 10) {
      this.spokenTenth = tenth;
      this.speak(words("%(number)s percent.", { number: tenth * 10 }));
    }
  }

  drawFiles() {
    const active = part("active");
    show(active, this.active.size > 0);
    keep(active, [...this.active], (item, row) => {
      row.querySelector("progress").value = item.size ? (100 * item.sent) / item.size : 0;
    }, activeRow);
    keep(part("failed"), [...this.failed.values()].slice(0, MOST_SHOWN), () => {}, (item) => failedRow(item, this));
    if (part("all").open) this.drawAll();
  }

  drawAll() {
    const states = { waiting: words("waiting"), active: words("being sent"), done: words("here"), failed: words("failed") };
    const list = part("list");
    keep(list, [...this.items.values()].slice(0, MOST_SHOWN), (item, row) => {
      row.lastChild.textContent = states[item.state];
    }, listRow);
    list.querySelector("[data-more]")?.remove();
    if (this.items.size > MOST_SHOWN) {
      const more = document.createElement("li");
      more.dataset.more = "";
      more.textContent = plural("and %(n)s file more", "and %(n)s files more", this.items.size - MOST_SHOWN);
      list.append(more);
    }
  }
}

// Makes the rows of a list those of some items, and keeps the rows that are there.
function keep(list, items, update, make) {
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const wanted = new Set(items.map((item) => item.key));
  for (const [key, row] of rows) if (!wanted.has(key)) row.remove();
  for (const item of items) {
    let row = rows.get(item.key);
    if (!row) {
      row = make(item);
      row.dataset.key = item.key;
      list.append(row);
    }
    update(item, row);
  }
}

function line(item) {
  const row = document.createElement("li");
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: item.path });
  const octets = Object.assign(document.createElement("span"), { className: "text-secondary text-nowrap", textContent: size(item.size) });
  row.append(name, octets);
  return row;
}

function activeRow(item) {
  const row = line(item);
  const bar = Object.assign(document.createElement("progress"), { className: "progress progress-sm", max: 100, value: 0, ariaLabel: item.path });
  row.append(bar);
  return row;
}

function failedRow(item, sender) {
  const row = line(item);
  const why = Object.assign(document.createElement("span"), { className: "upload-why", textContent: item.why });
  const again = Object.assign(document.createElement("button"), { type: "button", className: "btn btn-sm btn-outline-primary", textContent: words("Try again"), ariaLabel: words("Try again: %(path)s", { path: item.path }) });
  again.addEventListener("click", () => sender.retry([item]));
  row.append(why, again);
  return row;
}

function listRow(item) {
  const row = line(item);
  row.append(document.createElement("span"));
  return row;
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function begin() {
  const sender = new Sender();
  const form = part("choose");
  show(part("plain"), false);
  for (const input of part("plain").querySelectorAll("input")) input.disabled = true;
  show(part("drop"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (sender.state === "choosing") sender.start();
  });
  for (const button of root.querySelectorAll("[data-pick]")) {
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, hidden: true, webkitdirectory: button.dataset.pick === "folder" });
    input.ariaLabel = button.textContent;
    input.dataset.input = button.dataset.pick;
    input.addEventListener("change", async () => {
      await sender.add(picked(input));
      input.value = "";
    });
    button.after(input);
    button.addEventListener("click", () => input.click());
  }
  // Beside the field a dropped file must not replace the page.
  let depth = 0;
  const over = (step) => {
    depth = Math.max(0, depth + step);
    root.classList.toggle("upload-over", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    if (event.dataTransfer) sender.add(dropped(event.dataTransfer));
  });
  part("start").addEventListener("click", () => {
    const name = document.getElementById("upload-name");
    if (!name || name.reportValidity()) sender.start();
  });
  part("pause").addEventListener("click", () => (sender.state === "paused" ? sender.resume() : sender.hold()));
  part("cancel").addEventListener("click", () => sender.cancel());
  part("retry-all").addEventListener("click", () => sender.retry([...sender.failed.values()]));
  part("leave-out").addEventListener("click", () => sender.import());
  part("all").addEventListener("toggle", () => sender.draw(true));
  addEventListener("online", () => sender.look());
  addEventListener("offline", () => sender.state === "sending" && sender.lose());
  addEventListener("beforeunload", (event) => {
    if (["sending", "importing"].includes(sender.state)) event.preventDefault();
  });
}

if (root) begin();
