// `pnpm lint`, second half: prints every import that breaks the dependency rule (importRules.ts) and fails if there is one.
import { findViolations } from './importRules.ts'

const violations = findViolations(process.cwd())
for (const { file, line, specifier, reason } of violations) console.error(`${file}:${line}: '${specifier}' ${reason}`)
if (violations.length > 0) {
  console.error(`${violations.length} imports break the dependency rule (CONTRIBUTING.md, "Layers")`)
  process.exitCode = 1
}
