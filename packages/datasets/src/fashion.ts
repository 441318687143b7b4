// What is known of Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) without its files.

import type { ChannelStatistics } from './dataset.ts'

/** The ten classes of Fashion-MNIST, by label. */
export const fashionClasses: readonly string[] = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
]

/** Mean and standard deviation of the 60,000 training images (of pixels / 255). */
export const fashionStatistics: ChannelStatistics = { mean: [0.2860405969887955], std: [0.3530242445149226] }
