// What the dashboard is tried with: origins, load, and a proxy with its file.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Milliseconds: far above what a slow machine needs. */
export const PATIENCE = 60_000;

/** Waits until a condition holds. */
export async function eventually(what, condition) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** Returns so many ports that are free at the moment. Who listens at another one does so before: the system may give it these. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => net.createServer());
  await Promise.all(servers.map((server) => new Promise((listening) => server.listen(0, "127.0.0.1", listening))));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}

/** Starts an origin that takes about so many milliseconds, and fails this share of requests. */
export async function origin({ takes = 2, fails = 0 } = {}) {
  const server = http.createServer((request, response) => {
    setTimeout(() => {
      response.writeHead(Math.random() < fails ? 503 : 200, { "content-type": "text/plain" });
      response.end("x".repeat(600 + Math.random() * 5000));
    }, takes * (0.5 + Math.random() ** 3 * 4));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  return { address: `127.0.0.1:${port}`, close: () => server.close() };
}

/** Sends one request, and returns the status. */
export function get(port, host, path) {
  return new Promise((told, failed) => {
    const request = http.get({ host: "127.0.0.1", port, path, headers: { host } }, (response) => {
      response.resume();
      response.on("end", () => told(response.statusCode));
    });
    request.on("error", failed);
  });
}

/** Sends requests over kept connections until it is ended. */
export function load(port, requests, clients = 12) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: clients });
  const state = { ended: false, answers: 0 };
  const one = () => {
    if (state.ended) return;
    const [host, path] = requests[Math.floor(Math.random() ** 1.5 * requests.length)];
    const again = () => setTimeout(one, Math.random() * (50 + 25 * Math.sin(Date.now() / 7000)));
    const request = http.request({ host: "127.0.0.1", port, path, agent, headers: { host } }, (response) => {
      response.resume();
      response.on("end", () => {
        state.answers += 1;
        again();
      });
    });
    request.on("error", again);
    request.end();
  };
  for (let n = 0; n < clients; n += 1) one();
  return { state, end: () => { state.ended = true; agent.destroy(); } };
}

/** A proxy with a file in a folder of its own. */
export class Proxy {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "dashboard-"));
    this.file = join(this.folder, "shop.yaml");
    this.log = join(this.folder, "access.log");
  }

  write(text) {
    writeFileSync(this.file, text);
  }

  /** Makes a certificate that holds for so many days. */
  certificate(name, days) {
    const [cert, key] = [join(this.folder, `${name}.crt`), join(this.folder, `${name}.key`)];
    const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", String(days)];
    execFileSync("openssl", [...made, "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`, "-keyout", key, "-out", cert], { stdio: "ignore" });
    return `{cert: ${cert}, key: ${key}}`;
  }

  async start(adminPort) {
    // The file is reloaded by the buttons of the page as soon as it is written, or by the look of each second.
    this.child = spawn(process.env.REVERSE_PROXY, ["--threads", "2", "-c", "shop.yaml"], {
      cwd: this.folder,
      env: { ...process.env, RUST_LOG: "edge=info,warn" },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const ready = () => new Promise((told) => {
      const request = http.get({ host: "127.0.0.1", port: adminPort, path: "/readyz" }, (response) => {
        response.resume();
        told(response.statusCode === 200);
      });
      request.on("error", () => told(false));
    });
    await eventually("the proxy is ready", ready);
  }

  end() {
    this.child?.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
