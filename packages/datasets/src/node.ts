// The half that needs files and the network: published data sets, folders of images, and the embedded subset.

export { cifar10, cifar100 } from './cifar.node.ts'
export type { DownloadProgress } from './download.node.ts'
export { embeddedFashion, embeddedFiles, embeddedFolder } from './embedded.node.ts'
export { fashionMnist } from './fashion.node.ts'
export { imageFolder } from './imageFolder.node.ts'
export type { ImageFolderOptions } from './imageFolder.node.ts'
export type { PlaceOptions } from './places.node.ts'
