"""Commands that make what is shipped trained."""
