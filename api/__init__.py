"""The HTTP adapter: routes, validation and responses over the core. It contains no database models and no SQL."""
