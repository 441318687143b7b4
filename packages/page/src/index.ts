// The public face of @dynconv/page, a private package that the apps share.

export * from './page.ts'
