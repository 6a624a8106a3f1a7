"""What operators read and do, over HTTP under /admin/api."""
