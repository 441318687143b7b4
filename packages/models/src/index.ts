export * from './conv.ts'
export * from './mobilenet.ts'
export * from './resnet.ts'
