// Runs an app from its sources with the arguments as a user typed them: `tsx tools/src/runApp.ts FILE [--] ARGS...`.
// pnpm hands a script the `--` of `pnpm train -- --epochs 3` too, where npm drops it; a command-line parser would then
// take every option after it for a positional argument. So that both spellings mean the same, the first `--` goes.
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [node = 'node', , file, ...rest] = process.argv
if (file === undefined) throw new Error('runApp: expected the file to run: tsx tools/src/runApp.ts FILE [ARGS...]')
const script = path.resolve(file)
process.argv = [node, script, ...(rest[0] === '--' ? rest.slice(1) : rest)]
await import(pathToFileURL(script).href)
