// What the ops of PyTorch's fixtures are here: a table from their names to functions on our tensors, or to our modules.
// Names and arguments are those that tools/oracle writes. Fixtures of optimizers are torchOptim.ts's business.

import {
  avgPool2d,
  batchNorm,
  BatchNorm2d,
  batchNormInference,
  conv2d,
  type Conv2dAttrs,
  crossEntropy,
  dynamicConv2d,
  DynamicConv2d,
  type DynamicConv2dOptions,
  type DynamicConvForm,
  globalAvgPool2d,
  GraphError,
  groupNorm,
  l1,
  type Loss,
  maxPool2d,
  type Module,
  mse,
  type OpAttrs,
  type Pool2dAttrs,
  resize,
  type Tensor,
} from '@dynconv/core'

/** The outputs of a function, by name, from its inputs, by name. */
export type TorchFunction = (inputs: Inputs) => { readonly [name: string]: Tensor }

/** A function, and the module whose states are some of its inputs. */
export interface TorchOp {
  readonly apply: TorchFunction
  readonly module?: Module
}

/** The inputs of a case. */
export interface Inputs {
  readonly get: (name: string) => Tensor
  readonly find: (name: string) => Tensor | undefined
}

/** A row: from the arguments in the fixture (and the form of a dynamic convolution) to the op. */
type Row = (args: Readonly<Record<string, unknown>>, form: DynamicConvForm) => TorchOp

/** Whether `op` is computed in one of several forms. */
export function hasForms(op: string): boolean {
  return op === 'dynamicConv2d' || op === 'DynamicConv2d'
}

/** The op of a case. @throws GraphError for a name that the table lacks */
export function torchOp(op: string, args: Readonly<Record<string, unknown>>, form: DynamicConvForm): TorchOp {
  const row = Object.hasOwn(rows, op) ? rows[op] : undefined
  if (!row) throw new GraphError(`torchOp: there is nothing here for '${op}' of the fixture; add it to the table in torchOps.ts`)
  return row(args, form)
}

// Boundary: arguments come from JSON, and each op's own `infer` checks them.
function attrsOf<A>(args: Readonly<Record<string, unknown>>): A {
  return args as A
}

const y = (fn: (inputs: Inputs) => Tensor): TorchOp => ({ apply: (inputs) => ({ y: fn(inputs) }) })

type Unary = 'abs' | 'exp' | 'log' | 'neg' | 'relu' | 'rsqrt' | 'sigmoid' | 'sqrt' | 'tanh'
type Binary = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'max' | 'min'

const unary = (name: Unary): readonly [string, Row] => [name, () => y((of) => of.get('x')[name]())]
const binary = (name: Binary): readonly [string, Row] => [name, () => y((of) => of.get('a')[name](of.get('b')))]
const loss = (fn: Loss, output: string, target: string): TorchOp => y((of) => fn(of.get(output), of.get(target)))

const rows: Readonly<Record<string, Row>> = {
  ...Object.fromEntries((['abs', 'exp', 'log', 'neg', 'relu', 'rsqrt', 'sigmoid', 'sqrt', 'tanh'] as const).map(unary)),
  ...Object.fromEntries((['add', 'sub', 'mul', 'div', 'pow', 'max', 'min'] as const).map(binary)),
  clamp: (args) => y((of) => of.get('x').clamp(attrsOf<OpAttrs['clamp']>(args).min, attrsOf<OpAttrs['clamp']>(args).max)),
  matmul: (args) => y((of) => of.get('a').matmul(of.get('b'), attrsOf<OpAttrs['matmul']>(args))),
  reduceSum: (args) => y((of) => of.get('x').sum(attrsOf<OpAttrs['reduceSum']>(args).axes, attrsOf<OpAttrs['reduceSum']>(args).keepDims)),
  reduceMax: (args) => y((of) => of.get('x').maxOver(attrsOf<OpAttrs['reduceMax']>(args).axes, attrsOf<OpAttrs['reduceMax']>(args).keepDims)),
  gather: (args) => y((of) => of.get('x').gather(of.get('indices'), attrsOf<OpAttrs['gather']>(args).axis)),
  scatterAdd: (args) => y((of) => of.get('x').scatterAdd(of.get('indices'), attrsOf<OpAttrs['scatterAdd']>(args).axis, attrsOf<OpAttrs['scatterAdd']>(args).size)),
  softmax: (args) => y((of) => of.get('x').softmax(attrsOf<OpAttrs['softmax']>(args).axis)),
  logSoftmax: (args) => y((of) => of.get('x').logSoftmax(attrsOf<OpAttrs['logSoftmax']>(args).axis)),

  conv2d: (args) => y((of) => conv2d(of.get('x'), of.get('weight'), { ...attrsOf<Conv2dAttrs>(args), bias: of.find('bias') })),
  maxPool2d: (args) => y((of) => maxPool2d(of.get('x'), attrsOf<Pool2dAttrs>(args))),
  avgPool2d: (args) => y((of) => avgPool2d(of.get('x'), attrsOf<OpAttrs['avgPool2d']>(args))),
  globalAvgPool2d: () => y((of) => globalAvgPool2d(of.get('x'))),
  resize: (args) => y((of) => resize(of.get('x'), attrsOf<OpAttrs['resize']>(args))),

  batchNorm: (args) => ({
    apply: (of) => {
      const [result, mean, variance] = batchNorm(of.get('x'), of.get('gamma'), of.get('beta'), attrsOf<OpAttrs['batchNorm']>(args))
      return { y: result, mean, variance }
    },
  }),
  batchNormInference: (args) =>
    y((of) => batchNormInference(of.get('x'), of.get('gamma'), of.get('beta'), of.get('mean'), of.get('variance'), attrsOf<OpAttrs['batchNormInference']>(args))),
  groupNorm: (args) => y((of) => groupNorm(of.get('x'), of.get('gamma'), of.get('beta'), attrsOf<OpAttrs['groupNorm']>(args))),
  BatchNorm2d: (args) => {
    const { channels, training, ...options } = attrsOf<{ readonly channels: number; readonly training: boolean; readonly epsilon: number; readonly momentum: number }>(args)
    const module = new BatchNorm2d(channels, options).train(training)
    return { module, ...y((of) => module.forward(of.get('x'))) }
  },

  crossEntropy: (args) => loss(crossEntropy(attrsOf<{ readonly smoothing: number }>(args)), 'logits', 'labels'),
  mse: () => loss(mse(), 'output', 'target'),
  l1: () => loss(l1(), 'output', 'target'),

  dynamicConv2d: (args, form) =>
    y((of) => dynamicConv2d(of.get('x'), of.get('bases'), of.get('pi'), { ...attrsOf<Conv2dAttrs>(args), bias: of.find('bias'), form })),
  DynamicConv2d: (args, form) => {
    const module = new DynamicConv2d({ ...attrsOf<DynamicConv2dOptions>(args), form })
    const apply: TorchFunction = (of) => {
      const pi = module.routing.forward(of.get('x'))
      return { y: module.mix(of.get('x'), pi), pi }
    }
    return { module, apply }
  },
}
