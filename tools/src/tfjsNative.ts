// `pnpm tfjs:native [cpu|cuda] [--package FOLDER]`: gives @tensorflow/tfjs-node (cpu) or @tensorflow/tfjs-node-gpu (cuda) the
// native half that their installation would download: for continuous integration, and for users whose download fails. It
// works on the copy that @dynconv/backend-tfjs uses here, or on the installed package in FOLDER.

import { readFileSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { addonFile, type AddonPlan, buildAddon, fetchNapiHeaders, fetchTensorflow, type Flavour, flavours, napiVersion, tensorflowVersion } from './tfjsNativeBuild.ts'

const usage = 'usage: pnpm tfjs:native [cpu|cuda] [--package FOLDER]'

try {
  main()
} catch (error) {
  console.error(`tfjs:native: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}

function main(): void {
  const args = process.argv.slice(2).filter((arg) => arg !== '--')
  const { values, positionals } = parseArgs({ args, options: { package: { type: 'string' } }, allowPositionals: true })
  const [flavour = 'cuda', ...more] = positionals
  if (!isFlavour(flavour) || more.length > 0) throw new Error(`unknown arguments: ${positionals.join(' ')}\n${usage}`)
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`there is a recipe for Linux on x64 only, this is ${process.platform} on ${process.arch}; use the engine 'wasm' instead`)
  }
  const packageFolder = values.package === undefined ? installed(flavours[flavour].npm) : realpathSync(values.package)
  const napi = napiVersion(JSON.parse(readFileSync(path.join(packageFolder, 'package.json'), 'utf8')), Number(process.versions['napi']))
  const tensorflowFolder = fetchTensorflow(flavour, (line) => console.log(line))
  const napiInclude = fetchNapiHeaders(tensorflowFolder)
  const plan: AddonPlan = { packageFolder, tensorflowFolder, napiInclude, napi }
  const built = buildAddon(plan)
  console.log(`${built ? 'built' : 'already there:'} ${path.relative(process.cwd(), addonFile(plan))} for TensorFlow ${tensorflowVersion} (${flavour})`)
}

function isFlavour(name: string): name is Flavour {
  return Object.hasOwn(flavours, name)
}

// The copy that the backend loads.
function installed(name: string): string {
  const require = createRequire(path.resolve(import.meta.dirname, '../../packages/backend-tfjs/package.json'))
  try {
    return path.dirname(require.resolve(`${name}/package.json`))
  } catch (cause) {
    throw new Error(`${name} is not installed; run: pnpm install`, { cause })
  }
}
