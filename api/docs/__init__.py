"""The documentation of the API: the OpenAPI document of all routes, its examples, and pages for people."""
