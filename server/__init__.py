"""The HTTP server: routes, authentication and configuration over the library."""
