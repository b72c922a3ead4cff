// Calls methods of dicomweb-client as it is published. Each line of the input is {method, options}; each line of the output says what came of
// it, and bytes are written to files. Node has no XMLHttpRequest, so xhr2 stands for that of browsers.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
globalThis.XMLHttpRequest = require("xhr2");
const { api } = require("dicomweb-client");

const [url, authorization, folder] = process.argv.slice(2);
const client = new api.DICOMwebClient({ url, headers: { Authorization: authorization }, verbose: false });
const AT_ONCE = 4;
console.debug = () => {};

function told(number, result) {
  const buffers = (Array.isArray(result) ? result : [result]).map((one) => (ArrayBuffer.isView(one) || one instanceof ArrayBuffer ? Buffer.from(one) : null));
  if (buffers.length === 0 || buffers.includes(null)) {
    return { value: result };
  }
  return {
    files: buffers.map((buffer, at) => {
      const name = path.join(folder, `${number}-${at}`);
      fs.writeFileSync(name, buffer);
      return name;
    }),
  };
}

async function call({ method, options }, number) {
  if (options.datasets) {
    options.datasets = options.datasets.map((name) => new Uint8Array(fs.readFileSync(name)).buffer);
  }
  try {
    return told(number, await client[method](options));
  } catch (error) {
    return { error: String(error), status: error.status };
  }
}

async function main() {
  const calls = fs.readFileSync(0, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const results = new Array(calls.length);
  let next = 0;
  const work = async () => {
    while (next < calls.length) {
      const number = next++;
      results[number] = await call(calls[number], number);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const methods = Object.getOwnPropertyNames(api.DICOMwebClient.prototype).filter((name) => !/^_|^constructor$/.test(name));
  process.stdout.write([{ methods }, ...results].map((one) => JSON.stringify(one)).join("\n"));
}

main();
