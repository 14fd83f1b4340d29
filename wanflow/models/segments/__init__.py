"""Modules on `meta`, cut into what moves as one."""
