// Checks what `pnpm publish` would upload: packs every public package, looks for a README and a licence, runs publint --strict
// and attw on each tarball, then installs all of them in an empty folder and imports every entry point with plain Node. Needs
// `pnpm build` first.
// Usage: tsx tools/src/checkPackages.ts [FOLDER FOR THE TARBALLS]
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { globSync } from 'tinyglobby'
import { field } from './json.ts'

interface Package {
  readonly name: string
  readonly dir: string
  /** Entry points as a user imports them: `@dynconv/core`, `@dynconv/core/node`. */
  readonly entries: readonly string[]
}

const root = process.cwd()
const [, , target = 'runs/packages'] = process.argv
const tarballs = path.resolve(target)
rmSync(tarballs, { recursive: true, force: true })
mkdirSync(tarballs, { recursive: true })

const packages = globSync(['packages/*/package.json', 'apps/*/package.json'], { cwd: root }).sort().flatMap(readPackage)
if (packages.length === 0) throw new Error('checkPackages: no public package below packages/ or apps/')
const packed = packages.map((each) => {
  console.log(`\n${each.name}`)
  run('pnpm', ['pack', '--pack-destination', tarballs], each.dir)
  const tarball = path.join(tarballs, tarballName(each))
  checkTexts(tarball)
  run('publint', ['run', '--strict', tarball])
  run('attw', ['--profile', 'esm-only', tarball])
  return tarball
})
importAll(packed)
console.log(`\n${packages.length} packages are fit to publish: ${packages.map(({ name }) => name).join(', ')}`)

function readPackage(file: string): Package[] {
  const manifest: unknown = JSON.parse(readFileSync(path.join(root, file), 'utf8'))
  if (field(manifest, 'private') === true) return []
  const name = field(manifest, 'name')
  const exports = field(field(manifest, 'publishConfig'), 'exports')
  if (typeof name !== 'string') throw new Error(`${file}: has no name`)
  if (typeof exports !== 'object' || exports === null) throw new Error(`${file}: publishConfig.exports must name the built entry points`)
  // An entry that is named after an optional peer (`./vitest`) is for those who have it: it is packed and examined, not imported.
  const optional = Object.keys(field(manifest, 'peerDependenciesMeta') ?? {}).map((peer) => `./${peer}`)
  const entries = Object.keys(exports).filter((key) => !key.endsWith('.json') && !optional.includes(key)).map((key) => path.posix.join(name, key))
  return [{ name, dir: path.join(root, path.dirname(file)), entries }]
}

/** pnpm's name for a tarball: `@dynconv/core` 1.2.3 -> `dynconv-core-1.2.3.tgz`. */
function tarballName({ name, dir }: Package): string {
  const version = field(JSON.parse(readFileSync(path.join(dir, 'package.json'), 'utf8')), 'version')
  return `${name.replace('@', '').replace('/', '-')}-${String(version)}.tgz`
}

/** What a registry shows of a package, and what its licence asks for. */
function checkTexts(tarball: string): void {
  const files = execFileSync('tar', ['tf', tarball], { encoding: 'utf8' }).split('\n')
  const missing = ['README.md', 'LICENSE'].filter((file) => !files.includes(`package/${file}`))
  if (missing.length > 0) throw new Error(`checkPackages: ${path.basename(tarball)} has no ${missing.join(' and no ')}`)
}

/** Installs the tarballs as a user would, without this repository's node_modules, and imports each entry point. */
function importAll(files: readonly string[]): void {
  const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-consumer-'))
  try {
    writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n')
    run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...files], folder)
    for (const entry of packages.flatMap(({ entries }) => entries)) {
      run(process.execPath, ['--input-type=module', '--eval', `await import('${entry}')`], folder)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function run(command: string, args: readonly string[], cwd = root): void {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
}
