"""The HTTP adapter: routes, validation and answers over the core. It holds no model class and no SQL."""
