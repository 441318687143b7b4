import { expect, test } from 'vitest'
import { formatCount, formatPercent, formatSeconds, formatTable } from './format.ts'

test('numbers for people', () => {
  expect(formatCount(9345920.4)).toBe('9,345,920')
  expect(formatPercent(0.9125)).toBe('91.25 %')
})

test.each([
  [0.424, '0.42 s'],
  [9.999, '10.0 s'],
  [99.94, '99.9 s'],
  [99.99, '1 min 40 s'],
  [119.7, '2 min 0 s'],
  [3599.7, '1 h 0 min'],
  [7500, '2 h 5 min'],
  [Number.NaN, '?'],
])('%d seconds', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text)
})

test('a table aligns its numbers', () => {
  const lines = formatTable(['layer', 'n'], [['conv1', '1'], ['fc', '1,000']], ['n']).split('\n')
  expect(lines.filter((line) => /^│ conv1 │     1 │$/.test(line))).toHaveLength(1)
  expect(lines.filter((line) => /^│ fc    │ 1,000 │$/.test(line))).toHaveLength(1)
})
