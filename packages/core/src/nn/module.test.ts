import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { tensor, zeros } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { withSeed } from './init.ts'
import { traceModule } from '../train/compile.ts'
import { BatchNorm2d, Linear, ReLU, Sequential } from './layers.ts'
import { Module } from './module.ts'
import { Buffer, Parameter } from './parameter.ts'

class Net extends Module {
  readonly first: Linear = new Linear({ inFeatures: 3, outFeatures: 2 })
  readonly rest: Sequential = new Sequential(new ReLU(), new Linear({ inFeatures: 2, outFeatures: 1, bias: false }))
  readonly scale: Parameter = new Parameter(tensor([2]))
  readonly seen: Buffer = new Buffer(tensor(0))

  override forward(x: Tensor): Tensor {
    this.seen.value = this.seen.value.add(1)
    return this.rest.forward(this.first.forward(x)).mul(this.scale.value)
  }
}

test('names are property paths, in the order of fields', () => {
  const net = new Net()
  expect([...net.namedParameters().keys()]).toEqual(['first.weight', 'first.bias', 'rest.1.weight', 'scale'])
  expect([...net.namedBuffers().keys()]).toEqual(['seen'])
  expect([...net.namedModules().keys()]).toEqual(['', 'first', 'rest', 'rest.0', 'rest.1'])
})

test('a shared part keeps its first path', () => {
  const shared = new Linear({ inFeatures: 2, outFeatures: 2 })
  expect([...new Sequential(shared, shared).namedParameters().keys()]).toEqual(['0.weight', '0.bias'])
})

test('a module that contains itself is refused', () => {
  const outer = new Sequential(new ReLU())
  Object.defineProperty(outer, 'self', { value: outer, enumerable: true })
  expect(() => outer.namedParameters()).toThrow("module: 'self' contains itself")
})

test('train and eval reach every part', () => {
  const net = new Net()
  net.eval()
  expect([...net.namedModules().values()].some((m) => m.training)).toBe(false)
  net.train()
  expect([...net.namedModules().values()].every((m) => m.training)).toBe(true)
})

test('state is a copy and loads back', () => {
  const [a, b] = [withSeed(1, () => new Net()), withSeed(2, () => new Net())]
  const state = a.state()
  b.loadState(state)
  expect(b.state()).toEqual(state)
  const weight = state.get('first.weight')
  if (weight) weight.data[0] = 99
  expect(a.first.weight.data.data[0]).not.toBe(99)
})

test('a state that does not fit changes nothing and says what does not', () => {
  const net = new Net()
  const before = net.state()
  const state = net.state()
  state.delete('first.bias')
  state.set('scale', zeros([2]))
  state.set('extra', zeros([1]))
  expect(() => net.loadState(state)).toThrow(
    "loadState: the state does not fit this model: 'first.bias' is missing; 'scale' must be float32[1], got float32[2]; 'extra' is not in this model",
  )
  expect(net.state()).toEqual(before)
})

test("PyTorch's counts of batches beside running statistics are passed over, and no others", () => {
  const [norm, net] = [new BatchNorm2d(2), new Sequential(new BatchNorm2d(2), new Linear({ inFeatures: 1, outFeatures: 1 }))]
  const count = tensor(7, [], 'int32')
  norm.loadState(new Map([...norm.state(), ['running_mean', tensor([1, 2])], ['num_batches_tracked', count]]))
  expect(norm.running_mean.data).toEqual(tensor([1, 2]))
  net.loadState(new Map([...net.state(), ['0.num_batches_tracked', count]]))
  expect(() => net.loadState(new Map([...net.state(), ['1.num_batches_tracked', count]]))).toThrow("'1.num_batches_tracked' is not in this model")
})

test('a read sees the start of the run until the trace has written', () => {
  const net = new Net()
  const { graph } = trace((x) => net.forward(x), { inputs: [{ shape: [1, 3] }], names: net.paths() })
  const seen = graph.states.find((s) => s.name === 'seen')
  expect(seen?.kind).toBe('buffer')
  expect(seen?.update).toBeDefined()
  expect(graph.states.find((s) => s.name === 'scale')?.update).toBeUndefined()
})

test('a parameter outside the traced module is refused', () => {
  const stray = new Linear({ inFeatures: 3, outFeatures: 1 })
  expect(() => trace((x) => stray.forward(x), { inputs: [{ shape: [1, 3] }] })).toThrow('does not belong to the traced module')
  expect(() => stray.weight.value).toThrow('there is no trace here')
})

test('a forward that returns nothing is named', () => {
  class Forgetful extends Module {
    override forward(x: Tensor): Tensor {
      x.neg()
      return undefined as unknown as Tensor
    }
  }
  expect(() => traceModule(new Forgetful(), { inputs: [{ shape: [1] }] })).toThrow('trace: the traced function returned undefined; return a tensor, a list or a record of tensors')
})

test('a size that must be known says where to give it', () => {
  expect(() => trace((x) => x.mean(), { inputs: [{ shape: ['N'] }] })).toThrow('mean: axis 0 of [N] has an unknown size; specialise the graph first, or give it a number where it is compiled or exported')
  expect(() => trace((x) => x, { inputs: [{ shape: [null, 3] as unknown as number[] }] })).toThrow('a dimension must be a non-negative integer or a name, got null in [null, 3]')
})

test('batch norm in training needs more than one value per channel', () => {
  const norm = new BatchNorm2d(4)
  expect(() => trace((x) => norm.forward(x), { inputs: [{ shape: [1, 4, 1, 1] }], names: norm.paths() })).toThrow('more than one value per channel')
})
