// `export`: a checkpoint as an .onnx file, checked by running it.

import { hostTensor, Random, readCheckpoint, restoreCheckpoint, sizeOf } from '@dynconv/core'
import type { Argv } from 'yargs'
import { withBackend } from '../backend.ts'
import { configOf, factsIn } from '../folder.ts'
import { buildNetwork } from '../network.ts'
import { exportChecked, normalisation } from '../onnxFile.ts'
import { engineOptions, jsonOption } from './options.ts'
import { writeJson } from './output.ts'

/** Images that the file is checked with. */
const CHECKED_IMAGES = 8

/** Adds the command. */
export function addExport(cli: Argv): Argv {
  return cli.command(
    'export <checkpoint>',
    'Write a checkpoint as an .onnx file',
    (y) =>
      y
        .positional('checkpoint', { type: 'string', demandOption: true, describe: 'a checkpoint of `train`' })
        .options({ output: { alias: 'o', type: 'string', describe: 'the file [default: beside the checkpoint]', requiresArg: true } })
        .options(engineOptions)
        .options(jsonOption)
        .example('$0 export runs/fashion-mnist-resnet8-k4/best -o net.onnx', 'standard ops only, free batch dimension'),
    async (argv) => {
      const checkpoint = await readCheckpoint(argv.checkpoint)
      const config = configOf(checkpoint)
      const facts = factsIn(checkpoint)
      const output = argv.output ?? checkpoint.file.replace(/\.safetensors$/, '.onnx')
      const net = buildNetwork(config, facts)
      await restoreCheckpoint(checkpoint, net)
      const image = [facts.channels, facts.height, facts.width]
      const random = new Random(config.seed)
      const shape = [CHECKED_IMAGES, ...image]
      const images = hostTensor('float32', shape, Float32Array.from({ length: sizeOf(shape) }, () => random.normal()))
      const maxDifference = await withBackend(argv, (backend) => exportChecked(net, facts, output, images, backend))
      console.log(`wrote ${output}: input [N, ${image.join(', ')}], ${normalisation(facts)}`)
      console.log(`checked with ONNX Runtime on ${CHECKED_IMAGES} images: outputs differ by at most ${maxDifference.toExponential(1)}`)
      if (argv.json !== undefined) await writeJson(argv.json, { checkpoint: checkpoint.file, output, input: [null, ...image], mean: facts.mean, std: facts.std, classes: facts.classes, maxDifference })
    },
  )
}
