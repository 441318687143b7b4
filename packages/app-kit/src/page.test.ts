import { expect, test } from 'vitest'
import { Page } from './page.ts'

test('a page holds what was added, in order, and texts stay texts', () => {
  const page = new Page('Runs & more')
  page.add('p', '<script>alert(1)</script>', 'note')
  page.table(['name', 'ms'], [['a <b>', '1.5'], ['b', '']])
  const figure = page.element('svg')
  page.figures([{ caption: 'A plot', plot: figure }])
  const text = page.toString()
  expect(text).toMatch(/^<!doctype html>/i)
  expect(text).toContain('<title>Runs &amp; more</title>')
  expect(text).not.toContain('<script')
  expect(text).toContain('<td>a &lt;b&gt;</td>')
  expect(text).toContain('<td class="number">1.5</td>')
  expect(text).toContain('<figcaption>A plot</figcaption>')
  expect(text.indexOf('alert')).toBeLessThan(text.indexOf('>1.5<'))
})

test('only columns of numbers are set flush right', () => {
  const page = new Page('t')
  page.table(['share', 'word', 'empty'], [['93 %', '12 apples', ''], ['1.2 MB', '3', '']])
  const text = page.toString()
  expect(text).toContain('<th class="number">share</th>')
  expect(text).toContain('<th>word</th>')
  expect(text).toContain('<th>empty</th>')
})
