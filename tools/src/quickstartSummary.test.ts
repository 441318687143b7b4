import { expect, test } from 'vitest'
import { summaryProblems } from './quickstartSummary.ts'

const network = { accuracy: 0.8, parameters: 1000, macs: 2000, secondsPerEpoch: 3, finalLoss: 0.5 }
const summary = { static: network, dynamic: network, onnxMaxDifference: 1e-5 }

test('accepts a whole summary', () => {
  expect(summaryProblems(summary)).toEqual([])
})

test.each([
  ['a network is missing', { dynamic: undefined }, 'dynamic.accuracy'],
  ['a field is missing', { static: { ...network, macs: undefined } }, 'static.macs'],
  ['a loss was not finite (JSON writes null)', { dynamic: { ...network, finalLoss: null } }, 'dynamic.finalLoss'],
  ['accuracy is a percentage', { static: { ...network, accuracy: 80 } }, 'static.accuracy'],
  ['nothing was measured', { static: { ...network, secondsPerEpoch: 0 } }, 'static.secondsPerEpoch'],
  ['a number is text', { static: { ...network, parameters: '1000' } }, 'static.parameters'],
  ['the exported file differs', { onnxMaxDifference: 1e-3 }, 'onnxMaxDifference'],
  ['the exported file was not compared', { onnxMaxDifference: undefined }, 'onnxMaxDifference'],
])('says what is wrong when %s', (_name, change, start) => {
  expect(summaryProblems({ ...summary, ...change })[0]).toMatch(start)
})

test('refuses an empty summary', () => {
  expect(summaryProblems(null)).toHaveLength(11)
})
