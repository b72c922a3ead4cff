import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// The content security policy refuses style attributes; the same style set through the object model is allowed.
const STYLED = "textElement.setAttribute('style', combinedStyle)";
const withoutStyleAttributes = {
  name: "without-style-attributes",
  transform(code, id) {
    if (!id.endsWith("/drawingSvg/drawTextBox.js")) return null;
    if (!code.includes(STYLED)) this.error("The text boxes of @cornerstonejs/tools are styled in another way now.");
    return { code: code.replace(STYLED, "textElement.style.cssText = combinedStyle"), map: null };
  },
};

// Each page loads what it needs by these names; the manifest says under which hashed file names they were written.
export default defineConfig({
  base: "./",
  plugins: [withoutStyleAttributes],
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
      input: [
        "src/theme.js", "src/app.js", "src/app.css", "src/swagger.js", "src/swagger.css", "src/search.js", "src/console.js", "src/charts.js", "src/upload.js",
        "src/viewer.js", "src/viewer.css",
      ],
    },
  },
});
