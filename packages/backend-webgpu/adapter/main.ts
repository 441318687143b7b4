// Runs something where there is a WebGPU adapter, on machines that have none but SwiftShader:
//   main.ts                        the suite in Node, then in headless Chromium, then the published package in a page
//   main.ts node|browser|packed    one of them; `browser --all`: the whole conformance suite in the page
//   main.ts benchmark|step ...     measurements (see there for their options)
//   main.ts COMMAND ...            any other command, in an environment in which Node's package `webgpu` finds SwiftShader
//   main.ts --card ...             any of these in Node, on the machine's own adapter

import { spawn } from 'node:child_process'
import path from 'node:path'
import { softwareEnvironment } from './software.ts'

function run(command: readonly string[]): Promise<number> {
  const [program = '', ...args] = command
  const child = spawn(program, args, { stdio: 'inherit', env: onCard ? process.env : softwareEnvironment() })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (signal) process.stderr.write(`${program} ended by ${signal}\n`)
      resolve(code ?? 1)
    })
  })
}

const script = (name: string): readonly string[] => [process.execPath, '--import', 'tsx', path.join(import.meta.dirname, `${name}.ts`)]
const checks = ['node', 'browser', 'packed']
const own = [...checks, 'benchmark', 'step']
const onCard = process.argv[2] === '--card'
const [first, ...rest] = process.argv.slice(onCard ? 3 : 2)
const commands = first === undefined ? (onCard ? ['node'] : checks).map(script) : [[...(own.includes(first) ? script(first) : [first]), ...rest]]

let failures = 0
for (const command of commands) if ((await run(command)) !== 0) failures++
process.exitCode = failures > 0 ? 1 : 0
