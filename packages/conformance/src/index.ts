// The public face of @dynconv/conformance: the list of cases, the tolerances, and the suite that runs one within the other.
// It runs in browsers. The command is cli.node.ts; for vitest there is '@dynconv/conformance/vitest'.

export { type ContractCase, contractCases } from './cases/contract.ts'
export { type Case, type CaseOptions, defineCase, moduleCase, opCase, type OpCaseOptions, type Order } from './cases/define.ts'
export { allCases } from './cases/index.ts'
export { type PerfCase, perfCases } from './cases/perf.ts'
export { randomCase } from './cases/random.ts'
export { type Application, allowances, type Bound, bounds, type BoundTable, type ResultType } from './expect/bounds.ts'
export { compare, type Difference, formatDifference, type Mismatch } from './expect/compare.ts'
export { type Expectation, expectation, type Wanted } from './expect/expectation.ts'
export type { Program } from './expect/program.ts'
export { execute, type ExecuteOptions } from './run/execute.ts'
export type { Figures } from './run/measure.ts'
export type { Status, Target } from './run/outcomes.ts'
export { formatResult, formatSummary, reportData, supportOf } from './run/report.ts'
export { type Mode, modes, type PlanOptions } from './run/plan.ts'
export { type Lane, type Report, type Result, runSuite, type SuiteOptions } from './run/suite.ts'
export type { SupportCell, SupportColumn } from './run/support.ts'
