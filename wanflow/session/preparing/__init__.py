"""A request to programs: graph bound, weights found, the place it runs on."""
