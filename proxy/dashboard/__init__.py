"""The dashboard at /admin: pages rendered here, over the same services as the admin API."""
