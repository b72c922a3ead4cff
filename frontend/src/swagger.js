import SwaggerUIBundle from "swagger-ui-dist/swagger-ui-bundle.js";

// The element says which document it shows, so that this file needs no address of its own.
const element = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: element.dataset.url,
  domNode: element,
  validatorUrl: null,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
});
