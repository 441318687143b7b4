import { expect, test } from 'vitest'
import { augmentationOf, checkConfig, fieldNames, flag, groups, scheduleOf, temperatureOf } from './config.ts'

test('every option has a default that passes its own check, and a place in the help', () => {
  const config = checkConfig({})
  expect(Object.keys(config).sort()).toEqual([...fieldNames].sort())
  expect(new Set(fieldNames).size).toBe(fieldNames.length)
  expect(Object.values(groups).flat()).toEqual(fieldNames)
  expect(config).toMatchObject({ dataset: 'fashion-mnist', model: 'resnet8', bases: 4 })
})

test('a configuration survives JSON', () => {
  const config = checkConfig({ epochs: 3, clip: 1.5, trainSamples: 100, temperature: '30:1:10' })
  expect(checkConfig({ ...JSON.parse(JSON.stringify(config)) })).toEqual(config)
})

test.each([
  [{ batch: 0 }, '--batch must be an integer of at least 1, got 0'],
  [{ batch: 1.5 }, '--batch must be an integer of at least 1, got 1.5'],
  [{ epochs: Number.NaN }, '--epochs must be an integer of at least 1, got NaN'],
  [{ lr: -1 }, '--lr must be a number of at least 0, got -1'],
  [{ momentum: 1 }, '--momentum must be a number of at least 0 and below 1, got 1'],
  [{ clip: 0 }, '--clip must be a number above 0, got 0'],
  [{ dataset: 'mnist' }, '--dataset must be one of fashion-mnist, fashion-small, cifar10, cifar100, folder, got "mnist"'],
  [{ dataset: 'folder' }, '--dataset folder needs --data'],
  [{ trainSamples: '5' }, '--train-samples must be an integer of at least 1, got "5"'],
  [{ temperature: '30:1' }, "--temperature: expected a positive number or start:end:epochs (30:1:10), got '30:1'"],
  [{ temperature: '0' }, '--temperature: expected a positive number'],
  [{ temperature: '30::10' }, '--temperature: expected a positive number'],
  [{ augment: 'rotate' }, "--augment: expected crop, flip, crop,flip or none, got 'rotate'"],
  [{ augment: 'flip,flip' }, '--augment: expected crop, flip'],
  [{ milestones: '3,x' }, "--milestones: expected positive numbers separated by commas (30,45), got '3,x'"],
])('%j is refused', (values, message) => {
  expect(() => checkConfig(values)).toThrow(message)
})

test('options are spelled with dashes', () => {
  expect(flag('weightDecay')).toBe('--weight-decay')
})

test('the rate rises, then falls as a cosine to 0', () => {
  const rate = scheduleOf(checkConfig({ lr: 1, epochs: 10, warmup: 1, schedule: 'cosine' }), 10)
  expect([rate(0), rate(4), rate(9)].map((r) => r.toFixed(3))).toEqual(['0.091', '0.455', '0.909'])
  expect(rate(10)).toBe(1)
  expect(rate(55)).toBeCloseTo(0.5, 10)
  expect(rate(99)).toBeLessThan(0.001)
})

test('the rate falls by steps at half and three quarters, or where told', () => {
  const rate = scheduleOf(checkConfig({ lr: 1, epochs: 8, warmup: 0.5, schedule: 'step' }), 10)
  expect([39, 40, 59, 60].map(rate).map((r) => Number(r.toPrecision(6)))).toEqual([1, 0.1, 0.1, 0.01])
  const told = scheduleOf(checkConfig({ lr: 1, epochs: 8, warmup: 0, schedule: 'step', milestones: '2' }), 10)
  expect([19, 20, 79].map(told).map((r) => Number(r.toPrecision(6)))).toEqual([1, 0.1, 0.1])
})

test('the rate may stay', () => {
  const rate = scheduleOf(checkConfig({ lr: 0.5, warmup: 0, schedule: 'constant' }), 10)
  expect([rate(0), rate(99)]).toEqual([0.5, 0.5])
})

test('a warm-up longer than the run leaves a run', () => {
  const rate = scheduleOf(checkConfig({ lr: 1, epochs: 1, warmup: 5 }), 4)
  expect([0, 1, 2, 3].map(rate).every((r) => r > 0 && r <= 1)).toBe(true)
})

test('the temperature stays or is annealed', () => {
  expect([0, 9].map(temperatureOf(checkConfig({ temperature: '4' })))).toEqual([4, 4])
  expect([0, 5, 10, 20].map(temperatureOf(checkConfig({ temperature: '30:1:10' })))).toEqual([30, 15.5, 1, 1])
})

test('the crop is in proportion to the image', () => {
  const config = checkConfig({ augment: 'crop,flip', seed: 7 })
  expect(augmentationOf(config, 32)).toEqual({ crop: { padding: 4 }, flip: true, seed: 7 })
  expect(augmentationOf(config, 4)).toEqual({ crop: { padding: 1 }, flip: true, seed: 7 })
  expect(augmentationOf(checkConfig({ augment: 'flip' }), 32)).toEqual({ flip: true, seed: 1 })
  expect(augmentationOf(checkConfig({ augment: 'none' }), 32)).toBeUndefined()
})
