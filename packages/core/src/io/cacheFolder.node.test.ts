import { join } from 'node:path'
import { expect, test } from 'vitest'
import { measurementsFolder } from './cacheFolder.node.ts'

test('where measurements are kept: as asked, else by the variable, else in the cache of the user', () => {
  expect(measurementsFolder(undefined, { XDG_CACHE_HOME: '/c' })).toBe(join('/c', 'dynconv'))
  expect(measurementsFolder(undefined, { XDG_CACHE_HOME: '/c', DYNCONV_CACHE: '/d' })).toBe('/d')
  expect(measurementsFolder(undefined, { DYNCONV_CACHE: 'off' })).toBeUndefined()
  expect(measurementsFolder('/e', { DYNCONV_CACHE: 'off' })).toBe('/e')
  expect(measurementsFolder(false, {})).toBeUndefined()
})
