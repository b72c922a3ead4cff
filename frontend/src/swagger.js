import SwaggerUIBundle from "swagger-ui-dist/swagger-ui-bundle.js";

// Swagger UI's dark theme is a class.
const root = document.documentElement;
const follow = () => root.classList.toggle("dark-mode", root.dataset.bsTheme === "dark");
new MutationObserver(follow).observe(root, { attributeFilter: ["data-bs-theme"] });
follow();

// The element says which document it shows and which token changes need, so that this file needs nothing of its own.
const element = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: element.dataset.url,
  domNode: element,
  validatorUrl: null,
  layout: "BaseLayout",
  // Else each operation is a link within a button, which a screen reader cannot tell.
  deepLinking: false,
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor: (request) => {
    // The cookie goes with it by itself. The second header keeps the browser's own password dialog away.
    if (new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-CSRF-Token"] = element.dataset.token;
      request.headers["X-Requested-With"] = "XMLHttpRequest";
    }
    return request;
  },
});
