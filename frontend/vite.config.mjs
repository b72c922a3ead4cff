import { defineConfig } from "vite";

// Each page loads what it needs by these names; the manifest says under which hashed file names they were written.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../dicomweb/static/dist",
    emptyOutDir: true,
    manifest: "manifest.json",
    // A data: URL in a style sheet or script would need an exception in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    rolldownOptions: {
      input: [
        "src/theme.js", "src/app.js", "src/app.css", "src/swagger.js", "src/swagger.css", "src/search.js", "src/console.js", "src/charts.js", "src/upload.js",
      ],
    },
  },
});
