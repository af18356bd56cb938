// Bundles the unit tests for Node's own test runner.
import { defineConfig } from 'vite';

export default defineConfig({
  build: {
    ssr: 'test/all.ts',
    outDir: 'dist-test',
    target: 'node20',
    minify: false,
    rolldownOptions: { output: { entryFileNames: 'tests.js' } },
  },
  ssr: { noExternal: true },
});
