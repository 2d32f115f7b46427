/** Modules without types of their own, as far as they are used here. */

declare module "swagger-ui-dist/swagger-ui-es-bundle.js" {
  type Request = Record<string, unknown>;
  export default function SwaggerUI(options: {
    url: string;
    dom_id: string;
    deepLinking: boolean;
    tryItOutEnabled: boolean;
    validatorUrl: null;
    requestInterceptor(request: Request): Request;
  }): unknown;
}

declare module "node:fs/promises" {
  export function readFile(file: URL, encoding: "utf8"): Promise<string>;
  export function writeFile(file: URL, text: string, options: { flag: "a" }): Promise<void>;
}
