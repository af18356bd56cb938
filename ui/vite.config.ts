import { defineConfig } from 'vite';
import { inline } from './inline.ts';

export default defineConfig({
  plugins: [inline()],
  build: {
    target: 'es2022',
    cssCodeSplit: false,
    assetsInlineLimit: 1 << 20,
    modulePreload: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1500,
  },
  // `npm run dev` beside a running `baize serve`.
  server: { proxy: { '/v1': 'http://127.0.0.1:8000' } },
});
