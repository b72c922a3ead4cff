import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// Each page loads what it needs by these names; the manifest says under which hashed file names they were written.
export default defineConfig({
  base: "./",
  resolve: { alias: { xmlbuilder2: fileURLToPath(new URL("src/no-xml.js", import.meta.url)) } },
  // The worker that decodes frames loads its decoders when it needs them.
  worker: { format: "es" },
  build: {
    outDir: "../dicomweb/static/dist",
    emptyOutDir: true,
    manifest: "manifest.json",
    // A data: URL in a style sheet or script would need an exception in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 4000,
    rolldownOptions: {
      input: ["src/theme.js", "src/app.js", "src/app.css", "src/swagger.js", "src/swagger.css", "src/search.js", "src/console.js", "src/viewer.js", "src/viewer.css"],
    },
  },
});
