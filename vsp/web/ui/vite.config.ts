/** Build of the console into ../static; tests run with the same aliases. */
import { fileURLToPath } from 'node:url'
import { rm, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import vue from '@vitejs/plugin-vue'
import Components from 'unplugin-vue-components/vite'
import { ElementPlusResolver } from 'unplugin-vue-components/resolvers'
import { defineConfig } from 'vitest/config'
import type { Plugin } from 'vite'

const OUT_DIR = fileURLToPath(new URL('../static', import.meta.url))

/** Empty the output folder but for the `.gitkeep` that keeps the folder in the repository. */
function emptyButGitkeep(): Plugin {
  return {
    name: 'empty-but-gitkeep',
    apply: 'build',
    async buildStart() {
      const names = await readdir(OUT_DIR).catch(() => [] as string[])
      const stale = names.filter((name) => name !== '.gitkeep')
      await Promise.all(stale.map((name) => rm(join(OUT_DIR, name), { recursive: true })))
    },
  }
}

export default defineConfig({
  plugins: [
    vue(),
    Components({
      dirs: [],
      dts: false,
      resolvers: [ElementPlusResolver({ importStyle: 'css', directives: false })],
    }),
    emptyButGitkeep(),
  ],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    outDir: OUT_DIR,
    emptyOutDir: false,
    target: 'es2022',
    // The page's CSP has no data: source, so nothing may be inlined as a data URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  define: {
    __VUE_OPTIONS_API__: 'false',
    __VUE_PROD_DEVTOOLS__: 'false',
    __VUE_I18N_LEGACY_API__: 'false',
    __VUE_I18N_FULL_INSTALL__: 'false',
    __INTLIFY_PROD_DEVTOOLS__: 'false',
  },
  server: {
    host: '127.0.0.1',
    proxy: {
      '/api': { target: process.env.VSP_URL ?? 'http://127.0.0.1:8080', ws: true },
    },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
})
