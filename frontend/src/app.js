import "@tabler/core/dist/js/tabler.min.js";
import htmx from "htmx.org";

window.htmx = htmx;
