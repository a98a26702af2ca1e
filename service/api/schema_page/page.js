SwaggerUIBundle({
  url: new URL("schema/openapi.json", location.href).href,
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null, // it would send the document to another host
  requestSnippetsEnabled: true,
});
