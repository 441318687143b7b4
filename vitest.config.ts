import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{packages,apps}/*/src/**/*.test.ts', 'tools/src/**/*.test.ts'],
    // Numerical tests on a busy two-core machine take longer than vitest's five seconds now and then.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
