/** The bundler turns style sheets into console.css. */
declare module "*.css";
