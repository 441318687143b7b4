// HTML pages that need no network and no script, built on a document of linkedom's: headings, paragraphs, tables, and
// figures that a plotting library has drawn on the page's own document. Whatever a text says, it stays text.

import { parseHTML } from 'linkedom'

/** linkedom's document; a plotting library takes it as the DOM's. */
export type PageDocument = ReturnType<typeof parseHTML>['document']
/** An element of it. */
export type PageElement = ReturnType<PageDocument['createElement']>
/** What can stand in a page: an element, or a plot drawn on the page's document. */
export type PageNode = Parameters<PageElement['append']>[number]

const style = `
  :root { color-scheme: light dark }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
  .plots { margin-top: 1.5rem; display: flex; flex-wrap: wrap; gap: 1.5rem }
  figure { margin: 0; max-width: 640px } figcaption { font-weight: 600 }
  svg { max-width: 100%; height: auto; background: none }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums }
  .wide { overflow-x: auto }
  th, td { padding: .15rem .8rem .15rem 0; text-align: left; border-bottom: 1px solid #8884 }
  td.number, th.number { text-align: right }
  .note { opacity: .75 }
`

// A cell that counts as a number: `12.3`, `1,204`, `93 %`, `1.2 MB`; empty ones agree with any column.
const numeric = /^[-+±]?[\d.,]*( ?[%a-zA-Z]{1,2})?$/

/** A page that grows from top to bottom. */
export class Page {
  readonly document: PageDocument

  constructor(title: string) {
    this.document = parseHTML('<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head><body></body></html>').document
    // linkedom writes the text of a title as it is, so it is escaped here.
    this.document.head.append(this.element('title', title.replaceAll('&', '&amp;').replaceAll('<', '&lt;')), this.element('style', style))
    this.add('h1', title)
  }

  /** An element with a text, not yet in the page. */
  element(tag: string, text: string = '', className?: string): PageElement {
    const element = this.document.createElement(tag)
    if (text) element.textContent = text
    if (className !== undefined) element.setAttribute('class', className)
    return element
  }

  /** Adds an element with a text. */
  add(tag: string, text: string = '', className?: string): PageElement {
    const element = this.element(tag, text, className)
    this.document.body.append(element)
    return element
  }

  /** Adds figures side by side, as many as fit. */
  figures(figures: readonly { readonly caption: string; readonly plot: PageNode }[]): void {
    const row = this.add('div', '', 'plots')
    for (const { caption, plot } of figures) {
      const figure = this.element('figure')
      figure.append(this.element('figcaption', caption), plot)
      row.append(figure)
    }
  }

  /** Adds a table; columns that hold only numbers are set flush right. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const table = this.element('table')
    const isNumber = head.map((_, i) => rows.some((row) => row[i]) && rows.every((row) => numeric.test(row[i] ?? '')))
    const line = (tag: string, cells: readonly string[]): PageElement => {
      const row = this.element('tr')
      cells.forEach((text, i) => row.append(this.element(tag, text, isNumber[i] ? 'number' : undefined)))
      return row
    }
    table.append(line('th', head), ...rows.map((row) => line('td', row)))
    this.add('div', '', 'wide').append(table)
  }

  /** The page's text. */
  toString(): string {
    return `<!doctype html>${this.document.documentElement.outerHTML}\n`
  }
}
