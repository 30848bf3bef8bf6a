// What programs in Node.js do of a system: workers in threads and in processes, pipes, files
// and their changes, sockets, timers, streams.
"use strict";
const assert = require("node:assert");
const { once } = require("node:events");
const { execFile, fork, spawn } = require("node:child_process");
const cluster = require("node:cluster");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const os = require("node:os");
const { promisify } = require("node:util");
const { Worker, isMainThread, parentPort, workerData } = require("node:worker_threads");
const zlib = require("node:zlib");

async function threads() {
  const counter = new Int32Array(new SharedArrayBuffer(4));
  const workers = [1, 2, 3].map(() => new Worker(__filename, { workerData: counter }));
  await Promise.all(workers.map((w) => once(w, "exit")));
  console.log("threads", counter[0]);
}

function thread() {
  for (let i = 0; i < 1000; i++) Atomics.add(workerData, 0, 1);
  parentPort.close();
}

async function processes() {
  const child = spawn("/bin/sh", ["-c", "cat; echo oops >&2; exit 3"]);
  let out = "", err = "";
  child.stdout.on("data", (d) => (out += d));
  child.stderr.on("data", (d) => (err += d));
  child.stdin.end("through cat\n");
  const [status] = await once(child, "close");
  console.log("spawn", JSON.stringify([out, err, status]));
  const { stdout } = await promisify(execFile)("/bin/sh", ["-c", "echo $((6 * 7))"]);
  console.log("execFile", stdout.trim());
  const sleeper = spawn("sleep", ["100"]);
  sleeper.kill("SIGKILL");
  console.log("killed by", (await once(sleeper, "exit"))[1]);
  const [missing] = await once(spawn("/no/such/program"), "error");
  console.log("missing", missing.code);

  const forked = fork(__filename, ["child"]);
  forked.send({ numbers: [1, 2, 3] });
  const [answer] = await once(forked, "message");
  console.log("message", answer.sum);
  await once(forked, "exit");
}

// Two processes serve one port: the cluster hands connections over as descriptors.
async function clustered() {
  cluster.setupPrimary({ exec: __filename, args: ["worker"] });
  for (let i = 0; i < 2; i++) cluster.fork();
  let listening = 0;
  let address;
  for await (const [, a] of eventsOf(cluster, "listening")) {
    address = a;
    if (++listening === 2) break;
  }
  const seen = new Set();
  for (let i = 0; i < 10; i++) seen.add(await get(address.port));
  console.log("served by", seen.size, "processes");
  const ends = Object.values(cluster.workers).map((w) => once(w, "exit"));
  cluster.disconnect();
  await Promise.all(ends);
}

function eventsOf(emitter, name) {
  return require("node:events").on(emitter, name);
}

function get(port) {
  return new Promise((resolve, reject) => {
    http.get({ port, host: "127.0.0.1", agent: false }, async (res) => {
      let text = "";
      for await (const chunk of res) text += chunk;
      resolve(text);
    }).on("error", reject);
  });
}

async function files() {
  const dir = fs.mkdtempSync("/tmp/kiln-");
  const watcher = fs.watch(dir);
  const changed = once(watcher, "change");
  await fs.promises.writeFile(`${dir}/a`, "x".repeat(100000));
  console.log("changed", (await changed)[1]);
  watcher.close();
  const hash = crypto.createHash("sha256");
  for await (const chunk of fs.createReadStream(`${dir}/a`).pipe(zlib.createGzip()).pipe(zlib.createGunzip())) hash.update(chunk);
  console.log("file", hash.digest("hex").slice(0, 12));
  await assert.rejects(fs.promises.open("/no/such"), { code: "ENOENT" });
  await fs.promises.rm(dir, { recursive: true });
}

async function sockets() {
  const path = "/tmp/kiln.sock";
  const server = net.createServer((c) => c.pipe(c)).listen(path);
  await once(server, "listening");
  const client = net.connect(path);
  client.end("there and back");
  let text = "";
  for await (const chunk of client) text += chunk;
  console.log("socket", text);
  server.close();
}

async function main() {
  await threads();
  await processes();
  await clustered();
  await files();
  await sockets();
  const start = process.hrtime.bigint();
  await new Promise((r) => setTimeout(r, 50));
  console.log("timer", process.hrtime.bigint() - start >= 49n * 1000000n);
  process.once("SIGUSR2", () => console.log("signal caught"));
  process.kill(process.pid, "SIGUSR2");
  await new Promise((r) => setTimeout(r, 100));
  console.log("memory", os.totalmem() > 2 ** 26, process.memoryUsage().rss > 2 ** 20);
}

if (!isMainThread) {
  thread();
} else if (process.argv[2] === "child") {
  process.once("message", (m) => {
    process.send({ sum: m.numbers.reduce((a, b) => a + b) });
    process.disconnect();
  });
} else if (process.argv[2] === "worker") {
  http.createServer((req, res) => res.end(String(process.pid))).listen(0, "127.0.0.1");
} else {
  main();
}
