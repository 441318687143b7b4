// The passes: graph to graph. What every graph goes through stands in optimise.ts; the rest is called by name.

export * from './castPolicy.ts'
export { cse } from './cse.ts'
export * from './dce.ts'
export * from './decompose.ts'
export * from './fold.ts'
export * from './guardState.ts'
export * from './optimise.ts'
export * from './planDynamicConv.ts'
export { type Rewriting, type RewriteOptions, rewrite, type Visitor } from './rewrite.ts'
export * from './simplify.ts'
export * from './specialise.ts'
