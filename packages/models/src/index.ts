export * from './conv.ts'
export * from './resnet.ts'
