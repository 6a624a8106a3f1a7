"""The disk is full, or becomes read-only: answers come from upstream, and writes resume.

As root on a small file system of our own. Without that right the disk is filled by a limit of the
size of the process' files, which anybody may set, and directories are made read-only by modes.
"""
