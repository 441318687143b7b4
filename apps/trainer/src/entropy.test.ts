import { tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import { meanEntropy } from './entropy.ts'

test('1 for equal shares, 0 for a single basis, the mean over images', () => {
  expect(meanEntropy(tensor([0.25, 0.25, 0.25, 0.25], [1, 4]))).toBeCloseTo(1, 12)
  expect(meanEntropy(tensor([0, 1, 0, 0], [1, 4]))).toBe(0)
  expect(meanEntropy(tensor([0.5, 0.5, 1, 0], [2, 2]))).toBeCloseTo(0.5, 12)
  expect(meanEntropy(tensor([1, 1], [2, 1]))).toBe(0)
})

test('mixtures that do not sum to 1 are normalised', () => {
  expect(meanEntropy(tensor([0.9, 0.9], [1, 2]))).toBeCloseTo(1, 12)
  const [p, q] = [0.8, 0.2]
  expect(meanEntropy(tensor([4, 1], [1, 2]))).toBeCloseTo(-(p * Math.log2(p) + q * Math.log2(q)), 12)
})

test('other shapes are refused', () => {
  expect(() => meanEntropy(tensor([1, 2]))).toThrow('expected mixtures [B, K], got [2]')
})
