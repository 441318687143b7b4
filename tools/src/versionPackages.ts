// `pnpm version-packages`: turns the waiting changesets into version numbers and changelogs.
// Before 1.0 a minor release of core leaves the peer range ^0.y.z of every other package, and changesets answers that with
// a major release, 1.0.0, of all of them. The packages are always released together at one version, so the range need not
// force anything: it is widened while changesets works, and put back for pnpm to fill in when it packs.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { globSync } from 'tinyglobby'

const packed = /("peerDependencies": \{[^}]*"@dynconv\/core": )"workspace:\^"/
const widened = /("peerDependencies": \{[^}]*"@dynconv\/core": )"workspace:>=0\.0\.0"/

const manifests = globSync('packages/*/package.json')
const changed = manifests.filter((file) => rewrite(file, packed, '$1"workspace:>=0.0.0"'))
if (changed.length !== manifests.length - 1) {
  for (const file of changed) rewrite(file, widened, '$1"workspace:^"')
  throw new Error('version-packages: expected every package but core to have the peer "@dynconv/core": "workspace:^"')
}
try {
  execFileSync('changeset', ['version'], { stdio: 'inherit' })
} finally {
  for (const file of changed) rewrite(file, widened, '$1"workspace:^"')
}

function rewrite(file: string, pattern: RegExp, replacement: string): boolean {
  const text = readFileSync(file, 'utf8')
  if (!pattern.test(text)) return false
  writeFileSync(file, text.replace(pattern, replacement))
  return true
}
