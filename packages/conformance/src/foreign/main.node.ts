// The foreign vectors from a terminal: `tsx packages/conformance/src/foreign/main.node.ts [--backend NAME ...]`.

import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { defaultTargets } from '../targets.node.ts'
import { foreignCommand } from './command.node.ts'

const parser = yargs(hideBin(process.argv))
  .usage('$0 [options]\n\nRuns what PyTorch and the ONNX project computed on backends, and compares.')
  .option('backend', { array: true, string: true, default: [...defaultTargets], describe: 'reference, onnx, webgpu, a file (./my-backend.js) or a package, with #export' })
  .option('cases', { string: true, describe: "the folder of ONNX's node cases; where Debian's libonnx-testdata puts them unless given" })
  .option('verbose', { boolean: true, describe: 'list every reason for which a case is out' })
  .option('json', { string: true, describe: 'write the result to this file' })
  .strict()
  .fail(false)

try {
  process.exitCode = await foreignCommand(await parser.parseAsync())
} catch (error) {
  // foreignCommand reports its own; what comes here is a wrong option.
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\nsee --help\n`)
  process.exitCode = 2
}
