// What the adapter can do at most, by its own clock: multiply-adds of registers, and copying.

import { Engine } from '../src/engine.ts'
import type { Device } from '../src/device.ts'
import { usage } from '../src/flags.ts'
import { Clock } from '../src/profile.ts'
import { fold, type Kernel, kernel, type Target } from '../src/wgsl/kernel.ts'

/** Dawn rounds its clock to 65.5 us unless told otherwise. */
export const exactClock: readonly string[] = ['disable-dawn-features=timestamp_quantization']

/** An adapter's ceilings. */
export interface Ceilings {
  readonly multiplyAddsPerSecond: number
  readonly bytesPerSecond: number
}

const workgroup = 256
const rounds = 10
const groups = 2048
const loops = 1024
const bytes = 2 ** 28

function multiplyAddKernel(target: Target): Kernel {
  const step = 'a = fma(a, m, q); b = fma(b, m, q); c = fma(c, m, q); d = fma(d, m, q);'
  return kernel({
    label: 'multiply-adds',
    target,
    bindings: [{ name: 'y', dtype: 'float32', width: 4, access: 'read_write' }],
    workgroupSize: workgroup,
    groups: [groups, 1, 1],
    body: `  var a = vec4<f32>(f32(lane)); var b = a + 1.0; var c = a + 2.0; var d = a + 3.0; let m = y[lane]; let q = y[lane + ${workgroup}u];
  for (var i = 0; i < ${loops}; i++) { ${step} ${step} }
  y[group.x * ${workgroup}u + lane] = a + b + c + d;`,
  })
}

function copyKernel(target: Target): Kernel {
  const { width, groups: copies } = fold(bytes / 16 / workgroup, target)
  return kernel({
    label: 'copy',
    target,
    bindings: [
      { name: 'x', dtype: 'float32', width: 4 },
      { name: 'y', dtype: 'float32', width: 4, access: 'read_write' },
    ],
    workgroupSize: workgroup,
    groups: copies,
    body: `  let i = (group.x + group.y * ${width}u) * ${workgroup}u + lane; if (i < ${bytes / 16}u) { y[i] = x[i]; }`,
  })
}

/** Measures them on a graphics card: the smallest time of ten. @throws UnsupportedOpError without timestamp-query */
export async function measureCeilings(device: Device): Promise<Ceilings> {
  const engine = new Engine(device)
  const milliseconds = async (k: Kernel, sizes: readonly number[]): Promise<number> => {
    const buffers = sizes.map((size) => engine.device.createBuffer({ size, usage: usage.storage }))
    const [compiled] = await engine.pipelines([k])
    if (!compiled) throw new Error('ceilings: the pipeline is missing')
    const group = engine.device.createBindGroup({ layout: compiled.layout, entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })) })
    const clock = new Clock()
    const encoder = engine.device.createCommandEncoder()
    for (let round = 0; round < rounds; round++) {
      const pass = encoder.beginComputePass(clock.pass(engine, k.label))
      pass.setPipeline(compiled.pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(...k.groups)
      pass.end()
    }
    engine.device.queue.submit([encoder.finish()])
    await clock.read(engine)
    for (const buffer of buffers) buffer.destroy()
    return Math.min(...clock.times.map((time) => time.milliseconds))
  }
  const products = await milliseconds(multiplyAddKernel(engine.target), [groups * workgroup * 16])
  const copying = await milliseconds(copyKernel(engine.target), [bytes, bytes])
  return { multiplyAddsPerSecond: (groups * workgroup * loops * 8 * 4) / (products / 1000), bytesPerSecond: (2 * bytes) / (copying / 1000) }
}
