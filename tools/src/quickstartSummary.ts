// What the quickstart promises to leave in runs/quickstart/summary.json, checked: both networks measured, and the exported
// .onnx giving the same numbers as the network it came from.
import { field } from './json.ts'

const fields = ['accuracy', 'parameters', 'macs', 'secondsPerEpoch', 'finalLoss'] as const

/** Largest difference allowed between a network's outputs and its exported file's, both float32. */
const onnxTolerance = 1e-3

/** Everything that is wrong with a quickstart's summary; empty when nothing is. */
export function summaryProblems(summary: unknown): string[] {
  const problems: string[] = []
  for (const network of ['static', 'dynamic']) {
    for (const name of fields) {
      const value = field(field(summary, network), name)
      if (!isFiniteNumber(value) || value < 0) problems.push(`${network}.${name}: expected a number, got ${shown(value)}`)
      else if (name === 'accuracy' && value > 1) problems.push(`${network}.accuracy: expected a fraction of 1, got ${value}`)
      else if (name !== 'accuracy' && name !== 'finalLoss' && value === 0) problems.push(`${network}.${name}: is 0`)
    }
  }
  const difference = field(summary, 'onnxMaxDifference')
  if (!isFiniteNumber(difference) || difference < 0 || difference >= onnxTolerance) {
    problems.push(`onnxMaxDifference: expected less than ${onnxTolerance}, got ${shown(difference)}`)
  }
  return problems
}

function isFiniteNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? 'nothing'
}
