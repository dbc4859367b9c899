// The dashboard in a headless Chromium: figures under load, a bad file, a drained server, the keyboard, the colours.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

import { eventually, freePorts, get, load, origin, PATIENCE, Proxy } from "./parts.mjs";

const require = createRequire(join(process.env.DASHBOARD_MODULES, "index.js"));
const { chromium } = require("playwright-core");

const shots = process.argv[2] === "--screenshots" ? process.argv[3] : null;
const TOKEN = "0123456789abcdef0123";

const step = (name) => console.log(`${(performance.now() / 1000).toFixed(1)} s  ${name}`);

/** Opens a page that notes what should not be: errors, and requests to elsewhere. */
async function open(browser, url, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const wrong = [];
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) wrong.push(`a request to ${request.url()}`);
  });
  page.on("pageerror", (error) => wrong.push(`an error: ${error}`));
  page.on("console", (message) => {
    // The browser tells of every answer of 4xx; those of a refused file and a wrong token are meant.
    const meant = /\/api\/(reload|login)$|\/$/.test(message.location().url) && /status of (422|401)/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !meant) wrong.push(`on the console: ${message.text()}`);
  });
  await page.goto(url);
  return { page, context, wrong };
}

const number = (text) => Number.parseFloat(text.replaceAll(",", ""));
const figure = (page, name) => page.locator(".tile", { hasText: name }).locator(".figure").textContent();
const server = (page, address) => page.locator("#clusters tbody tr", { hasText: address }).first();

async function figuresMove(page) {
  step("figures move under load");
  await eventually("requests are counted", async () => number((await figure(page, "Requests")) ?? "0") > 20);
  await eventually("a latency is told", async () => / (ms|s)$|µs$/.test(await figure(page, "p99")));
  const first = await page.locator("#chart-requests .line.accent").getAttribute("d");
  await eventually("the chart goes on", async () => (await page.locator("#chart-requests .line.accent").getAttribute("d")) !== first);
  await eventually("sites have rates", async () => number(await page.locator("#sites tbody tr").first().locator("td").first().textContent()) > 1);
  assert.equal(await page.locator("#worker-table tbody tr").count(), 2);
  await eventually("failing routes are told", async () => (await page.locator("#failing tbody tr").count()) > 0);
  assert.equal(await page.locator("#certificate-table tbody tr").count(), 2);
}

async function badFile(page, proxy, good) {
  step("a bad file is told, and a good one taken");
  proxy.write(good.replace("balance: least_requests", "balance: lest_requests"));
  await page.getByRole("button", { name: "Reload file" }).click();
  const notice = page.getByRole("alert");
  await notice.waitFor();
  await eventually("the error is told", async () => (await notice.textContent()).includes("did you mean `least_requests`?"));
  assert.match(await notice.textContent(), /shop\.yaml:\d+:\d+/);
  await eventually("it stands in the history", async () => (await page.locator("#reload-list .errors").first().textContent()).includes("lest_requests"));
  proxy.write(good.replace("body: hello", "body: hello again"));
  await page.getByRole("button", { name: "Reload file" }).click();
  await eventually("the difference is shown", async () => (await page.locator(".diff .added").allTextContents()).some((line) => line.includes("hello again")));
  await page.getByRole("button", { name: "Close the message" }).click();
  assert.equal(await notice.isVisible(), false);
}

async function drained(page, address) {
  step("a server is drained and restored");
  await page.getByRole("button", { name: `Drain ${address}` }).first().click();
  await eventually("it is drained", async () => (await server(page, address).textContent()).includes("Drained"));
  const button = page.getByRole("button", { name: `Restore ${address}` }).first();
  await eventually("the focus stays", () => button.evaluate((it) => it === document.activeElement));
  await eventually("it gets nothing", async () => (await server(page, address).locator(".meter span").textContent()) === "0 %");
  await button.click();
  await eventually("it is up", async () => (await server(page, address).textContent()).includes("Up"));
}

async function keyboard(page) {
  step("all is reached by keyboard");
  await page.reload();
  await page.locator("#clusters tbody tr").first().waitFor();
  await page.evaluate(() => document.activeElement.blur());
  const seen = [];
  for (let n = 0; n < 60; n += 1) {
    await page.keyboard.press("Tab");
    seen.push(await page.evaluate(() => {
      const { id, tagName, textContent } = document.activeElement;
      const outline = getComputedStyle(document.activeElement).outlineStyle;
      return { name: id || document.activeElement.getAttribute("aria-label") || textContent.trim(), tag: tagName, outline };
    }));
  }
  const names = seen.map((one) => one.name);
  assert.equal(names[0], "Skip to the figures");
  for (const name of ["reload", "drain", "theme", "Servers", "log-filter", "log-follow", "log-lines"]) assert.ok(names.includes(name), `${name} in ${names}`);
  assert.ok(names.some((name) => name.startsWith("Drain 127.0.0.1")), String(names));
  assert.ok(names.indexOf("reload") < names.indexOf("log-filter"));
  const unseen = seen.filter((one) => one.outline === "none" && one.tag !== "BODY");
  assert.deepEqual(unseen, [], "each focus is seen");
  await page.locator("#drain").focus();
  await page.keyboard.press("Enter");
  const question = page.getByRole("dialog", { name: "Drain this process?" });
  await question.waitFor();
  await page.keyboard.press("Escape");
  await eventually("the focus is back", () => page.evaluate(() => document.activeElement.id === "drain"));
  await page.keyboard.press("Enter");
  await question.waitFor();
  // A question asked in the moment in which the one before is closed has an answer of its own.
  await page.evaluate(() => {
    document.getElementById("ask").close("no");
    document.getElementById("drain").click();
  });
  await question.waitFor();
  await page.locator("#ask-yes").focus();
  await page.keyboard.press("Enter");
  const state = page.getByRole("status");
  await eventually("it drains", async () => (await state.textContent()).includes("Draining"));
  // The button is off until what it asked for is done.
  await page.locator("#drain:enabled").press("Enter");
  await eventually("it serves", async () => (await state.textContent()).includes("Serving"));
}

async function hostile(page, proxy, good, port) {
  step("no text becomes markup");
  assert.equal(await get(port, "shop.example", "/broken?<img>"), 400);
  const markup = "<img src=x onerror=window.pwned=1>";
  proxy.write(good.replace("least_requests", `"${markup}"`));
  await page.getByRole("button", { name: "Reload file" }).click();
  await eventually("the error is told", async () => (await page.getByRole("alert").textContent()).includes(markup));
  await eventually("it stands in the history", async () => (await page.locator("#reload-list .errors").first().textContent()).includes(markup));
  proxy.write(good);
  await page.locator("#log-filter").fill(markup);
  await eventually("the log tells of it", async () => (await page.locator(".log-line").count()) > 0);
  assert.equal(await page.locator("main img, #notice img").count(), 0);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  await page.locator("#log-filter").fill("no line has this");
  await eventually("nothing is found", async () => (await page.locator("#log-lines").textContent()) === "No line has this text.");
  await page.locator("#log-filter").fill("");
  await page.locator("#log-of").selectOption("requests");
  await eventually("the access log is shown", async () => {
    await get(port, "shop.example", "/api/seen?%3Cimg%20src=x%3E");
    return (await page.locator(".log-line").allTextContents()).some((line) => line.includes("/api/seen?%3Cimg"));
  });
  assert.equal(await page.locator("main img").count(), 0);
  await page.locator("#log-of").selectOption("errors");
  await eventually("the errors are shown again", async () => (await page.locator(".log-line[data-level=ERROR]").count()) > 0);
}

/** The contrast of texts on panels (WCAG 2: 4.5 for small ones). */
async function contrast(page, name) {
  const ratios = await page.evaluate(() => {
    const probe = document.body.appendChild(document.createElement("i"));
    const light = (color) => {
      probe.style.color = color;
      const canvas = new OffscreenCanvas(1, 1).getContext("2d");
      canvas.fillStyle = getComputedStyle(probe).color;
      canvas.fillRect(0, 0, 1, 1);
      const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
      const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    for (const ground of ["--panel", "--page", "--raised"]) {
      for (const ink of ["--text", "--dim", "--accent", "--good", "--warn", "--bad"]) {
        const [a, b] = [light(`var(${ink})`), light(`var(${ground})`)].sort((x, y) => y - x);
        found.push([`${ink} on ${ground}`, (a + 0.05) / (b + 0.05)]);
      }
    }
    probe.remove();
    return found;
  });
  for (const [what, ratio] of ratios) assert.ok(ratio >= 4.5, `${name}: ${what} has ${ratio.toFixed(2)}`);
}

async function colours(page) {
  step("light and dark, by the system and by the switch");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await contrast(page, "light");
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await ground();
  assert.notEqual(dark, light);
  await contrast(page, "dark");
  await page.locator("#theme").click();
  assert.equal(await ground(), light);
  await page.locator("#theme").click();
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(), dark);
  await page.locator("#theme").click();
  assert.equal(await ground(), light);
}

async function signIn(browser, url) {
  step("the token is asked for, and kept from scripts");
  const { page, context, wrong } = await open(browser, url);
  await page.getByLabel("Token").fill("another one");
  await page.keyboard.press("Enter");
  await eventually("it is refused", async () => (await page.getByRole("alert").textContent()) === "This is not the token.");
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await eventually("it serves", async () => (await page.getByRole("status").textContent()).includes("Serving"));
  assert.equal(await page.evaluate(() => document.cookie), "");
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.deepEqual(wrong, []);
  await context.close();
}

async function narrow(browser, url) {
  step("a telephone shows it all");
  const { page, context, wrong } = await open(browser, url, { viewport: { width: 390, height: 844 }, hasTouch: true });
  await page.locator("#clusters tbody tr").first().waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels`);
  assert.deepEqual(wrong, []);
  await context.close();
}

async function screenshots(browser, url) {
  step("pictures after a minute of load");
  const kinds = [["light", 1280, 1010, "light"], ["dark", 1280, 1010, "dark"], ["narrow", 390, 844, "light"]];
  const pages = [];
  for (const [name, width, height, colorScheme] of kinds) {
    const { page } = await open(browser, url, { viewport: { width, height }, colorScheme });
    pages.push([name, page]);
  }
  await new Promise((wake) => setTimeout(wake, 75_000));
  for (const [name, page] of pages) await page.screenshot({ path: join(shots, `dashboard-${name}.png`) });
}

const origins = await Promise.all([origin(), origin(), origin({ takes: 4 }), origin({ takes: 60 }), origin({ takes: 5, fails: 0.03 })]);
const [one, other, third, slow, flaky] = origins.map(({ address }) => address);
const [port, tlsPort, adminPort, nobody] = await freePorts(4);
const refused = `127.0.0.1:${nobody}`;
const proxy = new Proxy();
const file = (admin) => `listen: [127.0.0.1:${port}, {address: 127.0.0.1:${tlsPort}, tls: true}]
admin: ${admin}
access_log: ${proxy.log}
sites:
  - hosts: shop.example
    tls: ${proxy.shop}
    routes:
      - path: /api/*
        proxy: {to: [${one}, ${other}, {address: ${third}, weight: 2}], balance: least_requests}
      - {path: /reports/*, proxy: ${slow}}
      - {path: /pay/*, proxy: ${flaky}}
      - {path: /broken, proxy: ${refused}}
      - proxy: {to: [${one}, ${other}]}
  - hosts: [docs.example, "*.docs.example"]
    tls: ${proxy.docs}
    routes:
      - proxy: ${third}
  - hosts: static.example
    routes:
      - respond: {body: hello}
`;
let browser;
let traffic;
try {
  [proxy.shop, proxy.docs] = [proxy.certificate("shop.example", 62), proxy.certificate("docs.example", 17)];
  const good = file(`127.0.0.1:${adminPort}`);
  proxy.write(good);
  await proxy.start(adminPort);
  const requests = [["shop.example", "/"], ["shop.example", "/api/orders"], ["docs.example", "/"], ["static.example", "/"], ["shop.example", "/pay/card"], ["shop.example", "/reports/day"]];
  traffic = load(port, requests);
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  const url = `http://127.0.0.1:${adminPort}/`;
  if (shots) {
    proxy.write(good.replace("body: hello", "body: hello again"));
    await screenshots(browser, url);
  } else {
    const { page, wrong } = await open(browser, url);
    await figuresMove(page);
    await badFile(page, proxy, good);
    await drained(page, other);
    await keyboard(page);
    await hostile(page, proxy, good, port);
    await colours(page);
    assert.deepEqual(wrong, []);
    await narrow(browser, url);
    proxy.write(file(`{address: "127.0.0.1:${adminPort}", token: ${TOKEN}}`));
    await eventually("a token is wanted", async () => (await fetch(`${url}api/status`)).status === 401);
    await signIn(browser, url);
    assert.ok(traffic.state.answers > 100);
  }
  step("all good");
} finally {
  traffic?.end();
  await browser?.close();
  proxy.end();
  origins.forEach((one) => one.close());
}
