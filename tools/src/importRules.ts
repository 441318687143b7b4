// The dependency rule of the repository, checked on every import of every source file:
//   packages/core     imports nothing outside itself;
//   packages/*        may import core, and never each other, where they are published; their tests may import the suite;
//   private packages  (what apps share), apps/*, tools: may import every package;
//   apps              are imported by nobody.
// On top of it: a package is reached by its name, never by a path into its folder, and whatever a file imports is
// declared in the package.json beside it. Tests are *.test.ts and, outside of core, what lies in src/testing/. It is not a check for cycles (the linter has one: import/no-cycle).
import { globSync } from 'tinyglobby'
import { readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import path from 'node:path'
import { parseSync } from 'oxc-parser'

/** One import that breaks the dependency rule. */
export interface Violation {
  /** The importing file, relative to the repository's root, with forward slashes. */
  readonly file: string
  /** Line of the import, counted from 1. */
  readonly line: number
  /** What the file asked for, as written. */
  readonly specifier: string
  /** Which rule it breaks, and what to do. */
  readonly reason: string
}

interface Manifest {
  readonly name: string
  readonly private?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

interface Member {
  /** Folder relative to the root: `packages/core`, `apps/trainer`, `tools`. */
  readonly dir: string
  readonly manifest: Manifest
}

interface Import {
  readonly specifier: string
  readonly line: number
}

const core = '@dynconv/core'
const suite = '@dynconv/conformance'
const nodeBuiltins = new Set(builtinModules)

/**
 * Every import below `root` that breaks the dependency rule, sorted by file and line.
 *
 * @throws Error when a source file does not parse or `root` holds no package.
 */
export function findViolations(root: string): Violation[] {
  const members = globSync(['packages/*/package.json', 'apps/*/package.json', 'tools/package.json'], { cwd: root })
    .map((file): Member => ({ dir: path.posix.dirname(file), manifest: readManifest(path.join(root, file)) }))
    .sort((a, b) => a.dir.localeCompare(b.dir))
  if (members.length === 0) throw new Error(`findViolations: ${root} holds no packages/*/package.json`)
  const shared = readManifest(path.join(root, 'package.json')).devDependencies ?? {}
  return members.flatMap((member) =>
    globSync(`${member.dir}/src/**/*.{ts,mts}`, { cwd: root })
      .sort()
      .flatMap((file) =>
        importsOf(file, readFileSync(path.join(root, file), 'utf8')).flatMap((found): Violation[] => {
          const reason = objection(member, file, found.specifier, members, shared)
          return reason === null ? [] : [{ file, ...found, reason }]
        }),
      ),
  )
}

/** Why `member` may not import `specifier` from `file`; null when it may. */
function objection(
  member: Member,
  file: string,
  specifier: string,
  members: readonly Member[],
  shared: Readonly<Record<string, string>>,
): string | null {
  if (specifier.startsWith('.')) {
    const target = path.posix.join(path.posix.dirname(file), specifier)
    return target.startsWith(`${member.dir}/`) ? null : 'leaves its package: import the other package by its name'
  }
  const isCore = member.manifest.name === core
  const isTest = file.endsWith('.test.ts') || (!isCore && file.startsWith(`${member.dir}/src/testing/`))
  if (specifier.startsWith('node:')) {
    const allowed = !isCore || isTest || /(^|\/|\.)node\.ts$/.test(file)
    return allowed ? null : 'core runs in browsers: Node modules belong in src/node.ts or *.node.ts, behind "@dynconv/core/node"'
  }
  const name = packageName(specifier)
  if (nodeBuiltins.has(name)) return `write node:${specifier}`
  if (name === member.manifest.name) return 'imports its own package by name: use a relative path'
  const target = members.find((other) => other.manifest.name === name)
  if (target !== undefined) {
    if (isCore) return 'core imports nothing outside itself'
    if (!target.dir.startsWith('packages/')) return 'nothing imports an app or the tools'
    const isPublished = member.dir.startsWith('packages/') && member.manifest.private !== true
    if (isPublished && name !== core && !(isTest && name === suite)) return 'packages that are published may import core, and never each other; their tests may import the suite'
  } else if (isCore && !isTest) {
    return 'core has no dependencies'
  }
  const { dependencies, peerDependencies, optionalDependencies, devDependencies } = member.manifest
  const declared = { ...dependencies, ...peerDependencies, ...optionalDependencies, ...(isTest ? { ...devDependencies, ...shared } : {}) }
  return name in declared ? null : `${name} is not declared in ${member.dir}/package.json`
}

/** `@scope/name/sub` -> `@scope/name`; `name/sub` -> `name`. */
function packageName(specifier: string): string {
  return specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
}

/** Static imports, re-exports, and dynamic imports of a literal; type-only ones too, for they bind packages as well. */
function importsOf(file: string, text: string): Import[] {
  const { module, errors } = parseSync(file, text)
  const [error] = errors
  if (error !== undefined) throw new Error(`${file}: ${error.message}`)
  const found: { specifier: string; start: number }[] = []
  for (const { moduleRequest } of module.staticImports) found.push({ specifier: moduleRequest.value, start: moduleRequest.start })
  for (const { entries } of module.staticExports) {
    const [request] = entries.flatMap(({ moduleRequest }) => moduleRequest ?? [])
    if (request !== undefined) found.push({ specifier: request.value, start: request.start })
  }
  for (const { moduleRequest } of module.dynamicImports) {
    const literal = /^(['"`])([^'"`$]*)\1$/.exec(text.slice(moduleRequest.start, moduleRequest.end))
    if (literal?.[2] !== undefined) found.push({ specifier: literal[2], start: moduleRequest.start })
  }
  return found
    .sort((a, b) => a.start - b.start)
    .map(({ specifier, start }) => ({ specifier, line: text.slice(0, start).split('\n').length }))
}

function readManifest(file: string): Manifest {
  const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
  if (!isManifest(value)) throw new Error(`${file}: has no name`)
  return value
}

function isManifest(value: unknown): value is Manifest {
  return typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string'
}
