"""The typed layer: one declaration defines a route, its validation and its entry in the OpenAPI document."""
