"""The life of a checkpoint in a proxy: taken in, judged, promoted, rolled back."""
