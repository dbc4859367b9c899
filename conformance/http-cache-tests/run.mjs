// Runs the cases of the npm package http-cache-tests against caches that it starts, nginx and the example `cache`, and
// fails when the example fails a required case. The package's own server is the origin; all listen on Unix sockets.
//
// usage: node run.mjs PACKAGE EXAMPLE [--nginx BINARY] [--doc FILE] [--only CASE]

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const LIMIT_MS = 60_000

const [, , packageDir, example, ...options] = process.argv
const option = name => {
  const at = options.indexOf(`--${name}`)
  return at < 0 ? undefined : options[at + 1]
}
if (!packageDir || !example) throw new Error('usage: run.mjs PACKAGE EXAMPLE [--nginx BINARY] [--doc FILE] [--only CASE]')

const load = file => import(pathToFileURL(path.join(packageDir, file)))
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'http-cache-tests-'))
const children = []

// Says what the package's own server says on a port that it takes from its settings: which handler has which path.
async function startOrigin (socket) {
  const handlers = {
    config: (await load('server/handle-config.mjs')).default,
    test: (await load('server/handle-test.mjs')).default,
    state: (await load('server/handle-state.mjs')).default
  }
  const server = http.createServer((request, response) => {
    const [, kind, ...rest] = new URL(request.url, 'http://origin').pathname.split('/')
    if (kind in handlers) return handlers[kind](rest, request, response)
    response.writeHead(404).end()
  })
  await new Promise(resolve => server.listen(socket, resolve))
  return server
}

// Waits until somebody accepts at the socket.
async function listening (child, name, socket) {
  const end = Date.now() + LIMIT_MS
  while (Date.now() < end) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`)
    const connected = await new Promise(resolve => {
      const connection = net.connect(socket, () => { connection.destroy(); resolve(true) })
      connection.on('error', () => resolve(false))
    })
    if (connected) return
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw new Error(`${name} does not listen at ${socket}`)
}

async function start (name, command, args, socket) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, RUST_LOG: 'error' } })
  children.push(child)
  await listening(child, name, socket)
}

function nginxSettings (origin, socket) {
  const at = name => path.join(dir, `nginx-${name}`)
  return `
${process.getuid() === 0 ? 'user root;' : ''} daemon off; worker_processes 1; pid ${at('pid')}; error_log ${at('log')};
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${at('body')}; proxy_temp_path ${at('proxy')}; fastcgi_temp_path ${at('fastcgi')};
  uwsgi_temp_path ${at('uwsgi')}; scgi_temp_path ${at('scgi')};
  proxy_cache_path ${at('cache')} levels=1:2 keys_zone=tests:8m max_size=100m inactive=600m;
  server {
    listen unix:${socket};
    location / { proxy_pass http://unix:${origin}:; proxy_cache tests; proxy_cache_revalidate on; }
  }
}
`
}

// Every case once, in a process of its own: the package keeps its results in global variables.
async function runCases (socket) {
  const suites = (await load('tests/index.mjs')).default
  suites.push((await load('tests/surrogate-control.mjs')).default)
  const { runTests, getResults } = await load('client/runner.mjs')
  const { determineTestResult } = await load('lib/display.mjs')
  const fetch = (await load('../node-fetch/lib/index.mjs')).default
  const agent = new http.Agent({ keepAlive: false })
  agent.createConnection = (_, connected) => net.connect(socket, connected)

  const only = option('only')
  const wanted = suites.map(suite => ({ ...suite, tests: suite.tests.filter(test => !only || test.id === only) }))
  if (only) wanted.forEach(suite => suite.tests.forEach(test => { test.dump = true }))
  // The package takes what has no count for cached. The cache's own error has none, and is no stored response.
  const ask = async (url, init) => {
    const response = await fetch(url, { ...init, agent })
    const number = init?.headers.find(([name]) => name === 'Req-Num')
    if (response.status >= 500 && number && !response.headers.has('Server-Request-Count')) {
      response.headers.set('Server-Request-Count', number[1])
    }
    return response
  }
  await runTests(wanted, ask, false, 'http://cache.test')

  const results = getResults()
  const kinds = { '✅': 'passed', Y: 'yes', N: 'no', '⛔️': 'failed', '⚠️': 'optional', '🔹': 'setup', '↻': 'retried' }
  const cases = []
  for (const test of suites.flatMap(suite => suite.tests)) {
    // A case counts by itself, whatever became of those that it builds on.
    const outcome = kinds[determineTestResult(suites, test.id, results, false)[2]]
    if (test.id in results) cases.push({ id: test.id, kind: test.kind || 'required', outcome: outcome || 'harness', why: results[test.id][1] })
  }
  return cases
}

// Cases whose setup fails because the example does what it should: it answers 502 to a transfer coding that it does not
// know, and when the origin hangs up and the stored response must not be used.
const REFUSED = [
  'headers-store-Transfer-Encoding', 'stale-close-must-revalidate', 'stale-close-proxy-revalidate', 'stale-close-no-cache',
  'stale-close-s-maxage=2'
]

const passes = one => one.kind !== 'required' || one.outcome === 'passed' ||
  (one.outcome === 'setup' && REFUSED.includes(one.id))

function count (cases, kind, outcomes) {
  return cases.filter(one => one.kind === kind && outcomes.includes(one.outcome)).length
}

const rows = [
  ['required cases passed', 'required', ['passed']],
  ['required cases failed', 'required', ['failed', 'harness', 'retried']],
  ['required cases whose setup failed', 'required', ['setup']],
  ['optional cases passed', 'optimal', ['passed']],
  ['optional cases not passed', 'optimal', ['optional', 'setup', 'harness', 'retried']],
  ['questions answered with yes', 'check', ['yes']],
  ['questions answered with no', 'check', ['no', 'setup', 'harness', 'retried']]
]

function table (caches) {
  const line = cells => `| ${cells.join(' | ')} |\n`
  let text = line(['', ...caches.map(cache => cache.name)]) + line(['---', ...caches.map(() => '---:')])
  for (const [label, kind, outcomes] of rows) text += line([label, ...caches.map(cache => count(cache.cases, kind, outcomes))])
  return text
}

// Puts the table between the two marks of a document.
function writeInto (file, text) {
  const [begin, end] = ['<!-- http-cache-tests -->\n', '<!-- /http-cache-tests -->\n']
  const old = fs.readFileSync(file, 'utf8')
  const [from, to] = [old.indexOf(begin), old.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${file} has no place for the table`)
  fs.writeFileSync(file, old.slice(0, from + begin.length) + '\n' + text + '\n' + old.slice(to))
}

async function runInChild (socket) {
  const args = [process.argv[1], packageDir, example, '--cases', socket, ...options]
  const child = spawn(process.execPath, ['--no-warnings', ...args], { stdio: ['ignore', option('only') ? 'inherit' : 'pipe', 'inherit', 'pipe'] })
  let text = ''
  child.stdio[3].on('data', chunk => { text += chunk })
  await new Promise(resolve => child.on('close', resolve))
  if (text === '') throw new Error('the cases did not run')
  return JSON.parse(text)
}

async function main () {
  if (option('cases')) {
    fs.writeSync(3, JSON.stringify(await runCases(option('cases'))))
    return 0
  }
  const caches = []
  const origin = path.join(dir, 'origin')
  const server = await startOrigin(origin)
  if (option('nginx')) {
    const [socket, settings] = [path.join(dir, 'nginx'), path.join(dir, 'nginx.conf')]
    fs.writeFileSync(settings, nginxSettings(origin, socket))
    await start('nginx', option('nginx'), ['-p', dir, '-e', path.join(dir, 'nginx-log'), '-c', settings], socket)
    caches.push({ name: 'nginx `proxy_cache`', socket })
  }
  if (example !== 'none') {
    const socket = path.join(dir, 'example')
    // What is asked about Set-Cookie and about stale answers takes a cache that may do so.
    const args = ['--listen', `unix:${socket}`, '--upstream', `unix:${origin}`, '--store-set-cookie', '--stale-if-error', '60']
    await start('the example', example, args, socket)
    caches.push({ name: 'the example `cache`', socket })
  }
  for (const cache of caches) cache.cases = await runInChild(cache.socket)
  server.close()
  server.closeAllConnections()

  const text = table(caches)
  process.stdout.write(text)
  const ours = caches.at(-1).cases
  const show = process.env.SHOW?.split(',') ?? ['failed', 'harness', 'retried', 'setup']
  for (const one of ours.filter(one => show.includes(one.outcome) && (one.kind === 'required' || process.env.SHOW))) {
    console.log(`${one.kind}, ${one.outcome}: ${one.id}: ${one.why}`)
  }
  if (option('doc')) writeInto(option('doc'), text)
  if (ours.length === 0) throw new Error('there was no case')
  return example === 'none' || ours.every(passes) ? 0 : 1
}

let code = 1
try {
  code = await main()
} finally {
  for (const child of children) child.kill()
  fs.rmSync(dir, { recursive: true, force: true })
}
process.exit(code)
