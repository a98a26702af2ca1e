SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null, // it would send the document to another host
  requestSnippetsEnabled: true,
});
