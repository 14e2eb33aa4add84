"""The typed layer: one declaration drives a route, its validation and its entry in the OpenAPI document."""
