/** The page at /docs: what the server says of its HTTP interface, to read and to try. */
import SwaggerUI from "swagger-ui-dist/swagger-ui-es-bundle.js";
import "swagger-ui-dist/swagger-ui.css";
import "./style/docs.css";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = (): void => void document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUI({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  tryItOutEnabled: true,
  // Otherwise an outside server is asked to judge the description.
  validatorUrl: null,
  // A request shows what was authorised here and nothing else: neither does the chat page's cookie speak for whoever
  // tries something, nor does signing in here change who is signed in there.
  requestInterceptor: (request) => ({ ...request, credentials: "omit" }),
});
