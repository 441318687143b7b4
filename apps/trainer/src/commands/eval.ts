// `eval`: the loss and the accuracy of a checkpoint.

import { crossEntropy, readCheckpoint, restoreCheckpoint, sgd, trainer, ValueError } from '@dynconv/core'
import type { ImageDataset } from '@dynconv/datasets'
import type { Argv } from 'yargs'
import { withBackend } from '../backend.ts'
import { checkConfig, choices } from '../config.ts'
import { type DataFacts, loadData } from '../data.ts'
import { configOf, factsIn } from '../folder.ts'
import { formatCount, formatPercent, formatSeconds } from '../format.ts'
import { buildNetwork } from '../network.ts'
import { evaluateSet } from '../run.ts'
import { downloadProgress } from '../terminal.ts'
import { engineOptions, jsonOption } from './options.ts'
import { writeJson } from './output.ts'

/** Adds the command. */
export function addEval(cli: Argv): Argv {
  return cli.command(
    'eval <checkpoint>',
    'Evaluate a checkpoint',
    (y) =>
      y
        .positional('checkpoint', { type: 'string', demandOption: true, describe: 'a checkpoint of `train`' })
        .options({
          dataset: { choices: choices.dataset, describe: 'other images than those of its training' },
          data: { type: 'string', describe: 'folder with the data set’s files', requiresArg: true },
          split: { choices: ['train', 'test'] as const, default: 'test' as const, describe: 'which images' },
        })
        .options(engineOptions)
        .options(jsonOption)
        .example('$0 eval runs/fashion-mnist-resnet8-k4/best', 'the best epoch, on the test images'),
    async (argv) => {
      const checkpoint = await readCheckpoint(argv.checkpoint)
      const stored = configOf(checkpoint)
      const facts = factsIn(checkpoint)
      const { dataset = stored.dataset, data = stored.data } = argv
      const config = checkConfig({ ...stored, dataset, data })
      const set = adopt((await loadData(config, downloadProgress()))[argv.split], facts)
      await withBackend(argv, async (backend) => {
        const net = buildNetwork(stored, facts)
        await restoreCheckpoint(checkpoint, net)
        const training = await trainer(net, { backend, loss: crossEntropy({ smoothing: stored.smoothing }), optimizer: sgd({ lr: 0 }) })
        try {
          const result = await evaluateSet(training, set)
          if (!result) return
          const { loss, accuracy, images, seconds } = result
          console.log(`${checkpoint.file} on ${set.name} (${argv.split}, ${formatCount(images)} images)`)
          console.log(`accuracy ${formatPercent(accuracy)}, loss ${loss.toFixed(4)}, ${formatSeconds(seconds)}`)
          if (argv.json !== undefined) await writeJson(argv.json, { checkpoint: checkpoint.file, dataset: set.name, split: argv.split, images, accuracy, loss, seconds })
        } finally {
          training.dispose()
        }
      })
    },
  )
}

// Normalised as the network's training images were. @throws ValueError for images that it cannot take
function adopt(set: ImageDataset, facts: DataFacts): ImageDataset {
  const shape = ({ channels, height, width }: Pick<DataFacts, 'channels' | 'height' | 'width'>): string => `[${channels}, ${height}, ${width}]`
  if (shape(set) !== shape(facts)) throw new ValueError(`eval: the network takes images ${shape(facts)}, ${set.name} has ${shape(set)}`)
  if (set.classes.length !== facts.classes.length) throw new ValueError(`eval: the network knows ${facts.classes.length} classes, ${set.name} has ${set.classes.length}`)
  return { ...set, mean: facts.mean, std: facts.std }
}
