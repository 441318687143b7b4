import { parseHTML } from 'linkedom'
import { expect, test, vi } from 'vitest'
import { checkConfig } from './config.ts'
import type { EpochRecord, StepRecord } from './history.ts'
import { type ReportedRun, reportHtml } from './report.ts'

const steps = Array.from({ length: 1000 }, (_, i): StepRecord => ({ type: 'step', epoch: 1 + Math.floor(i / 500), step: i + 1, loss: 2 / (i + 1), correct: 1, samples: 2, lr: 0.1, seconds: 0.1 }))
const epochs = [1, 2].map(
  (n): EpochRecord => ({
    type: 'epoch',
    epoch: n,
    step: 500 * n,
    trainLoss: 1 / n,
    trainAccuracy: 0.5,
    testLoss: 1 / n,
    testAccuracy: 0.9125,
    temperature: 1,
    entropy: { 'layer1.0.conv1': 0.9, 'layer1.0.conv2': 0.5 },
    seconds: 10,
    testSeconds: 1,
  }),
)
const cost = { parameters: 77754, macs: 9345920, batch: 1, layers: [{ name: 'conv1', kind: 'Conv2d', parameters: 144, macs: 112896, form: undefined, reason: undefined }] }
const run = (name: string, changes: Partial<ReportedRun> = {}): ReportedRun => ({ name, config: checkConfig({ epochs: 2 }), steps, epochs, cost, ...changes })

test('one page without a network: curves, figures, layers and settings', () => {
  const html = reportHtml('A report', [run('K=4')])
  // Names of XML namespaces are no addresses to load.
  expect(html.replace(/http:\/\/www\.w3\.org\/\S*/g, '')).not.toMatch(/https?:|<script|<link|src=|@import|url\((?!#)/)
  const { document } = parseHTML(html)
  expect(document.title).toBe('A report')
  expect([...document.querySelectorAll('figcaption')].map((c) => c.textContent)).toEqual(['Accuracy', 'Loss', 'Routing entropy'])
  const figures = [...document.querySelectorAll('body > div > figure')]
  expect(figures.map((f) => f.querySelectorAll('g[aria-label="line"] path').length)).toEqual([2, 2, 2])
  expect(html).not.toMatch(/NaN|undefined/)
  for (const text of ['91.25 %', '77,754', '9,345,920', '10.0 s', 'conv1', '--weight-decay']) expect(document.body.textContent).toContain(text)
})

test('runs stand side by side, with names as text', () => {
  const { document } = parseHTML(reportHtml('x', [run('static', { epochs: epochs.map((e) => ({ ...e, entropy: {} })) }), run('<b>K</b>')]))
  expect([...document.querySelectorAll('figcaption')].map((c) => c.textContent)).toEqual(['Accuracy', 'Loss', 'Routing entropy (<b>K</b>)'])
  expect(document.querySelector('b')).toBeNull()
  expect(document.querySelectorAll('figure g[aria-label="line"]')[0]?.querySelectorAll('path').length).toBe(4)
})

test('nothing is said where there are few points', () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  reportHtml('A report', [run('K=4', { epochs: epochs.slice(0, 1), steps: steps.slice(0, 3) })])
  expect(warn).not.toHaveBeenCalled()
  warn.mockRestore()
})

test('a run without an epoch has a report too', () => {
  const { document } = parseHTML(reportHtml('x', [run('K=4', { epochs: [], steps: [] })]))
  expect(document.body.textContent).toContain('No epoch was completed')
  expect(document.querySelector('svg')).toBeNull()
})
