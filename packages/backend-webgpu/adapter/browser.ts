// The run in a real browser: the page is built with vite, served on localhost (a secure context) and opened in headless
// Chromium on its software adapter.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { mkdtemp, rm } from 'node:fs/promises'
import { referenceBackend } from '@dynconv/core'
import { chromium } from 'playwright-core'
import { build } from 'vite'
import type { PageResult } from './page/main.ts'
import { chromium as executable } from './software.ts'
import { formatOutcome } from './suite.ts'
import { losses, lossesDiffer } from './training.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)

const flags = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
]

// Ten minutes: a software adapter on two busy cores.
const timeoutMs = 600_000

const types: Readonly<Record<string, string>> = { '.html': 'text/html', '.js': 'text/javascript' }

async function withServer<T>(folder: string, body: (url: string) => Promise<T>): Promise<T> {
  const server = createServer((request, response) => {
    const name = path.basename(new URL(request.url ?? '/', 'http://localhost').pathname) || 'index.html'
    const file = path.join(folder, name.endsWith('.html') ? name : path.join('assets', name))
    readFile(file).then(
      (bytes) => response.writeHead(200, { 'content-type': types[path.extname(file)] ?? 'application/octet-stream' }).end(bytes),
      () => response.writeHead(404).end(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    return await body(`http://localhost:${(server.address() as AddressInfo).port}/index.html`)
  } finally {
    server.close()
  }
}

async function inBrowser(url: string): Promise<PageResult> {
  const browser = await chromium.launch({ executablePath: executable(), args: flags })
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(timeoutMs)
    page.on('console', (message) => {
      if (message.type() === 'error') say(`page: ${message.text()}`)
    })
    page.on('pageerror', (error) => say(`page: ${error.message}`))
    await page.goto(url)
    await page.waitForFunction('globalThis.result !== undefined')
    say(`Chromium ${browser.version()}`)
    return await page.evaluate<PageResult>('globalThis.result')
  } finally {
    await browser.close()
  }
}

const folder = await mkdtemp(path.join(tmpdir(), 'dynconv-page-'))
try {
  await build({ root: path.join(import.meta.dirname, 'page'), base: './', logLevel: 'warn', build: { outDir: folder, emptyOutDir: true, target: 'es2022' } })
  const result = await withServer(folder, inBrowser)
  say(result.device)
  const problems: string[] = []
  const check = (holds: boolean, what: string): void => {
    say(`${holds ? 'ok' : 'FAILED'}: ${what}`)
    if (!holds) problems.push(what)
  }
  const difference = lossesDiffer(result.losses, await losses(referenceBackend(), 12))
  check(difference === undefined, difference ?? `12 training steps from loss ${result.losses[0]?.toFixed(4)} to ${result.losses.at(-1)?.toFixed(4)}, as the reference`)
  check(result.readBack.join() === '3,5,7,9', `read back ${result.readBack.join(', ')}`)
  check(result.liveTensors === 0, `${result.liveTensors} tensors left alive`)
  for (const outcome of result.outcomes) {
    say(formatOutcome(outcome))
    check(outcome.passed > 0 && outcome.failed === 0 && outcome.problems.length === 0, outcome.title)
  }
  const passed = result.outcomes.reduce((sum, o) => sum + o.passed, 0)
  say(`webgpu in Chromium: ${passed} cases passed, ${problems.length} checks failed`)
  process.exitCode = problems.length > 0 ? 1 : 0
} finally {
  await rm(folder, { recursive: true, force: true })
}
