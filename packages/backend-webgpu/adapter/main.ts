// Runs something where there is a WebGPU adapter, on machines that have none but SwiftShader:
//   main.ts                 the suite in Node, then in headless Chromium
//   main.ts node|browser    one of them
//   main.ts COMMAND ...     any other command, in an environment in which Node's package `webgpu` finds SwiftShader

import { spawn } from 'node:child_process'
import path from 'node:path'
import { softwareEnvironment } from './software.ts'

function run(command: readonly string[]): Promise<number> {
  const [program = '', ...args] = command
  const child = spawn(program, args, { stdio: 'inherit', env: softwareEnvironment() })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (signal) process.stderr.write(`${program} ended by ${signal}\n`)
      resolve(code ?? 1)
    })
  })
}

const script = (name: string): readonly string[] => [process.execPath, '--import', 'tsx', path.join(import.meta.dirname, `${name}.ts`)]
const known = ['node', 'browser']
const [first, ...rest] = process.argv.slice(2)
const commands = first === undefined ? known.map(script) : known.includes(first) && rest.length === 0 ? [script(first)] : [[first, ...rest]]

let failures = 0
for (const command of commands) if ((await run(command)) !== 0) failures++
process.exitCode = failures > 0 ? 1 : 0
