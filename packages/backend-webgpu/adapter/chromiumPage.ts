// A page in headless Chromium on its software adapter: served on localhost (a secure context), given its input as the global
// `input`, and asked for its global `result`, a promise.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { chromium as executable } from './software.ts'

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

/** What came of a page. */
export interface PageRun<T> {
  readonly result: T
  readonly browser: string
  /** What it logged. */
  readonly log: readonly string[]
}

/**
 * Opens the page that vite built into `folder` and waits for its result.
 *
 * @throws Error with what the page's promise was rejected with
 */
export function runPage<T>(folder: string, input: unknown, timeoutMs: number): Promise<PageRun<T>> {
  return withServer(folder, async (url) => {
    const browser = await chromium.launch({ executablePath: executable(), args: flags })
    try {
      const page = await browser.newPage()
      page.setDefaultTimeout(timeoutMs)
      const log: string[] = []
      page.on('console', (message) => {
        log.push(message.text())
        if (message.type() !== 'warning') process.stdout.write(`page: ${message.text()}\n`)
      })
      page.on('pageerror', (error) => process.stdout.write(`page: ${error.message}\n`))
      await page.addInitScript({ content: `globalThis.input = ${JSON.stringify(input ?? null)}` })
      await page.goto(url)
      await page.waitForFunction('globalThis.result !== undefined')
      return { result: await page.evaluate<T>('globalThis.result'), browser: browser.version(), log }
    } finally {
      await browser.close()
    }
  })
}
