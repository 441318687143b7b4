// A WebGPU adapter for machines without a graphics card, from npm alone: the package @sparticuz/chromium carries SwiftShader
// (Vulkan in software) and a headless Chromium. They are unpacked once into a cache. For tests and for people who work on
// this package; not part of what is published.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { brotliDecompressSync } from 'node:zlib'
import { userCacheFolder } from '@dynconv/core/node'

const require = createRequire(import.meta.url)

/** The folder with the unpacked SwiftShader (Linux x64). @throws Error when it cannot be unpacked */
export function swiftShader(): string {
  return cached('swiftshader', unpackSwiftShader)
}

/** The file of the unpacked headless Chromium (Linux x64; it needs the system's libnss3 and libnspr4). */
export function chromium(): string {
  const folder = cached('chromium', (bin, target) => {
    writeFileSync(join(target, 'chromium'), brotliDecompressSync(readFileSync(join(bin, 'chromium.br'))), { mode: 0o755 })
    // It looks for SwiftShader beside itself.
    unpackSwiftShader(bin, target)
  })
  return join(folder, 'chromium')
}

function unpackSwiftShader(bin: string, folder: string): void {
  // A .tar.br; `tar` is on every Linux, brotli is in Node.
  const tar = spawnSync('tar', ['-x', '-C', folder], { input: brotliDecompressSync(readFileSync(join(bin, 'swiftshader.tar.br'))) })
  if (tar.status !== 0) throw new Error(`tar could not unpack swiftshader.tar.br: ${tar.error?.message ?? tar.stderr.toString()}`)
}

/**
 * The environment in which a *new* process finds SwiftShader: the loader reads it when the process starts, so that setting
 * it in a running one is too late.
 *
 * @example spawn('node', ['script.js'], { env: softwareEnvironment() })
 */
export function softwareEnvironment(): NodeJS.ProcessEnv {
  const folder = swiftShader()
  const icd = join(folder, 'vk_swiftshader_icd.json')
  const runtime = join(folder, 'run')
  mkdirSync(runtime, { recursive: true, mode: 0o700 })
  return { ...process.env, VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd, LD_LIBRARY_PATH: folder, XDG_RUNTIME_DIR: runtime }
}

// Unpacks beside and renames, so that what is there is whole; whoever comes second throws his own away.
function cached(name: string, unpack: (bin: string, folder: string) => void): string {
  const root = dirname(dirname(dirname(require.resolve('@sparticuz/chromium'))))
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }
  const cache = userCacheFolder()
  const folder = join(cache, `${name}-${version}`)
  if (existsSync(folder)) return folder
  mkdirSync(cache, { recursive: true })
  const beside = mkdtempSync(`${folder}.tmp-`)
  try {
    unpack(join(root, 'bin'), beside)
    renameSync(beside, folder)
  } catch (error) {
    rmSync(beside, { recursive: true, force: true })
    if (!existsSync(folder)) throw error
  }
  return folder
}
