// Losses: functions from the network's output and the targets to a scalar.

import { DTypeError, ShapeError, ValueError } from '../backend/errors.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, known, type Shape, sameShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** A loss: (output, target) -> scalar. */
export interface Loss {
  (output: Tensor, target: Tensor): Tensor
  /** Looks at a batch's targets before it runs, for what a graph cannot refuse; `output` is the network's shape. @throws ValueError */
  readonly check?: (target: HostTensor, output: Shape) => void
}

/**
 * Cross entropy of logits [N, C] against int32 classes [N], averaged over the batch. With smoothing s the target is
 * (1 - s) onehot + s / C (Szegedy et al. 2016, arXiv:1512.00567), as in PyTorch. A training refuses labels outside [0, C),
 * whose one-hot row would be zeros: such samples would count in the average and teach nothing.
 *
 * @throws ValueError unless 0 <= smoothing < 1
 */
export function crossEntropy(options: { readonly smoothing?: number } = {}): Loss {
  const smoothing = options.smoothing ?? 0
  if (!(smoothing >= 0 && smoothing < 1)) throw new ValueError(`crossEntropy: smoothing must be in [0, 1), got ${smoothing}`)
  const loss = (logits: Tensor, labels: Tensor): Tensor => {
    if (labels.dtype !== 'int32') throw new DTypeError(`crossEntropy: labels must be int32 classes, got ${labels.dtype}`)
    if (logits.rank !== 2 || labels.rank !== 1 || logits.shape[0] !== labels.shape[0]) {
      throw new ShapeError(`crossEntropy: expected logits [N, C] and labels [N], got ${formatShape(logits.shape)} and ${formatShape(labels.shape)}`)
    }
    const classes = known('crossEntropy', 'the number of classes', logits.shape[1])
    const batch = known('crossEntropy', 'the batch', logits.shape[0])
    const target = labels.oneHot(classes, logits.dtype)
    const smooth = smoothing ? target.mul(1 - smoothing).add(smoothing / classes) : target
    return logits.logSoftmax(1).mul(smooth).sum().div(-batch)
  }
  return Object.assign(loss, { check: checkLabels })
}

function checkLabels({ data }: HostTensor, logits: Shape): void {
  const classes = known('crossEntropy', 'the number of classes', logits[1])
  const wrong = data.findIndex((label) => label < 0 || label >= classes)
  if (wrong >= 0) throw new ValueError(`crossEntropy: labels must be classes from 0 to ${classes - 1}, got ${data[wrong]} for sample ${wrong}`)
}

/** The mean of squared differences. */
export function mse(): Loss {
  return (output, target) => difference('mse', output, target).square().mean()
}

/** The mean of absolute differences. */
export function l1(): Loss {
  return (output, target) => difference('l1', output, target).abs().mean()
}

function difference(who: string, output: Tensor, target: Tensor): Tensor {
  if (!sameShape(output.shape, target.shape)) {
    throw new ShapeError(`${who}: output ${formatShape(output.shape)} and target ${formatShape(target.shape)} must have one shape`)
  }
  return output.sub(target)
}
