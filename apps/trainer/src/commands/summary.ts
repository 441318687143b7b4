// `summary`: what a network costs, layer by layer.

import { readCheckpoint, ValueError } from '@dynconv/core'
import type { Argv } from 'yargs'
import { withBackend } from '../backend.ts'
import { checkConfig, type DatasetName } from '../config.ts'
import { type DataFacts, factsOf, loadData } from '../data.ts'
import { configOf, factsIn } from '../folder.ts'
import { formatCount, formatTable } from '../format.ts'
import { buildNetwork, networkCost } from '../network.ts'
import { engineOptions, jsonOption, typed, withRunOptions } from './options.ts'
import { writeJson } from './output.ts'

type Shape = Pick<DataFacts, 'channels' | 'height' | 'width'> & { readonly classes: readonly string[] }

const fashion: Shape = { classes: numbered(10), channels: 1, height: 28, width: 28 }

// Published sets have known shapes: no need to load them.
const known: { readonly [D in Exclude<DatasetName, 'folder'>]: Shape } = {
  'fashion-mnist': fashion,
  'fashion-small': fashion,
  cifar10: { classes: numbered(10), channels: 3, height: 32, width: 32 },
  cifar100: { classes: numbered(100), channels: 3, height: 32, width: 32 },
}

/** Adds the command. */
export function addSummary(cli: Argv): Argv {
  return cli.command(
    'summary [checkpoint]',
    'Print parameters, multiply-adds and forms of each layer',
    (y) =>
      withRunOptions(y, ['dataset', 'data', 'size', 'model', 'bases', 'width'])
        .positional('checkpoint', { type: 'string', describe: 'a checkpoint of `train`; unless given, the options say which network' })
        .options({ images: { type: 'number', default: 1, describe: 'images at a time, for the choice of forms', requiresArg: true } })
        .options(engineOptions)
        .options(jsonOption)
        .example('$0 summary --model resnet20 --bases 4 --dataset cifar10', 'a network by its options'),
    async (argv) => {
      if (!Number.isInteger(argv.images) || argv.images < 1) throw new ValueError(`--images must be a positive integer, got ${argv.images}`)
      const checkpoint = argv.checkpoint === undefined ? undefined : await readCheckpoint(argv.checkpoint)
      const config = checkpoint ? configOf(checkpoint) : checkConfig(typed(argv))
      const facts: Shape = checkpoint ? factsIn(checkpoint) : config.dataset === 'folder' ? factsOf((await loadData(config)).train) : known[config.dataset]
      await withBackend(argv, async (backend) => {
        const cost = networkCost(buildNetwork(config, facts), facts, backend, argv.images)
        const dynamic = cost.layers.some((layer) => layer.form)
        const head = ['layer', 'kind', 'parameters', 'multiply-adds', ...(dynamic ? ['form', 'why'] : [])]
        const rows = cost.layers.map((l) => [l.name, l.kind, formatCount(l.parameters), formatCount(l.macs), ...(dynamic ? [l.form ?? '', l.reason ?? ''] : [])])
        console.log(formatTable(head, rows, ['parameters', 'multiply-adds']))
        const input = [facts.channels, facts.height, facts.width]
        console.log(`${formatCount(cost.parameters)} parameters; ${formatCount(cost.macs)} multiply-adds for an image [${input.join(', ')}], ${argv.images} at a time`)
        console.log(backend.capabilities.device)
        if (argv.json !== undefined) await writeJson(argv.json, { model: config.model, bases: config.bases, input, device: backend.capabilities.device, ...cost })
      })
    },
  )
}

function numbered(n: number): readonly string[] {
  return Array.from({ length: n }, (_, i) => String(i))
}
