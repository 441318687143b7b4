// What a command prints, and who reads it.

/** Lets a reader stop reading (`| head`): what is printed after that goes nowhere, and the command goes on to its end. */
export function allowReadersToLeave(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
}
